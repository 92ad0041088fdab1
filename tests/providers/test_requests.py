"""What is sent: every feature of a request, on every wire, is said in the SDK's own terms or refused, never dropped."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from itertools import combinations
from typing import Any, Literal, NotRequired

import google.genai
import msgspec
import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from google.genai import _common as google_common
from google.genai import models as google_models
from google.genai import types as google_types
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter, alias_generators
from pydantic_core import SchemaValidator
from typing_extensions import TypedDict

from llm_dispatcher._providers.anthropic import messages_request as anthropic_request
from llm_dispatcher._providers.google import content_request as google_request
from llm_dispatcher._providers.ollama import chat_request as ollama_request
from llm_dispatcher._providers.openai import chat_request as openai_chat_request
from llm_dispatcher._providers.openai import responses as openai_responses
from llm_dispatcher._providers.openai import responses_request as openai_responses_request
from llm_dispatcher._vendors.table import hosts
from llm_dispatcher.events import ReasoningDelta
from llm_dispatcher.exceptions import InvalidRequestError, ModelUnsupportedError
from llm_dispatcher.tasks import (
    AudioPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Target,
    TaskRequest,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tests.conftest import examples, first_is_fast

HOSTS = hosts()
A = Target("a", "m")

# ── the features, each with a mark that has to be found in what is sent ────────────────────────────────────────────


class Feature:
    """One thing that a request may hold: in which field, its value, what of it has to be in the body of every wire, and
    the wires that have no place for it.
    """

    def __init__(self, field: str, value: Any, *marks: str, not_on: str = "") -> None:
        self.field = field
        self.value = value
        self.marks = marks
        self.not_on = frozenset(not_on.split())

    def __repr__(self) -> str:
        return f"{self.field}={self.value!r:.60}"


PNG = b"\x89PNG\r\n\x1a\n and what follows"
GIF = b"GIF89a and what follows"
BMP = b"BM\x10\x00\x00\x00\x00\x00\x00\x00 and what follows"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt and what follows"
FLAC = b"fLaC and what follows"


def coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


LOOK = {
    "name": "look",
    "description": "Looks at a PLACE.",
    "parameters": {"type": "object", "title": "PARAMETERS", "properties": {}},
}
HEAR = {"type": "function", "function": {"name": "hear"}}
SCHEMA = {"type": "object", "title": "An answer!", "properties": {"ANSWERFIELD": {"type": "string"}}}
PAST = [
    Message("system", "BEBRIEF"),
    Message("user", ["LOOKTHERE", TextPart("ANDTHERE")]),
    Message("assistant", [ReasoningPart("hm", "c2ln"), "ILOOK", ToolCallPart("c1", "look", '{"PLACEGIVEN": 1}')]),
    Message("tool", [ToolResultPart("c1", "look", "SEEN"), ToolResultPart("c2", "look", "NOTSEEN", error=True)]),
]
OPEN = [*PAST, Message("user", "GOON"), Message("assistant", "Once upon ATIME")]
EFFORTS: dict[str, str] = {
    "none": "",
    "minimal": "anthropic ollama",
    "low": "",
    "medium": "",
    "high": "",
    "xhigh": "ollama",
    "max": "ollama google vertex",
}

FEATURES = [
    Feature("prompt", "THEPROMPT", "THEPROMPT"),
    Feature("system", "BEKIND", "BEKIND"),
    Feature("messages", PAST, "BEBRIEF", "LOOKTHERE", "ANDTHERE", "ILOOK", "look", "PLACEGIVEN", "SEEN", "NOTSEEN"),
    Feature("messages", OPEN, "BEBRIEF", "LOOKTHERE", "GOON", "ATIME"),
    Feature("images", [PNG], coded(PNG)),
    Feature("images", [GIF], coded(GIF), not_on="google vertex"),
    Feature("images", [BMP], coded(BMP), not_on="openai azure responses anthropic google vertex"),
    Feature("images", ["https://example.org/picture.png"], "example.org/picture.png", not_on="ollama lmstudio"),
    Feature("images", ["https://example.org/it"], "example.org/it", not_on="ollama lmstudio google vertex"),
    Feature("audio", [WAV], coded(WAV), not_on="responses anthropic ollama"),
    Feature("audio", [FLAC], coded(FLAC), not_on="openai azure responses anthropic ollama"),
    Feature("tools", [LOOK, HEAR], "look", "hear", "PLACE", "PARAMETERS", not_on="perplexity"),
    Feature("tools", [{**LOOK, "strict": True}, HEAR], "look", "strict", not_on="perplexity google vertex ollama"),
    Feature("tool_choice", "auto", not_on="perplexity"),
    Feature("tool_choice", "none", not_on="perplexity ollama"),
    Feature("tool_choice", "required", not_on="perplexity ollama"),
    Feature("tool_choice", "hear", "hear", not_on="perplexity ollama"),
    Feature("response_format", SCHEMA, "ANSWERFIELD", not_on="deepseek"),
    Feature("response_format", {"type": "json_object"}, "json", not_on="anthropic perplexity"),
    Feature("temperature", 0.375, "0.375"),
    Feature("top_p", 0.625, "0.625"),
    Feature("max_tokens", 4321, "4321"),
    Feature("stop", ["THESTOP", "ANDSTOP"], "THESTOP", "ANDSTOP", not_on="responses"),
    Feature("seed", 987654, "987654", not_on="responses anthropic deepseek perplexity"),
    *(Feature("reasoning_effort", effort, not_on=not_on) for effort, not_on in EFFORTS.items()),
    Feature("metadata", {"user_id": "theuser"}, "theuser", not_on="ollama without-metadata openai azure"),
    Feature("metadata", {"team": "theteam"}, "theteam", not_on="ollama anthropic without-metadata openai azure"),
    Feature("extra", {"extra_mark": {"deep": "THEEXTRA"}}, "extra_mark", "THEEXTRA"),
]

# ── the SDKs' own types, as strict as they can be ──────────────────────────────────────────────────────────────────


def strictly(kind: Any) -> Callable[[Any], object]:
    """The validation of a TypedDict: no unknown keys at any depth, lists read to their end, nothing converted."""

    def stricter(node: Any) -> Any:
        if isinstance(node, (list, tuple)):
            return type(node)(stricter(each) for each in node)
        if not isinstance(node, dict):
            return node
        node = {key: stricter(value) for key, value in node.items()}
        match node.get("type"):
            case "typed-dict" if (
                node.get("extra_behavior") != "allow" and node.get("config", {}).get("extra") != "allow"
            ):
                return {**node, "extra_behavior": "forbid"}
            case "generator":  # which would be read by nobody
                return {**node, "type": "list"}
            case "model":  # a response's class, where a parameter may be one as well: we send none
                return {"type": "is-instance", "cls": node["cls"], **({"ref": node["ref"]} if "ref" in node else {})}
            case _:
                return node

    validator = SchemaValidator(stricter(TypeAdapter(kind).core_schema))
    return lambda value: validator.validate_python(value, strict=True)


class OllamaFunction(TypedDict):
    name: str
    description: NotRequired[str]
    parameters: dict[str, Any]


class OllamaTool(TypedDict):
    type: Literal["function"]
    function: OllamaFunction


class OllamaCall(TypedDict):
    name: str
    arguments: dict[str, Any]


class OllamaToolCall(TypedDict):
    function: OllamaCall


class OllamaMessage(TypedDict):
    role: Literal["system", "user", "assistant", "tool"]
    content: str
    images: NotRequired[list[str]]
    tool_calls: NotRequired[list[OllamaToolCall]]
    tool_name: NotRequired[str]
    thinking: NotRequired[str]


class OllamaOptions(TypedDict, total=False):
    temperature: float
    top_p: float
    num_predict: int
    stop: list[str]
    seed: int


class OllamaChat(TypedDict):
    """What Ollama's documentation says of `/api/chat`: there is no SDK of it here to ask."""

    model: str
    messages: list[OllamaMessage]
    stream: Literal[True]
    options: NotRequired[OllamaOptions]
    tools: NotRequired[list[OllamaTool]]
    format: NotRequired[Literal["json"] | dict[str, Any]]
    think: NotRequired[bool | Literal["low", "medium", "high"]]


