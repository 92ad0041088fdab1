"""How a conversation with calls of several vendors is written on each wire: ids, results, thoughts and cache points."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher._providers.anthropic import messages_request
from llm_dispatcher._providers.base.call_ids import ANTHROPIC_ID, CHAT_ID, NINE_CHARACTERS, RESPONSES_ID, IdForm
from llm_dispatcher._providers.google import content_request
from llm_dispatcher._providers.ollama import chat_request as ollama_request
from llm_dispatcher._providers.openai import chat_request, responses_request
from llm_dispatcher._vendors.table import vendor
from llm_dispatcher.exceptions import InvalidRequestError
from llm_dispatcher.tasks import (
    CachePoint,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Target,
    TaskRequest,
    ToolCallPart,
    ToolResultPart,
)

A = Target("a", "m")
PNG = b"\x89PNG\r\n\x1a\n and what follows"
QUESTION = Message("user", "Well?")


Sent = list[Any]


def chat(request: TaskRequest, kind: str = "openai", model: str = "m") -> Sent:
    return list(chat_request.body(request, model, A, vendor(kind).quirks)["messages"])


def responses(request: TaskRequest, model: str = "m") -> Sent:
    return list(responses_request.body(request, model, A, vendor("openai").quirks)["input"])


def anthropic(request: TaskRequest) -> Sent:
    return list(messages_request.body(request, "m", A, 100)["messages"])


def google(request: TaskRequest, model: str = "gemini-2.5-pro") -> Sent:
    return list(content_request.body(request, A, model)["contents"])


def ollama(request: TaskRequest) -> Sent:
    return list(ollama_request.body(request, "m", A)["messages"])


def calls(*ids: str, **more: Any) -> Message:
    return Message("assistant", [ToolCallPart(one, f"f{place}", '{"a": 1}') for place, one in enumerate(ids)], **more)


def results(*ids: str) -> Message:
    return Message("tool", [ToolResultPart(one, "", f"r{one}") for one in ids])


def asked(*messages: Message, **more: Any) -> TaskRequest:
    return TaskRequest(messages=[QUESTION, *messages], **more)


# ── ids ────────────────────────────────────────────────────────────────────────────────────────────────────────────

FORMS = [CHAT_ID, RESPONSES_ID, ANTHROPIC_ID, NINE_CHARACTERS]


@pytest.mark.parametrize("form", FORMS)
@given(st.text(max_size=200))
def test_every_id_gets_a_form_that_the_wire_takes_and_keeps_it(form: IdForm, given_id: str) -> None:
    own = form.of(given_id)
    assert form.pattern.fullmatch(own)
    assert form.of(given_id) == own
    assert form.of(own) == own


@pytest.mark.parametrize("one", ["call_abc", "toolu_01", "aB3dE5gH9", "functions.look:0", "", "x" * 300])
def test_a_call_and_its_result_have_the_same_id_on_each_wire(one: str) -> None:
    request = asked(calls(one), results(one))
    _, call, result = chat(request)
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]
    _, item, output = responses(request)
    assert item["call_id"] == output["call_id"]
    _, use, answer = anthropic(request)
    assert use["content"][0]["id"] == answer["content"][0]["tool_use_id"]
    _, call, result = chat(request, "mistral")
    assert re.fullmatch("[a-zA-Z0-9]{9}", call["tool_calls"][0]["id"])
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]


def test_an_id_that_comes_again_is_another_call() -> None:
    """Hosts that count their calls from 0 in each answer. Anthropic refuses an id that it has seen."""
    _, one, first, two, second = anthropic(asked(calls("0"), results("0"), calls("0"), results("0")))
    ids = [each["content"][0].get("id", each["content"][0].get("tool_use_id")) for each in (one, first, two, second)]
    assert ids[0] == ids[1] == "0"
    assert ids[2] == ids[3] != "0"
    _, turn, answer = anthropic(asked(calls("0", "0"), results("0", "0")))
    assert [block["id"] for block in turn["content"]] == [block["tool_use_id"] for block in answer["content"]]
    assert len({block["id"] for block in turn["content"]}) == 2


def test_a_later_turn_does_not_change_what_was_sent_before() -> None:
    """A vendor's prompt cache, and the signatures of Claude's thoughts, hold for a beginning that stays the same."""
    earlier = [calls("a:1", "b:1"), results("a:1", "b:1"), Message("assistant", "So."), QUESTION]
    later = [*earlier, calls("a:1"), results("a:1")]
    for wire in (chat, responses, anthropic, google, ollama):
        sent: list[dict[str, Any]] = wire(asked(*earlier))
        assert wire(asked(*later))[: len(sent)] == sent


def test_a_name_that_no_vendor_takes_back_is_mended() -> None:
    """What a model called may be no tool, and its call stays in the conversation with an error as its result."""
    turn = Message("assistant", [ToolCallPart("1", "look up!", "{}"), ToolCallPart("2", "", "{}")])
    sent = anthropic(asked(turn, results("1", "2")))[1]["content"]
    assert [block["name"] for block in sent] == ["look_up_", "unnamed"]


# ── results ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_results_are_one_turn_in_the_order_of_their_calls() -> None:
    request = asked(calls("1", "2", "3"), results("3"), results("2", "1"), Message("user", [ImagePart(PNG), "And?"]))
    assert [each["role"] for each in chat(request)] == ["user", "assistant", "tool", "tool", "tool", "user"]
    assert [each["content"] for each in chat(request)[2:5]] == ["r1", "r2", "r3"]
    blocks = anthropic(request)[2]["content"]
    assert [block["type"] for block in blocks] == ["tool_result"] * 3 + ["image", "text"]
    assert [block["content"] for block in blocks[:3]] == ["r1", "r2", "r3"]
    contents = google(request)
    assert [content["role"] for content in contents] == ["user", "model", "user", "user"]
    parts = contents[2]["parts"]
    assert [part["functionResponse"]["response"] for part in parts] == [{"result": f"r{n}"} for n in (1, 2, 3)]
    assert [part["functionResponse"]["name"] for part in parts] == ["f0", "f1", "f2"]
    assert [each["content"] for each in ollama(request)[2:5]] == ["r1", "r2", "r3"]


def test_results_follow_their_calls_whatever_was_said_between() -> None:
    """No vendor takes another message between a call and its result."""
    late = [calls("1"), Message("system", "Be brief."), Message("user", "Hm?"), calls("2"), results("2", "1")]
    roles = [each["role"] for each in chat(asked(*late))]
    assert roles == ["user", "assistant", "tool", "system", "user", "assistant", "tool"]
    assert [each["content"] for each in chat(asked(*late)) if each["role"] == "tool"] == ["r1", "r2"]


def test_an_error_is_marked_where_the_wire_has_a_mark_and_said_where_it_has_none() -> None:
    result = Message("tool", ToolResultPart("1", "f0", "too slow", error=True))
    request = asked(calls("1"), result)
    assert chat(request)[2]["content"] == responses(request)[2]["output"] == "Error: too slow"
    assert ollama(request)[2]["content"] == "Error: too slow"
    assert anthropic(request)[2]["content"][0]["is_error"] is True
    assert google(request)[2]["parts"][0]["functionResponse"]["response"] == {"error": "too slow"}
    said = Message("tool", ToolResultPart("1", "f0", "error 5", error=True))
    assert chat(asked(calls("1"), said))[2]["content"] == "error 5"


def test_an_empty_result_is_sent_without_content_where_an_empty_text_is_refused() -> None:
    request = asked(calls("1"), Message("tool", ToolResultPart("1", "f0", "")))
    assert "content" not in anthropic(request)[2]["content"][0]
    assert chat(request)[2]["content"] == ""


@pytest.mark.parametrize("arguments", ["", "  ", '{"a": ', "[1]"])
def test_arguments_are_json_on_every_wire(arguments: str) -> None:
    expected = {"invalid_json": arguments} if arguments.strip() else {}
    request = asked(Message("assistant", ToolCallPart("1", "f0", arguments)), results("1"))
    assert json.loads(chat(request)[1]["tool_calls"][0]["function"]["arguments"]) == expected
    assert json.loads(responses(request)[1]["arguments"]) == expected
    assert anthropic(request)[1]["content"][0]["input"] == expected
    assert google(request)[1]["parts"][0]["functionCall"]["args"] == expected
    assert ollama(request)[1]["tool_calls"][0]["function"]["arguments"] == expected


def test_white_space_before_a_call_is_not_sent_to_anthropic() -> None:
    """Its models write it, and it refuses blocks without words."""
    turn = Message("assistant", ["\n\n", ToolCallPart("1", "f0", "{}")])
    assert [block["type"] for block in anthropic(asked(turn, results("1")))[1]["content"]] == ["tool_use"]


def test_valid_arguments_are_sent_as_the_model_wrote_them() -> None:
    request = asked(Message("assistant", ToolCallPart("1", "f0", '{ "a":1 }')), results("1"))
    assert chat(request)[1]["tool_calls"][0]["function"]["arguments"] == '{ "a":1 }'


# ── reasoning ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("provider", "model", "is_sent"),
    [("a", "m", True), ("a", None, True), (None, None, True), ("a", "other", False), ("b", "m", False)],
)
def test_reasoning_goes_to_the_model_that_wrote_it(provider: str | None, model: str | None, is_sent: bool) -> None:
    thought = ReasoningPart("Hm.", "c2ln", provider, model)
    request = asked(Message("assistant", [thought, ToolCallPart("1", "f0", "{}")]), results("1"))
    assert ("thinking" in [block["type"] for block in anthropic(request)[1]["content"]]) is is_sent
    assert ("Hm." in json.dumps(google(request))) is is_sent
    assert ("thinking" in ollama(request)[1]) is is_sent


def test_reasoning_that_the_vendor_hides_goes_back_as_it_came() -> None:
    from llm_dispatcher._providers.anthropic.messages import Decoder
    from llm_dispatcher.events import ReasoningDelta

    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "redacted_thinking", "data": "Zm9v"}}
    (delta,) = Decoder(A).pieces(json.dumps(block).encode())
    assert isinstance(delta, ReasoningDelta)
    turn = Message("assistant", [ReasoningPart("", delta.signature, "a", "m"), "Hi."])
    assert anthropic(asked(turn, QUESTION))[1]["content"][0] == {"type": "redacted_thinking", "data": "Zm9v"}


def test_a_turn_that_broke_in_its_thoughts_is_sent_without_them() -> None:
    """A vendor refuses thoughts that nothing follows."""
    thought = ReasoningPart("Hm.", "rs_1:abc", "a", "m")
    request = asked(Message("assistant", [thought, "So.", thought]), Message("assistant", thought), QUESTION)
    assert [item["type"] for item in responses(request)[1:-1]] == ["reasoning", "message"]
    assert [block["type"] for block in anthropic(request)[1]["content"]] == ["thinking", "text"]


def test_google_gets_a_signature_with_the_first_call_of_each_step() -> None:
    own = Message("assistant", [ReasoningPart("Hm.", "c2ln", "a", "m"), *calls("1", "2").parts])
    foreign = Message("assistant", [ReasoningPart("Hm.", "c2ln", "b"), *calls("3", "4").parts])
    request = asked(own, results("1", "2"), foreign, results("3", "4"))
    for model in ("gemini-3-pro", "gemini-flash-latest", "models/gemini-4-argon"):
        _, first, _, second, _ = google(request, model)
        assert first["parts"][0] == {"text": "Hm.", "thought": True}
        assert [part.get("thoughtSignature") for part in first["parts"]] == [None, "c2ln", None]
        signatures = [part.get("thoughtSignature") for part in second["parts"]]
        assert signatures == ["skip_thought_signature_validator", None]
    for model in ("gemini-2.5-pro", "gemini-1.5-flash", "gemma-3", ""):
        assert "thoughtSignature" not in json.dumps(google(request, model)[3])


def test_a_call_of_google_comes_right_after_a_turn_of_the_user() -> None:
    """Adjacent turns of the model are one. Google refuses a call that follows another turn of the model."""
    contents = google(asked(Message("assistant", "I begin."), calls("1"), results("1")))
    assert [content["role"] for content in contents] == ["user", "model", "user"]
    assert [next(iter(part)) for part in contents[1]["parts"]] == ["text", "functionCall"]


# ── cache points ───────────────────────────────────────────────────────────────────────────────────────────────────

MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
TOOL = {"name": "f", "parameters": {"type": "object"}}


def marks_in(body: dict[str, Any]) -> list[tuple[str, Any]]:
    """What has a mark in a request to Anthropic, in order."""
    system = body["system"] if isinstance(body.get("system"), list) else []
    blocks = [*body.get("tools", ()), *system, *(block for turn in body["messages"] for block in turn["content"])]
    named = [(block.get("name") or block.get("text") or block["type"], block.get("cache_control")) for block in blocks]
    return [(name, mark) for name, mark in named if mark is not None]


def body_of(*messages: Message, **more: Any) -> dict[str, Any]:
    return messages_request.body(TaskRequest(messages=messages, **more), "m", A, 100)


def test_a_cache_point_is_a_mark_on_the_block_before_it() -> None:
    body = body_of(
        Message("system", [CachePoint("1h"), "Be kind.", CachePoint()]),
        Message("user", [ImagePart(PNG), CachePoint(), "Now."]),
        tools=[TOOL],
    )
    assert marks_in(body) == [("f", HOUR), ("Be kind.", MARK), ("image", MARK)]
    assert marks_in(body_of(Message("user", "Hi."), tools=[TOOL])) == []
    assert body_of(Message("system", "Be kind."), Message("user", "Hi."))["system"] == "Be kind."


def test_the_whole_system_prompt_is_one_text_between_its_points() -> None:
    body = body_of(Message("system", ["A", "B", CachePoint(), "C"]), Message("system", "D"), QUESTION, system="S")
    assert [block["text"] for block in body["system"]] == ["S\n\nAB", "C\n\nD"]
    assert marks_in(body) == [("S\n\nAB", MARK)]


def test_a_point_in_any_turn_marks_its_last_block() -> None:
    body = body_of(
        QUESTION,
        Message("assistant", ["So.", ReasoningPart("Hm.", "c2ln"), CachePoint()]),
        Message("user", CachePoint()),
        QUESTION,
        Message("assistant", [ToolCallPart("1", "f", "{}"), CachePoint()]),
        Message("tool", [ToolResultPart("1", "f", "r"), CachePoint()]),
    )
    assert marks_in(body) == [("So.", MARK), ("f", MARK), ("tool_result", MARK)]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user", "assistant", "user"]


def test_no_more_marks_are_sent_than_the_vendor_takes() -> None:
    turns: list[Message] = []
    for number in range(7):
        turns += [Message("user", [f"u{number}", CachePoint()]), Message("assistant", f"a{number}")]
    assert [name for name, _ in marks_in(body_of(*turns))] == ["u0", "u4", "u5", "u6"]


def test_a_point_before_one_of_an_hour_is_kept_for_an_hour() -> None:
    body = body_of(Message("user", ["a", CachePoint(), "b", CachePoint("1h"), "c", CachePoint()]))
    assert marks_in(body) == [("a", HOUR), ("b", HOUR), ("c", MARK)]


def test_a_point_before_everything_is_ignored() -> None:
    assert marks_in(body_of(Message("user", [CachePoint(), "Hi."]))) == []


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_wires_without_marks_send_the_same_with_and_without_points(role: Any) -> None:
    parts: list[Part | str] = ["A", CachePoint("1h"), "B"]
    with_points = asked(Message(role, parts), QUESTION, cache_key="k")
    without = asked(Message(role, ["A", "B"]), QUESTION)
    assert google(with_points) == google(without)
    assert ollama(with_points) == ollama(without)
    for kind in ("groq", "mistral", "vllm", "openai_compatible"):
        quirks = vendor(kind).quirks
        assert chat_request.body(with_points, "m", A, quirks) == chat_request.body(without, "m", A, quirks)
    assert responses(with_points, "gpt-5.5") == responses(without, "gpt-5.5")


def test_openai_gets_marks_and_the_key_on_its_responses_interface() -> None:
    request = asked(
        Message("system", ["Be kind.", CachePoint("1h")]),
        Message("user", ["A", CachePoint(), "B"]),
        Message("assistant", ["So.", CachePoint()]),
        cache_key="k",
    )
    body = responses_request.body(request, "gpt-6.1-terra", A, vendor("openai").quirks)
    assert body["extra_body"] == {"prompt_cache_key": "k"}
    assert "instructions" not in body
    system, _, user, said = body["input"]
    long = {"mode": "explicit", "ttl": "12h"}
    assert system["content"] == [{"type": "input_text", "text": "Be kind.", "prompt_cache_breakpoint": long}]
    marked = {"type": "input_text", "text": "A", "prompt_cache_breakpoint": {"mode": "explicit"}}
    assert user["content"] == [marked, {"type": "input_text", "text": "B"}]
    assert said["content"] == "So."


def test_cache_control_in_a_tool_is_refused_with_what_to_write() -> None:
    tool = {**TOOL, "cache_control": {"type": "ephemeral"}}
    with pytest.raises(InvalidRequestError, match="begin the system message with a CachePoint"):
        body_of(QUESTION, tools=[tool])
