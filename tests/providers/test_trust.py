"""Whom clients believe: nobody whose certificate the machine does not know, on any wire."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from llm_dispatcher._providers.base import tls as trust
from llm_dispatcher.exceptions import ProviderConnectionError
from llm_dispatcher.provider import Ask
from llm_dispatcher.tasks import Target, TaskRequest
from llm_dispatcher.testing import Reply, SimulatedVendor, Wire
from tests.providers.test_connections import provider_at

ASK = Ask(TaskRequest("hi"), Target("a", "m"), 5.0)


@pytest.mark.parametrize("wire", list(Wire))
async def test_only_known_certificates_are_believed(
    wire: Wire,
    simulated_vendor: Callable[..., SimulatedVendor],
    encrypted: Callable[[SimulatedVendor], AbstractAsyncContextManager[str]],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vendor = simulated_vendor(wire, Reply("All is well."))
    async with encrypted(vendor) as base_url:
        stranger = provider_at(wire, base_url)
        with pytest.raises(ProviderConnectionError, match=r"(?i)certificate"):
            _ = [piece async for piece in stranger.stream(ASK)]
        assert vendor.requests == []
        await stranger.aclose()

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        friend = provider_at(wire, base_url)
        assert "".join([piece async for piece in friend.stream(ASK) if isinstance(piece, str)]) == "All is well."
        await friend.aclose()


def test_certificates_are_read_once(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    machines = trust.trust()
    assert trust.trust() is machines
    assert machines.verify_mode is ssl.CERT_REQUIRED and machines.check_hostname
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert trust.trust() is not machines
