"""What must be the same to the letter: everything about a request but its last words."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..exceptions import CacheError
from ..tasks import AudioPart, ImagePart, Message, Part, Target, TaskRequest, TaskType, TextPart, namespace_of
from .scope import judges_texts

SCHEMA: Final = 1
"""Part of every bucket and of every file; another number is another cache."""

_EXACT: Final = frozenset(
    {
        TaskType.CODE_GENERATION,
        TaskType.TRANSLATION,
        TaskType.CLASSIFICATION,
        TaskType.SENTIMENT_ANALYSIS,
        TaskType.AUDIO_TRANSCRIPTION,
    }
)
"""Tasks whose prompt is a text to work on, not a question about something."""

_NOTHING_BUT_WORDS: Final = (Message("user", (TextPart(""),)),)


class Asked(Struct, frozen=True, gc=False):
    """A request as the cache sees it: its bucket, its last words, and whether these are compared for equality alone."""

    bucket: bytes
    key: bytes
    text: str
    namespace: str
    exact: bool


def asked(request: TaskRequest, targets: Iterable[Target], namespace: str, secret: bytes) -> Asked:
    """The bucket and the words of a request. A `CacheError` says why a request has none."""
    text, earlier = _last_words(request)
    tenant = namespace_of(request)
    if tenant:
        namespace = f"{namespace}\x00{tenant}"
    alike = (
        SCHEMA,
        namespace,
        request.task_type,
        _names(tuple(targets)),
        request.system,
        earlier,
        request.tools,
        request.tool_choice,
        request.response_format,
        request.temperature,
        request.top_p,
        request.max_tokens,
        request.stop,
        request.seed,
        request.reasoning_effort,
        request.extra,
    )
    bucket = blake2b(_encoder.encode(alike), key=secret, digest_size=16).digest()
    key = blake2b(bucket + text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return Asked(bucket, key, text, namespace, exact=request.task_type in _EXACT or _about_a_text(request))


@lru_cache(maxsize=1024)
def _names(targets: tuple[Target, ...]) -> list[str]:
    """The targets whatever their order: it changes with their health and with chance."""
    return sorted(str(target) for target in targets)


def _last_words(request: TaskRequest) -> tuple[str, tuple[Message, ...]]:
    """The last user text, and the conversation without it."""
    if request.prompt is not None and not (request.images or request.audio or request.messages):
        return request.prompt, _NOTHING_BUT_WORDS
    conversation = request.conversation
    for message in conversation:
        for part in message.parts:
            _check(part)
    if not conversation or conversation[-1].role != "user":
        return "", conversation
    last = conversation[-1]
    words = [part.text for part in last.parts if isinstance(part, TextPart)]
    if len(words) != 1:
        return "", conversation
    rest = tuple(TextPart("") if isinstance(part, TextPart) else part for part in last.parts)
    return words[0], (*conversation[:-1], Message("user", rest))


def _check(part: Part) -> None:
    if isinstance(part, (ImagePart, AudioPart)) and not str(part.source).startswith("data:"):
        raise CacheError("media is given by its address, and what is there may change")


def _about_a_text(request: TaskRequest) -> bool:
    """Whether what was said before makes the last words a text to work on."""
    said = [request.system] if request.system else []
    said += [message.text for message in request.messages if message.role != "assistant"]
    return any(judges_texts(each) for each in said)


def _hook(value: object) -> object:
    """Tools and formats may be given as Python: a schema where there is one, else the name and the signature."""
    schema = getattr(value, "model_json_schema", None)
    if callable(schema):
        return schema()
    if callable(value):
        return _signature(value)
    raise CacheError(f"a request that holds a {type(value).__name__} has no key to be found by")


@lru_cache(maxsize=256)
def _signature(function: Any) -> tuple[str, ...]:
    name = getattr(function, "__qualname__", None)
    if name is None or "<" in name:
        raise CacheError("a request with a local function as a tool has no key to be found by")
    return (function.__module__, name, str(inspect.signature(function)), inspect.getdoc(function) or "")


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_hook, order="deterministic")
