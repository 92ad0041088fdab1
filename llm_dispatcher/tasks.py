"""Requests: the task type, the messages, the targets and `TaskRequest` itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from inspect import isfunction, ismethod
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args

from msgspec import Struct
from msgspec.structs import force_setattr

from ._answer_schema import HasSchema, answer_schema
from ._chat_messages import messages_of
from ._messages import (
    AudioPart,
    CachePoint,
    CacheTime,
    ImagePart,
    Media,
    MediaSource,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    check_source,
)
from ._tool_values import Tool

__all__ = [
    "AudioPart",
    "CachePoint",
    "CacheTime",
    "ImagePart",
    "Media",
    "MediaSource",
    "Message",
    "Part",
    "ReasoningEffort",
    "ReasoningPart",
    "ResponseFormat",
    "Role",
    "Target",
    "TaskRequest",
    "TaskType",
    "TextPart",
    "Tool",
    "ToolCallPart",
    "ToolResultPart",
]

MOST_TOKENS: Final = 100_000_000
"""No request or answer has more tokens. A larger `max_tokens` is refused, and a larger count of a vendor is ignored."""

ReasoningEffort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

LONGEST_NAME: Final = 256
"""The most characters of a model's name, a namespace or a sticky key."""

NAMESPACE: Final = "namespace"
"""The metadata key that names a budget for requests that do not use the field `namespace`."""


ResponseFormat: TypeAlias = Mapping[str, Any] | HasSchema | type[Any]
"""The form of an answer: a pydantic model, a dataclass, a `TypedDict`, a msgspec `Struct`, a list of one of them, or a
JSON schema as a dict. The schema may be bare or in OpenAI's wrapping; `{"type": "json_object"}` stands for any JSON.
"""


class TaskType(StrEnum):
    """The purpose of a request. Routing chooses the targets by it."""

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
    def parse(cls, text: str) -> Target:
        """Parse `provider/model`. The first slash separates them, because a model's own name may contain slashes.

        Raises:
            ValueError: One of them is missing.
        """
        provider, slash, model = text.partition("/")
        if not (provider and slash and model):
            raise ValueError(f"a target is written provider/model, got {text!r}")
        return cls(provider, model)

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else self.provider


class _Positional(Struct, frozen=True):
    """The one field that may be passed by position."""

    prompt: str | None = None


