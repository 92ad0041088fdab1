"""What vendors say in logs, errors and the ledger: one line, no controls, and no key, wherever they put it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._config import load
from llm_dispatcher.exceptions import ConfigurationError, LLMDispatcherError
from llm_dispatcher.testing import ErrorFrame, HttpError, Reply, SimulatedVendor
from tests.conftest import KINDS, PATIENT

Start = Callable[..., SimulatedVendor]

KEY = "zq9Canary/Key+0123456789=="
TEAM = "team-Canary-0123456789"
FORGED = "x\nCRITICAL all keys were revoked by the administrator\r\n\x1b[2J\u202e\x00"


def over(vendor: SimulatedVendor, kind: dict[str, str]) -> LLMSwitch:
    entry = {**kind, "api_key": KEY, "base_url": vendor.base_url, "headers": {"x-team-key": TEAM}, "models": ["m"]}
    return LLMSwitch({"providers": {"a": entry}, "resilience": {"max_retries": 0, **PATIENT}})


def everything_said(error: LLMDispatcherError, response: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage() for record in caplog.records]
    for attempt in response.attempts:
        said += [str(attempt.failure), str(attempt.request_id)]
    links: list[BaseException | None] = [error, *getattr(error, "failures", ())]
    while links:
        if (link := links.pop()) is not None:
            said.append(str(link))
            if isinstance(link, LLMDispatcherError):  # (an SDK's own error has the header as it came)
                said.append(str(getattr(link, "request_id", "")))
            links.append(link.__cause__)
    return said


@pytest.mark.found("B-16")
@pytest.mark.parametrize("wire", KINDS)
@pytest.mark.parametrize(
    "reply",
    [
        Reply(fault=HttpError(500, message=f"{FORGED} {KEY} {TEAM}")),
        Reply(fault=HttpError(401, body=f"{FORGED} {KEY} {TEAM}")),
        Reply("One two three.", fault=ErrorFrame(0, message=f"{FORGED} {KEY} {TEAM}")),
        Reply("One two three.", fault=ErrorFrame(2, message=f"{FORGED} {KEY} {TEAM}")),
        Reply(fault=HttpError(500), headers={"x-request-id": KEY, "request-id": KEY}),
        Reply("One two three.", fault=ErrorFrame(1), headers={"x-request-id": TEAM, "request-id": TEAM}),
    ],
    ids=["message", "page", "error at once", "error in the stream", "id of an error", "id of an answer"],
)
async def test_a_vendors_message_is_one_log_line_without_keys(
    wire: str, reply: Reply, simulated_vendor: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "llm_dispatcher")
    vendor = simulated_vendor(wire, reply, api_key=KEY if wire != "ollama" else None)
    async with over(vendor, KINDS[wire]) as switch:
        stream = switch.stream_request(TaskRequest("Hi.", max_tokens=50), on_break="raise")
        with pytest.raises(LLMDispatcherError) as failed:
            await stream
    said = everything_said(failed.value, stream.response, caplog)
    for line in said:
        assert len(line.splitlines()) <= 1
        assert line.isprintable()
        assert KEY not in line and TEAM not in line


@pytest.mark.found("B-16")
async def test_a_model_cannot_write_into_the_log() -> None:
    with pytest.raises(ValueError, match="model is 1 to 256 printable characters"):
        TaskRequest("Hi.", model=f"a/{FORGED}")


@pytest.mark.found("B-16")
@pytest.mark.parametrize(
    "config",
    [
        {"providers": {FORGED: {"kind": "ollama", "models": ["m"]}}},
        {"providers": {"ollama": {"models": [FORGED]}}},
        {"providers": {"ollama": {"models": {FORGED: {}}}}},
        {"providers": {"ollama": {"models": {"m": {"alias": FORGED}}}}},
        {"providers": {"ollama": {"models": ["m"]}}, "routing": {"default": [f"ollama/{FORGED}"]}},
        {"providers": {"ollama": {"models": ["m"]}}, "budgets": {"namespaces": {FORGED: {"daily": 5}}}},
        {"providers": {"ollama": {"models": ["m"]}}, FORGED: {}},
    ],
)
def test_a_configured_name_cannot_write_into_the_log(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(config, environ={})
    assert json.dumps(str(refused.value)).count("\\n") == 0
    assert "\x1b" not in str(refused.value) and "\u202e" not in str(refused.value)