is_chat = strictly(CompletionCreateParamsStreaming)
is_responses = strictly(ResponseCreateParamsStreaming)
is_anthropic = strictly(MessageCreateParamsStreaming)
is_ollama = strictly(OllamaChat)

HOST_ADDITIONS = {"random_seed", "continue_final_message", "add_generation_prompt"}


def judge_chat(body: dict[str, Any], extra: set[str]) -> None:
    for message in body["messages"]:
        if message["role"] == "assistant":
            message.pop("prefix", None)  # Mistral's word, of which OpenAI's types know nothing
            message.pop("reasoning_content", None)  # DeepSeek's
        for part in message["content"] if isinstance(message["content"], list) else []:
            if isinstance(part.get("input_audio"), str):  # Mistral's form of the same
                part["input_audio"] = {"data": part["input_audio"], "format": "wav"}
            elif part["type"] == "input_audio" and part["input_audio"]["format"] == "flac":
                part["input_audio"]["format"] = "wav"  # OpenAI knows two, other hosts more
    assert set(body.pop("extra_body", {})) - HOST_ADDITIONS == extra
    is_chat({**body, "stream": True})


def judge_responses(body: dict[str, Any], extra: set[str]) -> None:
    assert set(body.pop("extra_body", {})) == extra
    is_responses({**body, "stream": True})


