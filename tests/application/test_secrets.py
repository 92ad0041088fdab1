"""A canary: its key is looked for in all that is said, on every wire, for every way in which a vendor fails."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llm_dispatcher import (
    LLM,
    LLMStream,
    LLMSwitch,
    StreamingCache,
    StreamingCallbacks,
    TaskRequest,
    llm_stream,
    settings_of,
    use_switch,
)
from llm_dispatcher._redaction import redacted
from llm_dispatcher.exceptions import ConfigurationError, LLMDispatcherError
from llm_dispatcher.provider import ProviderSettings, Secret
from llm_dispatcher.testing import (
    CleanEnd,
    Continuing,
    Cut,
    ErrorFrame,
    Garbage,
    HttpError,
    KeepAlives,
    MalformedJson,
    Refuse,
    Reply,
    SimulatedVendor,
    SlowHeaders,
    Stall,
)
from tests.conftest import first_is_fast
from tests.faults.leaping_loop import leap_through

CANARY = "a-yellow-canary-in-a-mine"
TEXT = "One two three four five six."
QUOTED = f"Incorrect API key provided: {CANARY}. You can find yours in your account."
WIRES = {
    "openai-chat": {"kind": "openai", "api": "chat"},
    "openai-responses": {"kind": "openai", "api": "responses"},
    "anthropic": {"kind": "anthropic"},
    "google": {"kind": "google"},
    "ollama": {"kind": "ollama"},
    "compatible": {"kind": "openai_compatible"},
}
FAULTS: dict[str, Any] = {
    "nothing": None,
    **{str(status): HttpError(status, message=QUOTED) for status in (400, 401, 402, 403, 404, 408, 413, 422, 429)},
    **{str(status): HttpError(status, message=QUOTED) for status in (500, 503, 529)},
    "no JSON": HttpError(401, body=f"<p>{QUOTED}</p>"),
    "refused": Refuse(),
    "silence": SlowHeaders(5),
    "cut": Cut(2),
    "cut at once": Cut(0),
    "clean end": CleanEnd(2),
    "stall": Stall(2),
    "keep-alives": KeepAlives(2),
    "error at once": ErrorFrame(0, message=QUOTED),
    "error in the stream": ErrorFrame(2, message=QUOTED),
    "malformed": MalformedJson(2),
    "garbage": Garbage(2, data=f"data: {CANARY} \xff".encode("latin-1")),
}


def policy(kind: dict[str, str], *vendors: SimulatedVendor, **timeouts: float) -> dict[str, Any]:
    names = "abc"[: len(vendors)]
    return {
        "providers": {
            name: {
                **kind,
                "api_key": CANARY,
                "headers": {"x-team-key": CANARY},
                "base_url": vendor.base_url,
                "models": ["m"],
            }
            for name, vendor in zip(names, vendors, strict=True)
        },
        "routing": {"default": [f"{name}/m" for name in names]},
        "resilience": {
            "max_retries": 0,
            "backoff": 0.0,
            "timeouts": timeouts,
            "breaker": {"failures": None},  # each failure is to be met
        },
    }


class Heard:
    """All that was said, as text."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def hear(self, *things: object) -> None:
        self.said.extend(f"{thing!r} {thing!s}" for thing in things)

    def hear_error(self, error: BaseException) -> None:
        self.said += traceback.format_exception(error)
        seen: set[int] = set()
        links: list[BaseException | None] = [error]
        while links:
            link = links.pop()
            if link is None or id(link) in seen:
                continue
            seen.add(id(link))
            self.hear(link, link.args)
            if isinstance(link, LLMDispatcherError):
                self.hear(vars(link), pickle.dumps(link))
                links += getattr(link, "failures", ())
            links += [link.__cause__, link.__context__]

    def told(self) -> StreamingCallbacks:
        return StreamingCallbacks(
            on_stream_start=self.hear,
            on_chunk_received=self.hear,
            on_stream_end=self.hear,
            on_error=self.hear,
            on_switch=self.hear,
        )


