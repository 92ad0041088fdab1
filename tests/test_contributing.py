"""The table of CONTRIBUTING.md is true: its files are there, and three of its rows are tried from outside."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._serving import stages
from llm_dispatcher._serving.call import Call, Onward
from llm_dispatcher._vendors import adapters
from llm_dispatcher._vendors.table import VENDORS
from llm_dispatcher._vendors.vendor import Vendor
from llm_dispatcher.events import Event, StreamCompleted, TextDelta
from llm_dispatcher.notices import Notice, TargetGivenUp
from llm_dispatcher.streaming import Observer
from llm_dispatcher.testing import Continuing, Cut, Reply, SimulatedVendor

ROOT: Final = Path(__file__).parents[1]
TEXT: Final = "Once upon a time there was a fox."
ROWS: Final = re.findall(r"^\| (?:a|an) \*\*.*$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)


def test_each_thing_that_the_issue_asks_for_has_a_row() -> None:
    named = set(re.findall(r"\*\*([\w ]+)\*\*", "\n".join(ROWS)))
    assert {"provider", "host", "strategy", "stage", "observer", "store", "fault", "CLI command", "message"} <= named


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.findall(r"\*\*([\w ]+)\*\*", row)[0].replace(" ", "-"))
def test_the_files_that_a_row_names_are_there(row: str) -> None:
    for path in re.findall(r"`((?:llm_dispatcher|tests|docs|examples)/[\w./]*)`", row):
        assert (ROOT / path).exists(), path


def policy(kind: str, vendor: SimulatedVendor) -> dict[str, object]:
    entry = {"kind": kind, "api": "chat", "api_key": "test-key", "base_url": vendor.base_url, "models": ["m"]}
    return {"providers": {"it": entry}, "resilience": {"max_retries": 0}}


async def test_a_row_of_the_table_is_all_that_a_host_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Vendor(
        title="New host", adapter=adapters.OPENAI, base_url="https://api.new.example/v1", key_variables=("NEW_KEY",)
    )
    monkeypatch.setitem(VENDORS, "newhost", row)
    monkeypatch.setenv("NEW_KEY", "test-key")
    with SimulatedVendor("openai-chat", Reply(TEXT)) as vendor:
        entry = {"base_url": vendor.base_url, "api": "chat", "models": ["m"]}
        async with LLMSwitch({"providers": {"newhost": entry}}) as switch:
            assert await switch.stream_request(TaskRequest("Tell a story.")) == TEXT


class Shouting:
    """A stage: the text in capitals."""

    def wanted(self, call: Call) -> bool:
        return (call.request.prompt or "").startswith("Shout")

    async def open(self, call: Call, onward: Onward) -> AsyncGenerator[Event, None]:
        return self._shout(await onward(call))

    async def _shout(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        async for event in events:
            yield replace(event, text=event.text.upper()) if isinstance(event, (TextDelta, StreamCompleted)) else event


async def test_an_entry_in_the_tuple_is_all_that_a_stage_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "STAGES", (Shouting(), *stages.STAGES))
    with SimulatedVendor("openai-chat", Reply(TEXT)) as vendor:
        async with LLMSwitch(policy("openai", vendor)) as switch:
            assert await switch.stream_request(TaskRequest("Shout a story.")) == TEXT.upper()
            assert await switch.stream_request(TaskRequest("Tell a story.")) == TEXT, "a call that does not want it"


class Counting(Observer):
    """An observer: it counts what operators are told."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def notice(self, notice: Notice) -> None:
        self.notices.append(notice)


async def test_an_argument_of_the_switch_is_all_that_an_observer_needs() -> None:
    observer = Counting()
    with (
        SimulatedVendor("openai-chat", Reply(TEXT, fault=Cut(3))) as first,
        SimulatedVendor("openai-chat", Continuing(TEXT)) as second,
    ):
        entries = {
            name: {"kind": "openai", "api": "chat", "api_key": "test-key", "base_url": vendor.base_url, "models": ["m"]}
            for name, vendor in (("a", first), ("b", second))
        }
        config = {"providers": entries, "resilience": {"max_retries": 0}}
        async with LLMSwitch(config, observers=[observer]) as switch:
            assert await switch.stream_request(TaskRequest("Tell a story.")) == TEXT
    assert [str(notice.target) for notice in observer.notices if isinstance(notice, TargetGivenUp)] == ["a/m"]