def judge_anthropic(body: dict[str, Any], extra: set[str]) -> None:
    assert set(body.pop("extra_body", {})) - {"temperature", "top_p"} == extra
    assert isinstance(body["max_tokens"], int)
    is_anthropic({**body, "stream": True})


class AsGoogle:
    """Google's own types, and what the SDK makes of them: a body of ours is to be what it would have written."""

    def __init__(self, write: Callable[..., dict[str, Any]]) -> None:
        self._write = write
        self._client = google.genai.Client(api_key="test-key")._api_client

    def __call__(self, body: dict[str, Any], extra: set[str]) -> None:
        ours = {name: value for name, value in body.items() if name not in extra}
        assert len(ours) + len(extra) == len(body)
        config = {name: value for name, value in ours.items() if name not in ("contents", "generationConfig")}
        config |= ours.get("generationConfig", {})
        asked = google_types._GenerateContentParameters.model_validate(
            {"model": "m", "contents": ours["contents"], "config": config}
        )
        written = self._write(self._client, asked, None, asked)
        theirs = {name: value for name, value in written.items() if name not in ("_url", "config") and value != {}}
        theirs = google_common.encode_unserializable_types(google_common.convert_to_dict(theirs))
        assert one_spelling(theirs) == one_spelling(ours)


def one_spelling(value: Any) -> Any:
    """Google takes its words in two spellings and base64 in two alphabets; the SDK writes now one, now the other."""
    match value:
        case dict():
            return {alias_generators.to_camel(name): one_spelling(inner) for name, inner in value.items()}
        case list():
            return [one_spelling(each) for each in value]
        case str():
            return value.replace("-", "+").replace("_", "/")
        case _:
            return value


def judge_ollama(body: dict[str, Any], extra: set[str]) -> None:
    is_ollama({key: value for key, value in body.items() if key not in extra})


JUDGES: dict[str, Callable[[dict[str, Any], set[str]], None]] = {
    **dict.fromkeys(HOSTS, judge_chat),
    "responses": judge_responses,
    "anthropic": judge_anthropic,
    "google": AsGoogle(google_models._GenerateContentParameters_to_mldev),
    "vertex": AsGoogle(google_models._GenerateContentParameters_to_vertex),
    "ollama": judge_ollama,
}


def body(wire: str, request: TaskRequest) -> dict[str, Any]:
    match wire:
        case "responses":
            return openai_responses_request.body(request, "m", A, HOSTS["openai"].quirks)
        case "anthropic":
            return anthropic_request.body(request, "m", A, 4096)
        case "google" | "vertex":
            return google_request.body(request, A)
        case "ollama":
            return ollama_request.body(request, "m", A)
        case host:
            return openai_chat_request.body(request, "m", A, HOSTS[host].quirks)


