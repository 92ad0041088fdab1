"""A host that is not known to take an open turn: it is found out once, and remembered while it is that host."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._config import identity
from llm_dispatcher._policy import ProviderSettings
from llm_dispatcher._serving import runtime
from llm_dispatcher.exceptions import StreamingError
from llm_dispatcher.testing import Continuing, Cut, HttpError, ReceivedRequest, Reply, SimulatedVendor
from tests.conftest import PATIENT

TEXT = "Once upon a time there was a fox who lived by the sea. It counted the ships that came by night."
BROKEN = Reply(TEXT, fault=Cut(9))
Start = Callable[..., SimulatedVendor]


def config(first: SimulatedVendor, host: SimulatedVendor, **entry: Any) -> dict[str, Any]:
    return {
        "providers": {
            "a": {"kind": "openai", "api": "chat", "api_key": "test-key", "base_url": first.base_url},
            "b": {"kind": "openai_compatible", "api_key": "test-key", "base_url": host.base_url, **entry},
        },
        "routing": {"default": ["a/m", "b/m"]},
        "resilience": {"max_retries": 0, "backoff": 0.0, **PATIENT},
    }


def roles(request: ReceivedRequest) -> str:
    """The role of the last turn, by which the ways of continuing differ."""
    return request.turns[-1].role


async def asked(switch: LLMSwitch, host: SimulatedVendor) -> list[str]:
    """What the host is asked for in a stream that it continues, which is one attempt."""
    before = len(host.requests)
    stream = switch.stream_request(TaskRequest("Tell me."))
    assert await stream == TEXT
    (first, second) = stream.response.attempts
    assert (first.outcome, second.outcome) == ("failed", "completed")
    last = [roles(request) for request in host.requests[before:]]
    assert second.rung == {"assistant": "prefill", "user": "anchored"}[last[-1]]
    return last


async def test_a_host_that_takes_an_open_turn_is_asked_for_it(simulated_vendor: Start) -> None:
    first, host = simulated_vendor("openai-chat", BROKEN), simulated_vendor("openai-chat", Continuing(TEXT))
    async with LLMSwitch(config(first, host)) as switch:
        assert await asked(switch, host) == ["assistant"]
        assert await asked(switch, host) == ["assistant"]


async def test_a_host_that_takes_none_is_found_out_once(simulated_vendor: Start) -> None:
    first = simulated_vendor("openai-chat", BROKEN)
    host = simulated_vendor("openai-chat", Continuing(TEXT), refuses_prefill=True)
    async with LLMSwitch(config(first, host)) as switch:
        once = await asked(switch, host)
        assert set(once[:-1]) == {"assistant"}
        assert once[-1] == "user"
        assert await asked(switch, host) == ["user"]


async def test_it_is_remembered_over_a_reload_and_forgotten_with_the_address(
    simulated_vendor: Start, tmp_path: Path
) -> None:
    first = simulated_vendor("openai-chat", BROKEN)
    host = simulated_vendor("openai-chat", Continuing(TEXT), refuses_prefill=True)
    other = simulated_vendor("openai-chat", Continuing(TEXT))
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(config(first, host)))
    async with LLMSwitch(file) as switch:
        await asked(switch, host)
        file.write_text(json.dumps(config(first, host, headers={"x-team": "foxes"})))
        switch.reload()
        assert await asked(switch, host) == ["user"]
        file.write_text(json.dumps(config(first, other)))
        switch.reload()
        assert await asked(switch, other) == ["assistant"]


async def test_a_host_that_is_down_is_not_taken_for_one_that_refuses(simulated_vendor: Start) -> None:
    first = simulated_vendor("openai-chat", BROKEN)
    host = simulated_vendor("openai-chat", [Reply(fault=HttpError(500)), Continuing(TEXT)])
    async with LLMSwitch(config(first, host)) as switch:
        with pytest.raises(StreamingError, match="broke and could not be continued: all 2 attempts failed"):
            await switch.stream_request(TaskRequest("Tell me."))
        assert await asked(switch, host) == ["assistant"]


async def test_who_the_host_is_costs_a_request_nothing(
    simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To make the identity of a target takes long, so a switch makes it once."""
    made: list[str] = []

    def counted(settings: ProviderSettings, model: str) -> str:
        made.append(settings.name)
        return identity(settings, model)

    monkeypatch.setattr(runtime, "identity", counted)
    first, host = simulated_vendor("openai-chat", Reply(TEXT)), simulated_vendor("openai-chat", Continuing(TEXT))
    settings = config(first, host)
    settings["routing"]["default"] = ["b/m", "a/m"]
    async with LLMSwitch(settings) as switch:
        for _ in range(3):
            await switch.stream_request(TaskRequest("Tell me."))
    assert len(made) == len(set(made))
    assert "b" in made
