"""The wires, a file each: how a request is read and judged, and how an answer is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from .._received import ReceivedRequest
from .._script import Reply, Wire
from ..faults import HttpError
from . import anthropic, google, ollama, openai_chat, openai_responses
from .frames import Frame, Rejection


class WireModule(Protocol):
    """What each file here offers."""

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
        """The list of models, as the service answers to a GET of a path like `MODELS`."""
        ...

    def read(self, request: ReceivedRequest, /) -> Rejection | None:
        """Fill in the request's model, system and turns; say what the service would refuse."""
        ...

    def frames(self, reply: Reply, model: str, /) -> list[Frame]:
        """All events of the whole answer; a `ValueError` if this wire has no words for it."""
        ...

    def error_frame(self, message: str, /) -> bytes: ...

    def event(self, data: bytes, /) -> bytes:
        """These bytes in the place of an event's JSON."""
        ...

    def error_body(self, error: HttpError, request_id: str, /) -> Mapping[str, Any]: ...

    def key(self, request: ReceivedRequest, /) -> str | None: ...


WIRES: dict[Wire, WireModule] = {
    Wire.OPENAI_CHAT: openai_chat,
    Wire.OPENAI_RESPONSES: openai_responses,
    Wire.ANTHROPIC: anthropic,
    Wire.GOOGLE: google,
    Wire.OLLAMA: ollama,
}

__all__ = ["WIRES", "Frame", "Rejection", "WireModule"]