def lacks(wire: str, feature: Feature) -> bool:
    # (No feature here is `store: true`, with which alone two hosts take metadata.)
    without_metadata = wire in HOSTS and bool({"no_metadata", "stored_metadata"} & HOSTS[wire].quirks)
    return wire in feature.not_on or ("without-metadata" in feature.not_on and without_metadata)


def check(wire: str, features: list[Feature]) -> None:
    """Said whole, in the SDK's terms; or refused, and then for a feature that the wire has no place for."""
    request = TaskRequest(**{"prompt": "Hi.", **{feature.field: feature.value for feature in features}})
    if any(lacks(wire, feature) for feature in features):
        with pytest.raises(ModelUnsupportedError, match="cannot be sent on this wire") as raised:
            body(wire, request)
        assert (raised.value.provider, raised.value.model) == ("a", "m")
        return
    sent = body(wire, request)
    written = json.dumps(sent)
    assert [mark for feature in features for mark in feature.marks if mark not in written] == []
    for feature in features:
        if feature.field not in ("prompt", "tools") and (wire, feature.value) != ("ollama", "auto"):  # its only way
            without = msgspec.structs.replace(request, **{feature.field: None})
            assert body(wire, without) != sent, feature
    JUDGES[wire](sent, set(request.extra))


TOOLS = next(feature for feature in FEATURES if feature.field == "tools")


@pytest.mark.parametrize("wire", JUDGES)
def test_every_feature_fits_the_sdks_types_or_is_refused(wire: str) -> None:
    for feature in FEATURES:
        check(wire, [feature] if feature.field != "tool_choice" else [TOOLS, feature])


@pytest.mark.parametrize("wire", [*first_is_fast(*HOSTS), *(wire for wire in JUDGES if wire not in HOSTS)])
def test_every_pair_of_features_fits_the_sdks_types_or_is_refused(wire: str) -> None:
    """`make test` takes one of the hosts that speak the wire of chats."""
    for pair in combinations(FEATURES, 2):
        fields = {feature.field for feature in pair}
        if len(fields) == 2:
            check(wire, [*pair] if "tool_choice" not in fields or "tools" in fields else [TOOLS, *pair])


@st.composite
def any_features(draw: st.DrawFn) -> tuple[str, list[Feature]]:
    """A wire and features; in half of the draws only such as it has a place for, so that much is sent at once."""
    wire = draw(st.sampled_from(list(JUDGES)))
    all_of_them = draw(st.booleans())
    drawn: list[Feature] = []
    for field in dict.fromkeys(feature.field for feature in FEATURES):
        if field == "tool_choice" and not any(feature.field == "tools" for feature in drawn):
            continue
        options = [each for each in FEATURES if each.field == field and (all_of_them or not lacks(wire, each))]
        drawn += [each] if (each := draw(st.sampled_from([None, *options]))) is not None else []
    return wire, drawn


@given(any_features())
@settings(max_examples=examples(500))
def test_any_set_of_features_fits_the_sdks_types_or_is_refused(drawn: tuple[str, list[Feature]]) -> None:
    check(*drawn)


def test_the_types_are_as_strict_as_they_seem() -> None:
    """Were they not, the two tests above would show nothing."""
    right: dict[str, dict[str, Any]] = {
        "openai": {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "model": "m"},
        "responses": {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}], "model": "m"},
        "anthropic": {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "model": "m", "max_tokens": 5,
        },
        "google": {"contents": [{"role": "user", "parts": [{"text": "x"}]}]},
        "ollama": {"messages": [{"role": "user", "content": "x"}], "model": "m", "stream": True},
    }  # fmt: skip
    for wire, sent in right.items():
        JUDGES[wire](dict(sent), set())
        key = {"responses": "input", "google": "contents"}.get(wire, "messages")
        message = sent[key][0]
        parts = "parts" if wire == "google" else "content"
        for wrong in (
            {**sent, "unheard_of": 1},
            {**sent, key: [{**message, "unheard_of": 1}]},
            {**sent, key: [{**message, parts: [{"type": "text", "text": "x", "unheard_of": 1}]}]},
            {**sent, key: [{**message, "role": 5}]},
        ):
            with pytest.raises((ValueError, AssertionError)):
                JUDGES[wire](wrong, set())


