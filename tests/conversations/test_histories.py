"""Bad histories: a call without its result, a result without its call, two results. They are refused before a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import LLM, InvalidRequestError, LLMSwitch, TaskRequest, llm_stream, use_switch
from llm_dispatcher._serving.history import check_pairs
from llm_dispatcher.tasks import Message, Part, ToolCallPart, ToolResultPart
from llm_dispatcher.testing import Reply, SimulatedVendor, Wire

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]


def call(id: str = "c1", name: str = "look") -> ToolCallPart:  # noqa: A002 - the part's own word
    return ToolCallPart(id, name, "{}")


def result(id: str = "c1", name: str = "look") -> ToolResultPart:  # noqa: A002 - the part's own word
    return ToolResultPart(id, name, "seen")


def asked(*parts: Part) -> Message:
    return Message("assistant", parts)


def seen(*parts: Part) -> Message:
    return Message("tool", parts)


HELLO = Message("user", "Hello.")
NO_RESULT = (
    "messages[1]: the call 'c1' of the tool 'look' has no result: add "
    "Message(\"tool\", ToolResultPart('c1', 'look', …)) after it, or leave the call out"
)
NO_CALL = (
    "messages[{}]: the result 'c1' of the tool 'look' has no call before it: add the turn of the assistant with its "
    "ToolCallPart, or leave the result out"
)
SECOND = "messages[{}]: the call 'c1' of the tool 'look' has two results: leave one of them out, or merge them"

bad = pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([HELLO, asked(call())], NO_RESULT),
        ([HELLO, asked(call()), HELLO], NO_RESULT),
        ([HELLO, asked(call(), call("c2")), seen(result("c2"))], NO_RESULT),
        ([HELLO, asked(call()), asked(call("c2")), seen(result("c2"))], NO_RESULT),
        ([HELLO, asked(call()), HELLO, asked(call()), seen(result())], NO_RESULT),
        ([HELLO, seen(result())], NO_CALL.format(1)),
        ([HELLO, seen(result()), asked(call())], NO_CALL.format(1)),
        ([HELLO, asked(call("c2")), seen(result("c2"), result())], NO_CALL.format(2)),
        ([HELLO, asked(call()), seen(result(), result())], SECOND.format(2)),
        ([HELLO, asked(call()), seen(result()), seen(result())], SECOND.format(3)),
        ([HELLO, asked(call()), seen(result()), HELLO, Message("user", ["So.", result()])], SECOND.format(4)),
    ],
)


@bad
async def test_a_bad_history_is_refused_by_name_and_no_vendor_is_asked(
    messages: list[Message], problem: str, simulated_vendor: Start, switch_over: Over
) -> None:
    vendor = simulated_vendor(Wire.OPENAI_CHAT, Reply("Hi."))
    switch = switch_over(vendor)
    for request in (TaskRequest(messages=messages), TaskRequest("And?", messages=messages)):
        with pytest.raises(InvalidRequestError) as refused:
            await switch.stream_request(request)
        assert refused.value.message == problem
        with pytest.raises(InvalidRequestError) as explained:
            switch.explain(request)
        assert explained.value.message == problem
    assert not vendor.requests


@bad
async def test_it_is_refused_whichever_way_the_call_is_made(
    messages: list[Message], problem: str, simulated_vendor: Start, switch_over: Over
) -> None:
    @llm_stream
    def told() -> list[Message]:
        return messages

    vendor = simulated_vendor(Wire.OPENAI_CHAT, Reply("Hi."))
    with use_switch(switch_over(vendor)):
        with pytest.raises(InvalidRequestError) as by_function:
            await told()
        with pytest.raises(InvalidRequestError) as by_llm:
            await LLM()(messages=messages)
    assert by_function.value.message == by_llm.value.message == problem
    assert not vendor.requests


async def test_dicts_in_openais_form_are_checked_too() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    history: list[dict[str, Any]] = [{"role": "user", "content": "Hello."}, {"role": "assistant", "tool_calls": calls}]
    with pytest.raises(InvalidRequestError, match="the call 'c1' of the tool 'look' has no result"):
        LLMSwitch({"providers": {"ollama": {"models": ["m"]}}}).explain(TaskRequest(messages=history))


def test_an_id_that_is_long_or_odd_stays_one_line() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check_pairs([asked(call("c\n" * 500, "l\n" * 500))])
    assert "\n" not in refused.value.message and len(refused.value.message) < 400


# ── whatever a good history looks like ─────────────────────────────────────────────────────────────────────────────


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """Turns with calls, whose results come after them in any order. Each turn may count its calls anew."""
    made: list[Message] = []
    counts_anew = draw(st.booleans())
    for turn in range(draw(st.integers(0, 4))):
        made.append(draw(st.sampled_from([HELLO, Message("assistant", "Hm."), Message("system", "Be kind.")])))
        ids = [f"call_{number}" if counts_anew else f"{turn}_{number}" for number in range(draw(st.integers(0, 3)))]
        made.append(asked(*map(call, ids)))
        made += [seen(result(each)) for each in draw(st.permutations(ids))]
    return made


@given(histories())
def test_a_good_history_is_taken(history: list[Message]) -> None:
    check_pairs(history)


@given(histories(), st.data())
def test_a_good_history_without_one_of_its_parts_is_bad(history: list[Message], data: st.DataObject) -> None:
    parts = [
        (place, part)
        for place, message in enumerate(history)
        for part in message.parts
        if isinstance(part, (ToolCallPart, ToolResultPart))
    ]
    if not parts:
        return
    place, part = data.draw(st.sampled_from(parts))
    rest = [each for each in history[place].parts if each is not part]
    with pytest.raises(InvalidRequestError, match=f"'{part.id}'"):
        check_pairs([*history[:place], Message(history[place].role, rest), *history[place + 1 :]])


@given(histories(), st.data())
def test_a_good_history_with_one_more_result_is_bad(history: list[Message], data: st.DataObject) -> None:
    results = [message for message in history if message.role == "tool"]
    if results:
        with pytest.raises(InvalidRequestError, match="has two results"):
            check_pairs([*history, data.draw(st.sampled_from(results))])
