"""Which requests run in the background, and what hosts that imitate OpenAI may send of a run."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from llm_dispatcher import LLMSwitch
from llm_dispatcher._providers import make
from llm_dispatcher._providers.openai import background as kept
from llm_dispatcher._providers.openai import responses
from llm_dispatcher.events import ReasoningDelta
from llm_dispatcher.exceptions import (
    ConfigurationError,
    InvalidRequestError,
    ProviderProtocolError,
    ProviderServiceUnavailableError,
    StreamTruncatedError,
)
from llm_dispatcher.provider import (
    Ask,
    KeptRun,
    ModelSettings,
    Piece,
    Provider,
    ProviderSettings,
    Secret,
    SupportsRung,
)
from llm_dispatcher.provider._errors import translated
from llm_dispatcher.tasks import Target, TaskRequest
from llm_dispatcher.testing import (
    SimulatedVendor,
)
from tests.providers.conftest import background_settings
from tests.providers.kept_runs import Reading

Start = Callable[..., SimulatedVendor]
A = Target("a", "m")
HI = TaskRequest("hi")


# ── who runs in the background ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("option", "durability", "extra", "is_kept"),
    [
        (None, "live", {}, False),
        (True, "live", {}, True),
        (False, "reattachable", {}, False),
        (None, "reattachable", {}, True),
        (None, "reattachable", {"store": True}, True),
        (None, "reattachable", {"store": False}, False),
        (None, "live", {"background": True}, True),
        (True, "live", {"background": False}, False),
        (True, "live", {"background": False, "store": False}, False),
    ],
)
async def test_the_request_the_option_and_the_policy_decide_in_this_order(
    option: bool | None,
    durability: Any,
    extra: dict[str, Any],
    is_kept: bool,
    simulated_vendor: Start,
    provider_of: Callable[..., Provider],
) -> None:
    vendor = simulated_vendor("openai-responses", "One.")
    options = {} if option is None else {"background": option}
    provider = provider_of(vendor, options=options, durability=durability)
    reading = Reading(provider, Ask(TaskRequest("hi", extra=extra), A, 5.0))
    assert await reading.once()
    assert (reading.run is not None, len(vendor.runs)) == (is_kept, int(is_kept))
    assert vendor.requests[0].body.get("store") == (True if is_kept else extra.get("store"))
    assert isinstance(provider, SupportsRung)
    assert provider.rung("m", TaskRequest("hi", extra=extra)) == ("reattached" if is_kept else None)


@pytest.mark.parametrize("extra", [{"store": False}, {"store": False, "background": True}])
async def test_what_must_not_be_stored_does_not_run_in_the_background(
    extra: dict[str, Any], simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    vendor = simulated_vendor("openai-responses", "One.")
    with pytest.raises(InvalidRequestError, match="leave store out, or add background: False to extra"):
        await Reading(provider_of(vendor), Ask(TaskRequest("hi", extra=extra), A, 5.0)).once()
    assert vendor.requests == []


@pytest.mark.parametrize(("kind", "is_kept"), [("openai", True), ("azure", True), ("openai_compatible", False)])
def test_only_vendors_that_are_known_to_keep_runs_are_asked_to(kind: str, is_kept: bool) -> None:
    settings = ProviderSettings(
        name="a", kind=kind, api="responses", base_url="http://localhost:1/v1", models={"x": ModelSettings("y")}
    )

    def rung(**more: Any) -> Any:
        provider = make(msgspec.structs.replace(settings, **more))
        assert isinstance(provider, SupportsRung)
        return provider.rung("x", HI)

    assert rung() is None
    assert rung(durability="reattachable") == ("reattached" if is_kept else None)
    assert rung(options={"background": True}) == "reattached"


def test_a_plan_shows_how_this_very_request_would_be_continued() -> None:
    with_option: dict[str, Any] = {"openai": {"api_key": "k", "models": ["m"], "options": {"background": True}}}
    without: dict[str, Any] = {"openai": {"api_key": "k", "models": ["m"]}}
    for providers, extra, rung in [
        (with_option, {}, "reattached"),
        (with_option, {"background": False}, "anchored"),
        (without, {"background": True}, "reattached"),
        (without, {}, "anchored"),
    ]:
        plan = LLMSwitch({"providers": providers}).explain(TaskRequest("hi", extra=extra))
        assert plan.rungs == (rung,), (providers, extra)


def test_a_model_that_only_the_chat_interface_takes_is_not_kept() -> None:
    settings = ProviderSettings(name="a", kind="openai", api_key=Secret("k"), options={"background": True})
    provider: Any = make(settings)
    assert provider.rung("gpt-audio-mini", HI) is None
    assert provider.rung("gpt-6.1-sol", HI) == "reattached"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"api": "chat"}, "this entry is asked over 'chat': set api: responses"),
        ({"api": None}, "this entry is asked over 'chat': set api: responses"),
        ({"options": {"background": "yes"}}, "is true or false"),
    ],
)
def test_the_option_is_checked_when_the_configuration_is_loaded(
    more: dict[str, Any], words: str, simulated_vendor: Start
) -> None:
    with pytest.raises(ConfigurationError, match=words) as failure:
        make(background_settings(simulated_vendor("openai-responses"), **more))
    assert failure.value.key == "providers.a.options.background"


async def test_a_request_that_does_not_run_in_the_background_is_read_without_its_decoder(
    simulated_vendor: Start, provider_of: Callable[..., Provider], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(data: bytes) -> Any:
        raise AssertionError("an event was decoded for its number")

    monkeypatch.setattr(kept, "_decode", fail)
    vendor = simulated_vendor("openai-responses", "One two.")
    assert await Reading(provider_of(vendor, options={}), Ask(HI, A, 5.0)).once()
    with pytest.raises(AssertionError, match="for its number"):
        await Reading(provider_of(vendor), Ask(HI, A, 5.0)).once()


# ── what other hosts may send ──────────────────────────────────────────────────────────────────────────────────────


def event(kind: str, number: int | None, **fields: Any) -> bytes:
    sent = {"type": kind, **({} if number is None else {"sequence_number": number}), **fields}
    return msgspec.json.encode(sent)


def created(number: int | None = 0, **response: Any) -> bytes:
    return event("response.created", number, response={"id": "resp_1", "status": "queued", **response})


def text(number: int | None, delta: str) -> bytes:
    return event("response.output_text.delta", number, delta=delta)


def _unopened(response: object) -> Any:
    raise AssertionError("nothing shall be opened")


async def _nobody() -> Any:
    raise AssertionError("nothing shall be asked")


class Host:
    """A run whose events are written by hand."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        calls = kept.Calls(
            client=self._client,
            create=_nobody,
            opened=_unopened,
            translating=lambda: translated(Ask(HI, A)),
            options={},
            notify=print,
        )
        self.run = kept.BackgroundRun(Ask(HI, A), responses.Decoder(A), calls)

    async def _client(self) -> Any:
        async def cancel(id: str) -> None:  # noqa: A002 - the SDK's own word
            self.cancelled.append(id)

        return SimpleNamespace(responses=SimpleNamespace(with_raw_response=SimpleNamespace(cancel=cancel)))

    def send(self, *events: bytes) -> list[Piece]:
        return [piece for each in events for piece in self.run.pieces(each)]

    def breaks(self) -> None:
        self.run.read_on()