class TaskRequest(_Positional, frozen=True, kw_only=True):
    """A request to a model. Only a prompt or messages are required. `None` stands for the default of a field.

    A field of the wrong type raises a `TypeError`, a wrong value a `ValueError`. Files are not read here.

    Args:
        prompt: The last user turn.
        task_type: The purpose of the request. Routing chooses the targets by it.
        messages: The turns before the prompt, or the whole conversation if there is no prompt. Each is a `Message`, or
            a dict in the form of OpenAI's chat messages.
        system: The system prompt.
        images: Images of the last user turn.
        audio: Sounds of the last user turn.
        tools: The tools that the model may call: functions, `Tool`s, or dicts with a schema.
        tool_choice: "auto", "none", "required" or the name of a tool.
        response_format: The type that the answer has to follow, or a JSON schema as a dict.
        temperature: The sampling temperature.
        top_p: The share of probability from which tokens are sampled.
        max_tokens: The most tokens of the answer.
        stop: Texts at which the answer ends.
        seed: The seed of the sampling.
        reasoning_effort: How much the model reasons before it answers.
        providers: Only targets of these providers may answer.
        model: Only this model may answer.
        namespace: The budget to which the request counts. The cache keeps the answers of each namespace apart. It is
            not sent to a vendor.
        sticky: Requests with the same value go to the same target of a route with the strategy `weighted`. It is not
            sent to a vendor.
        cache_key: Requests with the same value share a vendor's prompt cache, where its wire has a name for that.
        metadata: Metadata for vendors that store it.
        extra: Fields that are added to the body of the request as they are.
    """

    task_type: TaskType = TaskType.TEXT_GENERATION
    messages: tuple[Message, ...] = ()
    system: str | None = None
    images: tuple[MediaSource, ...] = ()
    audio: tuple[MediaSource, ...] = ()
    tools: tuple[Any, ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: ReasoningEffort | None = None
    providers: tuple[str, ...] = ()
    model: str | None = None
    namespace: str | None = None
    sticky: str | None = None
    cache_key: str | None = None
    metadata: Mapping[str, Any] = {}
    extra: Mapping[str, Any] = {}

    if TYPE_CHECKING:
        # The accepted types are wider than the stored ones.
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
            response_format: ResponseFormat | None = None,
            temperature: float | None = None,
            top_p: float | None = None,
            max_tokens: int | None = None,
            stop: str | Sequence[str] = (),
            seed: int | None = None,
            reasoning_effort: ReasoningEffort | None = None,
            providers: str | Sequence[str] = (),
            model: str | None = None,
            namespace: str | None = None,
            sticky: str | None = None,
            cache_key: str | None = None,
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
        """Every turn to send. The prompt with its images and sounds is the last one."""
        parts: list[Part] = [ImagePart(image) for image in self.images]
        parts += [AudioPart(sound) for sound in self.audio]
        if self.prompt is not None:
            parts.append(TextPart(self.prompt))
        return (*self.messages, Message("user", tuple(parts))) if parts else self.messages


def namespace_of(request: TaskRequest) -> str:
    """The namespace of a request, or "". The field `namespace` overrides the key in `metadata`."""
    name = request.metadata.get(NAMESPACE) if request.namespace is None else request.namespace
    return "" if name is None else str(name)


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError(f"{name} is a str, got {type(value).__name__}")


def _name(name: str, value: object) -> str:
    """Check a name. It appears in log lines and error messages, so it must not hold control characters."""
    text = _text(name, value)
    if not text or len(text) > LONGEST_NAME or not text.isprintable():
        raise ValueError(f"{name} is 1 to {LONGEST_NAME} printable characters, got {text[:40]!r}")
    return text


def _texts(name: str, value: object) -> tuple[str, ...]:
    return (
        (value,) if isinstance(value, str) else tuple(_text(f"each of {name}", item) for item in _several(name, value))
    )


def _several(name: str, value: object) -> tuple[Any, ...]:
    if isinstance(value, (list, tuple)):
        return tuple(value)
    raise TypeError(f"{name} is a list, got {type(value).__name__}; write {name}=[…]")


def _media(name: str, value: object) -> tuple[MediaSource, ...]:
    if not isinstance(value, (list, tuple)):
        check_source(name, value)
        return (cast(MediaSource, value),)
    for source in value:
        check_source(f"each of {name}", source)
    return tuple(value)


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


def _tool_choice(name: str, value: object) -> str | Mapping[str, Any]:
    if isinstance(value, (str, Mapping)):
        return value
    fix = f'; write {name}="{value.__name__}"' if isfunction(value) or ismethod(value) else ""
    raise TypeError(f'{name} is "auto", "none", "required" or the name of a tool, got {type(value).__name__}{fix}')


def _task_type(name: str, value: object) -> TaskType:
    if isinstance(value, str) and value in _TASK_TYPES:
        return TaskType(value)
    raise ValueError(f"{name} is one of {', '.join(TaskType)}; got {value!r}")


def _messages(name: str, value: object) -> tuple[Message, ...]:
    return messages_of(name, _several(name, value))


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
    "tool_choice": _tool_choice,
    "response_format": answer_schema,
    "temperature": _number,
    "top_p": _number,
    "max_tokens": _count,
    "stop": _texts,
    "seed": _whole,
    "reasoning_effort": _effort,
    "providers": _texts,
    "model": _name,
    "namespace": _name,
    "sticky": _name,
    "cache_key": _name,
    "metadata": _mapping,
    "extra": _mapping,
}
