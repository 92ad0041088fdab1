"""The prompt of a continuation: the token ids of a request and of what was delivered of its answer.

vLLM sends the ids with its answer. Before they are used, the host is asked whether they make the delivered text: a
server with the same name for a model may have another vocabulary, and a parser at the server may hold text back whose
ids it has sent. llama.cpp sends no ids: it is asked for those of the rendered request and of the text.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from ...exceptions import UnprovenContinuationError
from .token_trail import Trail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai import AsyncOpenAI

CONTEXT: Final = 16
"""Ids of the prompt that come before the answer's in the check of its text. Some tokenizers drop a first blank."""

_HALF_A_CHARACTER: Final = "\ufffd"
"""Some hosts write this for ids that are half of a character, and `/detokenize` does so too."""
PATIENCE: Final = 5.0
"""Seconds that a host may take to answer a question about its tokens."""

_NOT_OFFERED: Final = frozenset((401, 403, 404, 405, 500, 501, 502, 504))
"""The answers of a host, or of a gateway before it, that does not offer an address to the client."""


class TokenPrompt(Struct, frozen=True):
    """The ids to go on from, and how many tokens may follow; `None` for no limit."""

    ids: list[int]
    most: int | None


class TokenService:
    """The addresses of a host beside its `/v1` that have to do with token ids.

    Args:
        client: The client of the running loop.
        timeout: The timeout of each request, as the SDK takes it.
        extra_headers: Headers of each request beside the client's own.
    """

    def __init__(self, client: AsyncOpenAI, timeout: Any, extra_headers: Mapping[str, Any] | None) -> None:
        self._client = client
        self._root = str(client.base_url).rstrip("/").removesuffix("/v1")
        self._options: Any = {"timeout": timeout, "headers": extra_headers or {}}

    async def prompt_of_ids(self, model: str, trail: Trail, most: int | None) -> TokenPrompt:
        """The prompt for a host that has sent the ids of the trail.

        Raises:
            UnprovenContinuationError: The ids do not make the delivered text here, or may end inside a character.
        """
        prompt, text = trail.prompt or [], "".join(trail.text)
        if text.endswith(_HALF_A_CHARACTER):
            raise UnprovenContinuationError("the delivered answer may end in the middle of a character")
        answer = await self._post("detokenize", model=model, tokens=prompt[-CONTEXT:] + trail.output)
        if not str(answer.get("prompt") or "").endswith(text):
            raise UnprovenContinuationError("the token ids of the delivered answer do not make its text at this host")
        if most is None:  # without a limit, this interface writes 16 tokens
            window = (await self._post("tokenize", model=model, prompt=text[-1:])).get("max_model_len")
            most = window if isinstance(window, int) else None
            if most is None:
                raise UnprovenContinuationError(
                    "the host does not tell the window of the model, and the request has no limit"
                )
        return TokenPrompt(prompt + trail.output, most)

    async def prompt_of_text(self, body: Mapping[str, Any], trail: Trail, most: int | None) -> TokenPrompt:
        """The prompt for a host that makes ids of text. `body` is that of the request which was answered in part.

        Raises:
            UnprovenContinuationError: The text ends in a line break. A model writes several in one token or in more,
                and goes on otherwise from other tokens.
        """
        text = "".join(trail.text)
        if "\n" in text[len(text.rstrip()) :]:
            raise UnprovenContinuationError("the delivered text ends in a line break, whose tokens are not known")
        rendered = await self._post("apply-template", **body)
        if not isinstance(prompt := rendered.get("prompt"), str):
            raise UnprovenContinuationError("the host did not render the request as text")
        ids = await self._ids(body["model"], prompt, special=True)
        output = await self._ids(body["model"], text, special=False)
        return TokenPrompt(ids + output, most)

    async def _ids(self, model: str, text: str, *, special: bool) -> list[int]:
        answer = await self._post("tokenize", model=model, content=text, add_special=special, parse_special=special)
        ids = answer.get("tokens")
        if not isinstance(ids, list) or not all(type(each) is int for each in ids):
            raise UnprovenContinuationError("the host did not make token ids of the text")
        return ids

    async def _post(self, path: str, **body: Any) -> dict[str, Any]:
        import openai

        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._client.post(
                    f"{self._root}/{path}",
                    cast_to=object,
                    body=body,
                    options=self._options,
                )
        except TimeoutError as error:
            raise UnprovenContinuationError(f"the host did not answer /{path} within {PATIENCE:g} s") from error
        except ValueError as error:
            raise UnprovenContinuationError(f"the host's answer to /{path} is not JSON") from error
        except openai.APIStatusError as error:
            if error.status_code not in _NOT_OFFERED:
                raise
            raise UnprovenContinuationError(f"the host has no /{path}, by which its token ids are checked") from error
        return answer if isinstance(answer, dict) else {}
