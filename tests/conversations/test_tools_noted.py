"""Runs are noted before they begin, and results before the model is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from llm_dispatcher import LLMStream, LLMSwitch, RunContext, TaskRequest, get_global_switch
from llm_dispatcher._serving.settings import CallSettings
from llm_dispatcher._serving.switch import opening
from llm_dispatcher._tools import ToolRun
from llm_dispatcher.notices import Notice, ToolRunBegan, ToolRunFailed, ToolRunStopped
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.streaming import Observer
from llm_dispatcher.tasks import Message, ToolCallPart, ToolResultPart
from llm_dispatcher.testing import Reply, SaidToolCall, SimulatedVendor
from tests.conftest import policy_over

CALLS = (SaidToolCall("work", '{"n": 1}', id="a"), SaidToolCall("work", '{"n": "x"}', id="b"))
ANSWERS = [Reply("Hm.", tool_calls=CALLS), Reply("Done.")]


class StoreError(Exception):
    pass


class Log:
    """A conversation that logs what is asked of it, together with a tool that logs its runs."""

    affinity = None
    session = "the session"

    def __init__(self, fails: str = "") -> None:
        self.lines: list[object] = []
        self.runs: Sequence[ToolRun] = ()
        self.messages: Sequence[Message] = ()
        self.results: Message | None = None
        self.ids: list[str] = []
        self._fails = fails

    async def begin_runs(self, messages: Sequence[Message], runs: Sequence[ToolRun]) -> None:
        await asyncio.sleep(0)
        self.lines.append("begin")
        self.messages, self.runs = messages, runs
        if self._fails == "begin":
            raise StoreError("full")

    async def end_runs(self, results: Message) -> None:
        self.lines.append("end")
        self.results = results
        if self._fails == "end":
            raise StoreError("full")

    async def work(self, n: int, run: RunContext) -> str:
        assert run.session == "the session"
        self.ids.append(run.run_id)
        self.lines.append(f"work {n}")
        return "worked"


def stream_of(log: Log, **settings: Any) -> LLMStream[str]:
    request = TaskRequest("Go.", tools=[log.work])
    return LLMStream(opening(get_global_switch(), request, CallSettings(**settings), conversation=log))


async def test_runs_are_noted_before_they_begin(simulated_switch: SimulatedSwitch) -> None:
    def answer(request: Any) -> Reply:
        log.lines.append("asked")
        return ANSWERS[1] if request.results else ANSWERS[0]

    log = Log()
    simulated_switch(openai=answer)
    assert await stream_of(log) == "Hm.\n\nDone."
    assert log.lines == ["asked", "begin", "work 1", "end", "asked"]
    (run,) = log.runs  # the call with wrong arguments does not run
    assert (run.call_id, run.name, run.arguments, [run.id]) == ("a", "work", '{"n": 1}', log.ids)
    (turn,) = log.messages
    assert [part.id for part in turn.parts if isinstance(part, ToolCallPart)] == ["a", "b"] and turn.text == "Hm."
    assert log.results is not None
    results = [part for part in log.results.parts if isinstance(part, ToolResultPart)]
    assert [(part.id, part.error) for part in results] == [("a", False), ("b", True)]


@pytest.mark.parametrize(("fails", "lines"), [("begin", ["begin"]), ("end", ["begin", "work 1", "end"])])
async def test_an_error_of_the_store_ends_the_stream(
    simulated_switch: SimulatedSwitch, fails: str, lines: list[str]
) -> None:
    log = Log(fails)
    vendor = simulated_switch(openai=ANSWERS)["openai"]
    with pytest.raises(StoreError):
        await stream_of(log)
    assert log.lines == lines and len(vendor.requests) == 1


async def test_calls_that_stop_the_stream_are_not_noted(simulated_switch: SimulatedSwitch) -> None:
    log = Log()
    simulated_switch(openai=ANSWERS)
    await stream_of(log, tool_policy=lambda call, context: "stop")
    assert log.lines == []


# ── without a conversation, by notices ─────────────────────────────────────────────────────────────────────────────


class Notices(Observer):
    def __init__(self) -> None:
        self.of_tools: list[Notice] = []

    def notice(self, notice: Notice) -> None:
        if isinstance(notice, (ToolRunBegan, ToolRunFailed, ToolRunStopped)):
            self.of_tools.append(notice)


async def test_notices_tell_of_runs() -> None:
    order: list[object] = []

    def fail(run: RunContext) -> None:
        order.append(run.run_id)
        raise LookupError("no")

    notices = Notices()
    answers = [Reply(tool_calls=(SaidToolCall("fail", id="a"),)), Reply("Done.")]
    async with (
        SimulatedVendor("ollama", answers) as vendor,
        LLMSwitch(policy_over(vendor), observers=[notices]) as switch,
    ):
        await switch.stream_request(TaskRequest("Go.", tools=[fail]))
    began, failed = notices.of_tools
    assert isinstance(began, ToolRunBegan) and isinstance(failed, ToolRunFailed)
    assert began.tool == failed.tool == "fail" and [began.run] == [failed.run] == order
    assert isinstance(failed.error, LookupError)


async def test_a_failing_check_is_a_notice_too() -> None:
    from llm_dispatcher import Tool

    def check(arguments: dict[str, Any]) -> dict[str, Any]:
        raise LookupError("no")

    notices = Notices()
    answers = [Reply(tool_calls=(SaidToolCall("look", id="a"),)), Reply("Done.")]
    tool = Tool("look", function=lambda: 1, check=check)
    async with (
        SimulatedVendor("ollama", answers) as vendor,
        LLMSwitch(policy_over(vendor), observers=[notices]) as switch,
    ):
        await switch.stream_request(TaskRequest("Go.", tools=[tool]))
    (failed,) = notices.of_tools
    assert isinstance(failed, ToolRunFailed) and isinstance(failed.error, LookupError)
