"""Simulated vendors refuse what the real ones refuse, in their words: orphans, bad ids and names, marks, signatures."""

from __future__ import annotations

from typing import Any

import pytest

from llm_dispatcher.testing import ReceivedRequest, Wire
from llm_dispatcher.testing._wires import WIRES
from llm_dispatcher.testing._wires.signatures import SIGNATURES, UNCHECKED

USER: dict[str, Any] = {"role": "user", "content": "Well?"}
LONG = "x" * 65


def refused(wire: Wire, body: dict[str, Any], host: str = "openai") -> tuple[str, str | None, str | None] | None:
    """The words, the code and the parameter with which a vendor refuses a request."""
    paths = {
        Wire.OPENAI_CHAT: "/v1/chat/completions",
        Wire.OPENAI_RESPONSES: "/v1/responses",
        Wire.ANTHROPIC: "/v1/messages",
        Wire.GOOGLE: f"/v1beta/models/{body.get('model', 'gemini-2.5-pro')}:streamGenerateContent?alt=sse",
        Wire.OLLAMA: "/api/chat",
    }
    if wire is not Wire.GOOGLE:
        body = {"model": "m", **body}
    request = ReceivedRequest(wire, "POST", paths[wire], {"anthropic-version": "2023-06-01"}, body)
    request.host = host
    rejection = WIRES[wire].read(request)
    return None if rejection is None else (rejection.message, rejection.code, rejection.param)


# ── Anthropic ──────────────────────────────────────────────────────────────────────────────────────────────────────


def use(id: str = "t1", **more: Any) -> dict[str, Any]:  # noqa: A002 - the wire's word
    return {"type": "tool_use", "id": id, "name": "f", "input": {}, **more}


def result(id: str = "t1", **more: Any) -> dict[str, Any]:  # noqa: A002
    return {"type": "tool_result", "tool_use_id": id, "content": "1", **more}


