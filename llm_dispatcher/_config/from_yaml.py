"""The layer of a YAML file: a tree of plain values, with the line of each key.

The file is read event by event rather than with `yaml.load`. So duplicate keys are reported, aliases are never
followed, and the depth is bounded before a value is built.
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import yaml

from .layers import MAX_DEPTH, Layer, Tree, is_mapping
from .problems import KeyPath, Problem, configuration_error

MAX_BYTES: Final = 1_000_000

_LOADER: Final[type[yaml.SafeLoader | yaml.CSafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_VARIABLE: Final = re.compile(r"\$\{[^}\n]*\}")
_PLACEHOLDER: Final = re.compile("\ue000([0-9]+)\ue001")
_NULL_TAG: Final = "tag:yaml.org,2002:null"
_CONTAINER_TAGS: Final = frozenset({None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


def read_yaml(path: Path) -> Layer:
    """The layer of a file. Raises a `ConfigurationError` if the file cannot be read or parsed at all."""
    file = str(path)
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise configuration_error([Problem((), f"cannot be read: {error.strerror or error}", file)]) from error
    if len(content) > MAX_BYTES:
        raise configuration_error([Problem((), "is larger than 1 MB", file)])
    try:
        return parse_yaml(content.decode("utf-8-sig"), file)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    # Raised outside of the `except`, here and below: the caught errors hold the file's text, which may contain keys.
    raise configuration_error([Problem((), "is not UTF-8 text", file, line)])


def line_of(file: str, key: str) -> int | None:
    """The line of a key (`providers.openai.options.background`) in a file, else of the nearest key above it."""
    lines = {Problem(path, "").key: line for path, line in read_yaml(Path(file)).lines.items() if path}
    while key and key not in lines:
        key = key.rpartition(".")[0]
    return lines.get(key)


def parse_yaml(text: str, file: str) -> Layer:
    """The layer of YAML text. Raises a `ConfigurationError` only if the text cannot be parsed at all.

    `${…}` is not valid YAML inside `{…}`, and its default may hold any character. So each one is replaced by a
    placeholder before parsing, and restored in the scalar that it was part of.
    """
    variables = _VARIABLE.findall(text)
    positions = count()
    text = _VARIABLE.sub(lambda _: f"\ue000{next(positions)}\ue001", text)
    problems: list[Problem] = []
    try:
        reader = _Reader(_LOADER(text), file, variables, problems)
        return Layer(tree=reader.document(), file=file, lines=reader.lines, problems=problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        problems.append(Problem((), f"is not YAML: {error.problem or error.context}", file, line))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.append(Problem((), f"is not YAML: {error.reason}", file, line))
    raise configuration_error(problems)


class _Reader:
    """Builds the tree of a document from its events, in one pass."""

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
            self._report((), "holds a second document; one file is one configuration", self._loader.peek_event())
        if tree is None:
            return {}
        if not is_mapping(tree):
            self._report((), "must be a mapping with the keys providers, routing, resilience", start)
            raise configuration_error(self._problems)
        return tree

    def _node(self, path: KeyPath) -> object:
        event = self._loader.get_event()
        self.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.AliasEvent):
            self._report(path, f"aliases are not allowed (*{event.anchor}); write the value out", event)
            return None
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(path, event)
        if event.tag not in _CONTAINER_TAGS:
            self._report(path, "must not have a tag", event)
        if len(path) >= MAX_DEPTH:
            self._report(path, f"is nested more than {MAX_DEPTH} levels deep", event)
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
                self._report(path, "a key must be text", event)
                self._skip()
                self._skip()
                continue
            self._loader.get_event()
            key = self._restored(event.value)
            where = (*path, key)
            if key in mapping:
                self._report(where, f"duplicate key, first on line {self.lines[where]}", event)
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
        if (value is None and tag != _NULL_TAG) or isinstance(value, bytes):
            # An invalid date, a number of five thousand digits, bytes, or a tag of another program.
            self._report(path, f"cannot be read as {tag.rpartition(':')[2] or tag}; put it in quotes", event)
            return None
        return self._restored(value) if isinstance(value, str) else value

    def _skip(self) -> None:
        """Skip one node of any kind."""
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

    def _report(self, path: KeyPath, message: str, event: yaml.Event) -> None:
        self._problems.append(Problem(path, message, self._file, _line(event)))

    def _restored(self, text: str) -> str:
        if "\ue000" not in text:
            return text
        originals = self._variables
        return _PLACEHOLDER.sub(
            lambda match: originals[int(match[1])] if int(match[1]) < len(originals) else match[0], text
        )


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None, "events of a text have a position"
    return event.start_mark.line + 1
