"""`ObjectSession`: turns of a session whose answers are objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, Unpack

from .._serving.options import StreamOptions
from .._structured import ObjectStream
from ..tasks import MediaSource, ResponseFormat

T = TypeVar("T")


class ObjectSession(Generic[T]):
    """A session whose next answers are objects of the type `T`. `Session.into` makes it."""

    def __init__(self, begin: Callable[..., ObjectStream[T]], kind: ResponseFormat) -> None:
        self._begin = begin
        self._kind = kind

    def stream(
        self,
        prompt: str | None = None,
        /,
        *,
        images: MediaSource | Sequence[MediaSource] = (),
        audio: MediaSource | Sequence[MediaSource] = (),
        **options: Unpack[StreamOptions],
    ) -> ObjectStream[T]:
        """The next turn of the session, read as an object: `await stream.parsed()`. It is sent when it is read.

        Args:
            prompt: What the user says.
            images: Images to send with the prompt.
            audio: Sounds to send with the prompt.
            **options: Options for this turn alone; the same as those of `LLM`, except `response_format`.

        Raises:
            TypeError, ValueError: An argument or an option has a wrong name, type or value.
        """
        if "response_format" in options:
            raise TypeError("the type of the answer was given to into() already: leave response_format out")
        options["response_format"] = self._kind
        return self._begin(ObjectStream, prompt, images, audio, options)