def test_extra_is_merged_into_googles_body() -> None:
    """In either spelling: a word said twice, once in each, would be refused."""
    extra = {"generation_config": {"top_k": 5, "maxOutputTokens": 9}, "safety_settings": [], "labels": {"a_b": "c"}}
    sent = body("google", TaskRequest("x", max_tokens=7, temperature=0.5, metadata={"d": "e"}, extra=extra))
    assert sent["generationConfig"] == {"temperature": 0.5, "maxOutputTokens": 9, "top_k": 5}
    assert sent["labels"] == {"d": "e", "a_b": "c"}
    assert sent["safety_settings"] == [] and "generation_config" not in sent
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    more: dict[str, Any] = {"generationConfig": {"responseJsonSchema": {"properties": {"x": {}}}}}
    sent = body("google", TaskRequest("x", response_format=schema, extra=more))
    assert sent["generationConfig"]["responseJsonSchema"] == {"type": "object", "properties": {"x": {}}}
    assert schema == {"type": "object", "properties": {}}, "the caller's own"


@pytest.mark.parametrize("signature", ["rs_1:abc", "Erklärt", "c2ln\n"])
def test_a_signature_that_cannot_be_googles_is_refused(signature: str) -> None:
    turn = Message("assistant", [ReasoningPart("So.", signature), "Yes."])
    with pytest.raises(InvalidRequestError, match="signature is not Google's"):
        body("google", TaskRequest("And?", messages=[turn]))


@pytest.mark.parametrize(("signature", "sent"), [("a-_b", True), ("a+/b==", True), ("", False), (None, False)])
def test_a_signature_is_sent_as_it_came(signature: str | None, sent: bool) -> None:
    turn = Message("assistant", [ReasoningPart("So.", signature), "Yes."])
    first = body("google", TaskRequest("And?", messages=[turn]))["contents"][0]["parts"][0]
    assert first == ({"text": "So.", "thought": True, "thoughtSignature": signature} if sent else {"text": "Yes."})


@pytest.mark.parametrize("metadata", [{"team": "Sales"}, {"Team": "sales"}, {"9": "x"}, {"a b": "x"}, {"a": "x" * 64}])
def test_metadata_that_is_not_a_label_is_sent_where_it_is_supported(metadata: dict[str, str]) -> None:
    with pytest.raises(ModelUnsupportedError, match="metadata that is not a label of Google's"):
        body("google", TaskRequest("x", metadata=metadata))
    assert body("google", TaskRequest("x", metadata={"équipe_1": "vente-2", "a": ""}))["labels"]["a"] == ""


def test_an_empty_conversation_is_not_sent() -> None:
    with pytest.raises(InvalidRequestError, match="nothing to send"):
        body("google", TaskRequest(messages=[Message("user", "")]))


# ── one wire's shape of each thing ─────────────────────────────────────────────────────────────────────────────────

SEARCH = {"type": "web_search"}
all_wires = pytest.mark.parametrize("wire", ["openai", "responses", "anthropic", "google", "ollama"])


def parts(wire: str, part: Part) -> Any:
    sent = body(wire, TaskRequest(messages=[Message("user", ["Look.", part])]))
    message = sent[{"responses": "input", "google": "contents"}.get(wire, "messages")][0]
    return message if wire == "ollama" else message["parts" if wire == "google" else "content"][1]


def test_an_image_has_each_wires_own_shape() -> None:
    data, picture = coded(PNG), ImagePart(PNG)
    assert parts("openai", picture) == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    assert parts("responses", picture) == {
        "type": "input_image", "image_url": f"data:image/png;base64,{data}", "detail": "auto",
    }  # fmt: skip
    source = {"type": "base64", "media_type": "image/png", "data": data}
    assert parts("anthropic", picture) == {"type": "image", "source": source}
    assert parts("google", picture) == {"inlineData": {"data": data, "mimeType": "image/png"}}
    assert parts("ollama", picture) == {"role": "user", "content": "Look.", "images": [data]}


