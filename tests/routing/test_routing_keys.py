"""The keys that are for routing: whose budget a request is on, and whose target stays the same. No vendor sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import (
    LLM,
    LLMSwitch,
    StreamingCache,
    TaskRequest,
    get_global_switch,
    llm_stream,
    settings_of,
    use_switch,
)
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.tasks import namespace_of
from llm_dispatcher.testing import HttpError, Reply, SimulatedVendor
from tests.conftest import KINDS, PATIENT

Start = Callable[..., SimulatedVendor]

PRODUCTION = Path(__file__).parents[2] / "config" / "production.yaml"
TEXT = "Once upon a time."
SPLIT = {"strategy": "weighted", "split": {"a/old": 50, "a/new": 50}, "targets": ["a/old", "a/new"]}
BUDGETS = {"namespaces": {"research": {"daily": 1_000}}}
EVERY_WIRE = {**KINDS, "groq": {"kind": "groq"}, "openai_compatible": {"kind": "openai_compatible"}}


def over(vendor: SimulatedVendor, kind: dict[str, str], sticky: str | None = None) -> dict[str, Any]:
    route = SPLIT if sticky is None else {**SPLIT, "sticky": sticky}
    return {
        "providers": {"a": {**kind, "api_key": "test-key", "base_url": vendor.base_url, "models": ["old", "new"]}},
        "routing": {"default": route},
        "catalog": {name: {"input_price": 1.0, "output_price": 1.0} for name in ("a/old", "a/new")},
        "budgets": BUDGETS,
        "resilience": {"max_retries": 0, **PATIENT},
    }


def everything_received(vendor: SimulatedVendor) -> str:
    return json.dumps([[request.path, request.headers, request.body] for request in vendor.requests])


@pytest.mark.found("N-A5", "B-06")
@pytest.mark.parametrize("wire", EVERY_WIRE)
@pytest.mark.parametrize(
    "request_",
    [
        TaskRequest("Hi.", namespace="research", sticky="user-5"),
        TaskRequest("Hi.", metadata={"namespace": "research", "customer": "user-5"}),
        TaskRequest("Hi.", namespace="research", metadata={"namespace": "of-nobody", "customer": 5}),
    ],
    ids=["fields", "metadata", "both"],
)
async def test_every_vendor_serves_a_request_with_routing_keys_and_sees_none(
    wire: str, request_: TaskRequest, simulated_vendor: Start
) -> None:
    vendor = simulated_vendor(wire if wire in KINDS else "openai-chat", Reply(TEXT), api_key="test-key")
    async with LLMSwitch(over(vendor, EVERY_WIRE[wire], sticky="customer")) as switch:
        assert await switch.stream_request(request_) == TEXT
        assert switch.spent("research")["daily"] > 0
        assert switch.spent("of-nobody")["daily"] == 0
    for word in ("research", "user-5", "namespace", "sticky", "customer", "of-nobody"):
        assert word not in everything_received(vendor)


@pytest.mark.found("N-A5")
async def test_a_sticky_key_that_is_not_text_is_not_sent(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT), api_key="test-key")
    async with LLMSwitch(over(vendor, KINDS["openai-responses"], sticky="user")) as switch:
        with use_switch(switch):
            assert await LLM(metadata={"user": 5})("Hi.") == TEXT
    assert "metadata" not in vendor.requests[0].body


@pytest.mark.found("N-A5")
async def test_metadata_that_routing_does_not_read_still_goes_to_the_vendor(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT), api_key="test-key")
    async with LLMSwitch(over(vendor, KINDS["openai-responses"], sticky="user")) as switch:
        await switch.stream_request(TaskRequest("Hi.", metadata={"user": "u", "namespace": "n", "team": "red"}))
    assert vendor.requests[0].body["metadata"] == {"team": "red"}


@pytest.mark.found("N-A5", "B-06")
async def test_in_production_the_nightly_batch_falls_back_to_anthropic(
    simulated_switch: SimulatedSwitch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"GATEWAY_URL": "http://127.0.0.1:1", "GATEWAY_KEY": "k", "STATE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    vendors = simulated_switch(PRODUCTION, openai=Reply(fault=HttpError(401)), anthropic=Reply(TEXT))
    switch = get_global_switch()
    for request in (
        TaskRequest("Hi.", metadata={"namespace": "nightly-batch"}),
        TaskRequest("Hi.", namespace="nightly-batch"),
    ):
        response = await switch.stream_request(request).collect()
        assert response.text == TEXT
        assert response.target is not None and response.target.provider == "anthropic"
    await switch.aclose()
    assert len(vendors["anthropic"].requests) == 2
    assert not vendors["google"].requests


def test_the_same_sticky_key_has_the_same_target_with_or_without_a_metadata_key_in_the_route() -> None:
    entry = {"api_key": "test-key", "models": ["old", "new"], "kind": "openai"}
    plain, named = (
        LLMSwitch({"providers": {"a": entry}, "routing": {"default": route}})
        for route in (SPLIT, {**SPLIT, "sticky": "user"})
    )
    first = set[str]()
    for number in range(40):
        key = f"user-{number}"
        requests = [TaskRequest("Hi.", sticky=key), TaskRequest("Hi.", sticky=key, metadata={"user": "somebody"})]
        targets = {switch.explain(request).targets[0] for switch in (plain, named) for request in requests}
        targets |= {named.explain(TaskRequest("Hi.", metadata={"user": key})).targets[0]}
        assert len(targets) == 1, "the field wins over the metadata, and both mean the same"
        first.add(str(*targets))
    assert first == {"a/old", "a/new"}


async def test_a_cache_keeps_the_answers_of_namespaces_apart(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT), api_key="test-key")
    cache = StreamingCache()
    async with LLMSwitch(over(vendor, KINDS["openai-chat"])) as switch:
        for request in (
            TaskRequest("Hi.", namespace="one"),
            TaskRequest("Hi.", namespace="two"),
            TaskRequest("Hi.", metadata={"namespace": "two"}),
            TaskRequest("Hi.", namespace="two", sticky="user-5"),
        ):
            await switch.stream_request(request, cache=cache)
    assert len(vendor.requests) == 2
    cache.forget("two")
    assert cache.stats().entries == 1


def test_a_decorator_takes_namespace_and_sticky() -> None:
    @llm_stream(namespace="research", sticky="user-5")
    def story(topic: str) -> str:
        return topic

    settings = settings_of(story)
    assert (settings.namespace, settings.sticky) == ("research", "user-5")


@pytest.mark.parametrize("field", ["namespace", "sticky", "model"])
@pytest.mark.parametrize("value", ["", "x" * 257, "a\nCRITICAL all keys were revoked", "a\x1b[2J", "a\x00b"])
def test_a_name_is_short_printable_text(field: str, value: str) -> None:
    given: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"{field} is 1 to 256 printable characters") as refused:
        TaskRequest("Hi.", **given)
    assert "\n" not in str(refused.value) and "\x1b" not in str(refused.value)
    with pytest.raises(TypeError, match=f"{field} is a str, got int"):
        LLM(**{**given, field: 5})


def test_the_namespace_of_a_request() -> None:
    assert namespace_of(TaskRequest("Hi.")) == ""
    assert namespace_of(TaskRequest("Hi.", metadata={"namespace": 5})) == "5"
    assert namespace_of(TaskRequest("Hi.", namespace="a", metadata={"namespace": "b"})) == "a"
