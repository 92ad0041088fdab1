"""Recorded answers that call tools, run to their next turn: the vendor takes the request, and the turn in it is as the
official SDK writes it.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch
from llm_dispatcher.tasks import Message, TaskRequest, ToolCallPart, ToolResultPart
from llm_dispatcher.testing import SimulatedVendor, Wire
from tests.conformance.replay import Replay, replaying
from tests.conformance.test_recorded import FOLDERS, KINDS, cases, needs_recordings
from tests.conversations.recorded_turns import SDK_TURNS, sent_turn, with_calls

QUESTION = Message("user", "Well?")
WIRES = {
    "openai-responses": Wire.OPENAI_RESPONSES,
    "anthropic-messages": Wire.ANTHROPIC,
    "google-generate-content": Wire.GOOGLE,
}


UNLIKE = {
    "ai--eam-tool-call-array-arguments-missing-terminal-function-call": "its arguments are values at paths",
    "ai--google-vertex-stream-tool-call-arguments-nested-1": "its arguments are values at paths",
    "mirascope--handles-refusal-for-stream": "its arguments are not whole, so they are text in an object",
    "ai--xai-x-search-tool": "xAI has run its own tools, and calls them custom ones",
    "magentic--at-model-gemini-complete-Return-1-2-3-4-5-output-types2-list": "Google's chat gives no ids, so we do",
    "magentic--t-model-gemini-acomplete-Return-1-2-3-4-5-output-types2-list": "Google's chat gives no ids, so we do",
}
"""Turns that the SDK writes otherwise, each with the reason."""


def policy_for(kind: str, base_url: str, model: str) -> dict[str, Any]:
    entry = {**KINDS[kind], "api_key": "test-key", "base_url": base_url, "models": [model]}
    return {"providers": {"vendor": entry}, "resilience": {"max_retries": 0}}


def model_of(case: dict[str, Any]) -> str:
    """The model that was asked, by the vendor's name."""
    body = case["request"].get("body") or {}
    _, models, rest = str(case["request"]["path"]).rpartition("/models/")
    return rest.partition(":")[0] if models else str(body.get("model") or "m")


def results(turn: Message) -> Message:
    calls = [part for part in turn.parts if isinstance(part, ToolCallPart)]
    return Message("tool", [ToolResultPart(call.id, call.name, f"the result of {call.name}") for call in calls])


async def next_turn(replay: Replay, kind: str, case: dict[str, Any]) -> dict[str, Any]:
    """The body of the request that follows a recorded answer. A simulated vendor has taken it."""
    wire = WIRES.get(kind, Wire.OPENAI_CHAT)
    replay.case = case
    model = model_of(case)
    async with LLMSwitch(policy_for(kind, replay.base_url, model)) as switch:
        stream = switch.stream_request(TaskRequest(messages=[QUESTION]))
        async for _ in stream.events():
            pass
        messages = stream.response.messages
        assert messages, stream.response.error
    async with (
        SimulatedVendor(wire, "Done.", host=KINDS[kind]["kind"] if wire is Wire.OPENAI_CHAT else "openai") as vendor,
        LLMSwitch(policy_for(kind, vendor.base_url, model)) as switch,
    ):
        request = TaskRequest(messages=[QUESTION, *messages, results(messages[-1])])
        assert await switch.stream_request(request) == "Done."
        return vendor.requests[0].body


@needs_recordings
@pytest.mark.filterwarnings("ignore:The model .* is deprecated")
@pytest.mark.parametrize("folder", FOLDERS)
async def test_a_recorded_call_goes_on_to_its_next_turn(folder: str) -> None:
    wrong: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        replay = await stack.enter_async_context(replaying())
        for name, kind, case in with_calls(cases(folder)):
            wire = WIRES.get(kind, Wire.OPENAI_CHAT)
            try:
                body = await next_turn(replay, kind, case)
                of_sdk = [] if name.rpartition("--")[0] in UNLIKE else SDK_TURNS[wire](case)
            except Exception as error:
                wrong[name] = f"{type(error).__name__}: {error}"
                continue
            sent = sent_turn(wire, body)
            if sent != of_sdk and name.rpartition("--")[0] not in UNLIKE:
                wrong[name] = (json.dumps(sent)[:1500], json.dumps(of_sdk)[:1500])
    assert wrong == {}