@pytest.mark.parametrize("wire", first_is_fast(*WIRES))
def test_no_output_contains_a_key(wire: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    speaks = "openai-chat" if wire == "compatible" else wire
    assert CANARY in QUOTED

    async def every() -> None:
        async with (
            SimulatedVendor(speaks, api_key=CANARY) as first,
            SimulatedVendor(speaks, Continuing(TEXT), api_key=CANARY) as second,
            LLMSwitch(policy(WIRES[wire], first, second, first_token=0.5, idle=0.5)) as switch,
        ):
            for fault, what in FAULTS.items():
                heard = Heard()
                first.script = Reply(TEXT, fault=what)
                await _use(switch, heard)
                heard.said += [f"{record.getMessage()} {record.args!r} {record.exc_text}" for record in caplog.records]
                caplog.clear()
                assert [said for said in heard.said if CANARY in said] == [], fault
            answered = [request for request in first.requests if request.status is not None]
            assert len(answered) == 2 * (len(FAULTS) - 1)  # (who hangs up on a reused connection is asked once more)

    leap_through(every)


async def _use(switch: LLMSwitch, heard: Heard) -> None:
    """Stream in two ways, and listen to everything."""
    with use_switch(switch):
        llm = LLM("a/m", raw=True, callbacks=heard.told(), on_break="raise")
        stream, raised = LLM(raw=True, callbacks=heard.told())("Say it."), llm("Say it.")
    async for event in stream.events():
        heard.hear(event, msgspec.json.encode(event))
    _hear_of(stream, heard)
    try:
        await raised
    except LLMDispatcherError as error:
        heard.hear_error(error)
    _hear_of(raised, heard)
    heard.hear(switch, switch.policy, switch.health(), llm, *switch.policy.providers.values())
    heard.hear(*vars(switch).values())


def _hear_of(stream: LLMStream[str], heard: Heard) -> None:
    response = stream.response
    heard.hear(stream, response, *response.attempts)
    if response.error is not None:
        heard.hear_error(response.error)


def test_a_secret_is_hidden_in_every_text_form() -> None:
    secret = Secret(CANARY)
    settings = ProviderSettings(name="a", kind="openai", api_key=secret)
    heard = Heard()
    heard.hear(secret, settings, f"{secret}", [secret], {"key": secret}, vars)
    with pytest.raises(TypeError) as refused:
        msgspec.json.encode(settings)
    heard.hear_error(refused.value)
    assert [said for said in heard.said if CANARY in said] == []
    assert secret.reveal() == CANARY


@pytest.mark.parametrize(
    "entry",
    [
        CANARY,
        {"api_key": [CANARY]},
        {"api_key": {"value": CANARY}},
        {"api_kee": CANARY},
        {"api_key": CANARY, "headers": CANARY},
        {"api_key": CANARY, "headers": {"authorization": [CANARY]}},
        {"api_key": CANARY, "models": 3, "options": {"api_key": CANARY}},
        {"api_key": CANARY, "models": ["m"], "options": {"key": CANARY}},
    ],
)
def test_a_policy_that_is_wrong_is_described_without_its_keys(entry: Any, tmp_path: Path) -> None:
    heard = Heard()
    config = {"providers": {"openai": entry}}
    (tmp_path / "policy.yaml").write_text(json.dumps(config))
    for given in (config, tmp_path / "policy.yaml"):
        with pytest.raises(ConfigurationError) as refused:
            LLMSwitch(given)
        heard.hear_error(refused.value)
    assert [said for said in heard.said if CANARY in said] == []


def test_text_that_looks_like_a_key_is_removed_from_every_message() -> None:
    made_up = "sk" + "-" + "x1" * 12
    for text in (f"key {made_up} is wrong", f"Bearer {made_up}", f"https://host/path?key={made_up}&alt=sse"):
        assert made_up not in redacted(text)
        assert "[redacted]" in redacted(text)


def test_settings_of_a_function_hold_no_key() -> None:
    @llm_stream
    def story(topic: str) -> str:
        return topic

    switch = LLMSwitch({"providers": {"openai": {"api_key": CANARY, "models": ["m"]}}})
    with use_switch(switch):
        stream = story("foxes")
    heard = Heard()
    heard.hear(settings_of(story), stream, story)
    assert [said for said in heard.said if CANARY in said] == []


async def test_no_cache_entry_contains_a_key(simulated_vendor: Callable[..., SimulatedVendor], tmp_path: Path) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT), api_key=CANARY)
    path = tmp_path / "answers.sqlite"
    cache = StreamingCache(store=path)
    async with LLMSwitch(policy(WIRES["openai-chat"], vendor)) as switch:
        for _ in range(2):
            assert await switch.stream_request(TaskRequest("Say it."), cache=cache) == TEXT
    assert len(vendor.requests) == 1
    cache.flush()  # what it was told to keep is written behind the stream's back
    kept = b"".join(file.read_bytes() for file in sorted(tmp_path.iterdir()))
    assert b"One" in kept
    assert CANARY.encode() not in kept
    assert CANARY not in repr(cache) + repr(cache.stats())
    cache.close()