def said(*blocks: dict[str, Any], role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


def text(words: str = "Hi.", **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def to_anthropic(*messages: dict[str, Any], **more: Any) -> str | None:
    refusal = refused(Wire.ANTHROPIC, {"max_tokens": 5, "messages": [USER, *messages], **more})
    return None if refusal is None else refusal[0]


def mark(ttl: str | None = None, kind: str = "ephemeral") -> dict[str, Any]:
    return {"cache_control": {"type": kind, **({"ttl": ttl} if ttl else {})}}


THOUGHT = {"type": "thinking", "thinking": "Hm."}
UNIQUE = "Each `tool_use` block must have a corresponding `tool_result` block in the next message."


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ((said(use()), said(result(), role="user")), None),
        ((said(use("a"), use("b")), said(result("b"), result("a"), text(), role="user")), None),
        (
            (said(use("a"), use("b")), said(result("a"), role="user")),
            f"messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: b. {UNIQUE}",
        ),
        (
            (said(use()), said(text(), result(), role="user")),
            f"messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1. {UNIQUE}",
        ),
        (
            (said(use()),),
            f"messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1. {UNIQUE}",
        ),
        (
            (said(text()), said(result(), role="user")),
            (
                "messages.2.content.0: unexpected `tool_use_id` found in `tool_result` blocks: t1. Each `tool_result` "
                "block must have a corresponding `tool_use` block in the previous message."
            ),
        ),
        (
            (said(use()), said(result(), result(), role="user")),
            (
                "messages.2.content.0: each tool_use must have a single result. Found multiple `tool_result` blocks "
                "with id: t1"
            ),
        ),
        (
            (said(use()), said(result(), role="user"), said(use()), said(result(), role="user")),
            "messages.3.content.0: `tool_use` ids must be unique",
        ),
        (
            (said(use("a:1")), said(result("a:1"), role="user")),
            "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        ),
        (
            (said(use(name="a b")), said(result(), role="user")),
            "messages.1.content.0.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        ),
        (
            (said(use(input="{}")), said(result(), role="user")),
            "messages.1.content.0.tool_use.input: Input should be a valid dictionary",
        ),
        ((said(text("")), USER), "messages: text content blocks must be non-empty"),
        ((said(text("\n")), USER), "messages: text content blocks must contain non-whitespace text"),
        (
            (said(), USER),
            "messages.1: all messages must have non-empty content except for the optional final assistant message",
        ),
        ((said({**THOUGHT, "signature": SIGNATURES[Wire.ANTHROPIC]}, text()), USER), None),
        ((said({**THOUGHT, "signature": "EqQBCgIYAhIM"}, text()), USER), None),
        ((said(THOUGHT, text()), USER), "messages.1.content.0.thinking.signature: Field required"),
        *(
            (
                (said({**THOUGHT, "signature": signature}, text()), USER),
                "messages.1.content.0: Invalid `signature` in `thinking` block",
            )
            for signature in ("rs_1:abc", SIGNATURES[Wire.GOOGLE], SIGNATURES[Wire.OPENAI_RESPONSES], UNCHECKED)
        ),
        ((said(*(text(str(n), **mark()) for n in range(4))), USER), None),
        (
            (said(*(text(str(n), **mark()) for n in range(5))), USER),
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (
            (said(text("a", **mark()), text("b", **mark("1h"))), USER),
            (
                "messages.1.content.1.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: `tools`, `system`, "
                "`messages`."
            ),
        ),
        ((said(text("a", **mark("1h")), text("b", **mark("5m"))), USER), None),
        ((said(text("a", **mark("2h"))), USER), "messages.1.content.0.cache_control.ttl: Input should be '5m' or '1h'"),
        (
            (said(text("a", **mark(kind="x"))), USER),
            "messages.1.content.0.cache_control.type: Input should be 'ephemeral'",
        ),
        (
            (said(text("", **mark())), USER),
            "messages.1.content.0.text: cache_control cannot be set for empty text blocks",
        ),
        (
            (said({**THOUGHT, "signature": SIGNATURES[Wire.ANTHROPIC], **mark()}, text()), USER),
            "messages.1.content.0.thinking.cache_control: Extra inputs are not permitted",
        ),
    ],
)
def test_anthropic(messages: tuple[dict[str, Any], ...], words: str | None) -> None:
    assert to_anthropic(*messages) == words


def test_anthropics_budget_for_thoughts() -> None:
    enabled = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    thought = {**THOUGHT, "signature": SIGNATURES[Wire.ANTHROPIC]}
    told = said(result(), role="user")
    assert to_anthropic(said(thought, use()), told, **enabled) is None
    assert to_anthropic(said(use()), told, said(text()), USER, **enabled) is None
    assert to_anthropic(said(use()), told, thinking={"type": "adaptive"}) is None
    refusal = to_anthropic(said(text(), use()), told, **enabled)
    assert refusal is not None
    assert refusal.startswith("messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`")


def test_anthropics_tools_and_system_prompt() -> None:
    tool = {"name": "f", "input_schema": {}}
    assert to_anthropic(tools=[tool, {**tool, "name": "g"}]) is None
    assert to_anthropic(tools=[tool, tool]) == "tools: Tool names must be unique."
    words = "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    assert to_anthropic(tools=[{**tool, "name": "a.b"}]) == words
    marked = {"tools": [{**tool, **mark()}], "system": [text("S", **mark("1h"))]}
    refusal = to_anthropic(**marked)
    assert refusal is not None
    assert refusal.startswith("system.0.cache_control.ttl: a ttl='1h' cache_control block must not come after")


# ── OpenAI's chat ──────────────────────────────────────────────────────────────────────────────────────────────────


def call(id: str = "c1", name: str = "f", **more: Any) -> dict[str, Any]:  # noqa: A002
    function = {"name": name, "arguments": "{}"}
    return {"role": "assistant", "tool_calls": [{"id": id, "type": "function", "function": function}], **more}


def told(id: str = "c1") -> dict[str, Any]:  # noqa: A002
    return {"role": "tool", "tool_call_id": id, "content": "1"}


FOLLOWED = "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."
MISSING = "The following tool_call_ids did not have response messages: c1"
NULL = "Invalid value for 'content': expected a string, got null."
PRECEDED = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
PATTERN = "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."


@pytest.mark.parametrize(
    ("host", "messages", "words"),
    [
        ("openai", [call(), told()], None),
        ("openai", [call("x" * 40), told("x" * 40), USER], None),
        ("openai", [call()], f"{FOLLOWED} {MISSING}"),
        (
            "openai",
            [call(), USER, told()],
            f"{FOLLOWED} {MISSING}",
        ),
        ("openai", [told()], PRECEDED),
        ("openai", [call(), told(), told()], PRECEDED),
        ("openai", [call(), told("c2")], PRECEDED),
        (
            "openai",
            [call("x" * 41), told("x" * 41)],
            (
                "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum length 40, "
                "but got a string with length 41 instead."
            ),
        ),
        ("groq", [call("x" * 41), told("x" * 41)], None),
        ("openai", [call(name="a b"), told()], f"Invalid 'messages[1].tool_calls[0].function.name': {PATTERN}"),
        (
            "openai",
            [call(name=LONG), told()],
            (
                "Invalid 'messages[1].tool_calls[0].function.name': string too long. Expected a string with maximum "
                "length 64, but got a string with length 65 instead."
            ),
        ),
        (
            "openai",
            [{"role": "assistant", "content": None}],
            NULL,
        ),
        ("mistral", [call("aB3dE5gH9"), told("aB3dE5gH9")], None),
        ("mistral", [call("c1"), told("c1")], "Tool call id was c1 but must be a-z, A-Z, 0-9, with a length of 9."),
        ("mistral", [call("aB3dE5gH9")], "Not the same number of function calls and responses"),
        ("mistral", [call("aB3dE5gH9"), told("aB3dE5gH9"), USER], "Unexpected role 'user' after role 'tool'"),
        ("deepseek", [call(reasoning_content="Hm."), told()], None),
        (
            "deepseek",
            [call(), told()],
            (
                "Missing `reasoning_content` field in the assistant message at message index 1. For more information, "
                "please refer to https://api-docs.deepseek.com/guides/thinking_mode#tool-calls"
            ),
        ),
        ("deepseek", [call()], f"{FOLLOWED} (insufficient tool messages following tool_calls message)"),
    ],
)
def test_chat(host: str, messages: list[dict[str, Any]], words: str | None) -> None:
    refusal = refused(Wire.OPENAI_CHAT, {"messages": [USER, *messages]}, host)
    assert (refusal and refusal[0]) == words


def test_the_code_and_the_place_of_a_refusal_are_openais() -> None:
    refusal = refused(Wire.OPENAI_CHAT, {"messages": [USER, call(LONG), told(LONG)]})
    assert refusal is not None
    assert refusal[1:] == ("string_above_max_length", "messages[1].tool_calls[0].id")
    refusal = refused(Wire.OPENAI_CHAT, {"messages": [USER, told()]})
    assert refusal is not None
    assert refusal[1:] == (None, "messages.[1].role")


def test_the_tools_of_a_chat() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert refused(Wire.OPENAI_CHAT, {"messages": [USER], "tools": [tool, tool]}) is None, "OpenAI takes both"
    refusal = refused(Wire.OPENAI_CHAT, {"messages": [USER], "tools": [tool, tool]}, "deepseek")
    assert refusal is not None
    assert refusal[0] == "Tool names must be unique."
    refusal = refused(Wire.OPENAI_CHAT, {"messages": [USER], "tools": [{"function": {"name": "a.b"}}]})
    assert refusal == (f"Invalid 'tools[0].function.name': {PATTERN}", "invalid_value", "tools[0].function.name")


@pytest.mark.parametrize("wire", [Wire.OPENAI_CHAT, Wire.OPENAI_RESPONSES])
def test_marks_for_openais_cache(wire: Wire) -> None:
    part = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    key = "messages" if wire is Wire.OPENAI_CHAT else "input"
    body = {key: [{"role": "user", "content": [part]}]}
    place = f"{key}[0].content[0].prompt_cache_breakpoint"
    assert refused(wire, {**body, "model": "gpt-5.6"}) is None
    words = f"Unsupported parameter: '{place}' is not supported with this model."
    assert refused(wire, {**body, "model": "gpt-5.5"}) == (words, "unsupported_parameter", place)
    assert refused(wire, {**body, "model": "gpt-5.6"}, "groq") == (words, "unsupported_parameter", place)
    without_mode = {key: [{"role": "user", "content": [{**part, "prompt_cache_breakpoint": {}}]}]}
    refusal = refused(wire, {**without_mode, "model": "gpt-6-luna"})
    assert refusal is not None
    assert refusal[1] == "invalid_value"


# ── OpenAI's responses ─────────────────────────────────────────────────────────────────────────────────────────────


def item(id: str = "c1", **more: Any) -> dict[str, Any]:  # noqa: A002
    return {"type": "function_call", "call_id": id, "name": "f", "arguments": "{}", **more}


def output(id: str = "c1") -> dict[str, Any]:  # noqa: A002
    return {"type": "function_call_output", "call_id": id, "output": "1"}


REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SIGNATURES[Wire.OPENAI_RESPONSES]}
HI = {"type": "message", "role": "assistant", "content": "Hi."}


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([item(), output()], None),
        ([item()], "No tool output found for function call c1."),
        ([output()], "No tool call found for function call output with call_id c1."),
        (
            [item(LONG), output(LONG)],
            (
                "Invalid 'input[1].call_id': string too long. Expected a string with maximum length 64, but got a "
                "string with length 65 instead."
            ),
        ),
        ([item(name="a b"), output()], f"Invalid 'input[1].name': {PATTERN}"),
        ([REASONING, item(), output()], None),
        ([{**REASONING, "encrypted_content": "gAAAAABo_real"}, HI, USER], None),
        (
            [{**REASONING, "encrypted_content": SIGNATURES[Wire.ANTHROPIC]}, HI, USER],
            "The encrypted content c2lt...dGVk could not be verified.",
        ),
        (
            [REASONING, USER],
            "Item 'rs_1' of type 'reasoning' was provided without its required following item.",
        ),
    ],
)
def test_responses(items: list[dict[str, Any]], words: str | None) -> None:
    refusal = refused(Wire.OPENAI_RESPONSES, {"input": [USER, *items]})
    assert (refusal and refusal[0]) == words