def test_an_address_is_passed_on_in_each_wires_own_shape() -> None:
    url = "https://example.org/a.jpg?size=2"
    picture = ImagePart(url)
    assert parts("openai", picture) == {"type": "image_url", "image_url": {"url": url}}
    assert parts("responses", picture)["image_url"] == url
    assert parts("anthropic", picture) == {"type": "image", "source": {"type": "url", "url": url}}
    assert parts("google", picture) == {"fileData": {"fileUri": url, "mimeType": "image/jpeg"}}


def test_a_sound_has_each_wires_own_shape() -> None:
    data = coded(WAV)
    inner = {"data": data, "format": "wav"}
    assert parts("openai", AudioPart(WAV)) == {"type": "input_audio", "input_audio": inner}
    assert parts("mistral", AudioPart(WAV)) == {"type": "input_audio", "input_audio": data}
    assert parts("google", AudioPart(WAV)) == {"inlineData": {"data": data, "mimeType": "audio/wav"}}
    assert parts("openrouter", AudioPart(FLAC))["input_audio"]["format"] == "flac"
    mp3 = b"ID3 and what follows"
    assert parts("openai", AudioPart(mp3))["input_audio"] == {"data": coded(mp3), "format": "mp3"}
    with pytest.raises(ModelUnsupportedError, match="audio by its address"):
        parts("openai", AudioPart("https://example.org/a.mp3"))


def test_the_prompts_own_images_come_before_its_words() -> None:
    sent = body("openai", TaskRequest("What is this?", images=[PNG, GIF]))["messages"]
    assert [part["type"] for part in sent[0]["content"]] == ["image_url", "image_url", "text"]


def test_a_vendors_own_tool_is_sent_as_it_is_or_refused() -> None:
    for wire in ("openai", "responses", "anthropic"):
        assert body(wire, TaskRequest("x", tools=[SEARCH, LOOK]))["tools"][0] == SEARCH
    googles: list[dict[str, Any]] = [
        {"google_search": {}},
        {"googleMaps": {"enableWidget": True}},
        {"url_context": {}, "code_execution": {}},
        {"file_search": {"file_search_store_names": ["a_b"], "top_k": 3}},
        {"computer_use": {"environment": "ENVIRONMENT_BROWSER"}},
        {"url_context": {}, "function_declarations": [{"name": "g", "parameters_json_schema": {"properties": {}}}]},
        {"function_declarations": [{"name": "f", "parameters_json_schema": {"properties": {"a_b": {}}}}]},
    ]
    declared = [{"function_declarations": [{"name": name}]} for name in "gh"]
    assert len(body("google", TaskRequest("x", tools=[LOOK, *declared]))["tools"]) == 1, "several would be refused"
    for tool in googles:
        sent = body("google", TaskRequest("x", tools=[tool, LOOK], tool_choice="look"))
        JUDGES["google"](sent, set())
    assert "a_b" in str(sent["tools"][0])
    for wire in ("google", "ollama"):
        with pytest.raises(ModelUnsupportedError, match="the tool 'web_search' cannot be sent"):
            body(wire, TaskRequest("x", tools=[SEARCH]))


