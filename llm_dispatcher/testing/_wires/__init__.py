"""The wires, one file each: they read requests, refuse invalid ones as the vendor does, and write answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .._received import ReceivedRequest
from .._script import Reply, Wire, numbered
from ..faults import HttpError
from . import anthropic, anthropic_fallbacks, google, ollama, openai_chat, openai_responses
from .frames import Frame, Rejection


class WireModule(Protocol):
    """The functions and constants of each wire's module."""

    @property
    def BASE_PATH(self) -> str: ...  # noqa: N802 - a module's constant

    @property
    def CONTENT_TYPE(self) -> str: ...  # noqa: N802

    @property
    def KEEP_ALIVE(self) -> bytes: ...  # noqa: N802

    @property
    def REQUEST_ID_HEADER(self) -> str: ...  # noqa: N802

    @property
    def MODELS(self) -> re.Pattern[str]: ...  # noqa: N802

    def models(self, names: list[str], /) -> Any:
        """The list of models, which is the answer to a GET of a path that matches `MODELS`."""
        ...

    def read(self, request: ReceivedRequest, /) -> Rejection | None:
        """Fill in the request's model, system and turns. Returns the reason if the service would refuse the request."""
        ...

    def frames(self, reply: Reply, model: str, /) -> list[Frame]:
        """All events of the whole answer. Raises a `ValueError` if the wire cannot express it."""
        ...

    def error_frame(self, message: str, /) -> bytes:
        """An error in the stream."""
        ...

    def event(self, data: bytes, /) -> bytes:
        """An event with these bytes instead of JSON."""
        ...

    def error_body(self, error: HttpError, request_id: str, /) -> Mapping[str, Any]:
        """The JSON body of an HTTP error."""
        ...

    def key(self, request: ReceivedRequest, /) -> str | None:
        """The API key of a request."""
        ...


WIRES: dict[Wire, WireModule] = {
    Wire.OPENAI_CHAT: openai_chat,
    Wire.OPENAI_RESPONSES: openai_responses,
    Wire.ANTHROPIC: anthropic,
    Wire.GOOGLE: google,
    Wire.OLLAMA: ollama,
}


def frames_of(wire: Wire, reply: Reply, model: str, fallbacks: Sequence[str] = ()) -> list[Frame]:
    """All events of the whole answer to a request that names these fallbacks. Raises a `ValueError` if the wire cannot
    express it.
    """
    reply = numbered(reply)
    if not reply.declines:
        return WIRES[wire].frames(reply, model)
    if wire is not Wire.ANTHROPIC:
        raise ValueError(f"Reply(declines) is for the anthropic wire, not {wire}: use finish_reason='refusal'")
    return anthropic_fallbacks.frames(reply, model, fallbacks)


__all__ = ["WIRES", "Frame", "Rejection", "WireModule", "frames_of"]
