"""What in a request has no form in JSON: looked for when a client could not write it, and not before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from ...tasks import AudioPart, ImagePart, Media, MediaSource, TaskRequest
from .encoding import form_of

WHOLE: Final = "the request"
DEEPEST: Final = 20
LONGEST_NAME: Final = 60


def unsendable(request: TaskRequest) -> str | None:
    """Which part of a request has no form in JSON, and why; `None` where every part has one."""
    fields = asdict(request)
    for name in ("images", "audio"):
        fields[name] = [_source(source) for source in fields[name]]
    return next(_wrong(fields, WHOLE, ()), None)


def _wrong(value: Any, where: str, around: tuple[int, ...]) -> Iterator[str]:
    """What cannot be written, the innermost first: whatever is around it cannot be written either."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False, default=_form).encode()
    except UnicodeEncodeError as error:
        yield from _wrong_inside(value, where, around)
        yield f"{where} holds {error.object[error.start]!r}, half of a character: there is no UTF-8 for it"
    except (TypeError, ValueError, RecursionError) as error:
        yield from _wrong_inside(value, where, around)
        yield f"{where} cannot be written as JSON: {error}"


def _wrong_inside(value: Any, where: str, around: tuple[int, ...]) -> Iterator[str]:
    """No deeper than a reader would follow; what holds itself is not entered again."""
    if len(around) == DEEPEST:
        return
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, (Struct, Mapping)):
        inside = (value if isinstance(value, Mapping) else _form(value)).items()
    elif isinstance(value, (list, tuple)):
        inside = enumerate(value)
    for name, inner in inside:
        # (A name may itself hold what cannot be written, and the error's message is for logs.)
        shown = ascii(name)[1:-1][:LONGEST_NAME] if isinstance(name, str) else ascii(name)[:LONGEST_NAME]
        step = f"{where}[{shown}]" if isinstance(value, (list, tuple)) else f"{where}.{shown}"
        if id(inner) not in around:
            yield from _wrong(inner, step.removeprefix(f"{WHOLE}."), (*around, id(inner)))


def _form(value: Any) -> Any:
    if isinstance(value, (ImagePart, AudioPart)):
        return {"source": _source(value.source)}
    return asdict(value) if isinstance(value, Struct) else form_of(value)


def _source(source: MediaSource) -> str | Media | None:
    """What is written of a picture or a sound as it is: an address. Bytes and files are coded before."""
    return source if isinstance(source, (str, Media)) else None
