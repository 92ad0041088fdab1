"""Addresses in the variables of the vendors' SDKs are defaults: the configuration wins over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._config import load
from llm_dispatcher._config.addresses import is_home, is_loopback, ollama_address
from llm_dispatcher._log import write
from llm_dispatcher._policy import Policy
from llm_dispatcher._providers.anthropic import provider as anthropic
from llm_dispatcher._providers.openai import provider as openai
from llm_dispatcher.exceptions import ConfigurationError
from llm_dispatcher.provider import ProviderSettings, Secret
from llm_dispatcher.testing import Reply, SimulatedVendor

Start = Callable[..., SimulatedVendor]
LoadText = Callable[..., Policy]

TEXT = "Once upon a time."
GATEWAY = "https://gateway.example.org/v1"
VARIABLES = {
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_KEY", "openai-chat"),
    "anthropic": ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "anthropic"),
    "google": ("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY", "google"),
    "ollama": ("OLLAMA_HOST", None, "ollama"),
}


def addresses(policy: Policy) -> dict[str, str | None]:
    return {name: settings.base_url for name, settings in policy.providers.items()}


@pytest.mark.found("N-B12")
@pytest.mark.parametrize("kind", VARIABLES)
async def test_requests_go_to_the_address_in_the_sdks_variable(
    kind: str, simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, key_variable, wire = VARIABLES[kind]
    vendor = simulated_vendor(wire, Reply(TEXT), api_key="test-key" if key_variable else None)
    if key_variable:
        monkeypatch.setenv(key_variable, "test-key")
    monkeypatch.setenv(variable, vendor.base_url)
    async with LLMSwitch({"providers": {kind: {"models": ["m"]}}}) as switch:
        assert await switch.stream_request(TaskRequest("Hi.", max_tokens=50)) == TEXT
    assert len(vendor.requests) == 1


@pytest.mark.found("N-B12")
def test_the_sdks_variable_counts_when_only_keys_are_configured() -> None:
    policy = load(environ={"OPENAI_API_KEY": "o", "ANTHROPIC_API_KEY": "a", "OPENAI_BASE_URL": f"{GATEWAY}/"})
    assert addresses(policy) == {"openai": GATEWAY, "anthropic": None}


def test_the_sdks_variable_is_for_every_provider_of_the_kind_without_a_base_url(load_text: LoadText) -> None:
    text = """
    providers:
      openai: {}
      second: {kind: openai, api_key: own, models: [m]}
      elsewhere: {kind: openai, api_key: own, base_url: "https://other.example.org/v1", models: [m]}
      at-home: {kind: openai, api_key: own, base_url: null, models: [m]}
      groq: {api_key: own, models: [m]}
      azure: {api_key: own, models: [m]}
      vertex: {kind: google, options: {vertex: {project: ours}}, models: [m]}
    """
    environ = {
        "OPENAI_API_KEY": "o",
        "OPENAI_BASE_URL": GATEWAY,
        "AZURE_OPENAI_ENDPOINT": "https://ours.openai.azure.com/",
        "GOOGLE_GEMINI_BASE_URL": GATEWAY,
    }
    assert addresses(load_text(text, environ)) == {
        "openai": GATEWAY,
        "second": GATEWAY,
        "elsewhere": "https://other.example.org/v1",
        "at-home": None,
        "groq": None,
        "azure": "https://ours.openai.azure.com",
        "vertex": None,
    }


@pytest.mark.parametrize("address", ["", "  ", "https://api.openai.com/v1", "https://api.openai.com/v1/"])
def test_the_vendors_own_address_changes_nothing(address: str) -> None:
    policy = load(environ={"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": address})
    assert addresses(policy) == {"openai": None}


def test_another_region_is_another_address() -> None:
    policy = load(environ={"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "https://eu.api.openai.com/v1"})
    assert addresses(policy) == {"openai": "https://eu.api.openai.com/v1"}


def test_an_invalid_address_is_reported_with_its_variable() -> None:
    with pytest.raises(ConfigurationError, match=r"must be an address.*OPENAI_BASE_URL") as error:
        load(environ={"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "gateway"})
    assert error.value.problems[0].variable == "OPENAI_BASE_URL"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("gpu-box", "http://gpu-box:11434"),
        ("gpu-box:8080", "http://gpu-box:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("http://gpu-box", "http://gpu-box:80"),
        ("https://example.org", "https://example.org:443"),
        ("https://example.org/ollama/", "https://example.org:443/ollama"),
        ("example.org:56789/path", "http://example.org:56789/path"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("gpu-box:many", "gpu-box:many"),
    ],
)
def test_ollama_host_is_read_as_ollamas_own_client_reads_it(host: str, address: str) -> None:
    assert ollama_address(host) == address


def test_only_the_vendors_host_and_hosts_below_it_are_the_vendors_own_address() -> None:
    assert is_home("openai", "https://api.openai.com/v1")
    assert is_home("openai", "https://eu.api.openai.com/v1")
    for other in (
        "http://api.openai.com/v1",
        "https://api.openai.com.evil.example/v1",
        "https://evil-api.openai.com@evil.example/v1",
        "https://api.openai.com:8443/v1",
        "https://notapi.openai.com/v1",
        "https://api.openai.com@evil.example",
        "https://api.openai.com\\@evil.example",
        "https://[::1",
        "https://someone@api.openai.com/v1",
        "https://evil.example\\.api.openai.com/v1",
        "https://evil.example%2f.api.openai.com/v1",
    ):
        assert not is_home("openai", other), other
    assert not is_home("azure", "https://anything.openai.azure.com")
    assert not is_home("openai_compatible", "https://api.openai.com/v1")


def test_loopback_addresses_are_recognised() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]")))
    assert not any(map(is_loopback, ("localhost.example.org", "127.0.0.1.example.org", "10.0.0.1", "")))


def test_an_sdk_does_not_read_an_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`base_url: null` is the vendor's own address."""
    for variable, _, _ in VARIABLES.values():
        monkeypatch.setenv(variable, GATEWAY)
    key = Secret("test-key")
    provider_of = [
        openai.make_client(ProviderSettings(name="a", kind="openai", api_key=key), write).base_url,
        anthropic.make_client(ProviderSettings(name="a", kind="anthropic", api_key=key), write).base_url,
    ]
    assert [str(url) for url in provider_of] == ["https://api.openai.com/v1/", "https://api.anthropic.com"]


