"""What must be the same to the letter: everything about a request but its last words."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import zip_longest
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..exceptions import CacheError
from ..tasks import AudioPart, ImagePart, Message, Part, Target, TaskRequest, TaskType, TextPart, namespace_of
from ._english.comparable import judges_texts

KEY_VERSION: Final = 2
"""Part of every key. It changes when what a key is made of changes, or the form of a recording: then what was recorded
before is not found any more.
"""

NOT_COMPARED: Final = frozenset(
    {"prompt", "messages", "images", "audio", "providers", "model", "sticky", "namespace", "metadata"}
)
"""Fields of a request that are no part of a key by themselves. `prompt`, `messages`, `images` and `audio` are in it as
the conversation; `providers` and `model` as the targets they choose; `namespace`, or the metadata that name one, as the
request's namespace. `sticky` says nothing about the answer.
"""
COMPARED: Final = tuple(name for name in TaskRequest.__struct_fields__ if name not in NOT_COMPARED)
"""All other fields, those that a later version adds included: they have to be equal."""

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


def asked(
    request: TaskRequest, targets: Iterable[Target], namespace: str, secret: bytes, models: Sequence[str] = ()
) -> Asked:
    """The bucket and the words of a request. `models` says what each target really is. A `CacheError` says why there
    are none.
    """
    text, earlier = _last_words(request)
    tenant = namespace_of(request)
    if tenant:
        namespace = f"{namespace}\x00{tenant}"
    alike = (KEY_VERSION, namespace, _names(tuple(targets), tuple(models)), earlier, *_compared(request))
    bucket = blake2b(_encoder.encode(alike), key=secret, digest_size=16).digest()
    key = blake2b(bucket + text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return Asked(bucket, key, text, namespace, exact=request.task_type in _EXACT or _about_a_text(request))


_compared: Final = attrgetter(*COMPARED)


@lru_cache(maxsize=1024)
def _names(targets: tuple[Target, ...], models: tuple[str, ...]) -> list[tuple[str, str]]:
    """The targets, and what they really are, sorted: their order depends on health and on chance."""
    return sorted((str(target), model) for target, model in zip_longest(targets, models, fillvalue=""))


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
