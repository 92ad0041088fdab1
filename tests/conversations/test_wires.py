"""Simulated vendors that call tools: text and several calls in one answer, and another answer to the results."""

from __future__ import annotations

import json

import pytest

from llm_dispatcher.provider import Provider, ProviderSettings
from llm_dispatcher.tasks import Message, TaskRequest
from llm_dispatcher.testing import (
    ReceivedRequest,
    Reply,
    SaidToolCall,
    SimulatedProvider,
    SimulatedVendor,
    Wire,
)
from tests.conftest import KINDS
from tests.conversations.wire_kit import (
    calls_in,
    fragments_in,
    message_of,
    provider_over,
    results_of,
    text_in,
    turn_of,
)

all_wires = pytest.mark.parametrize("wire", list(Wire))
TOOLS = [
    {"name": name, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    for name in ("weather", "clock")
]
CALLS = (
    SaidToolCall("weather", '{"city": "Aix-en-Provence"}', chunk_size=3),
    SaidToolCall("clock", '{"city": "Lyon"}', chunk_size=1),
    SaidToolCall("weather", '{"city": "Nice"}'),
)
QUESTION = Message("user", "What is the weather?")
IN_ONE_PIECE = (Wire.GOOGLE, Wire.OLLAMA)
"""Wires that send the arguments of a call whole."""


def script(request: ReceivedRequest) -> Reply:
    """Calls three tools, calls one more, and then says what the tools have told."""
    told = [result.result for turn in request.turns for result in turn.results]
    if not request.calls:
        return Reply("I look it up.", tool_calls=CALLS)
    if len(request.calls) == len(CALLS):
        assert [result.result for result in request.results] == ["sunny", "noon", "sunny"]
        return Reply(tool_calls=(SaidToolCall("clock", '{"city": "Nice"}'),))
    return Reply(" ".join(told))


async def conversed(provider: Provider) -> str:
    """The last answer of a conversation of three requests."""
    messages = [QUESTION]
    for expected in (3, 1):
        pieces = await turn_of(provider, TaskRequest(messages=messages, tools=TOOLS))
        calls = calls_in(pieces)
        assert len(calls) == expected
        messages += [turn := message_of(pieces), results_of(turn, weather="sunny", clock="noon")]
    ids = [part.id for turn in messages if turn.role == "assistant" for part in turn.parts if hasattr(part, "id")]
    assert len(ids) == len(set(ids)) == 4
    return text_in(await turn_of(provider, TaskRequest(messages=messages, tools=TOOLS)))


@all_wires
async def test_a_vendor_calls_tools_and_answers_to_their_results(wire: Wire) -> None:
    async with SimulatedVendor(wire, script) as vendor, provider_over(vendor) as provider:
        assert await conversed(provider) == "sunny noon sunny noon"


@all_wires
async def test_a_vendor_without_a_socket_does_the_same(wire: Wire) -> None:
    simulated = SimulatedProvider(ProviderSettings(name="p", **KINDS[wire]), script)
    assert await conversed(simulated) == "sunny noon sunny noon"
    assert simulated.script_error is None


@all_wires
async def test_text_and_calls_come_in_one_answer_and_arguments_in_fragments(wire: Wire) -> None:
    async with SimulatedVendor(wire, script) as vendor, provider_over(vendor) as provider:
        pieces = await turn_of(provider, TaskRequest(messages=[QUESTION], tools=TOOLS))
    assert text_in(pieces) == "I look it up."
    assert [(call.name, call.arguments) for call in calls_in(pieces)] == [
        (call.name, json.loads(call.arguments)) for call in CALLS
    ]
    fragments = [len([each for each in fragments_in(pieces) if each.id == call.id]) for call in calls_in(pieces)]
    expected = [1, 1, 1] if wire in IN_ONE_PIECE else [len(call.fragments) for call in CALLS]
    assert fragments == ([n + 1 for n in expected] if wire is Wire.ANTHROPIC else expected)


def test_calls_without_an_id_are_numbered_over_the_conversation() -> None:
    from llm_dispatcher.testing._script import numbered

    reply = Reply(tool_calls=(SaidToolCall("a"), SaidToolCall("b", id="call_2"), SaidToolCall("c")))
    assert [call.id for call in numbered(reply).tool_calls] == ["call_1", "call_2", "call_3"]
    assert [call.id for call in numbered(reply, ["call_1", "x"]).tool_calls] == ["call_3", "call_2", "call_4"]


def test_a_chunk_size_is_one_or_more() -> None:
    with pytest.raises(ValueError, match="chunk_size"):
        SaidToolCall("a", chunk_size=0)
    assert SaidToolCall("a", "", chunk_size=4).fragments == ("",)
    assert SaidToolCall("a", '{"b": 1}', chunk_size=3).fragments == ('{"b', '": ', "1}")
