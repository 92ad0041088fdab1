"""Whom clients believe: nobody whose certificate the machine does not know, on any wire."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from llm_dispatcher.exceptions import ProviderConnectionError
from llm_dispatcher.provider import Ask
from llm_dispatcher.providers import trust
from llm_dispatcher.tasks import Target, TaskRequest
from llm_dispatcher.testing import Reply, SimulatedVendor, Wire
from tests.providers.test_connections import provider_at

ASK = Ask(TaskRequest("hi"), Target("a", "m"), 5.0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine, signed by nobody but itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a simulated vendor")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@asynccontextmanager
async def encrypted(vendor: SimulatedVendor, certificate: Path) -> AsyncIterator[str]:
    """The vendor's address behind TLS."""
    plain_port = int(vendor.base_url.split(":")[2].split("/")[0])

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", plain_port)
        await asyncio.gather(pass_on(reader, behind_writer), pass_on(behind_reader, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        yield vendor.base_url.replace("http:", "https:").replace(str(plain_port), str(port))


@pytest.mark.parametrize("wire", list(Wire))
async def test_only_known_certificates_are_believed(
    wire: Wire,
    simulated_vendor: Callable[..., SimulatedVendor],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vendor = simulated_vendor(wire, Reply("All is well."))
    async with encrypted(vendor, certificate) as base_url:
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
