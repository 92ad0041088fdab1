"""The hosts that speak OpenAI's wires, as a table: where they live, which key they want, and what they do otherwise.

A row is all that a host needs: the configuration's kinds and keys, prices, the documentation's table and the tests are
made of these rows. Every quirk changes what is sent or how the answer is read, and has a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

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
    "omits_finish_reason",
    "done_after_usage",
    "media_by_500",
    "partial_responses",
    "prefill",
    "prefix",
    "continue_final_message",
    "azure",
]

QUIRKS: Final[Mapping[Quirk, str]] = {
    "max_completion_tokens": "`max_tokens` is called so",
    "random_seed": "`seed` is called so",
    "plain_audio": "audio is sent as base64 alone, without its format",
    "few_media": "takes images of png, jpeg, gif and webp, and audio of wav and mp3 only",
    "no_image_urls": "takes images as data only, not by address",
    "no_json_object": "cannot be asked for JSON without a schema",
    "no_json_schema": "cannot be asked to follow a JSON schema",
    "no_metadata": "has no place for metadata",
    "stored_metadata": "its chat interface takes metadata only with `store: true`",
    "no_seed": "has no place for a seed",
    "no_stream_options": "refuses `stream_options`; usage comes unasked",
    "no_tools": "calls no tools",
    "omits_finish_reason": "`[DONE]` alone says that the answer is complete",
    "done_after_usage": "`[DONE]` after a usage report says that the answer is complete",
    "media_by_500": "answers HTTP 500 to an image or a sound that the model does not take",
    "partial_responses": "its responses interface ignores a schema, and says `completed` when `max_tokens` is spent",
    "prefill": "goes on writing an assistant's turn that comes last",
    "prefix": "the same, where that turn says `prefix`",
    "continue_final_message": "the same, where the request says `continue_final_message`",
    "azure": "with the option `api_version`, each deployment has an address of its own",
}
"""What each quirk means, for the documentation."""

PREFILLS: Final[frozenset[Quirk]] = frozenset({"prefill", "prefix", "continue_final_message"})


class Host(Struct, frozen=True, kw_only=True):
    """One host. One with key variables needs a key; one without `base_url` needs that in its entry.

    `prices` is the host's name in genai-prices.
    """

    title: str
    base_url: str | None = None
    key_variables: tuple[str, ...] = ()
    quirks: frozenset[Quirk] = frozenset()
    prices: str | None = None


def _quirks(*names: Quirk) -> frozenset[Quirk]:
    return frozenset(names)


HOSTS: Final[Mapping[str, Host]] = {
    "openai": Host(
        title="OpenAI",
        base_url="https://api.openai.com/v1",
        key_variables=("OPENAI_API_KEY",),
        quirks=_quirks("max_completion_tokens", "few_media", "stored_metadata"),
        prices="openai",
    ),
    "azure": Host(
        title="Azure OpenAI",
        key_variables=("AZURE_OPENAI_API_KEY",),
        quirks=_quirks("azure", "max_completion_tokens", "few_media", "stored_metadata"),
        prices="azure",
    ),
    "groq": Host(
        title="Groq",
        base_url="https://api.groq.com/openai/v1",
        key_variables=("GROQ_API_KEY",),
        quirks=_quirks("max_completion_tokens", "no_metadata", "prefill"),
        prices="groq",
    ),
    "mistral": Host(
        title="Mistral",
        base_url="https://api.mistral.ai/v1",
        key_variables=("MISTRAL_API_KEY",),
        quirks=_quirks("no_stream_options", "random_seed", "plain_audio", "prefix"),
        prices="mistral",
    ),
    "xai": Host(
        title="xAI",
        base_url="https://api.x.ai/v1",
        key_variables=("XAI_API_KEY",),
        quirks=_quirks("max_completion_tokens", "no_metadata"),
        prices="x-ai",
    ),
    "deepseek": Host(
        title="DeepSeek",
        base_url="https://api.deepseek.com/v1",
        key_variables=("DEEPSEEK_API_KEY",),
        quirks=_quirks("no_json_schema", "no_metadata", "no_seed"),
        prices="deepseek",
    ),
    "openrouter": Host(
        title="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        key_variables=("OPENROUTER_API_KEY",),
        prices="openrouter",
    ),
    "together": Host(
        title="Together",
        base_url="https://api.together.xyz/v1",
        key_variables=("TOGETHER_API_KEY",),
        quirks=_quirks("no_metadata"),
        prices="together",
    ),
    "fireworks": Host(
        title="Fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_variables=("FIREWORKS_API_KEY",),
        prices="fireworks",
    ),
    "perplexity": Host(
        title="Perplexity",
        base_url="https://api.perplexity.ai",
        key_variables=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
        quirks=_quirks("no_stream_options", "no_json_object", "no_metadata", "no_seed", "no_tools"),
        prices="perplexity",
    ),
    "huggingface": Host(
        title="Hugging Face",
        base_url="https://router.huggingface.co/v1",
        key_variables=("HF_TOKEN", "HUGGINGFACE_API_KEY"),
        quirks=_quirks("no_metadata"),
    ),
    "cerebras": Host(
        title="Cerebras",
        base_url="https://api.cerebras.ai/v1",
        key_variables=("CEREBRAS_API_KEY",),
        quirks=_quirks("max_completion_tokens", "no_metadata"),
        prices="cerebras",
    ),
    "lmstudio": Host(
        title="LM Studio",
        base_url="http://localhost:1234/v1",
        quirks=_quirks("no_image_urls", "no_metadata"),
    ),
    "vllm": Host(
        title="vLLM",
        base_url="http://localhost:8000/v1",
        quirks=_quirks("continue_final_message", "no_metadata"),
    ),
    "llamacpp": Host(
        title="llama.cpp",
        base_url="http://localhost:8080/v1",
        quirks=_quirks("no_metadata", "media_by_500", "partial_responses", "prefill"),
    ),
    "snowflake": Host(
        title="Snowflake Cortex",
        key_variables=("SNOWFLAKE_PAT",),
        quirks=_quirks("max_completion_tokens", "no_metadata", "done_after_usage"),
    ),
    "openai_compatible": Host(title="any other"),
}

assert set(get_args(Quirk)) == set(QUIRKS)


def host_of(kind: str) -> Host:
    """The row of a kind; for one that a third party brings on these wires, the row of any other host."""
    return HOSTS.get(kind, HOSTS["openai_compatible"])