# ── Google ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def model(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts)}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts)}


def calls(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": {}}, **more}


def responds(name: str = "f") -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": {"result": "1"}}}


SAID = {"text": "Well?"}
EQUAL = (
    "Please ensure that the number of function response parts is equal to the number of function call parts of the "
    "function call turn."
)
AFTER_CALL = "Please ensure that function response turn comes immediately after a function call turn."
AFTER_USER = (
    "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
)
SIGNED = {"thoughtSignature": SIGNATURES[Wire.GOOGLE]}


@pytest.mark.parametrize(
    ("name", "contents", "words"),
    [
        ("gemini-2.5-pro", [model(calls(), calls()), user(responds(), responds())], None),
        ("gemini-2.5-pro", [model(calls(), calls()), user(responds())], EQUAL),
        ("gemini-2.5-pro", [model(calls()), user(SAID)], EQUAL),
        ("gemini-2.5-pro", [user(responds())], AFTER_CALL),
        ("gemini-2.5-pro", [model(SAID), model(calls()), user(responds())], AFTER_USER),
        ("gemini-2.5-pro", [model()], "* GenerateContentRequest.contents[1].parts: contents.parts must not be empty."),
        (
            "gemini-2.5-pro",
            [model(calls()), user(responds(""))],
            "* GenerateContentRequest.contents[2].parts[0].function_response.name: Name cannot be empty.",
        ),
        (
            "gemini-2.5-pro",
            [model({**SAID, "thoughtSignature": SIGNATURES[Wire.ANTHROPIC]})],
            "Corrupted thought signature.",
        ),
        (
            "gemini-2.5-pro",
            [model({**SAID, "thoughtSignature": "rs_1:x"})],
            (
                "Invalid value at 'contents[1].parts[0].thought_signature' (TYPE_BYTES), Base64 decoding failed for "
                '"rs_1:x"'
            ),
        ),
        ("gemini-3-pro", [model(calls(**SIGNED), calls()), user(responds(), responds())], None),
        ("gemini-3-pro", [model(calls(thoughtSignature=UNCHECKED)), user(responds())], None),
        ("gemini-3-pro", [model(calls()), user(responds()), user(SAID)], None),
        (
            "gemini-3-pro",
            [model(calls("look")), user(responds("look"))],
            (
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
                "data, function call `default_api:look` , position 2. Please refer to "
                "https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            ),
        ),
    ],
)
def test_google(name: str, contents: list[dict[str, Any]], words: str | None) -> None:
    refusal = refused(Wire.GOOGLE, {"model": name, "contents": [user(SAID), *contents]})
    assert (refusal and refusal[0]) == words


def test_googles_functions() -> None:
    def told_of(*names: str) -> str | None:
        tools = [{"functionDeclarations": [{"name": name} for name in names]}]
        refusal = refused(Wire.GOOGLE, {"contents": [user(SAID)], "tools": tools})
        return refusal and refusal[0]

    assert told_of("f", "a.b:c-d") is None
    assert told_of("f", "f") == "Duplicate function declaration found: f"
    assert "[FIELD_INVALID] Invalid function name." in str(told_of("2f"))
