"""The ways in which hosts of OpenAI's wires differ from OpenAI.

A quirk is a name here, a line in the code that reads it, and a test. It changes what is sent or how the answer is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

Quirk: TypeAlias = Literal[
    "max_completion_tokens",
    "random_seed",
    "plain_audio",
    "few_media",
    "no_image_urls",
    "no_json_object",
    "no_json_schema",
    "no_metadata",
    "stored_metadata",
    "no_seed",
    "no_stream_options",
    "no_tools",
    "short_ids",
    "nine_character_ids",
    "assistant_after_tools",
    "reasoning_content",
    "prompt_cache",
    "omits_finish_reason",
    "done_after_usage",
    "media_by_500",
    "partial_responses",
    "prefill",
    "prefix",
    "continue_final_message",
    "may_prefill",
    "chunk_is_token",
    "usage_in_each_chunk",
    "azure",
]

QUIRKS: Final[Mapping[Quirk, str]] = {
    "max_completion_tokens": "sends `max_tokens` as `max_completion_tokens`",
    "random_seed": "sends `seed` as `random_seed`",
    "plain_audio": "audio is sent as base64 alone, without its format",
    "few_media": "takes images of png, jpeg, gif and webp, and audio of wav and mp3 only",
    "no_image_urls": "takes images as data only, not by address",
    "no_json_object": "cannot be asked for JSON without a schema",
    "no_json_schema": "cannot be asked to follow a JSON schema",
    "no_metadata": "has no parameter for metadata",
    "stored_metadata": "its chat interface takes metadata only with `store: true`",
    "no_seed": "has no parameter for a seed",
    "no_stream_options": "refuses `stream_options` and reports usage without it",
    "no_tools": "calls no tools",
    "short_ids": "takes ids of tool calls with at most 40 letters, figures, `_` and `-`",
    "nine_character_ids": "takes ids of tool calls with nine letters and figures only",
    "assistant_after_tools": "refuses a user's turn right after results of tools; an `OK.` of the model comes between",
    "reasoning_content": "wants the reasoning of a turn that calls tools back, and refuses such a turn without it",
    "prompt_cache": "takes `prompt_cache_key`, and marks in the prompt for `gpt-5.6` and later models",
    "omits_finish_reason": "`[DONE]` without a finish reason means that the answer is complete",
    "done_after_usage": "`[DONE]` after a usage report means that the answer is complete",
    "media_by_500": "answers HTTP 500 to an image or a sound that the model does not take",
    "partial_responses": "its responses interface ignores a schema, and reports `completed` at `max_tokens`",
    "prefill": "continues an assistant's turn that comes last",
    "prefix": "the same, if that turn sets `prefix`",
    "continue_final_message": "the same, if the request sets `continue_final_message`",
    "may_prefill": "may continue such a turn; it is tried, with and without `continue_final_message`",
    "chunk_is_token": "sends every token in a chunk of its own",
    "usage_in_each_chunk": "reports its usage in each chunk, if the request sets `continuous_usage_stats`",
    "azure": "with the option `api_version`, each deployment has an address of its own",
}
"""What each quirk means, for the documentation."""

PREFILLS: Final[frozenset[Quirk]] = frozenset({"prefill", "prefix", "continue_final_message"})
"""The quirks of hosts that continue an open assistant turn."""

ONLY_AT_HOME: Final[frozenset[Quirk]] = frozenset({"stored_metadata", "prompt_cache"})
"""Quirks of a vendor's own address. A gateway at another address may take what the vendor itself refuses."""

assert set(get_args(Quirk)) == set(QUIRKS)
