"""A new host is a row of the table: one is added here from outside, and every part of the package knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from llm_dispatcher import LLM
from llm_dispatcher._catalog import capabilities, cost, traits
from llm_dispatcher._cli.commands import app
from llm_dispatcher._config import config_schema, load
from llm_dispatcher._providers import make
from llm_dispatcher._usage import Usage
from llm_dispatcher._vendors import adapters
from llm_dispatcher._vendors.kinds import known_kinds
from llm_dispatcher._vendors.table import VENDORS
from llm_dispatcher._vendors.vendor import Vendor
from llm_dispatcher.exceptions import ConfigurationError
from llm_dispatcher.provider import Ask, Finished
from llm_dispatcher.tasks import Target, TaskRequest
from llm_dispatcher.testing import Reply, SimulatedVendor

Start = Callable[..., SimulatedVendor]
MODEL = "llama-3.3-70b-versatile"


@pytest.fixture
def vendor(simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch) -> SimulatedVendor:
    """The new host, which is a simulated vendor at the address of its row."""
    started = simulated_vendor("openai-chat", Reply("Hello."))
    row = Vendor(
        title="New Host",
        adapter=adapters.OPENAI,
        base_url=started.base_url,
        key_variables=("NEW_HOST_KEY",),
        quirks=frozenset({"max_completion_tokens", "prefill"}),
        price_list="groq",
    )
    config_schema()  # it is made once in a process, of the rows that the package has
    monkeypatch.setitem(VENDORS, "newhost", row)
    traits.cache_clear()
    return started


CONFIG = {"providers": {"newhost": {"models": [MODEL]}}, "routing": {"default": [f"newhost/{MODEL}"]}}


def test_the_configuration_knows_its_kind_and_finds_its_key(vendor: SimulatedVendor) -> None:
    settings = load(CONFIG, environ={"NEW_HOST_KEY": "test-key"}).providers["newhost"]
    assert settings.api_key is not None and settings.api_key.reveal() == "test-key"
    assert "newhost" in known_kinds()
    with pytest.raises(ConfigurationError, match="set NEW_HOST_KEY"):
        load(CONFIG, environ={})


async def test_a_request_goes_to_its_address_with_its_key_and_its_quirks(vendor: SimulatedVendor) -> None:
    provider = make(load(CONFIG, environ={"NEW_HOST_KEY": "test-key"}).providers["newhost"])
    try:
        ask = Ask(TaskRequest("Hello?", max_tokens=7), Target("newhost", MODEL))
        pieces = [piece async for piece in provider.stream(ask)]
    finally:
        await provider.aclose()
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == "Hello."
    assert Finished("stop", "stop") in pieces
    (request,) = vendor.requests
    assert request.headers["authorization"] == "Bearer test-key"
    assert request.body["max_completion_tokens"] == 7


@pytest.mark.usefixtures("vendor")
def test_its_price_and_how_it_continues_come_from_its_row() -> None:
    known = capabilities("newhost", MODEL)
    assert known.input_price and known.continues == "prefill"
    assert cost("newhost", MODEL, Usage(1_000, 1_000)) == cost("groq", MODEL, Usage(1_000, 1_000))


def test_the_command_lists_its_models_and_checks_its_key(
    vendor: SimulatedVendor, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEW_HOST_KEY", "test-key")
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"providers: {{newhost: {{models: [{MODEL}]}}}}")
    run = CliRunner().invoke
    assert f"newhost/{MODEL}" in run(app, ["models", "-c", str(policy)]).output
    checked = run(app, ["providers", "-c", str(policy)])
    assert checked.exit_code == 0 and "*** from NEW_HOST_KEY" in checked.output and vendor.base_url in checked.output


@pytest.mark.usefixtures("vendor")
async def test_a_simulated_vendor_stands_in_for_it(simulated_switch: Callable[..., dict[str, SimulatedVendor]]) -> None:
    vendors = simulated_switch(newhost=Reply("Simulated."))
    assert await LLM()("Hello?") == "Simulated."
    assert len(vendors["newhost"].requests) == 1
