"""What a docstring says of a function and of its parameters, in the styles of Google, NumPy and Sphinx."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

_GOOGLE: Final = re.compile(r"(?:Args|Arguments|Parameters|Params|Keyword Args|Keyword Arguments|Other Parameters):")
_GOOGLE_ENTRY: Final = re.compile(r"\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:\s*(.*)")
_NUMPY: Final = frozenset({"Parameters", "Other Parameters"})
_NUMPY_ENTRY: Final = re.compile(r"\*{0,2}(\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")
_UNDERLINE: Final = re.compile(r"-{3,}\s*")
_SPHINX: Final = re.compile(r":(param|parameter|arg|argument|key|keyword|type)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into the description of the function and the description of each parameter.

    Args:
        text: The docstring, with its indentation removed, as `inspect.getdoc` returns it.
    """
    lines = text.splitlines()
    rest: list[str] = []
    parameters: dict[str, str] = {}
    place = 0
    while place < len(lines):
        line = lines[place]
        if line.strip() in _NUMPY and place + 1 < len(lines) and _UNDERLINE.fullmatch(lines[place + 1].strip()):
            end = _end_of_numpy(lines, place + 2)
            parameters |= _numpy_entries(lines[place + 2 : end])
        elif _GOOGLE.fullmatch(line.strip()):
            end = _end_of_block(lines, place)
            parameters |= _google_entries(lines[place + 1 : end])
        elif (field := _SPHINX.fullmatch(line.strip())) is not None:
            end = _end_of_field(lines, place)
            if field[1] != "type":
                parameters[field[2]] = _joined([field[3], *lines[place + 1 : end]])
        else:
            rest.append(line)
            end = place + 1
        place = end
    return re.sub(r"\n{3,}", "\n\n", "\n".join(rest)).strip(), parameters


def _end_of_block(lines: Sequence[str], place: int) -> int:
    """The end of a block whose lines are indented more than its heading."""
    indent = _indent(lines[place])
    for number in range(place + 1, len(lines)):
        if lines[number].strip() and _indent(lines[number]) <= indent:
            return number
    return len(lines)


def _end_of_numpy(lines: Sequence[str], place: int) -> int:
    """The end of a section: the next line that is underlined."""
    for number in range(place, len(lines) - 1):
        if lines[number].strip() and _UNDERLINE.fullmatch(lines[number + 1].strip()):
            return number
    return len(lines)


def _end_of_field(lines: Sequence[str], place: int) -> int:
    """The end of a field of Sphinx: a blank line, or one that is not indented more."""
    indent = _indent(lines[place])
    for number in range(place + 1, len(lines)):
        if not lines[number].strip() or _indent(lines[number]) <= indent:
            return number
    return len(lines)


def _google_entries(block: Sequence[str]) -> dict[str, str]:
    return _entries(block, _GOOGLE_ENTRY)


def _numpy_entries(block: Sequence[str]) -> dict[str, str]:
    return _entries(block, _NUMPY_ENTRY)


def _entries(block: Sequence[str], entry: re.Pattern[str]) -> dict[str, str]:
    """The entries of a block. Each begins with a line that is indented like the first one, and deeper lines follow."""
    base = next((_indent(line) for line in block if line.strip()), 0)
    texts: dict[str, list[str]] = {}
    names: list[str] = []
    for line in block:
        found = entry.fullmatch(line.strip()) if _indent(line) == base and line.strip() else None
        if found is not None:
            names = [name.strip().lstrip("*") for name in found[1].split(",")]
            texts |= {name: [found[2] if entry is _GOOGLE_ENTRY else ""] for name in names}
        else:
            for name in names:
                texts[name].append(line)
    return {name: text for name, words in texts.items() if (text := _joined(words))}


def _joined(lines: Iterable[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
