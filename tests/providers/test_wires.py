"""The wires' traps, event by event: what decoders make of what hosts send, and what is sent of a conversation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_dispatcher._providers.anthropic import messages as anthropic_messages
from llm_dispatcher._providers.google import content as google_content
from llm_dispatcher._providers.google import content_request as google_request
from llm_dispatcher._providers.google.partial_arguments import PartialArgument, PartialArguments
from llm_dispatcher._providers.ollama import chat as ollama
from llm_dispatcher._providers.openai import chat as openai_chat
from llm_dispatcher._providers.openai import responses as openai_responses
from llm_dispatcher.events import ProviderEvent, ReasoningDelta, ToolCall, ToolCallDelta, UsageReport
from llm_dispatcher.exceptions import ProviderProtocolError, ProviderRateLimitError, ProviderServiceUnavailableError
from llm_dispatcher.provider import Finished, Piece
from llm_dispatcher.tasks import Message, ReasoningPart, Target, TaskRequest, ToolCallPart

A = Target("a", "m")
DECODERS: dict[str, Any] = {
    "chat": openai_chat.Decoder,
    "responses": openai_responses.Decoder,
    "anthropic": anthropic_messages.Decoder,
    "google": google_content.Decoder,
    "ollama": ollama.Decoder,
}


def pieces(wire: str, *events: dict[str, Any]) -> list[Piece]:
    decoder = DECODERS[wire](A)
    return [piece for event in events for piece in decoder.pieces(json.dumps(event).encode())]


def chat(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def gemini(*parts: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": parts}, "finishReason": finish}]}


def calls(found: list[Piece]) -> list[tuple[str, Any]]:
    return [(piece.name, piece.arguments) for piece in found if isinstance(piece, ToolCall)]


# ── chat ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def fragment(arguments: str, name: str | None = None, **more: Any) -> dict[str, Any]:
    return chat(tool_calls=[{"function": {"name": name, "arguments": arguments}, **more}])


@pytest.mark.parametrize(
    "events",
    [
        [fragment('{"x"', "f", index=0, id="1"), fragment(": 1}", index=0),
         fragment("", "g", index=1, id="2")],
        [fragment('{"x"', "f", index=0, id="1"), fragment(": 1}", index=0, id=""), fragment("", "g", index=1, id="")],
        [fragment('{"x"', "f", index=0, id="1"), fragment(": 1}", index="0"), fragment("", "g", index="1")],
        [fragment('{"x"', "f", id="1"), fragment(": 1}", id="1"), fragment("{}", "g", id="2")],
        [fragment('{"x": 1}', "f"), fragment("{}", "g")],
        [fragment('{"x"', "f"), fragment(": 1}"), fragment("", "g")],
        [chat(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": {"x": 1}}}]),
         fragment("", "g", index=1)],
    ],
    ids=["by index", "with blank ids", "by an index as text", "by id", "whole without either", "by order",
         "arguments as an object"],
)  # fmt: skip
def test_fragments_find_their_call_however_the_host_marks_them(events: list[dict[str, Any]]) -> None:
    found = pieces("chat", *events, chat("tool_calls"))
    assert calls(found) == [("f", {"x": 1}), ("g", {})]
    whole = [piece for piece in found if isinstance(piece, ToolCall)]
    assert whole[0].id != whole[1].id and all(call.id for call in whole)
    assert {piece.id for piece in found if isinstance(piece, ToolCallDelta)} == {call.id for call in whole}
    assert isinstance(found[-1], Finished)


def test_a_forced_tool_that_ends_in_stop_is_a_tool_call_all_the_same() -> None:
    found = pieces("chat", fragment("{}", "f", index=0, id="1"), chat("stop"))
    assert found[-1] == Finished("tool_calls", "stop")


def test_an_older_function_call_is_a_tool_call() -> None:
    found = pieces("chat", chat(function_call={"name": "f", "arguments": ""}), chat("function_call"))
    assert calls(found) == [("f", {})]


def test_usage_comes_after_the_finish_or_with_every_chunk_or_in_a_corner() -> None:
    said = {"prompt_tokens": 3, "completion_tokens": 4}
    for events in (
        [chat("stop"), {"choices": [], "usage": said}],
        [{**chat(content="x"), "usage": {"prompt_tokens": 3}}, {**chat("stop"), "usage": said}],
        [{**chat("stop"), "x_groq": {"usage": said}}],
    ):
        usage = [piece.usage for piece in pieces("chat", *events) if isinstance(piece, UsageReport)]
        assert (usage[-1].input_tokens, usage[-1].output_tokens, usage[-1].raw) == (3, 4, said)


def test_reasoning_beside_empty_text_is_not_lost() -> None:
    for field in ("reasoning", "reasoning_content"):
        assert pieces("chat", chat(content="", **{field: "hm"})) == [ReasoningDelta("hm")]
        assert pieces("chat", chat(content="x", **{field: "hm"})) == [ReasoningDelta("hm"), "x"]


def test_content_that_turns_into_a_list_is_text_and_thought() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    found = pieces("chat", chat(content=[thinking]), chat(content=[{"type": "text", "text": "a"}]), chat(content="b"))
    assert found == [ReasoningDelta("hm"), "a", "b"]


def test_citations_that_are_said_with_every_chunk_are_told_once() -> None:
    links = {"citations": ["https://example.org"]}
    found = pieces("chat", {**chat(content="a"), **links}, {**chat(content="b"), **links})
    assert found == [ProviderEvent("citations", links), "a", "b"]


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"error": {"message": "no", "code": 429}}, ProviderRateLimitError),
        ({"error": {"message": "no", "type": "rate_limit_exceeded"}}, ProviderRateLimitError),
        ({"error": "no"}, ProviderServiceUnavailableError),
        ({"choices": [], "x_groq": {"error": "no"}}, ProviderServiceUnavailableError),
        ({"object": "error", "message": "no"}, ProviderServiceUnavailableError),
        ({**chat(content="x"), "error": {"message": "no"}}, ProviderServiceUnavailableError),
        (chat("error"), ProviderServiceUnavailableError),
    ],
)
def test_a_hosts_error_is_found_wherever_it_is_put(event: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        pieces("chat", event)


@pytest.mark.parametrize("error", [{}, "", None, False])
@pytest.mark.parametrize("field", ["error", "x_groq", "object", "type", "message", "code"])
def test_an_empty_error_is_not_an_error(field: str, error: Any) -> None:
    nothing = {"error": error} if field == "x_groq" else error
    found = pieces("chat", {**chat(content="Yes."), field: nothing}, {**chat("stop"), field: nothing})
    assert found == ["Yes.", Finished("stop", "stop")]


@pytest.mark.parametrize("error", [{}, None])
def test_an_empty_error_on_another_wire_is_not_an_error(error: Any) -> None:
    ended = {"type": "response.completed", "response": {"status": "completed", "error": error}}
    assert pieces("responses", ended) == [Finished("stop", "completed")]
    assert pieces("google", {**gemini({"text": "Yes."}), "error": error}) == ["Yes."]
    assert pieces("ollama", {"message": {"content": "Yes."}, "error": error}) == ["Yes."]
    with pytest.raises(ProviderServiceUnavailableError, match="no"):
        pieces("ollama", {"error": {"message": "no"}})


# ── responses ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_counts_of_a_call_is_said_at_its_end_even_if_its_id_changes() -> None:
    item = {"type": "function_call", "call_id": "c", "name": "f"}
    found = pieces(
        "responses",
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "id": "x1"}},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "x1", "delta": "{}"},
        {"type": "response.output_item.done", "output_index": 0, "item": {**item, "id": "x2", "arguments": "{}"}},
        {"type": "response.completed", "response": {"status": "completed"}},
    )
    assert found == [ToolCallDelta("c", "f", "{}"), ToolCall("c", "f", {}, "{}"), Finished("tool_calls", "completed")]


def test_the_vendors_own_tools_are_reported() -> None:
    item = {"type": "web_search_call", "id": "ws"}
    found = pieces(
        "responses",
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.web_search_call.searching", "output_index": 0},
        {"type": "response.output_item.done", "output_index": 0, "item": {**item, "status": "completed"}},
        {"type": "response.output_text.annotation.added", "annotation": {"url": "https://example.org"}},
        {"type": "response.output_text.done", "text": "said already"},
    )
    assert [piece.kind for piece in found if isinstance(piece, ProviderEvent)] == [
        "web_search_call", "web_search_call.searching", "web_search_call", "citation",
    ]  # fmt: skip
    assert len(found) == 4


@pytest.mark.parametrize(("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "content_filter")])
def test_an_incomplete_response_says_why(reason: str, finish: str) -> None:
    response = {"status": "incomplete", "incomplete_details": {"reason": reason}, "usage": {"input_tokens": 1}}
    found = pieces("responses", {"type": "response.incomplete", "response": response})
    assert found[-1] == Finished(finish, "incomplete")  # type: ignore[arg-type]
    assert isinstance(found[0], UsageReport)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.failed", "response": {"status": "failed", "error": {"code": "rate_limit_exceeded"}}},
        {"type": "error", "code": "rate_limit_exceeded", "message": "no"},
        {"type": "error", "error": {"type": "rate_limit_exceeded", "message": "no"}},
        {"type": "error", "error": "no", "code": "rate_limit_exceeded"},
        {"type": "error", "message": {"message": "no"}, "code": 429},
    ],
)
def test_a_failed_response_is_an_error(event: dict[str, Any]) -> None:
    with pytest.raises(ProviderRateLimitError) as raised:
        pieces("responses", event)
    assert raised.value.message == ("no" if "'no'" in str(event) else "the vendor sent an error")


def test_an_item_of_the_vendors_may_hold_anything() -> None:
    item = {"type": "shell_call", "input": {"commands": ["ls"]}, "arguments": [1]}
    assert pieces("responses", done(item)) == [ProviderEvent("shell_call", item)]
    assert pieces("responses", done({"type": None})) == []


def test_text_in_an_unexpected_form_is_not_dropped() -> None:
    delta = {"type": "response.output_text.delta", "delta": {"text": "hi"}}
    assert pieces("responses", delta) == [ProviderEvent("output_text.delta", delta)]
    (call,) = pieces("responses", done({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": {"x": 1}}))
    assert isinstance(call, ToolCall) and call.raw_arguments == '{"x":1}'


def done(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": 0, "item": item}


# ── anthropic ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "said",
    [{"error": {"type": "overloaded_error", "message": "no"}}, {"error": "no"}, {"message": "no"},
     {"error": {}, "message": "no"}],
)  # fmt: skip
def test_an_error_says_what_the_host_says_wherever_it_is_put(said: dict[str, Any]) -> None:
    with pytest.raises(ProviderServiceUnavailableError) as raised:
        pieces("anthropic", {"type": "error", **said})
    assert raised.value.message == "no"


def test_a_block_without_a_kind_is_told_as_what_it_is() -> None:
    start, delta = {"type": None, "text": "x"}, {"text": "y"}
    assert pieces(
        "anthropic",
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": ""}},
    ) == [ProviderEvent("content_block", start), ProviderEvent("content_block_delta", delta), ReasoningDelta("")]
    assert pieces("google", gemini({"text": "hm", "thought": True, "thoughtSignature": ""})) == [ReasoningDelta("hm")]


@pytest.mark.parametrize("first", [{}, {"index": None}, {"index": 0}])
@pytest.mark.parametrize("then", [{}, {"index": None}, {"index": 0}])
def test_a_block_without_a_place_is_the_first(first: dict[str, Any], then: dict[str, Any]) -> None:
    found = pieces(
        "anthropic",
        {"type": "content_block_start", "content_block": {"type": "tool_use", "id": "c", "name": "f"}, **first},
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": '{"x": 1}'}, **then},
        {"type": "content_block_stop", **first},
    )
    assert calls(found) == [("f", {"x": 1})]
    place = {"output_index": then.get("index")} if then else {}
    item = {"type": "function_call", "call_id": "c", "name": "f"}
    added = {"type": "response.output_item.added", "output_index": 0, "item": item}
    (delta,) = pieces("responses", added, {"type": "response.function_call_arguments.delta", "delta": "{}", **place})
    assert delta == ToolCallDelta("c", "f", "{}")


def test_anthropics_counts_add_up() -> None:
    found = pieces(
        "anthropic",
        {"type": "message_start", "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 7}}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    )
    last = [piece.usage for piece in found if isinstance(piece, UsageReport)][-1]
    assert (last.input_tokens, last.cache_read_tokens, last.output_tokens) == (12, 7, 3)
    assert last.raw == {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 3}
    assert found[-1] == Finished("stop", "end_turn")


def test_a_server_tools_input_is_told_whole() -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found = pieces(
        "anthropic",
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"q"'}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ': "x"}'}},
        {"type": "content_block_stop", "index": 0},
    )
    assert found == [ProviderEvent("server_tool_use", {**block, "input": {"q": "x"}})]


def test_a_tool_without_parameters_may_send_no_input_at_all() -> None:
    found = pieces(
        "anthropic",
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "f"}},
        {"type": "content_block_stop", "index": 1},
    )
    assert calls(found) == [("f", {})]


# ── google ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_in_partial_arguments_is_put_together() -> None:
    def part(**call: Any) -> dict[str, Any]:
        return gemini({"functionCall": call})

    found = pieces(
        "google",
        part(name="f", willContinue=True),
        part(partialArgs=[{"jsonPath": "$.a[0].b", "stringValue": "x", "willContinue": True}], willContinue=True),
        part(partialArgs=[{"jsonPath": "$.a[0].b", "stringValue": "y"}], willContinue=True),
        part(partialArgs=[{"jsonPath": "$.n", "numberValue": 3}, {"jsonPath": "$.t", "boolValue": True}]),
        gemini({"functionCall": {"name": "g", "willContinue": True}}, finish="STOP"),
    )
    assert calls(found) == [("f", {"a": [{"b": "xy"}], "n": 3, "t": True}), ("g", {})]
    first = next(piece for piece in found if isinstance(piece, ToolCall))
    shown = [piece.fragment for piece in found if isinstance(piece, ToolCallDelta) and piece.id == first.id]
    assert "".join(shown) == first.raw_arguments
    assert found[-1] == Finished("tool_calls", "STOP")


@pytest.mark.parametrize("path", ["", "a", "$", "$.a..b", "$[x]", "$.a[2]", "$.a.b", "$[0]"])
def test_a_path_that_cannot_be_followed_is_the_vendors_error(path: str) -> None:
    arguments = PartialArguments()
    arguments.add(PartialArgument("$.a[0]", string_value="x"))
    with pytest.raises(ProviderProtocolError):
        arguments.add(PartialArgument(path, string_value="y"))


def test_a_quoted_name_in_a_path_is_a_name() -> None:
    arguments = PartialArguments()
    arguments.add(PartialArgument("$['a b'][\"c.d\"]", number_value=0.5))
    assert arguments.value == {"a b": {"c.d": 0.5}}


def test_a_signature_goes_before_what_it_signs_and_comes_back_on_it() -> None:
    call = {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "s1"}
    found = pieces("google", gemini(call), gemini({"text": "", "thoughtSignature": "s2"}, finish="STOP"))
    assert [type(piece) for piece in found[:3]] == [ReasoningDelta, ToolCallDelta, ToolCall]
    assert [piece.signature for piece in found if isinstance(piece, ReasoningDelta)] == ["s1", "s2"]
    turn = Message("assistant", [ReasoningPart("", "s1"), ToolCallPart("c", "f", '{"x": 1}'), ReasoningPart("", "s2")])
    body = google_request.body(TaskRequest("go on", messages=[turn]), A)
    assert body["contents"][0]["parts"] == [
        {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "s1"},
        {"text": "", "thoughtSignature": "s2"},
    ]


def test_code_that_google_ran_is_told() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1+1"}}
    assert pieces("google", gemini({"text": "a"}, code)) == [
        "a",
        ProviderEvent("executableCode", code["executableCode"]),
    ]


def test_a_blocked_prompt_is_a_content_filter() -> None:
    found = pieces("google", {"promptFeedback": {"blockReason": "SAFETY"}})
    assert found == [Finished("content_filter", "SAFETY")]


def test_text_that_no_plain_event_holds_is_text_all_the_same() -> None:
    said_twice = b'{"type": "response.output_text.delta", "delta": 0, "delta": "hi"}'
    assert list(openai_responses.Decoder(Target("a", "m")).pieces(said_twice)) == ["hi"]
    nothing = b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}}'
    assert list(anthropic_messages.Decoder(Target("a", "m")).pieces(nothing)) == []


# ── what no reader asked for ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", ["google", "anthropic"])
def test_an_event_without_data_gives_nothing(wire: str) -> None:
    assert list(DECODERS[wire](A).pieces(b"")) == []


def test_google_gives_the_first_candidate_only() -> None:
    first, second = gemini({"text": "one"})["candidates"] + gemini({"text": "two"})["candidates"]
    found = pieces("google", {"candidates": [first, {**second, "index": 1}]})
    assert [piece for piece in found if isinstance(piece, str)] == ["one"]


def test_google_completes_a_call_when_the_next_one_begins_or_the_answer_ends() -> None:
    """The last piece of the first call never came."""
    begun = {"functionCall": {"name": "f", "args": {"x": 1}, "willContinue": True}}
    assert calls(pieces("google", gemini(begun), gemini({"functionCall": {"name": "g"}}))) == [
        ("f", {"x": 1}),
        ("g", {}),
    ]
    assert calls(pieces("google", gemini(begun), gemini(finish="STOP"))) == [("f", {"x": 1})]
