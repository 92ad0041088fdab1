"""What an application asks for: task types, messages, targets and the request itself."""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import force_setattr

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
ReasoningEffort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Media(Struct, frozen=True):
    """An image or a sound that is known: its bytes as base64, or its address, of which the type may not be known."""

    media_type: str | None
    data: str = ""
    url: str | None = None

    @property
    def uri(self) -> str:
        return f"data:{self.media_type};base64,{self.data}" if self.url is None else self.url

    @property
    def content(self) -> bytes:
        return b64decode(self.data)


MediaSource: TypeAlias = str | bytes | os.PathLike[str] | Media
"""A path, raw bytes, a data URI, bare base64 or, where the vendor takes them, an https URL; or what is known of one."""


class TaskType(StrEnum):
    """What a request is for; routing picks its targets by it."""

    TEXT_GENERATION = "text_generation"
    CODE_GENERATION = "code_generation"
    TRANSLATION = "translation"
    SUMMARIZATION = "summarization"
    QUESTION_ANSWERING = "question_answering"
    CLASSIFICATION = "classification"
    SENTIMENT_ANALYSIS = "sentiment_analysis"
    VISION_ANALYSIS = "vision_analysis"
    AUDIO_TRANSCRIPTION = "audio_transcription"
    AUDIO_ANALYSIS = "audio_analysis"
    MULTIMODAL_ANALYSIS = "multimodal_analysis"
    STRUCTURED_OUTPUT = "structured_output"
    FUNCTION_CALLING = "function_calling"
    REASONING = "reasoning"
    MATH = "math"


class Target(Struct, frozen=True, order=True):
    """One model of one configured provider, written `provider/model`."""

    provider: str
    model: str

    @classmethod
    def parse(cls, written: str) -> Target:
        """Split at the first slash, because models' own names may hold more of them."""
        provider, slash, model = written.partition("/")
        if not (provider and slash and model):
            raise ValueError(f"a target is written provider/model, got {written!r}")
        return cls(provider, model)

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else self.provider


class TextPart(Struct, frozen=True, tag="text"):
    """Words in a message."""

    text: str


class ImagePart(Struct, frozen=True, tag="image"):
    """A picture in a message."""

    source: MediaSource

    def __post_init__(self) -> None:
        _media_source("an image", self.source)


class AudioPart(Struct, frozen=True, tag="audio"):
    """A sound in a message."""

    source: MediaSource

    def __post_init__(self) -> None:
        _media_source("a sound", self.source)


class ReasoningPart(Struct, frozen=True, tag="reasoning"):
    """What a model thought, with the vendor's signature. With the name of its provider it goes back to that one only:
    another would refuse the signature.
    """

    text: str
    signature: str | None = None
    provider: str | None = None


class ToolCallPart(Struct, frozen=True, tag="tool_call"):
    """A tool call that a model made earlier in the conversation."""

    id: str
    name: str
    arguments: str


class ToolResultPart(Struct, frozen=True, tag="tool_result"):
    """What came of a tool call."""

    id: str
    name: str
    result: str
    error: bool = False


Part: TypeAlias = TextPart | ImagePart | AudioPart | ReasoningPart | ToolCallPart | ToolResultPart


class Message(Struct, frozen=True):
    """One turn of a conversation."""

    role: Role
    parts: tuple[Part, ...]

    if TYPE_CHECKING:

        def __init__(self, role: Role, parts: str | Part | Iterable[str | Part]) -> None: ...

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"a message's role is one of {', '.join(get_args(Role))}; got {self.role!r}")
        force_setattr(self, "parts", _parts(self.parts))

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


def _parts(parts: object) -> tuple[Part, ...]:
    """A message's parts, given as a string, a part, or any iterable of these."""
    if isinstance(parts, str):
        return (TextPart(parts),)
    if isinstance(parts, Part):
        return (parts,)
    if not isinstance(parts, Iterable):
        raise TypeError(f"a message's parts are a str or a sequence of parts, got {type(parts).__name__}")
    made: list[Part] = []
    for part in parts:
        if isinstance(part, str):
            made.append(TextPart(part))
        elif isinstance(part, Part):
            made.append(part)
        else:
            kinds = ", ".join(kind.__name__ for kind in get_args(Part))
            raise TypeError(
                f"a message's part is a str or one of llm_dispatcher.tasks: {kinds}; got {type(part).__name__}"
            )
    return tuple(made)


def _message(given: object) -> Message:
    """A message, given as a `Message` or as the usual `{"role": …, "content": …}`."""
    if isinstance(given, Message):
        return given
    if isinstance(given, Mapping):
        unknown = set(given) - {"role", "content"}
        if unknown or "role" not in given or "content" not in given:
            raise TypeError(
                'a message given as a dict has the keys "role" and "content" and no others, '
                f"got {sorted(map(str, given))}; llm_dispatcher.Message holds tool calls and media"
            )
        return Message(given["role"], given["content"])
    raise TypeError(f"a message is a Message or a dict with role and content, got {type(given).__name__}")


class _Asked(Struct, frozen=True):
    """The one field that may be given by position."""

    prompt: str | None = None


