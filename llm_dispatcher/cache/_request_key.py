"""The key of a request in the cache.

The bucket is a hash of everything that must be equal: all fields of the request except its last words, the targets and
the namespace. The last words may differ in ways that `_english` judges harmless. The hash is keyed with the secret of
the store, so that no other program can compute it.
"""

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
from msgspec.structs import replace

from .._answer_schema import may_instruct
from ..exceptions import CacheError
from ..tasks import (
    AudioPart,
    CachePoint,
    ImagePart,
    Message,
    Part,
    Target,
    TaskRequest,
    TaskType,
    TextPart,
    Tool,
    namespace_of,
)
from ._english.comparable import asks_to_process_text

KEY_VERSION: Final = 2
"""Part of every key. Raise it when the parts of a key change, or the form of a recording: then older entries are not
found any more.
"""

NOT_COMPARED: Final = frozenset(
    {"prompt", "messages", "images", "audio", "providers", "model", "sticky", "cache_key", "namespace", "metadata"}
)
"""Fields of a request that are not compared by themselves. The conversation stands for `prompt`, `messages`, `images`
and `audio`, the targets stand for `providers` and `model`, and the request's namespace stands for `namespace` and
`metadata`. `sticky` and `cache_key` do not affect the answer.
"""
COMPARED: Final = tuple(name for name in TaskRequest.__struct_fields__ if name not in NOT_COMPARED)
"""All other fields. They must be equal, and so must every field that a later version adds."""

_EXACT: Final = frozenset(
    {
        TaskType.CODE_GENERATION,
        TaskType.TRANSLATION,
        TaskType.CLASSIFICATION,
        TaskType.SENTIMENT_ANALYSIS,
        TaskType.AUDIO_TRANSCRIPTION,
    }
)
"""Tasks whose prompt is a text to process, not a question. It is compared for equality only."""

_NOTHING_BUT_WORDS: Final = (Message("user", (TextPart(""),)),)


class RequestKey(Struct, frozen=True, gc=False):
    """A request as the cache sees it.

    `bucket` stands for all that must be equal, `text` is the last words, and `key` stands for both. If `exact` is true,
    the last words are compared for equality only.
    """

    bucket: bytes
    key: bytes
    text: str
    namespace: str
    exact: bool


def request_key(
    request: TaskRequest, targets: Iterable[Target], namespace: str, secret: bytes, models: Sequence[str] = ()
) -> RequestKey:
    """The key of a request.

    Args:
        request: The request.
        targets: The targets that may answer it, in any order.
        namespace: The cache's own namespace.
        secret: The key of the hash.
        models: The identity of each target: its address and the vendor's own name of the model.

    Raises:
        CacheError: The request cannot be cached; the message says why.
    """
    if any(isinstance(tool, Tool) for tool in request.tools):  # as vendors get them, without their functions
        tools = [tool.as_dict() if isinstance(tool, Tool) else tool for tool in request.tools]
        request = replace(request, tools=tools)
    text, earlier = _last_words(request)
    tenant = namespace_of(request)
    if tenant:
        namespace = f"{namespace}\x00{tenant}"
    parts = (KEY_VERSION, namespace, _names(tuple(targets), tuple(models)), earlier, *_compared(request))
    if may_instruct(request.response_format):  # such an answer is checked, and may not serve a reader who trusts it
        parts = (*parts, "told in words")
    bucket = blake2b(_encoder.encode(parts), key=secret, digest_size=16).digest()
    key = blake2b(bucket + text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return RequestKey(bucket, key, text, namespace, exact=request.task_type in _EXACT or _is_text_to_process(request))


_compared: Final = attrgetter(*COMPARED)


@lru_cache(maxsize=1024)
def _names(targets: tuple[Target, ...], models: tuple[str, ...]) -> list[tuple[str, str]]:
    """The targets with their identities, sorted, because their order depends on health and on chance."""
    return sorted((str(target), model) for target, model in zip_longest(targets, models, fillvalue=""))


def _last_words(request: TaskRequest) -> tuple[str, tuple[Message, ...]]:
    """The text of the last user message, and the conversation without it."""
    if request.prompt is not None and not (request.images or request.audio or request.messages):
        return request.prompt, _NOTHING_BUT_WORDS
    conversation = tuple(map(_without_points, request.conversation))
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


def _without_points(message: Message) -> Message:
    """A message without its cache points: they are for the vendor's own cache, and do not affect the answer."""
    if not any(isinstance(part, CachePoint) for part in message.parts):
        return message
    return Message(message.role, [part for part in message.parts if not isinstance(part, CachePoint)])


def _check(part: Part) -> None:
    if isinstance(part, (ImagePart, AudioPart)) and not str(part.source).startswith("data:"):
        raise CacheError("media is referenced by URL, and the content at a URL may change: pass the bytes")


def _is_text_to_process(request: TaskRequest) -> bool:
    """Whether the instructions before the last words make them a text to process."""
    instructions = [request.system] if request.system else []
    instructions += [message.text for message in request.messages if message.role != "assistant"]
    return any(asks_to_process_text(each) for each in instructions)


def _encode_object(value: object) -> object:
    """Encode tools and formats that are Python objects: as their JSON schema, else as name and signature."""
    schema = getattr(value, "model_json_schema", None)
    if callable(schema):
        return schema()
    if callable(value):
        return _signature(value)
    raise CacheError(f"a value of type {type(value).__name__} cannot be compared: pass JSON values")


@lru_cache(maxsize=256)
def _signature(function: Any) -> tuple[str, ...]:
    name = getattr(function, "__qualname__", None)
    if name is None or "<" in name:
        raise CacheError("a local function is not identified by its name: define the tool at the top of a module")
    return (function.__module__, name, str(inspect.signature(function)), inspect.getdoc(function) or "")


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_encode_object, order="deterministic")
