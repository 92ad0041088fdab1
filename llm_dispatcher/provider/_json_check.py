"""Which part of a request cannot be written as JSON. It is looked for only after a client failed to write it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from ..tasks import AudioPart, ImagePart, Media, MediaSource, TaskRequest, Tool

WHOLE: Final = "the request"
DEEPEST: Final = 20
LONGEST_NAME: Final = 60


def form_of(value: Any) -> Any:
    """What JSON gets in place of a time or a pydantic model: the same as OpenAI's and Anthropic's clients write."""
    if isinstance(value, datetime):
        return value.isoformat()
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump(mode="json", by_alias=True, exclude_unset=True)
    raise TypeError(f"it has no form for {type(value).__name__}")


def unsendable(request: TaskRequest) -> str | None:
    """The part of a request that cannot be written as JSON, and why; `None` if all of it can be written."""
    fields = asdict(request)
    for name in ("images", "audio"):
        fields[name] = [_source(source) for source in fields[name]]
    return next(_wrong(fields, WHOLE, ()), None)


def _wrong(value: Any, where: str, around: tuple[int, ...]) -> Iterator[str]:
    """What cannot be written, innermost first. The values around it cannot be written either."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False, default=_form).encode()
    except UnicodeEncodeError as error:
        yield from _wrong_inside(value, where, around)
        yield f"{where} holds {error.object[error.start]!r}, half of a character: there is no UTF-8 for it"
    except (TypeError, ValueError, RecursionError) as error:
        yield from _wrong_inside(value, where, around)
        yield f"{where} cannot be written as JSON: {error}"


def _wrong_inside(value: Any, where: str, around: tuple[int, ...]) -> Iterator[str]:
    """The same for the values inside. It stops at `DEEPEST`, and at a value that contains itself."""
    if len(around) == DEEPEST:
        return
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, (Struct, Mapping)):
        inside = (value if isinstance(value, Mapping) else _form(value)).items()
    elif isinstance(value, (list, tuple)):
        inside = enumerate(value)
    for name, inner in inside:
        # A name may contain what cannot be written, and the message goes to logs.
        step_name = ascii(name)[1:-1][:LONGEST_NAME] if isinstance(name, str) else ascii(name)[:LONGEST_NAME]
        step = f"{where}[{step_name}]" if isinstance(value, (list, tuple)) else f"{where}.{step_name}"
        if id(inner) not in around:
            yield from _wrong(inner, step.removeprefix(f"{WHOLE}."), (*around, id(inner)))


def _form(value: Any) -> Any:
    if isinstance(value, (ImagePart, AudioPart)):
        return {"source": _source(value.source)}
    if isinstance(value, Tool):  # its functions stay here
        return {name: each for name, each in asdict(value).items() if not callable(each)}
    return asdict(value) if isinstance(value, Struct) else form_of(value)


def _source(source: MediaSource) -> str | Media | None:
    """The part of an image or a sound that is written unchanged: an address. Bytes and files are encoded before."""
    return source if isinstance(source, (str, Media)) else None