class TaskRequest(_Asked, frozen=True, kw_only=True):
    """What is asked of a model. Everything but the prompt (or messages) is optional, and `None` overrides nothing.

    `prompt` is the last user turn; `messages` are the turns before it, or the whole conversation if there is no prompt.
    """

    task_type: TaskType = TaskType.TEXT_GENERATION
    messages: tuple[Message, ...] = ()
    system: str | None = None
    images: tuple[MediaSource, ...] = ()
    audio: tuple[MediaSource, ...] = ()
    tools: tuple[Any, ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Any = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: ReasoningEffort | None = None
    providers: tuple[str, ...] = ()
    model: str | None = None
    metadata: Mapping[str, Any] = {}
    extra: Mapping[str, Any] = {}

    if TYPE_CHECKING:
        # What may be given is wider than what is kept.
        def __init__(
            self,
            prompt: str | None = None,
            *,
            task_type: TaskType | str = TaskType.TEXT_GENERATION,
            messages: Sequence[Message | Mapping[str, Any]] = (),
            system: str | None = None,
            images: MediaSource | Sequence[MediaSource] = (),
            audio: MediaSource | Sequence[MediaSource] = (),
            tools: Sequence[Any] = (),
            tool_choice: str | Mapping[str, Any] | None = None,
            response_format: Any = None,
            temperature: float | None = None,
            top_p: float | None = None,
            max_tokens: int | None = None,
            stop: str | Sequence[str] = (),
            seed: int | None = None,
            reasoning_effort: ReasoningEffort | None = None,
            providers: str | Sequence[str] = (),
            model: str | None = None,
            metadata: Mapping[str, Any] | None = None,
            extra: Mapping[str, Any] | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None:
                force_setattr(self, name, check(name, value))
            elif name in _COLLECTIONS:
                force_setattr(self, name, _COLLECTIONS[name]())

    @property
    def conversation(self) -> tuple[Message, ...]:
        """Every turn to send, the prompt with its images and sounds as the last one."""
        parts: list[Part] = [ImagePart(image) for image in self.images]
        parts += [AudioPart(sound) for sound in self.audio]
        if self.prompt is not None:
            parts.append(TextPart(self.prompt))
        return (*self.messages, Message("user", tuple(parts))) if parts else self.messages


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError(f"{name} is a str, got {type(value).__name__}")


def _texts(name: str, value: object) -> tuple[str, ...]:
    return (
        (value,) if isinstance(value, str) else tuple(_text(f"each of {name}", item) for item in _several(name, value))
    )


def _several(name: str, value: object) -> tuple[Any, ...]:
    if isinstance(value, (list, tuple)):
        return tuple(value)
    raise TypeError(f"{name} is a list, got {type(value).__name__}")


def _media(name: str, value: object) -> tuple[MediaSource, ...]:
    sources = (value,) if isinstance(value, (str, bytes, os.PathLike, Media)) else _several(name, value)
    for source in sources:
        _media_source(f"each of {name}", source)
    return sources


def _media_source(name: str, value: object) -> None:
    if not isinstance(value, (str, bytes, os.PathLike, Media)):
        raise TypeError(
            f"{name} is a path, bytes, a data URI or a URL, got {type(value).__name__} "
            "(encode_image and encode_audio take open files)"
        )


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number, got {type(value).__name__}")
    if not value >= 0:
        raise ValueError(f"{name} is 0 or more, got {value!r}")
    return value


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is an int, got {type(value).__name__}")
    return value


def _count(name: str, value: object) -> int:
    number = _whole(name, value)
    if number < 1:
        raise ValueError(f"{name} is 1 or more, got {number}")
    return number


def _mapping(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{name} is a dict, got {type(value).__name__}")


def _task_type(name: str, value: object) -> TaskType:
    if isinstance(value, str) and value in _TASK_TYPES:
        return TaskType(value)
    raise ValueError(f"{name} is one of {', '.join(TaskType)}; got {value!r}")


def _messages(name: str, value: object) -> tuple[Message, ...]:
    return tuple(_message(each) for each in _several(name, value))


def _effort(name: str, value: object) -> str:
    if value not in get_args(ReasoningEffort):
        raise ValueError(f"{name} is one of {', '.join(get_args(ReasoningEffort))}; got {value!r}")
    return str(value)


_COLLECTIONS: dict[str, Callable[[], object]] = {
    **dict.fromkeys(("messages", "images", "audio", "tools", "stop", "providers"), tuple),
    **dict.fromkeys(("metadata", "extra"), dict),
}
_TASK_TYPES = frozenset(TaskType)
_CHECKS: dict[str, Callable[[str, object], object]] = {
    "prompt": _text,
    "task_type": _task_type,
    "messages": _messages,
    "system": _text,
    "images": _media,
    "audio": _media,
    "tools": _several,
    "temperature": _number,
    "top_p": _number,
    "max_tokens": _count,
    "stop": _texts,
    "seed": _whole,
    "reasoning_effort": _effort,
    "providers": _texts,
    "model": _text,
    "metadata": _mapping,
    "extra": _mapping,
}
