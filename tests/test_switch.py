"""The switch: which one is used, what it knows, and where requests go."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import (
    LLM,
    LLMSwitch,
    Target,
    TaskRequest,
    TaskType,
    get_global_switch,
    init,
    set_global_switch,
    use_switch,
)
from llm_dispatcher._serving.options import CALL_OPTIONS
from llm_dispatcher._serving.settings import CallSettings
from llm_dispatcher.events import Event, StreamCompleted, StreamStarted, TextDelta, Usage
from llm_dispatcher.exceptions import (
    ConfigurationError,
    InvalidRequestError,
    NoProviderAvailableError,
    ProviderServiceUnavailableError,
)
from llm_dispatcher.tasks import AudioPart, ImagePart, Message
from llm_dispatcher.testing import HttpError, Reply, SimulatedVendor
from tests.conftest import policy_over

POLICY: dict[str, Any] = {
    "providers": {
        "openai": {"api_key": "test-key", "models": ["gpt-5-mini", "gpt-4"]},
        "anthropic": {
            "api_key": "test-key", "models": {"claude-haiku-4-5": {}, "claude-3-sonnet": {"alias": "claude-haiku-4-5"}},
        },
        "google": {"api_key": "test-key", "models": ["gemini-2.5-flash"]},
        "home": {"kind": "ollama", "base_url": "http://localhost:11434", "models": ["meta/llama3"]},
    },
    "routing": {
        "default": ["openai/gpt-5-mini", "anthropic/claude-haiku-4-5", "home/meta/llama3"],
        "tasks": {
            "code_generation": ["anthropic/claude-haiku-4-5", "openai/gpt-5-mini"],
            "vision_analysis": {
                "strategy": "cost",
                "targets": ["anthropic/claude-haiku-4-5", "openai/gpt-4", "google/gemini-2.5-flash"],
            },
        },
    },
}  # fmt: skip


@pytest.fixture
def switch() -> LLMSwitch:
    return LLMSwitch(POLICY)


def asked(switch: LLMSwitch, **request: Any) -> list[str]:
    return [str(target) for target in switch.explain(TaskRequest("hi", **request)).targets]


def test_a_request_goes_where_its_task_goes(switch: LLMSwitch) -> None:
    assert asked(switch) == ["openai/gpt-5-mini", "anthropic/claude-haiku-4-5", "home/meta/llama3"]
    assert asked(switch, task_type="code_generation") == ["anthropic/claude-haiku-4-5", "openai/gpt-5-mini"]


def test_a_cost_route_asks_the_cheap_first(switch: LLMSwitch) -> None:
    asked_for = asked(switch, task_type="vision_analysis")
    assert asked_for == ["google/gemini-2.5-flash", "anthropic/claude-haiku-4-5", "openai/gpt-4"]
    prices = [switch.capabilities(target) for target in asked_for]
    totals = [(price.input_price or 0) + (price.output_price or 0) for price in prices]
    assert totals == sorted(totals)


@pytest.mark.parametrize(
    ("pins", "targets"),
    [
        ({"model": "openai/gpt-never-heard-of"}, ["openai/gpt-never-heard-of"]),
        ({"model": "home/meta/llama9"}, ["home/meta/llama9"]),
        ({"model": "gpt-4"}, ["openai/gpt-4"]),
        ({"model": "meta/llama3"}, ["home/meta/llama3"]),
        ({"model": "x", "providers": ["google", "openai"]}, ["google/x", "openai/x"]),
        ({"providers": ["anthropic", "openai"]}, ["anthropic/claude-haiku-4-5", "openai/gpt-5-mini"]),
        ({"providers": "google"}, ["google/gemini-2.5-flash"]),
    ],
)
def test_only_pinned_targets_are_asked(pins: dict[str, Any], targets: list[str], switch: LLMSwitch) -> None:
    assert asked(switch, **pins) == targets


@pytest.mark.parametrize(
    ("pins", "words"),
    [
        (
            {"providers": ["opnai"]},
            "providers= names the provider 'opnai', which is not configured .* did you mean 'openai'",
        ),
        ({"model": "anthropc/claude"}, "model= names the provider 'anthropc'.*did you mean 'anthropic'"),
        ({"model": "gpt-9"}, "is listed by no configured provider; write it as provider/model"),
        ({"model": "openai/gpt-4", "providers": ["google"]}, "exclude each other"),
    ],
)
def test_a_pin_to_an_unknown_provider_is_refused(pins: dict[str, Any], words: str, switch: LLMSwitch) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        switch.explain(TaskRequest("hi", **pins))


def test_rejected_targets_are_reported_with_their_reason(switch: LLMSwitch) -> None:
    plan = switch.explain(TaskRequest("what is this?", images=["a.png"], task_type="vision_analysis"))
    assert plan.rejected == {Target("openai", "gpt-4"): "it cannot take images"}
    assert str(plan).splitlines()[-1] == "-  openai/gpt-4: it cannot take images"
    with pytest.raises(NoProviderAvailableError, match="openai/gpt-4: it cannot take audio") as raised:
        switch.explain(TaskRequest("x", messages=[Message("user", AudioPart("a.wav"))], model="openai/gpt-4"))
    assert raised.value.reasons == {Target("openai", "gpt-4"): "it cannot take audio"}
    unknown = switch.explain(TaskRequest("x", messages=[Message("user", ImagePart("a.png"))], model="openai/gpt-new"))
    assert [str(target) for target in unknown.targets] == ["openai/gpt-new"], "of what it can do its vendor knows more"


def test_requests_are_grouped_by_where_they_go_first(switch: LLMSwitch) -> None:
    requests = [
        TaskRequest("1"), TaskRequest("2", task_type="code_generation"), TaskRequest("3"),
        TaskRequest("4", providers="google"),
    ]  # fmt: skip
    groups = switch.group_requests_by_provider(requests)
    assert {name: [request.prompt for request in group] for name, group in groups.items()} == {
        "openai": ["1", "3"], "anthropic": ["2"], "google": ["4"],
    }  # fmt: skip
    assert list(groups) == ["openai", "anthropic", "google"]


def test_capabilities_are_the_vendors_models_own(switch: LLMSwitch) -> None:
    haiku = switch.capabilities("anthropic/claude-3-sonnet")
    assert haiku == switch.capabilities("anthropic/claude-haiku-4-5"), "an alias is what it stands for"
    assert haiku.vision and haiku.known and haiku.continues == "prefill" and (haiku.context_window or 0) > 100_000
    new = switch.capabilities(Target("openai", "gpt-new"))
    assert (new.known, new.continues, new.input_price) == (False, "anchored", None)
    with pytest.raises(InvalidRequestError, match="no provider 'azure' is configured"):
        switch.capabilities("azure/gpt")
    with pytest.raises(ValueError, match="provider/model"):
        switch.capabilities("gpt")


@pytest.mark.parametrize(
    ("model", "continues"),
    [
        ("claude-3-5-sonnet", "prefill"), ("claude-sonnet-4-5", "prefill"), ("claude-opus-4-1", "prefill"),
        ("claude-opus-4-6", "anchored"), ("claude-sonnet-5-5", "anchored"), ("claude-fable-5", "anchored"),
    ],
)  # fmt: skip
def test_newer_claude_models_take_no_prefill(model: str, continues: str, switch: LLMSwitch) -> None:
    assert switch.capabilities(f"anthropic/{model}").continues == continues


def test_a_switch_is_configured_by_a_file_a_mapping_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("providers:\n  openai: {api_key: test-key, models: [gpt-5-mini]}\n")
    assert asked(LLMSwitch(file)) == asked(LLMSwitch(str(file))) == ["openai/gpt-5-mini"]
    assert LLMSwitch(LLMSwitch(file).policy).policy.source == str(file)
    monkeypatch.setenv("GEMINI_API_KEY", "test-key")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert asked(LLMSwitch())[0].startswith("google/gemini")
    with pytest.raises(ConfigurationError) as raised:
        LLMSwitch({"providers": {"opnai": {"api_key": "test-key"}}})
    assert raised.value.key is not None and raised.value.key.startswith("providers.opnai")


@pytest.fixture
def no_switch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    set_global_switch(None)
    yield
    set_global_switch(None)


@pytest.mark.usefixtures("no_switch")
def test_without_a_configuration_the_error_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match=r"OPENAI_API_KEY.*ANTHROPIC_API_KEY.*GOOGLE_API_KEY"):
        get_global_switch()


@pytest.mark.usefixtures("no_switch")
async def test_the_global_switch_is_made_once_and_can_be_overridden() -> None:
    made = init(openai_api_key="test-key", anthropic_api_key="test-key")
    assert get_global_switch() is made
    assert {target.split("/")[0] for target in asked(made)} == {"openai", "anthropic"}
    other = LLMSwitch(POLICY)

    async def elsewhere() -> LLMSwitch:
        return get_global_switch()

    with use_switch(other):
        assert get_global_switch() is other
        assert await asyncio.create_task(elsewhere()) is other
    assert get_global_switch() is made
    set_global_switch(other)
    assert get_global_switch() is other
    with pytest.raises(TypeError, match="switch is a LLMSwitch"):
        set_global_switch("switch")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="switch is a LLMSwitch"), use_switch("switch"):  # type: ignore[arg-type]
        pass


async def test_printed_objects_show_no_secret(switch: LLMSwitch, caplog: pytest.LogCaptureFixture) -> None:
    canary = "test-canary-1234567890"
    spoiled = {"providers": {"openai": {"api_key": canary, "base_url": "http://127.0.0.1:9", "models": ["m"]}}}
    made = LLMSwitch({**spoiled, "resilience": {"max_retries": 0}})
    stream = made.stream_request(TaskRequest("hi"))
    with pytest.raises(Exception) as raised:
        await stream
    shown = [
        made,
        made.policy,
        made.policy.providers,
        stream,
        stream.response,
        raised.value,
        raised.value.__cause__,
        made.health(),
    ]
    assert canary not in "".join(f"{one!r} {one}" for one in shown) + caplog.text
    await made.aclose()


class OneAnswer:
    """A cache of one: enough to see where a cache is asked, and what it sees."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.asked: list[tuple[Target, ...]] = []

    async def stream(
        self,
        request: TaskRequest,
        targets: Iterable[Target],
        upstream: Callable[[], AsyncGenerator[Event, None]],
        apart: Hashable = (),
    ) -> AsyncGenerator[Event, None]:
        self.asked.append(tuple(targets))
        if self.events:
            for event in self.events:
                yield (
                    StreamStarted(event.target, event.attempt, cached=True)
                    if isinstance(event, StreamStarted)
                    else event
                )
            return
        async with aclosing(upstream()) as events:
            async for event in events:
                self.events.append(event)
                yield event