def test_an_event_that_was_read_already_is_dropped() -> None:
    """A gateway may not know the cursor, and sends the answer from its beginning."""
    host = Host()
    first, *rest = host.send(created(), text(1, "One"), text(2, " two"))
    assert isinstance(first, KeptRun) and rest == ["One", " two"]
    host.breaks()
    assert host.send(created(), text(1, "One"), text(2, " two"), text(3, " three")) == [" three"]


def test_text_that_is_missing_after_a_reconnection_is_an_error() -> None:
    host = Host()
    host.send(created(), text(1, "One"))
    host.breaks()
    with pytest.raises(ProviderProtocolError, match="read on at event 3, but event 1 came last"):
        host.send(text(3, " three"))
    assert host.run.position == "event 1"


@pytest.mark.parametrize(
    "again",
    [[created(None), text(None, "One"), text(None, " two")], [text(0, " two"), text(1, " three")]],
    ids=["without numbers", "numbered anew"],
)
def test_events_that_are_not_numbered_as_before_are_an_error(again: list[bytes]) -> None:
    """The reader would get text twice, or a part of the answer would be missing."""
    host = Host()
    host.send(created(), text(1, "One"))
    host.breaks()
    with pytest.raises(ProviderProtocolError, match="its events are not numbered as before"):
        host.send(*again)
    assert (host.run.position, host.run.is_over) == ("event 1", False)


