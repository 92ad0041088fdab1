"""What in a request has no form in JSON: looked for when a client could not write it, and not before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from ..tasks import AudioPart, ImagePart, TaskRequest

WHOLE: Final = "the request"
DEEPEST: Final = 20


def unsendable(request: TaskRequest) -> str | None:
    """Which part of a request has no form in JSON, and why; `None` where every part has one."""
    fields = asdict(request)
    del fields["images"], fields["audio"]  # which may be given as bytes or paths, and are coded before they are sent
    return next(_wrong(fields, WHOLE, ()), None)


def _wrong(value: Any, where: str, around: tuple[int, ...]) -> Iterator[str]:
    """What cannot be written, the innermost first: whatever is around it cannot be written either."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False, default=_fields).encode()
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
        inside = (value if isinstance(value, Mapping) else _fields(value)).items()
    elif isinstance(value, (list, tuple)):
        inside = enumerate(value)
    for name, inner in inside:
        step = f"{where}[{name}]" if isinstance(value, (list, tuple)) else f"{where}.{name}"
        if id(inner) not in around:
            yield from _wrong(inner, step.removeprefix(f"{WHOLE}."), (*around, id(inner)))


def _fields(value: object) -> dict[str, Any]:
    """A message, or a part of one; of a picture or a sound nothing is written as it is."""
    if isinstance(value, (ImagePart, AudioPart)):
        return {}
    if isinstance(value, Struct):
        return asdict(value)
    raise TypeError(f"there is none for the type {type(value).__name__}")
