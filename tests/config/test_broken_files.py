"""Broken files: the place and the words of each error."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from llm_dispatcher._config import load
from llm_dispatcher._policy import Policy
from llm_dispatcher._routing.strategies import STRATEGIES
from llm_dispatcher._vendors.kinds import known_kinds
from llm_dispatcher.exceptions import ConfigurationError, ConfigurationProblem

VALID = "providers:\n  openai: {api_key: test-key, models: [m]}\n"
"""Two valid lines; a test appends its text on line 3."""


class LoadText(Protocol):
    def __call__(self, text: str | bytes) -> Policy: ...


@dataclass(frozen=True)
class Broken:
    """A file, and all lines of its error message."""

    name: str
    text: str
    expected: list[str]


def broken_files() -> list[Broken]:
    """The cases of `broken.txt`, whose first line describes the format."""
    cases: list[Broken] = []
    table = Path(__file__).with_name("broken.txt").read_text()
    table = table.replace("<kinds>", ", ".join(sorted(known_kinds()))).replace("<strategies>", ", ".join(STRATEGIES))
    for case in table.split("### ")[1:]:
        name, *lines = case.strip().splitlines()
        expected = [line.removeprefix("=> ") for line in lines if line.startswith("=> ")]
        text = [line for line in lines if not line.startswith("=> ")]
        cases.append(Broken(name, "".join(f"{line}\n" for line in text), expected))
    return cases


@pytest.mark.parametrize("broken", broken_files(), ids=lambda broken: str(broken.name))
def test_a_broken_file_is_refused_with_exactly_its_problems(broken: Broken, load_text: LoadText) -> None:
    """A problem that is reported twice, or with its consequences, would mislead the reader."""
    with pytest.raises(ConfigurationError) as error:
        load_text(broken.text)
    assert str(error.value).splitlines() == broken.expected
    place, _, rest = broken.expected[0].partition(": ")
    file, _, line = place.partition(":")
    assert (error.value.file, error.value.line) == (file, int(line) if line else None)
    assert error.value.key is None or rest.startswith(f"{error.value.key}: ")
    assert [str(problem) for problem in error.value.problems] == broken.expected


def test_the_table_of_broken_files_is_complete() -> None:
    files = broken_files()
    assert len({broken.text for broken in files}) == len({broken.name for broken in files}) == len(files) > 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(f"{VALID}routing: [", ": is not YAML", id="an open bracket"),
        pytest.param(f"{VALID}\trouting: {{}}\n", ":3: is not YAML", id="a tab for indentation"),
        pytest.param(f"{VALID}routing: default: x\n", ":3: is not YAML", id="two colons"),
        pytest.param(f"{VALID}routing: 'x\n", ":4: is not YAML", id="an open quote"),
        pytest.param(f"{VALID}routing: \x01\n", ":3: is not YAML", id="a control character"),
        pytest.param(f"{VALID}routing: *\n", ":3: is not YAML", id="a lone star"),
        pytest.param(VALID.encode() + b"# caf\xe9\n", ":3: is not UTF-8 text", id="Latin-1"),
        pytest.param("- providers\n", ":1: must be a mapping with the keys providers, routing", id="a list"),
        pytest.param("providers\n", ":1: must be a mapping with the keys providers, routing", id="a word"),
        pytest.param(f"{VALID}? [a]\n: b\n", ":3: a key must be text", id="a list for a key"),
        pytest.param("[" * 400_000, "is nested more than 32 levels deep", id="lists without end"),
        pytest.param("{a: " * 200_000, "is nested more than 32 levels deep", id="mappings without end"),
        pytest.param(VALID + "#" * 1_000_000, ": is larger than 1 MB", id="larger than 1 MB"),
        pytest.param(
            VALID + "resilience: {backoff: 1" + "0" * 6_000 + "}", "cannot be read as int", id="too many digits"
        ),
        pytest.param(
            VALID + "resilience: {max_retries: 1" + "0" * 4_000 + "}", "at most 10, got 1000", id="a long number"
        ),
        pytest.param(VALID + "resilience: {on_break: 2024-99-99}", "cannot be read as timestamp", id="no such day"),
        pytest.param(VALID + f"{'k' * 1_000}: 1", "kkk…: unknown key", id="a long key"),
    ],
)
def test_a_file_that_is_not_a_configuration_is_refused_in_one_line(
    text: str | bytes, words: str, load_text: LoadText
) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(text)
    assert str(error.value).startswith("policy.yaml")
    assert words in str(error.value)
    assert len(str(error.value)) < 1_000


def test_an_alias_bomb_is_not_expanded(load_text: LoadText) -> None:
    levels = [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, 60)]
    with pytest.raises(ConfigurationError, match="aliases are not allowed"):
        load_text("\n".join(["l0: &l0 [boom]", *levels]))


def test_a_message_lists_fifty_problems_at_most(load_text: LoadText) -> None:
    with pytest.raises(ConfigurationError, match=r"… and \d+ more") as error:
        load_text(VALID + "".join(f"unknown{number}: 1\n" for number in range(5_000)))
    assert len(str(error.value).splitlines()) == 51
    assert len(error.value.problems) == 5_000
    last = error.value.problems[-1]
    assert (last.file, last.line, last.key, last.variable) == ("policy.yaml", 5_002, "unknown4999", None)
    assert last.message.startswith("unknown key (known: ")


def test_problems_can_be_pickled(load_text: LoadText) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(f"{VALID}one: 1\ntwo: 2\n")
    assert pickle.loads(pickle.dumps(error.value)).problems == error.value.problems


def test_an_error_with_one_problem_lists_it() -> None:
    alone = ConfigurationError("is wrong", file="a.yaml", line=3, key="routing")
    assert alone.problems == (ConfigurationProblem("is wrong", "a.yaml", 3, "routing"),)
    assert str(alone.problems[0]) == str(alone)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^absent\.yaml: cannot be read: No such file") as error:
        load("absent.yaml", environ={})
    assert error.value.file == "absent.yaml"


def test_a_folder_is_not_a_file() -> None:
    Path("folder.yaml").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load("folder.yaml", environ={})


SECRET = "fake-credential-of-the-tests"


@pytest.mark.parametrize(
    "text",
    [
        f"providers:\n  openai:\n    api_key: [{SECRET}]\n",
        f"providers:\n  openai:\n    api_key: {{key: {SECRET}}}\n",
        f"providers:\n  openai:\n    api_key: {SECRET} {SECRET}\n",
        f"providers:\n  openai: {SECRET}\n",
        f"providers:\n  openai:\n    api_key: k\n    headers: {{Authorization: [{SECRET}]}}\n",
        f'providers:\n  openai:\n    api_key: k\n    headers: {{Authorization: "{SECRET}\\n"}}\n',
        f"providers:\n  openai:\n    api_key: k\n    base_url: user:{SECRET}@localhost\n",
        f"providers:\n  openai:\n    api_key: k\n    models: {SECRET}\n",
        f"providers:\n  openai:\n    api_key: {SECRET}\n    api_key: {SECRET}\n",
        f"providers:\n  openai:\n    api_key: {SECRET}: x\n",
        f"providers:\n  openai:\n    api_key: '{SECRET}\n",
        f"providers:\n  openai:\n    api_key: {SECRET}\x01\n",
        f"providers:\n  openai:\n    api_key: {SECRET}\xe9\n".encode("latin-1"),
    ],
)
def test_no_error_shows_a_key(text: str | bytes, load_text: LoadText) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(text)
    assert SECRET not in str(error.value)
    assert SECRET not in repr(error.value)
    assert error.value.__context__ is None, "an error beneath it may hold the text of the file"