@all_wires
@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (TaskRequest("x", tools=["look"]), 'a tool is a dict with "name"'),
        (TaskRequest("x", tools=[{**LOOK, "paramters": {}}]), "the tool 'look' has unknown keys: paramters"),
        (TaskRequest("x", tool_choice="required"), "tool_choice is 'required', but the request has no tools"),
        (TaskRequest("x", tools=[LOOK], tool_choice="hear"), "names 'hear', which is not one of the tools: look"),
        (TaskRequest("x", tools=[LOOK], tool_choice={"a": 1}), 'tool_choice is "auto", "none", "required" or'),
        (TaskRequest("x", extra={"stream": False}), "extra holds 'stream'"),
        (TaskRequest(messages=[Message("tool", "seen")]), "'tool' holds .*, not TextPart"),
        (TaskRequest(messages=[Message("user", ToolCallPart("c", "f", "{}"))]), "'user' holds .*, not ToolCallPart"),
        (TaskRequest(messages=[Message("system", ImagePart(PNG))]), "'system' holds .*, not ImagePart"),
        (TaskRequest(messages=[Message("assistant", ImagePart(PNG))]), "'assistant' holds .*, not ImagePart"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(wire: str, request_: TaskRequest, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        body(wire, request_)


@pytest.mark.parametrize("wire", ["anthropic", "google", "ollama"])
@pytest.mark.parametrize("arguments", ["{", "[1]", "null"])
def test_broken_arguments_in_a_conversation_are_sent_as_text_in_an_object(wire: str, arguments: str) -> None:
    """A model that wrote them gets an error as their result. Its conversation has to stay usable on all wires."""
    turn = Message("assistant", ToolCallPart("c", "f", arguments))
    sent = json.dumps(body(wire, TaskRequest("x", messages=[turn])))
    assert json.dumps({"invalid_json": arguments}) in sent


@pytest.mark.parametrize("wire", ["openrouter", "responses", "vertex", "anthropic"])
def test_metadata_is_text(wire: str) -> None:
    with pytest.raises(ModelUnsupportedError, match=r"metadata that is not text \(user_id\)"):
        body(wire, TaskRequest("x", metadata={"user_id": 5}, extra={"store": True}))


@pytest.mark.found("B-06")
@pytest.mark.parametrize("wire", ["openai", "azure"])
def test_openais_chat_interface_is_sent_metadata_only_beside_store(wire: str) -> None:
    with pytest.raises(ModelUnsupportedError, match="metadata without extra="):
        body(wire, TaskRequest("x", metadata={"team": "red"}))
    sent = body(wire, TaskRequest("x", metadata={"team": "red"}, extra={"store": True}))
    assert (sent["metadata"], sent["extra_body"]) == ({"team": "red"}, {"store": True})


@pytest.mark.found("R-6")
def test_an_assistants_turn_says_that_it_is_a_message_on_the_responses_wire() -> None:
    """llama.cpp cannot tell what an item is without, and then takes no conversation at all."""
    items = body("responses", TaskRequest(messages=OPEN))["input"]
    said = [item for item in items if item.get("role") == "assistant"]
    assert len(said) == 2
    assert {item["type"] for item in said} == {"message"}


def test_a_schema_is_sent_in_each_wires_form() -> None:
    request = TaskRequest("x", response_format=SCHEMA)
    strict = {**SCHEMA, "required": ["ANSWERFIELD"], "additionalProperties": False}
    inner = {"name": "An_answer_", "schema": strict, "strict": True}
    assert body("openai", request)["response_format"] == {"type": "json_schema", "json_schema": inner}
    assert body("responses", request)["text"] == {"format": {"type": "json_schema", **inner}}
    closed = {**strict, "required": []}
    assert body("anthropic", request)["output_config"] == {"format": {"type": "json_schema", "schema": closed}}
    assert body("google", request)["generationConfig"]["responseJsonSchema"] == SCHEMA
    assert body("ollama", request)["format"] == SCHEMA


@pytest.mark.parametrize(
    ("choice", "chat", "anthropic", "google"),
    [
        ("auto", "auto", {"type": "auto"}, {"mode": "AUTO"}),
        ("none", "none", {"type": "none"}, {"mode": "NONE"}),
        ("required", "required", {"type": "any"}, {"mode": "ANY"}),
        ("look", {"type": "function", "function": {"name": "look"}}, {"type": "tool", "name": "look"},
         {"mode": "ANY", "allowedFunctionNames": ["look"]}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "function", "function": {"name": "look"}},
         {"type": "tool", "name": "look"}, {"mode": "ANY", "allowedFunctionNames": ["look"]}),
    ],
)  # fmt: skip
def test_a_tool_choice_is_sent_in_each_wires_form(choice: Any, chat: Any, anthropic: Any, google: Any) -> None:
    request = TaskRequest("x", tools=[LOOK], tool_choice=choice)
    assert body("openai", request)["tool_choice"] == chat
    assert body("anthropic", request)["tool_choice"] == anthropic
    assert body("google", request)["toolConfig"] == {"functionCallingConfig": google}


@pytest.mark.parametrize(
    ("effort", "responses", "anthropic", "google", "ollama"),
    [
        ("none", {"effort": "none"}, {"thinking": {"type": "disabled"}}, {"thinkingBudget": 0}, False),
        ("high", {"effort": "high"}, {"output_config": {"effort": "high"}},
         {"thinkingLevel": "HIGH", "includeThoughts": True}, "high"),
    ],
)  # fmt: skip
def test_an_effort_is_sent_in_each_wires_form(
    effort: Any, responses: Any, anthropic: dict[str, Any], google: Any, ollama: Any
) -> None:
    request = TaskRequest("x", reasoning_effort=effort)
    assert body("openai", request)["reasoning_effort"] == effort
    assert body("responses", request)["reasoning"] == responses
    assert body("anthropic", request).items() >= anthropic.items()
    assert body("google", request)["generationConfig"]["thinkingConfig"] == google
    assert body("ollama", request)["think"] == ollama


def test_results_come_before_the_words_that_follow_or_precede_them() -> None:
    turn = Message("user", [TextPart("So."), ToolResultPart("c", "look", "seen"), TextPart("And?")])
    asked = Message("assistant", ToolCallPart("c", "look", "{}"))
    request = TaskRequest(messages=[asked, turn])
    assert [message["role"] for message in body("openai", request)["messages"]] == ["assistant", "tool", "user"]
    items = body("responses", request)["input"]
    assert [item.get("type", item.get("role")) for item in items] == ["function_call", "function_call_output", "user"]
    blocks = body("anthropic", request)["messages"][1]["content"]
    assert [block["type"] for block in blocks] == ["tool_result", "text", "text"]


@all_wires
def test_an_open_turn_is_sent_last(wire: str) -> None:
    sent = body(wire, TaskRequest("Tell me.", messages=[]))
    opened = body(wire, TaskRequest(messages=[Message("user", "Tell me."), Message("assistant", "Once upon")]))
    key = {"responses": "input", "google": "contents"}.get(wire, "messages")
    assert opened[key][:-1] == sent[key]
    assert opened[key][-1]["role"] == ("model" if wire == "google" else "assistant")
    assert "Once upon" in json.dumps(opened[key][-1])


def test_an_encrypted_thought_goes_back_as_it_came() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "abc:d=="}
    event = {"type": "response.output_item.done", "output_index": 0, "item": item}
    (delta,) = openai_responses.Decoder(A).pieces(json.dumps(event).encode())
    assert isinstance(delta, ReasoningDelta)
    turn = Message("assistant", [ReasoningPart("So.", delta.signature), ToolCallPart("c", "f", "{}")])
    sent = body("responses", TaskRequest(messages=[turn, Message("tool", ToolResultPart("c", "f", "1"))]))
    judge_responses(dict(sent), set())
    assert sent["input"][0] == {**item, "summary": [{"type": "summary_text", "text": "So."}]}
    for signature in (None, "c2ln", "c2ln:x"):  # none of this wire's
        turn = Message("assistant", [ReasoningPart("So.", signature), "Yes."])
        assert body("responses", TaskRequest("And?", messages=[turn]))["input"][0]["content"] == "Yes."


@pytest.mark.parametrize("wire", ["anthropic", "google"])
def test_reasoning_is_sent_back_to_its_own_vendor_only(wire: str) -> None:
    """A signature of another vendor's would be refused, and with it the request that was to save the conversation."""

    def sent(provider: str | None) -> str:
        turn = Message("assistant", [ReasoningPart("HMM", "c2ln", provider), "I see."])
        return json.dumps(body(wire, TaskRequest("And?", messages=[Message("user", "Look."), turn])))

    assert "HMM" in sent(None) and "HMM" in sent("a")
    assert "HMM" not in sent("b") and "c2ln" not in sent("b") and "I see." in sent("b")


def test_anthropic_always_gets_a_limit() -> None:
    assert body("anthropic", TaskRequest("x"))["max_tokens"] == 4096
    assert body("anthropic", TaskRequest("x", max_tokens=7))["max_tokens"] == 7
