"""A vendor behind TLS, and providers that run in the background."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from llm_dispatcher._providers import make
from llm_dispatcher._redaction import Secret
from llm_dispatcher.provider import Provider, ProviderSettings
from llm_dispatcher.testing import SimulatedVendor


@pytest.fixture(scope="session")
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


@pytest.fixture
def encrypted(certificate: Path) -> Callable[[SimulatedVendor], AbstractAsyncContextManager[str]]:
    """A vendor's address behind TLS, for as long as the block runs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    @asynccontextmanager
    async def behind(vendor: SimulatedVendor) -> AsyncIterator[str]:
        plain_port = int(vendor.base_url.split(":")[2].split("/")[0])
        serving: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            serving.add(task)
            task.add_done_callback(serving.discard)
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", plain_port)
            with suppress(
                asyncio.CancelledError, OSError
            ):  # (of the test's end; of whoever resets, or breaks off in TLS)
                await asyncio.gather(pass_on(reader, behind_writer), pass_on(behind_reader, writer))
            behind_writer.close()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            yield vendor.base_url.replace("http:", "https:").replace(str(plain_port), str(port))
            for task in list(serving):
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    return behind


def background_settings(vendor: SimulatedVendor, **more: Any) -> ProviderSettings:
    """The settings of an entry that runs its requests in the background."""
    fields: dict[str, Any] = {"options": {"background": True}, "api": "responses", **more}
    return ProviderSettings(name="a", kind="openai", api_key=Secret("test-key"), base_url=vendor.base_url, **fields)


@pytest.fixture
async def provider_of() -> AsyncIterator[Callable[..., Provider]]:
    """Makes providers that run in the background, closed when the test is over."""
    made: list[Provider] = []

    def start(vendor: SimulatedVendor, **more: Any) -> Provider:
        made.append(make(background_settings(vendor, **more)))
        return made[-1]

    yield start
    for provider in made:
        await provider.aclose()