# ── headers that SDKs take from the environment ────────────────────────────────────────────────────────────────────

AMBIENT = {
    "OPENAI_CUSTOM_HEADERS": "X-Ambient-Key: ambient-0123456789",
    "ANTHROPIC_CUSTOM_HEADERS": "X-Ambient-Key: ambient-0123456789",
    "OPENAI_ORG_ID": "ambient-0123456789",
    "OPENAI_PROJECT_ID": "ambient-0123456789",
    "ANTHROPIC_AUTH_TOKEN": "ambient-0123456789",
}


@pytest.mark.found("N-B12")
@pytest.mark.parametrize(
    ("kind", "wire"), [("openai", "openai-chat"), ("groq", "openai-chat"), ("anthropic", "anthropic")]
)
async def test_headers_of_the_environment_are_not_sent_to_other_addresses(
    kind: str, wire: str, simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    vendor = simulated_vendor(wire, Reply(TEXT), api_key="test-key")
    headers = {"x-team": "red"}
    entry = {"kind": kind, "api_key": "test-key", "base_url": vendor.base_url, "headers": headers, "models": ["m"]}
    async with LLMSwitch({"providers": {"a": entry}}) as switch:
        assert await switch.stream_request(TaskRequest("Hi.", max_tokens=50)) == TEXT
    sent: Mapping[str, Any] = vendor.requests[0].headers
    assert "ambient-0123456789" not in str(sent)
    assert sent["x-team"] == "red"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_headers_of_the_environment_are_sent_to_the_address_in_the_sdks_variable(
    kind: str, simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, key_variable, wire = VARIABLES[kind]
    vendor = simulated_vendor(wire, Reply(TEXT), api_key="test-key")
    for name, value in {**AMBIENT, str(key_variable): "test-key", variable: vendor.base_url}.items():
        monkeypatch.setenv(name, value)
    async with LLMSwitch({"providers": {kind: {"models": ["m"]}}}) as switch:
        assert await switch.stream_request(TaskRequest("Hi.", max_tokens=50)) == TEXT
    assert vendor.requests[0].headers["x-ambient-key"] == "ambient-0123456789"
    assert os.environ[variable] == vendor.base_url