def test_an_event_that_cannot_be_decoded_is_asked_for_again() -> None:
    """If it were skipped, a part of the answer would be missing."""
    host = Host()
    host.send(created(), text(1, "One"))
    with pytest.raises(msgspec.ValidationError):
        host.send(event("response.reasoning_text.delta", 2, delta="hm", output_index="first"))
    assert host.run.position == "event 1"
    host.breaks()
    assert host.send(event("response.reasoning_text.delta", 2, delta="hm")) == [ReasoningDelta("hm")]


def test_a_host_that_leaves_gaps_anyway_may_leave_them() -> None:
    host = Host()
    host.send(created(), text(5, "One"))
    host.breaks()
    assert host.send(text(9, " two")) == [" two"]


def test_numbered_keep_alives_are_no_events_of_a_run() -> None:
    host = Host()
    host.send(event("keepalive", 0), created(1), event("keepalive", 2), text(3, "One"), event("keepalive", 4))
    assert host.run.position == "event 3"
    host.breaks()
    assert host.send(text(5, " two"), event("keepalive", 5), text(6, " three")) == [" two", " three"]
    with pytest.raises(ProviderProtocolError, match="read on at event 9"):  # they did not make it a host with gaps
        host.send(text(9, " five"))


def test_an_error_of_the_connection_does_not_move_the_place() -> None:
    host = Host()
    host.send(created(), text(1, "One"))
    with pytest.raises(ProviderServiceUnavailableError):
        host.send(event("error", 7, message="overloaded", code="server_error"))
    assert (host.run.position, host.run.is_over) == ("event 1", False)


@pytest.mark.parametrize("first", [created(background=False), created(None), event("response.created", 0)])
def test_a_host_that_keeps_no_run_or_does_not_number_it_is_read_as_ever(first: bytes) -> None:
    assert Host().send(first, text(1, "One")) == ["One"]


@pytest.mark.parametrize("number", [None, 0])
async def test_a_run_whose_numbers_mean_nothing_is_read_but_not_read_on(number: int | None) -> None:
    """Some gateways write 0 for each event that they make themselves."""
    host = Host()
    assert host.send(created(), text(number, "One"), text(number, " two"))[1:] == ["One", " two"]
    with pytest.raises(StreamTruncatedError, match="does not number the events of its runs in order"):
        await anext(host.run.read_on())
    assert host.run.is_over and host.cancelled == ["resp_1"]


def test_a_run_that_somebody_cancelled_is_over() -> None:
    host = Host()
    host.send(created(), text(1, "One"))
    with pytest.raises(StreamTruncatedError, match="was cancelled"):
        host.send(event("response.cancelled", 2, response={"id": "resp_1", "status": "cancelled"}))
    assert host.run.is_over


def test_the_name_of_a_run_is_fit_for_a_message() -> None:
    """The host has written it, and may have written anything."""
    host = Host()
    host.send(created(id="resp_1\n\x1b[31m sk-proj-A1b2C3d4E5f6G7h8I9j0K1l2M3n4"))
    with pytest.raises(StreamTruncatedError) as failure:
        host.send(event("response.cancelled", 1, response={"status": "cancelled"}))
    assert str(failure.value) == "a/m: the run resp_1 \\x1b[31m [redacted] was cancelled"


def test_reasoning_that_was_cut_goes_on() -> None:
    host = Host()
    host.send(created(), event("response.reasoning_summary_text.delta", 1, delta="Let me"))
    host.breaks()
    assert host.send(event("response.reasoning_summary_text.delta", 2, delta=" think.")) == [ReasoningDelta(" think.")]
