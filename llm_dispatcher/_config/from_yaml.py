"""A YAML file as a tree of plain values that remembers on which line each key stands.

Read event by event rather than with `yaml.load`: that keeps the first of two equal keys and tells of the second, never
follows an alias, and bounds the depth before anything is built.
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import yaml

from .layers import Layer
from .problems import Problem, configuration_error
from .tree import MOST_DEPTH, KeyPath, Tree, is_mapping

MOST_BYTES: Final = 1_000_000

_LOADER: Final[type[yaml.SafeLoader | yaml.CSafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_VARIABLE: Final = re.compile(r"\$\{[^}\n]*\}")
_STAND_IN: Final = re.compile("\ue000([0-9]+)\ue001")
_NOTHING: Final = "tag:yaml.org,2002:null"
_CONTAINERS: Final = frozenset({None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


def read_document(path: Path) -> Layer:
    """The file's tree with its lines and whatever is wrong with it as YAML."""
    file = str(path)
    try:
        with path.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise configuration_error([Problem((), f"cannot be read: {error.strerror or error}", file)]) from error
    if len(content) > MOST_BYTES:
        raise configuration_error([Problem((), "is larger than 1 MB", file)])
    try:
        return parse_document(content.decode("utf-8-sig"), file)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    # Outside of the `except`, here and below: those errors hold the file's text, and keys may stand in it.
    raise configuration_error([Problem((), "is not UTF-8 text", file, line)])


def parse_document(text: str, file: str) -> Layer:
    """The tree of YAML text; raises only where nothing at all can be made of it.

    `${…}` is no YAML inside `{…}`, and its default may hold anything; so each one is read as a stand-in of characters
    that mean nothing, and put back into the scalar that it was part of.
    """
    variables = _VARIABLE.findall(text)
    positions = count()
    text = _VARIABLE.sub(lambda _: f"\ue000{next(positions)}\ue001", text)
    problems: list[Problem] = []
    try:
        reading = _Reading(_LOADER(text), file, variables, problems)
        return Layer(tree=reading.document(), file=file, lines=reading.lines, problems=problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        problems.append(Problem((), f"is not YAML: {error.problem or error.context}", file, line))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.append(Problem((), f"is not YAML: {error.reason}", file, line))
    raise configuration_error(problems)


class _Reading:
    """One pass over a document's events."""

    def __init__(self, loader: Any, file: str, variables: list[str], problems: list[Problem]) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._loader = loader
        self._file = file
        self._variables = variables
        self._problems = problems

    def document(self) -> Tree:
        self._next(yaml.StreamStartEvent)
        if self._loader.check_event(yaml.StreamEndEvent):
            return {}
        self._next(yaml.DocumentStartEvent)
        start = self._loader.peek_event()
        tree = self._node(())
        self._next(yaml.DocumentEndEvent)
        if self._loader.check_event(yaml.DocumentStartEvent):
            self._complain((), "holds a second document; one file is one configuration", self._loader.peek_event())
        if tree is None:
            return {}
        if not is_mapping(tree):
            self._complain((), "must be a mapping with the keys providers, routing, resilience", start)
            raise configuration_error(self._problems)
        return tree

    def _node(self, path: KeyPath) -> object:
        event = self._loader.get_event()
        self.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.AliasEvent):
            self._complain(path, f"aliases are not allowed (*{event.anchor}); write the value out", event)
            return None
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(path, event)
        if event.tag not in _CONTAINERS:
            self._complain(path, "must not have a tag", event)
        if len(path) >= MOST_DEPTH:
            self._complain(path, f"is nested more than {MOST_DEPTH} levels deep", event)
            raise configuration_error(self._problems)
        return self._list(path) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(path)

    def _list(self, path: KeyPath) -> list[object]:
        items: list[object] = []
        while not self._loader.check_event(yaml.SequenceEndEvent):
            items.append(self._node((*path, len(items))))
        self._loader.get_event()
        return items

    def _mapping(self, path: KeyPath) -> Tree:
        mapping: Tree = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            event = self._loader.peek_event()
            if not isinstance(event, yaml.ScalarEvent):
                self._complain(path, "a key must be text", event)
                self._skip()
                self._skip()
                continue
            self._loader.get_event()
            key = self._put_back(event.value)
            where = (*path, key)
            if key in mapping:
                self._complain(where, f"duplicate key, first on line {self.lines[where]}", event)
                self._skip()
                continue
            self.lines[where] = _line(event)
            mapping[key] = self._node(where)
        self._loader.get_event()
        return mapping

    def _scalar(self, path: KeyPath, event: yaml.ScalarEvent) -> object:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        value: object = None
        with suppress(ValueError, yaml.constructor.ConstructorError):
            value = self._loader.construct_object(yaml.ScalarNode(tag, event.value))
        if (value is None and tag != _NOTHING) or isinstance(value, bytes):
            # A date that is none, a number of five thousand digits, bytes, or a tag that only other programs know.
            self._complain(path, f"cannot be read as {tag.rpartition(':')[2] or tag}; put it in quotes", event)
            return None
        return self._put_back(value) if isinstance(value, str) else value

    def _skip(self) -> None:
        """Pass over one node, whatever it is."""
        depth = 0
        while True:
            event = self._loader.get_event()
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth == 0:
                return

    def _next(self, kind: type[yaml.Event]) -> None:
        event = self._loader.get_event()
        assert isinstance(event, kind), event

    def _complain(self, path: KeyPath, message: str, event: yaml.Event) -> None:
        self._problems.append(Problem(path, message, self._file, _line(event)))

    def _put_back(self, text: str) -> str:
        if "\ue000" not in text:
            return text
        known = self._variables
        return _STAND_IN.sub(lambda found: known[int(found[1])] if int(found[1]) < len(known) else found[0], text)


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None, "events that were read from text are marked"
    return event.start_mark.line + 1
