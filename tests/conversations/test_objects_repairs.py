"""Answers that do not follow their schema: asked for again with the errors, and an error with the text in the end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any, Literal

import pytest
from pydantic import BaseModel, field_validator

from llm_dispatcher import LLM, LLMStream, LLMSwitch, TaskRequest, llm_stream, use_switch
from llm_dispatcher.cache import StreamingCache
from llm_dispatcher.events import (
    StreamCompleted,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    TextDelta,
    ToolResult,
    check_order,
)
from llm_dispatcher.exceptions import InvalidOutputError, InvalidRequestError, RequestTimeoutError, ToolLimitError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.streaming._shape import Shape
from llm_dispatcher.tasks import Message
from llm_dispatcher.testing import Cut, HttpError, ReceivedRequest, Reply, SaidToolCall, SimulatedVendor, Wire
from tests.conftest import policy_over


class City(BaseModel):
    name: str
    people: int

    @field_validator("people")
    @classmethod
    def _not_negative(cls, people: int) -> int:
        if people < 0:
            raise ValueError("nobody lives less than not at all")
        return people


GOOD = '{"name": "Lund", "people": 94000}'
BAD = '{"name": "Lund", "people": -1}'
NO_JSON = "Lund has 94000 people."


async def test_a_wrong_answer_is_asked_for_again_with_its_errors(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(first=[BAD, GOOD])["first"]
    stream = LLM(system="Be brief.").into(City)("Which city?", messages=[Message("user", "Hi.")])
    assert await stream.parsed() == City(name="Lund", people=94000)
    first, second = vendor.requests
    assert [(turn.role, turn.text) for turn in second.turns[: len(first.turns)]] == [
        (turn.role, turn.text) for turn in first.turns
    ]
    assistant, user = second.turns[len(first.turns) :]
    assert (assistant.role, assistant.text, user.role) == ("assistant", BAD, "user")
    assert "- people: Value error, nobody lives less than not at all\n" in user.text
    assert second.body["response_format"] == first.body["response_format"]
    assert [row.outcome for row in stream.response.attempts] == ["completed", "completed"]
    assert stream.response.text == stream.partial == GOOD
    assert stream.response.usage.output_tokens == 24


@pytest.mark.parametrize("wire", list(Wire))
async def test_on_every_wire(wire: str) -> None:
    with SimulatedVendor(wire, [NO_JSON, BAD, GOOD]) as vendor:
        async with LLMSwitch(policy_over(vendor)) as switch:
            with use_switch(switch):
                assert (await LLM(max_repairs=2).into(City)("Which city?").parsed()).people == 94000
        assert ["it is not JSON" in request.turns[-1].text for request in vendor.requests] == [False, True, False]


@pytest.mark.parametrize("repairs", [0, 1, 2])
async def test_after_the_last_repair_the_error_has_the_text(repairs: int, simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(first=[NO_JSON, BAD, NO_JSON])["first"]
    stream = LLM(max_repairs=repairs).into(City)("Which city?")
    with pytest.raises(InvalidOutputError, match=r"^the answer does not follow its schema: ") as caught:
        await stream.parsed()
    assert len(vendor.requests) == repairs + 1
    assert caught.value.text == caught.value.partial == [NO_JSON, BAD, NO_JSON][repairs]
    assert ("people: Value error" in caught.value.errors) == (repairs == 1)
    assert caught.value.usage.output_tokens == 12 * (repairs + 1)
    assert stream.response.error is caught.value
    assert stream.response.text == caught.value.partial


async def test_readers_of_text_and_events_get_what_the_model_wrote(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(first=NO_JSON)["first"]
    llm = LLM(response_format=City)
    assert await llm("a") == NO_JSON
    assert (await llm("b").collect()).text == NO_JSON
    assert "".join([chunk async for chunk in llm("c")]) == NO_JSON
    events = [event async for event in llm("d").events()]
    assert isinstance(events[-1], StreamCompleted)
    assert len(vendor.requests) == 4


async def test_partials_and_items_begin_again_with_the_repair(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=['{"name": "Lund", "people": "many"}', GOOD])
    partials = [each async for each in LLM().into(City)("x").partials()]
    assert partials == [{"name": "Lund"}, {"name": "Lund", "people": "many"}, {"name": "Lund"}, json.loads(GOOD)]
    wrong, right = '{"items": [1, 2, "x"]}', '{"items": [1, 2, 3]}'
    simulated_switch(first=[wrong, right])
    assert [each async for each in LLM().into(list[int])("x").items()] == [1, 2, 3]


async def test_an_item_that_is_wrong_is_not_given(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first='{"items": [1, "x", 3]}')
    seen = []
    with pytest.raises(InvalidOutputError, match=r"items\[1\]: Input should be a valid integer"):
        async for item in LLM(max_repairs=0).into(list[int])("x").items():
            seen.append(item)
    assert seen == [1]


async def test_the_events_of_a_repair_are_in_order(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=[Reply(BAD, reasoning=("Hm.",)), Reply(NO_JSON), Reply(GOOD)])
    seen = await events_of(LLM(response_format=City, max_repairs=2)("x"))
    check_order(seen)
    assert [event.index for event in seen if isinstance(event, TextDelta)] == list(range(12))
    interrupted = [event for event in seen if isinstance(event, StreamInterrupted)]
    assert [event.failure.kind for event in interrupted] == ["InvalidOutputError"] * 2
    assert [event.delivered for event in interrupted] == [len(BAD), len(NO_JSON)]
    assert [type(seen[seen.index(event) + 1]) for event in interrupted] == [StreamReset] * 2
    assert isinstance(seen[-1], StreamCompleted)
    assert seen[-1].text == GOOD


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply('{"name": "Lu', finish_reason="length"), "it was cut off by max_tokens"),
        (Reply("", tool_calls=(SaidToolCall("look"),)), "it ends with tool calls, which were not run"),
    ],
)
async def test_an_end_that_a_repair_cannot_mend_is_an_error_at_once(
    reply: Reply, why: str, simulated_switch: SimulatedSwitch
) -> None:
    vendor = simulated_switch(first=reply)["first"]
    tools = [{"name": "look", "parameters": {"type": "object"}}]
    with pytest.raises(InvalidOutputError, match=f"^the answer does not follow its schema: {why}"):
        await LLM(tools=tools).into(City)("x").parsed()
    assert len(vendor.requests) == 1


async def test_a_repair_goes_to_the_next_target_too(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=[Reply(BAD), Reply(fault=HttpError(503))], second=Reply(GOOD))
    assert (await LLM().into(City)("x").parsed()).people == 94000


async def test_a_repair_that_breaks_begins_again(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=[BAD, Reply(GOOD, fault=Cut(2))], second=Reply(GOOD))
    stream = LLM().into(City)("x")
    assert [each async for each in stream.partials()][-1] == json.loads(GOOD)
    assert [row.outcome for row in stream.response.attempts] == ["completed", "failed", "completed"]


async def test_a_repair_that_nobody_answers_is_an_error_with_the_wrong_text(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=[Reply(BAD), Reply(fault=HttpError(503))])
    with pytest.raises(
        InvalidOutputError, match="less than not at all; and it could not be asked for again: "
    ) as caught:
        await LLM().into(City)("x").parsed()
    assert caught.value.partial == BAD
    assert [type(failure).__name__ for failure in caught.value.failures] == ["ProviderServiceUnavailableError"]


@pytest.mark.parametrize("is_cached", [False, True])
async def test_all_repairs_together_have_one_total(is_cached: bool, simulated_switch: SimulatedSwitch) -> None:
    """Each of the answers alone would come in time."""
    simulated_switch(first=[Reply(BAD, chunk_size=4, pace=0.05), Reply(GOOD, chunk_size=4, pace=0.05)])
    cache: StreamingCache | Literal[False] = StreamingCache() if is_cached else False
    with pytest.raises(RequestTimeoutError, match=r"within 0\.6 s \(the total clock\)"):
        await LLM(timeout=0.6, cache=cache).into(City)("x").parsed()


async def events_of(stream: LLMStream[str]) -> list[Any]:
    """All events of a stream whose answer is checked."""
    shape = Shape(can_take_back=True, may_begin_again=True, wants_object=True, shows_events=True)
    return [event async for event in stream._reading_as("a test", shape)]


async def test_an_answer_and_its_repair_from_a_cache_are_one_stream(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=[BAD, GOOD])
    llm = LLM(cache=StreamingCache(), response_format=City)
    first, again = await events_of(llm("Which city?")), await events_of(llm("Which city?"))
    assert [event.cached for event in again if isinstance(event, StreamStarted)] == [True, True]
    for events in (first, again):
        check_order(events)
        assert events[-1].text == GOOD


async def test_an_answer_from_the_cache_is_checked_too(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(first=[BAD, GOOD, GOOD])["first"]
    llm = LLM(cache=StreamingCache()).into(City)
    for _ in range(2):  # the second time, both answers come from the cache
        assert (await llm("Which city?").parsed()).people == 94000
    assert len(vendor.requests) == 2


async def test_a_repair_from_a_cache_is_numbered_after_the_answer_before_it(simulated_switch: SimulatedSwitch) -> None:
    now = 0.0

    def repaired(request: ReceivedRequest) -> Reply:
        nonlocal now
        now = 8.0
        return Reply(GOOD)

    simulated_switch(first=[Reply(BAD, chunk_size=4), repaired, Reply(BAD)])
    llm = LLM(cache=StreamingCache(ttl=10, clock=lambda: now), response_format=City)
    for is_cached in (False, True):
        events = await events_of(llm("Which city?"))
        assert [event.cached for event in events if isinstance(event, StreamStarted)] == [False, is_cached]
        check_order(events)
        now = 12.0  # only the repair is still in the cache


async def test_an_answer_for_a_checked_reader_is_not_served_to_another(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(first=[GOOD, GOOD])["first"]
    cache = StreamingCache()
    await LLM(cache=cache).into(City)("Which city?").parsed()
    await LLM(cache=cache, response_format=City)("Which city?")
    assert len(vendor.requests) == 2


async def test_a_body_is_checked_and_not_asked_again(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(first=BAD)["first"]

    @llm_stream(response_format=City)
    async def tell(llm: LLM, what: str) -> AsyncGenerator[str, None]:
        async for chunk in llm(what):
            yield chunk

    stream = tell("x")
    with pytest.raises(InvalidOutputError, match="less than not at all"):
        await stream.parsed()
    assert isinstance(stream.response.error, InvalidOutputError)
    assert len(vendor.requests) == 1


async def test_a_bug_in_a_validator_is_raised_as_it_is(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=GOOD)

    class Buggy(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def _raises(cls, name: str) -> str:
            raise KeyError(name)

    stream = LLM().into(Buggy)("x")
    with pytest.raises(KeyError, match="Lund"):
        await stream.parsed()
    assert isinstance(stream.response.error, KeyError)


async def test_a_validator_runs_once(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=GOOD)
    seen: list[str] = []

    class Counted(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def _counts(cls, name: str) -> str:
            seen.append(name)
            return name

    await LLM().into(Counted)("x").parsed()
    assert seen == ["Lund"]


# ── targets that cannot enforce a schema ─────────────────────────────────────────────────────────────────────────────

OPEN = {"type": "object", "properties": {"of": {"type": "object", "additionalProperties": {"type": "integer"}}}}
"""A schema that has no strict form."""
INSTRUCTION = "Answer with JSON alone, without any other words. It has to follow this JSON schema:\n"


def system_of(request: Any) -> str:
    return str(request.system or "")


async def test_anthropic_is_told_a_schema_without_a_strict_form_in_words() -> None:
    with SimulatedVendor("anthropic", ['```json\n{"of": {"a": 1}}\n```', '{"of": {}}']) as vendor:
        async with LLMSwitch(policy_over(vendor)) as switch:
            stream = switch.stream_request(TaskRequest("Count.", system="Be brief.", response_format=OPEN))
            assert await stream.parsed() == {"of": {"a": 1}}
            assert await switch.stream_request(TaskRequest("x", response_format={"type": "json_object"})).parsed() == {
                "of": {}
            }
    first, second = vendor.requests
    assert system_of(first) == "Be brief.\n\n" + INSTRUCTION + json.dumps(OPEN, separators=(",", ":"))
    assert "output_config" not in first.body
    assert system_of(second) == "Answer with a JSON object alone, without any other words."


async def test_a_reader_of_text_never_gets_an_answer_that_nobody_checks() -> None:
    with SimulatedVendor("anthropic", "{}") as vendor:
        async with LLMSwitch(policy_over(vendor)) as switch:
            with pytest.raises(Exception, match="is an object with any keys"):
                await switch.stream_request(TaskRequest("Count.", response_format=OPEN))
    assert vendor.requests == []


def host(vendor: SimulatedVendor, *quirks: str, **entry: Any) -> dict[str, Any]:
    return {
        "providers": {
            "host": {
                "kind": "openai_compatible", "base_url": vendor.base_url, "models": ["m"], "api_key": "test-key",
                "options": {"quirks": list(quirks)}, **entry,
            }
        },
        "routing": {"default": ["host/m"]},
        "resilience": {"max_retries": 0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("quirks", "field"),
    [(["no_json_schema"], {"type": "json_object"}), (["no_json_schema", "no_json_object"], None)],
)
async def test_a_host_without_schemas_is_told_in_words(quirks: list[str], field: Any) -> None:
    with SimulatedVendor("openai-chat", [NO_JSON, GOOD], host="openai_compatible") as vendor:
        async with LLMSwitch(host(vendor, *quirks)) as switch:
            with use_switch(switch):
                assert (await LLM().into(City)("Which city?").parsed()).name == "Lund"
    for request in vendor.requests:
        assert system_of(request).startswith(INSTRUCTION + '{"properties":{"name"')
        assert request.body.get("response_format") == field


async def test_a_responses_host_that_ignores_schemas_is_told_in_words() -> None:
    with SimulatedVendor("openai-responses", GOOD, host="openai_compatible") as vendor:
        async with LLMSwitch(host(vendor, "partial_responses", api="responses")) as switch:
            with use_switch(switch):
                assert (await LLM().into(City)("Which city?").parsed()).name == "Lund"
                with pytest.raises(Exception, match="this host ignores it here"):
                    await LLM(response_format=City)("Which city?")
    assert system_of(vendor.requests[0]).startswith(INSTRUCTION)
    assert "text" not in vendor.requests[0].body


async def test_ollama_enforces_a_schema_and_is_told_it_too() -> None:
    with SimulatedVendor("ollama", GOOD) as vendor:
        async with LLMSwitch(policy_over(vendor)) as switch:
            with use_switch(switch):
                await LLM().into(City)("Which city?").parsed()
                await LLM(response_format=City)("Which city?")
    told, enforced = vendor.requests
    assert system_of(told).startswith(INSTRUCTION)
    assert system_of(enforced) == ""
    assert told.body["format"] == enforced.body["format"] == City.model_json_schema()


async def test_a_model_that_follows_no_schema_serves_only_readers_of_objects() -> None:
    with SimulatedVendor("openai-chat", [GOOD]) as vendor:
        policy = policy_over(vendor)
        policy["catalog"]["a/m"] = {"structured_output": False}
        async with LLMSwitch(policy) as switch:
            with use_switch(switch):
                assert (await LLM().into(City)("Which city?").parsed()).name == "Lund"
                with pytest.raises(Exception, match="it cannot follow a schema"):
                    await LLM(response_format=City)("Which city?")
    [request] = vendor.requests
    assert system_of(request).startswith(INSTRUCTION)
    assert "response_format" not in request.body


async def test_a_schema_that_leads_to_itself_is_the_requests_fault(simulated_switch: SimulatedSwitch) -> None:
    schema = {"type": "object", "$defs": {"a": {"$ref": "#/$defs/a"}}, "properties": {"x": {"$ref": "#/$defs/a"}}}
    simulated_switch(first='{"x": 1}')
    with pytest.raises(InvalidRequestError, match=r"response_format is wrong: .* leads only to itself"):
        await LLM(response_format=schema)("x").parsed()


# ── with tools ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", list(Wire))
async def test_a_repair_runs_no_tool_again(wire: str) -> None:
    runs: list[str] = []

    def look_up(name: str) -> int:
        """How many people live there.

        Args:
            name: The city.
        """
        runs.append(name)
        return 94000

    call = Reply("Let me see.", tool_calls=(SaidToolCall("look_up", '{"name": "Lund"}'),))
    with SimulatedVendor(wire, [call, BAD, NO_JSON, GOOD]) as vendor:
        async with LLMSwitch(policy_over(vendor)) as switch:
            with use_switch(switch):
                stream = LLM(tools=[look_up], max_repairs=2).into(City)("Which city?")
                partials = [each async for each in stream.partials()]
        assert partials[-1] == {"name": "Lund", "people": 94000}
        assert stream.response.text == f"Let me see.\n\n{GOOD}"
        assert [message.role for message in stream.response.messages] == ["assistant", "tool", "assistant"]
        assert stream.response.message.text == GOOD
        assert [row.number for row in stream.response.attempts] == [1, 2, 3, 4]
        last = vendor.requests[-1]
        assert "94000" in str(last.body)
        assert BAD not in str(last.body)
        assert [turn.text for turn in last.turns if turn.text][-2] == NO_JSON
    assert runs == ["Lund"]


async def test_the_events_of_a_stream_with_tools_and_a_repair_are_one_stream(simulated_switch: SimulatedSwitch) -> None:
    def look_up() -> str:
        """Look."""
        return "94000"

    call = Reply("Let me see.", tool_calls=(SaidToolCall("look_up"),))
    simulated_switch(first=[call, Reply(BAD), Reply(GOOD)])
    events = await events_of(LLM(tools=[look_up], response_format=City)("Which city?"))
    check_order(events)
    assert events[-1].text == f"Let me see.\n\n{GOOD}"
    assert sum(isinstance(event, ToolResult) for event in events) == 1


async def test_a_repair_does_not_ask_for_a_tool_again(simulated_switch: SimulatedSwitch) -> None:
    async def lookup(name: str) -> int:
        return 94000

    call = SaidToolCall("lookup", '{"name": "Lund"}')
    vendor = simulated_switch(first=[Reply(tool_calls=(call,)), NO_JSON, GOOD])["first"]
    stream = LLM(tools=[lookup], tool_choice="required").into(City)("Which city?")
    assert (await stream.parsed()).name == "Lund"
    choices = [request.body["tool_choice"] for request in vendor.requests]
    assert choices == ["required", "auto", "auto"]


async def test_the_limits_of_tools_are_for_all_repairs(simulated_switch: SimulatedSwitch) -> None:
    async def lookup(name: str) -> int:
        return 94000

    calls = Reply(tool_calls=(SaidToolCall("lookup", '{"name": "Lund"}'),))
    simulated_switch(first=[calls, NO_JSON, calls, GOOD])
    with pytest.raises(ToolLimitError, match="made 2 tool calls, and max_tool_calls is 1"):
        await LLM(tools=[lookup], max_tool_calls=1).into(City)("Which city?").parsed()
    simulated_switch(first=[calls, NO_JSON, calls, GOOD])
    with pytest.raises(ToolLimitError, match="still calls tools after 2 turns"):
        await LLM(tools=[lookup], max_turns=2).into(City)("Which city?").parsed()