async def test_a_cache_records_a_stream_and_answers_in_its_place() -> None:
    with SimulatedVendor("openai-chat", Reply("One two.")) as vendor:
        settings = {
            "kind": "openai",
            "api": "chat",
            "api_key": "test-key",
            "base_url": vendor.base_url,
            "models": ["m"],
        }
        async with LLMSwitch({"providers": {"a": settings}}) as switch:
            cache = OneAnswer()
            first = await switch.stream_request(TaskRequest("hi"), cache=cache).collect()
            again = await switch.stream_request(TaskRequest("hi"), cache=cache).collect()
    assert (first.text, first.cached) == (again.text, False) == ("One two.", False)
    assert again.cached
    assert len(vendor.requests) == 1
    assert cache.asked == [(Target("a", "m"),)] * 2
    kinds = [type(event) for event in cache.events]
    assert kinds[0] is StreamStarted and kinds[-1] is StreamCompleted and kinds.count(TextDelta) == 2
    assert again.usage == Usage.sum([first.usage])
    assert TaskType.TEXT_GENERATION in set(TaskType)


@pytest.mark.found("H-3")
async def test_a_request_takes_every_setting_that_a_decorator_takes() -> None:
    """All but the request's own, which are in the `TaskRequest`."""
    taken = set(inspect.signature(LLMSwitch.stream_request).parameters) - {"self", "request"}
    assert taken == set(CallSettings.__struct_fields__) == CALL_OPTIONS
    async with (
        SimulatedVendor("openai-chat", Reply(fault=HttpError(503))) as first,
        SimulatedVendor("openai-chat", Reply("Hello!")) as second,
        LLMSwitch(policy_over(first, second, max_retries=3)) as switch,
    ):
        with pytest.raises(ProviderServiceUnavailableError):
            await switch.stream_request(TaskRequest("hi"), max_retries=1, fallback_enabled=False)
        assert [len(vendor.requests) for vendor in (first, second)] == [2, 0]


@pytest.mark.found("N-B13")
def test_a_prompt_instead_of_a_request_is_refused_with_the_fix(switch: LLMSwitch) -> None:
    with use_switch(switch):
        asking: tuple[Callable[[Any], object], ...] = (switch.stream_request, switch.explain, LLM().stream)
        for ask in asking:
            with pytest.raises(TypeError, match=r"a request is a TaskRequest, got str; write TaskRequest\(prompt=…\)"):
                ask("hi")
