"""OpenAI's chat messages, as dicts: the same conversation as in our own parts, or refused where it is wrong."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageParam
from pydantic import TypeAdapter

from llm_dispatcher import LLMSwitch, llm_stream, use_switch
from llm_dispatcher._chat_messages import AUDIO_FORMATS
from llm_dispatcher.exceptions import InvalidRequestError
from llm_dispatcher.tasks import (
    AudioPart,
    ImagePart,
    Message,
    Part,
    TaskRequest,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from llm_dispatcher.testing import Reply, SimulatedVendor, Wire
from tests.conftest import examples

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and what follows").decode()
WAV = base64.b64encode(b"RIFF\x24\x00\x00\x00WAVEfmt and what follows").decode()
MP3 = base64.b64encode(b"ID3 and what follows").decode()

# ── conversations of our parts, and how OpenAI writes them ─────────────────────────────────────────────────────────

words = st.text(min_size=1, max_size=20)
names = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
texts = st.builds(TextPart, words)
images = st.builds(
    ImagePart, st.sampled_from([f"data:image/png;base64,{PNG}", "https://example.org/a.png", "HTTPS://example.org/b"])
)
sounds = st.builds(AudioPart, st.sampled_from([f"data:audio/wav;base64,{WAV}", f"data:audio/mpeg;base64,{MP3}"]))


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    made: list[Message] = []
    for number in range(draw(st.integers(1, 6))):
        role = draw(st.sampled_from(["system", "user", "assistant"]))
        match role:
            case "user":
                made.append(Message("user", draw(st.lists(st.one_of(texts, images, sounds), min_size=1, max_size=3))))
            case "assistant":
                calls = [
                    ToolCallPart(f"call_{number}_{each}", draw(names), json.dumps({"a": draw(words)}))
                    for each in range(draw(st.integers(0, 2)))
                ]
                made.append(Message("assistant", [*draw(st.lists(texts, min_size=not calls, max_size=2)), *calls]))
                made += [Message("tool", ToolResultPart(call.id, call.name, draw(words))) for call in calls]
            case _:
                made.append(Message("system", draw(texts)))
    return made


def part_of_openai(part: Part) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return {"type": "image_url", "image_url": {"url": part.source}}
        case AudioPart():
            head, _, data = str(part.source).partition(";base64,")
            name = next(name for name, media_type in AUDIO_FORMATS.items() if head == f"data:{media_type}")
            return {"type": "input_audio", "input_audio": {"data": data, "format": name}}
        case _:
            raise AssertionError(part)


def call_of_openai(call: ToolCallPart) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def as_openai_writes_it(message: Message) -> dict[str, Any]:
    """What arrives at OpenAI: text alone is a string, and all else is a list of parts."""
    if message.role == "tool":
        (result,) = message.parts
        assert isinstance(result, ToolResultPart)
        return {"role": "tool", "tool_call_id": result.id, "content": result.result}
    calls = [call_of_openai(part) for part in message.parts if isinstance(part, ToolCallPart)]
    said = [part_of_openai(part) for part in message.parts if not isinstance(part, ToolCallPart)]
    only_text = all(part["type"] == "text" for part in said)
    content = ("".join(part["text"] for part in said) or None) if only_text else said
    return {"role": message.role, "content": content, **({"tool_calls": calls} if calls else {})}


@st.composite
def manners(draw: st.DrawFn, message: Message) -> dict[str, Any]:
    """One of the ways in which OpenAI and its SDK let the same message be written."""
    written = as_openai_writes_it(message)
    if message.role == "system" and draw(st.booleans()):
        written["role"] = "developer"
    parts = [part_of_openai(part) for part in message.parts if isinstance(part, (TextPart, ImagePart, AudioPart))]
    if message.role == "tool":
        parts = [{"type": "text", "text": written["content"]}]
    if parts and (len(parts) > 1 or draw(st.booleans())):
        written["content"] = parts
    for part in parts:
        if part["type"] == "image_url" and (manner := draw(st.sampled_from(["", "bare", "auto", "none"]))):
            address = part["image_url"]["url"]
            more = {"detail": "auto" if manner == "auto" else None}
            part["image_url"] = address if manner == "bare" else {"url": address, **more}
    if written["content"] is None and draw(st.booleans()):
        del written["content"]
    dumped = ["refusal", "function_call", "audio", "annotations", "tool_calls", "name", "reasoning_content"]
    for key in draw(st.lists(st.sampled_from(dumped), unique=True)):
        written.setdefault(key, draw(st.sampled_from([None, []])) if key in ("annotations", "tool_calls") else None)
    return written


@st.composite
def written_conversations(draw: st.DrawFn) -> tuple[list[Message], list[Any]]:
    ours = draw(conversations())
    return ours, [message if draw(st.integers(0, 4)) == 0 else draw(manners(message)) for message in ours]


@given(written_conversations())
@settings(max_examples=examples(200))
def test_openais_form_gives_the_same_request_as_message_values(both: tuple[list[Message], list[Any]]) -> None:
    ours, theirs = both
    before = repr(theirs)
    request = TaskRequest(messages=theirs)
    assert request == TaskRequest(messages=ours)
    assert repr(theirs) == before, "what the application holds stays as it was"
    again = msgspec.structs.replace(request, prompt="And now?")
    assert all(one is other for one, other in zip(again.messages, request.messages, strict=True))


@settings(max_examples=examples(80), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written_conversations())
async def test_the_body_sent_to_openai_equals_the_dicts(
    switch_over: Over, simulated_vendor: Start, both: tuple[list[Message], list[Any]]
) -> None:
    ours, theirs = both
    async with (
        SimulatedVendor("openai-chat", Reply("Yes.")) as vendor,
        switch_over(vendor) as switch,
    ):
        assert await switch.stream_request(TaskRequest("And now?", messages=theirs)) == "Yes."
    sent = vendor.requests[0].body["messages"]
    # The type of an image follows from its first bytes, and a URL is sent unchanged.
    assert sent == [*(as_openai_writes_it(message) for message in ours), {"role": "user", "content": "And now?"}]


def test_the_dicts_of_these_tests_have_openais_types() -> None:
    """Were it not, the two properties above would show nothing."""
    types = TypeAdapter(ChatCompletionMessageParam)

    @given(conversations())
    @settings(max_examples=30)
    def holds(ours: list[Message]) -> None:
        for message in ours:
            types.validate_python(as_openai_writes_it(message))

    holds()


def test_an_answer_object_of_the_sdk_is_sent_back_unchanged() -> None:
    call = call_of_openai(ToolCallPart("c1", "look", '{"a": 1}'))
    answer = ChatCompletionMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [call]})
    result = {"role": "tool", "tool_call_id": "c1", "name": "look", "content": "seen"}
    for form in (answer, answer.model_dump(), answer.model_dump(exclude_none=True)):
        request = TaskRequest(messages=[form, result])  # type: ignore[list-item]
        assert request.messages == (
            Message("assistant", ToolCallPart("c1", "look", '{"a": 1}')),
            Message("tool", ToolResultPart("c1", "look", "seen")),
        )


# ── every wire ─────────────────────────────────────────────────────────────────────────────────────────────────────

LOOKING: list[dict[str, Any]] = [
    {"role": "developer", "content": "BEKIND"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "WHATISIT"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        ],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "zoom", "arguments": '{"CORNER": 1}'}},
            {"id": "c2", "type": "function", "function": {"name": "name_it", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "AFOX"},
    {
        "role": "tool",
        "tool_call_id": "c2",
        "content": [{"type": "text", "text": "VUL"}, {"type": "text", "text": "PES"}],
    },
    {"role": "user", "content": "SURE"},
]


@llm_stream
def looked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return messages


@pytest.mark.parametrize("wire", list(Wire))
async def test_images_and_tool_results_reach_every_vendor(
    wire: Wire, simulated_vendor: Start, switch_over: Over
) -> None:
    vendor = simulated_vendor(wire, Reply("Yes."))
    with use_switch(switch_over(vendor)):
        assert await looked(LOOKING) == "Yes."
    body = vendor.requests[0].body
    sent = json.dumps(body)
    marks = ["BEKIND", "WHATISIT", PNG, "zoom", "CORNER", "name_it", "AFOX", "VULPES", "SURE"]
    assert [mark for mark in marks if mark not in sent] == []
    places = [sent.index(mark) for mark in ("WHATISIT", "CORNER", "AFOX", "VULPES", "SURE")]
    assert places == sorted(places)
    match wire:
        case Wire.OPENAI_CHAT:
            assert [each["role"] for each in body["messages"]] == [
                "system", "user", "assistant", "tool", "tool", "user",
            ]  # fmt: skip
            assert body["messages"][2]["content"] is None
            assert [each["tool_call_id"] for each in body["messages"][3:5]] == ["c1", "c2"]
        case Wire.OPENAI_RESPONSES:
            assert [each.get("type", each.get("role")) for each in body["input"]] == [
                "user", *["function_call"] * 2, *["function_call_output"] * 2, "user",
            ]  # fmt: skip
        case Wire.ANTHROPIC:
            assert [[block["type"] for block in turn["content"]] for turn in body["messages"]] == [
                ["text", "image"], ["tool_use"] * 2, ["tool_result", "tool_result", "text"],
            ]  # fmt: skip
        case Wire.GOOGLE:
            results = body["contents"][2]["parts"]
            assert [part["functionResponse"]["name"] for part in results] == ["zoom", "name_it"], "both in one turn"
        case Wire.OLLAMA:
            assert [each.get("tool_name") for each in body["messages"]][3:5] == ["zoom", "name_it"]


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────────────


def call(**changes: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}, **changes}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def assistant(**more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, **more}


def tool(**more: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "c1", "content": "seen", **more}


def image(of: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": of, **more}


def sound(of: Any) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": of}


def function(**of: Any) -> dict[str, Any]:
    return assistant(tool_calls=[call(function=of)])


CALLED = assistant(tool_calls=[call()])
REFUSED: list[tuple[list[Any], type[Exception], str]] = [
    # messages
    (["hi"], TypeError, "messages[0]: a message is a Message or a dict with role and content, got str"),
    ([Message("user", "x"), None], TypeError, "messages[1]: a message is a Message or a dict"),
    ([{"content": "x"}], TypeError, "messages[0]: 'role' is missing"),
    ([{"role": 3, "content": "x"}], TypeError, "messages[0].role is a str, got int"),
    (
        [{"role": "function", "name": "f", "content": "x"}],
        ValueError,
        "messages[0].role is one of system, developer, user, assistant, tool; got 'function'",
    ),
    (
        [{"role": "user", "content": "x", "colour": None}],
        TypeError,
        "messages[0]: unknown key 'colour'; a message has role, content, name, tool_calls, tool_call_id",
    ),
    ([{"role": "user", "content": "x", 3: 4}], TypeError, "messages[0]: unknown key 3"),
    (
        [{"role": "user", "content": "x", "name": "Ann"}],
        TypeError,
        "messages[0].name: only a message of role 'tool' may have it, not one of role 'user': write it in the content",
    ),
    (
        [{"role": "user", "content": "x", "tool_calls": [call()]}],
        TypeError,
        "messages[0].tool_calls: only a message of",
    ),
    ([assistant(tool_call_id="c1")], TypeError, "messages[0].tool_call_id: only a message of role 'tool'"),
    # keys of dumps that may only be empty
    ([assistant(refusal="I will not.")], TypeError, "messages[0].refusal: a refusal is not supported as a key"),
    ([assistant(function_call={"name": "f"})], TypeError, "messages[0].function_call: this is the old form of a call"),
    ([assistant(audio={"id": "a1"})], TypeError, "messages[0].audio: audio from a model is not supported"),
    ([assistant(reasoning_content="hm")], TypeError, "pass a Message with a ReasoningPart"),
    ([assistant(annotations=[{}])], TypeError, "messages[0].annotations: it is not supported: leave it out"),
    ([assistant(parsed={"a": 1})], TypeError, "messages[0].parsed: it repeats the content"),
    # content
    ([{"role": "user"}], TypeError, 'messages[0]: a message has "role" and "content": the content is missing'),
    ([{"role": "user", "content": None}], TypeError, "the content is missing"),
    ([assistant()], TypeError, "the content is missing (it may be None if there are tool_calls)"),
    ([assistant(tool_calls=[])], TypeError, "the content is missing (it may be None if there are tool_calls)"),
    ([{"role": "user", "content": 3}], TypeError, "messages[0].content is a list of parts, or a str, got int"),
    ([{"role": "user", "content": {"type": "text"}}], TypeError, "messages[0].content is a list of parts, or a str"),
    (
        [user("x", 3)],
        TypeError,
        'messages[0].content[1]: a part is a str, a part of llm_dispatcher.tasks or a dict with "type", got int',
    ),
    (
        [user({"text": "x"})],
        TypeError,
        'messages[0].content[0]: a part is a str, a part of llm_dispatcher.tasks or a dict with "type"',
    ),
    (
        [user("x", {"type": "file", "file": {"file_id": "f"}})],
        ValueError,
        "messages[0].content[1].type is 'text', 'image_url' or 'input_audio', got 'file'",
    ),
    ([user({"type": ["text"]})], ValueError, "messages[0].content[0].type is 'text', 'image_url' or 'input_audio'"),
    ([user({"type": "text"})], TypeError, "messages[0].content[0]: 'text' is missing"),
    ([user({"type": "text", "text": 3})], TypeError, "messages[0].content[0].text is a str, got int"),
    (
        [user({"type": "text", "text": "x", "cache_control": {}})],
        TypeError,
        "messages[0].content[0].cache_control: write a CachePoint (llm_dispatcher.tasks) after the part",
    ),
    (
        [user({"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}})],
        TypeError,
        "messages[0].content[0].prompt_cache_breakpoint: write a CachePoint (llm_dispatcher.tasks) after the part",
    ),
    # images
    (
        [{"role": "system", "content": [image("https://example.org/a.png")]}],
        ValueError,
        "a message of role 'system' cannot hold a part of type 'image_url': use a message of role 'user'",
    ),
    ([user({"type": "image_url"})], TypeError, "messages[0].content[0]: 'image_url' is missing"),
    ([user(image(3))], TypeError, "messages[0].content[0].image_url: an image_url is a dict, got int"),
    ([user(image({}))], TypeError, "messages[0].content[0].image_url: 'url' is missing"),
    ([user(image({"url": 3}))], TypeError, "messages[0].content[0].image_url.url is a str, got int"),
    (
        [user(image({"url": "secret/passwords"}))],
        ValueError,
        "is an https URL or a data URI, got a str that begins with 'secret/p'; for a file, pass",
    ),
    ([user(image("http://example.org/a.png"))], ValueError, "messages[0].content[0].image_url is an https URL"),
    ([user(image({"url": "https://e.org/a", "detail": "high"}))], ValueError, "image_url.detail: most vendors do not"),
    # sounds
    (
        [{"role": "assistant", "content": [sound({"data": WAV, "format": "wav"})]}],
        ValueError,
        "a message of role 'assistant' cannot hold a part of type 'input_audio'",
    ),
    ([user({"type": "input_audio"})], TypeError, "messages[0].content[0]: 'input_audio' is missing"),
    ([user(sound(WAV))], TypeError, "messages[0].content[0].input_audio: an input_audio is a dict, got str"),
    ([user(sound({"format": "wav"}))], TypeError, "messages[0].content[0].input_audio: 'data' is missing"),
    ([user(sound({"data": WAV}))], TypeError, "messages[0].content[0].input_audio: 'format' is missing"),
    ([user(sound({"data": b"RIFF", "format": "wav"}))], TypeError, "input_audio.data is a str, got bytes"),
    ([user(sound({"data": WAV, "format": "pcm16"}))], ValueError, "input_audio.format is one of wav, mp3, flac"),
    (
        [user(sound({"data": f"data:audio/wav;base64,{WAV}", "format": "wav"}))],
        ValueError,
        "messages[0].content[0].input_audio.data is base64, got a data URI",
    ),
    # calls
    ([assistant(tool_calls=call())], TypeError, "messages[0].tool_calls is a list of tool calls, got dict"),
    ([assistant(tool_calls=["look"])], TypeError, "messages[0].tool_calls[0]: a tool call is a dict, got str"),
    ([assistant(tool_calls=[call(id=None)])], TypeError, "messages[0].tool_calls[0]: 'id' is missing"),
    ([assistant(tool_calls=[call(type=None)])], TypeError, "messages[0].tool_calls[0]: 'type' is missing"),
    (
        [assistant(tool_calls=[call(type="custom")])],
        ValueError,
        "messages[0].tool_calls[0].type is 'function', got 'cus",
    ),
    ([assistant(tool_calls=[call(index=0)])], TypeError, "messages[0].tool_calls[0]: unknown key 'index'; a tool call"),
    ([assistant(tool_calls=[call(function="f")])], TypeError, "tool_calls[0].function: a call's function is a dict"),
    ([function(arguments="{}")], TypeError, "messages[0].tool_calls[0].function: 'name' is missing"),
    ([function(name="f")], TypeError, "messages[0].tool_calls[0].function: 'arguments' is missing"),
    (
        [function(name="f", arguments={"a": 1})],
        TypeError,
        "messages[0].tool_calls[0].function.arguments is JSON as a str, got a dict: convert it with json.dumps",
    ),
    (
        [function(name="f", arguments="{}", parsed_arguments={})],
        TypeError,
        "parsed_arguments: it repeats the arguments",
    ),
    # results
    ([CALLED, {"role": "tool", "content": "x"}], TypeError, "messages[1]: 'tool_call_id' is missing"),
    ([CALLED, tool(tool_call_id=3)], TypeError, "messages[1].tool_call_id is a str, got int"),
    ([CALLED, tool(content=None)], TypeError, "messages[1]: 'content' is missing"),
    (
        [CALLED, tool(tool_call_id="c2")],
        ValueError,
        "messages[1].tool_call_id is the id of an earlier tool call, got 'c2'",
    ),
    ([tool(), CALLED], ValueError, "messages[0].tool_call_id is the id of an earlier tool call"),
    ([CALLED, tool(name="hear")], ValueError, "messages[1].name is the name of the called tool, 'look'; got 'hear'"),
    ([CALLED, tool(name=3)], TypeError, "messages[1].name is a str, got int"),
    ([CALLED, tool(content=[image("https://example.org/a.png")])], ValueError, "messages[1].content[0]: a message of"),
    ([CALLED, tool(content=ImagePart("a.png"))], TypeError, "messages[1].content: a tool's result is text, not ImageP"),
]


@pytest.mark.parametrize(("messages", "error", "message"), REFUSED, ids=[each[2][:60] for each in REFUSED])
def test_an_unsupported_dict_is_refused_with_its_place(
    messages: list[Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        TaskRequest(messages=messages)


def test_an_error_message_does_not_show_long_values() -> None:
    """Messages may be confidential, and errors are logged."""
    for messages in (
        [user(image("x" * 500))],
        [user({"type": "y" * 500})],
        [{"role": "user", "content": "", "z" * 500: 1}],
    ):
        with pytest.raises((TypeError, ValueError)) as refused:
            TaskRequest(messages=messages)
        assert len(str(refused.value)) < 250


async def test_data_that_is_not_audio_is_refused_before_sending(switch_over: Over, simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat")
    request = TaskRequest(messages=[user(sound({"data": PNG, "format": "wav"}))])
    with pytest.raises(InvalidRequestError, match="are not those of a sound"):
        await switch_over(vendor).stream_request(request)
    assert vendor.requests == []


def test_a_dict_cannot_make_the_library_read_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation may come from a browser, which must not read the server's files."""
    monkeypatch.chdir(tmp_path)
    name = "A" * 8
    Path(name).write_bytes(base64.b64decode(WAV))
    with pytest.raises(ValueError, match="https URL or a data URI"):
        TaskRequest(messages=[user(image(name))])
    request = TaskRequest(messages=[user(sound({"data": name, "format": "wav"}))])
    assert request.messages[0].parts == (AudioPart(f"data:audio/wav;base64,{name}"),)
