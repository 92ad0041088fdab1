"""`BaseProvider`: what all providers share, so that a new one is three short methods.

How it works
------------
A provider keeps a client for each event loop (`_clients.PerLoop`). The life of a client must not refer to its
provider: a provider that is dropped without `aclose` could then never be collected, and its connections would stay
open. So `open_client` is a class method, and the `notify` function that it gets holds the provider by a weak
reference only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Generic, cast
from weakref import ref

from .._hints import did_you_mean
from .._importing import not_installed
from .._local_trouble import what_is_lacking
from .._log import write
from .._policy import ProviderSettings
from .._redaction import loggable
from .._vendors.table import vendor
from ..exceptions import ConfigurationError, MissingPackageError
from ..notices import Notice, Notify
from . import Ask, CheckResult, Piece
from ._clients import Client, PerLoop
from ._decoding import Decoder, OpenResponse, pieces_of
from ._errors import ErrorReply, translated


class BaseProvider(Generic[Client]):
    """A base class for providers.

    A subclass for an HTTP vendor writes `open_client`, `send` and `decoder`, and mostly `error_reply` and
    `transport_errors`. A subclass that needs none of this overrides `stream`. `options` are the names of the options
    that entries of its kind may have; any other option is a `ConfigurationError`.

    `notify` takes the notices of the provider; the switch may replace it.
    """

    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: ProviderSettings) -> None:
        check_options(settings, self.option_names(settings))
        self.settings: Final = settings
        self.notify: Notify = write
        self._clients: Final[PerLoop[Client]] = PerLoop(
            partial(type(self).open_client, settings, partial(_notify, ref(self)))
        )

    # ── what a subclass writes ─────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def option_names(cls, settings: ProviderSettings) -> Sequence[str]:
        """The options that an entry may have. By default, `options`."""
        return cls.options

    @classmethod
    async def open_client(cls, settings: ProviderSettings, notify: Notify) -> AsyncGenerator[Client, None]:
        """Make a client, yield it once, and close it in a `finally`. It is called once for each event loop.

        Import the SDK here, in a thread if that takes long. If a package is missing, let the `ImportError` pass: it
        becomes a `MissingPackageError`, and the next target is asked.
        """
        yield cast(Client, None)

    async def send(self, client: Client, ask: Ask) -> OpenResponse:
        """Send a request and return its answer as soon as the headers have arrived."""
        raise NotImplementedError(f"{type(self).__name__} has neither send() nor a stream() of its own")

    def decoder(self, ask: Ask) -> Decoder:
        """A decoder for the answer to a request."""
        raise NotImplementedError(f"{type(self).__name__} has neither decoder() nor a stream() of its own")

    def error_reply(self, ask: Ask, error: BaseException) -> ErrorReply | None:
        """The vendor's answer in an SDK's error, or `None` if the error is not an HTTP status."""
        return None

    def transport_errors(self) -> tuple[type[BaseException], ...]:
        """The types by which the transport reports a failed connection, beside `OSError`. Called after errors only."""
        return ()

    async def check(self) -> CheckResult:
        """Whether the vendor is reachable and accepts the key. By default the vendor is not asked."""
        return CheckResult(ok=None, message=f"not asked: the kind {self.settings.kind} has no check")

    async def models(self) -> Sequence[str] | None:
        """The models that the vendor offers. By default it is not asked, and this is `None`."""
        return None

    # ── what the base class does ───────────────────────────────────────────────────────────────────────────────────

    async def client(self) -> Client:
        """The client of the running loop.

        Raises:
            MissingPackageError: a package that `open_client` imports is not installed.
        """
        try:
            return await self._clients.get()
        except ImportError as error:
            if what_is_lacking(error) is not None:
                raise  # the file of a module could not be opened, because no file can be opened now
            raise missing_package(self.settings, error) from error

    async def prepare(self) -> None:
        """Make the client of the running loop, if there is none yet."""
        await self.client()

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        """The pieces of the answer to a request."""
        translating = translated(ask, partial(self.error_reply, ask), self.transport_errors)
        return pieces_of(partial(self._send, ask), self.decoder(ask), translating, raw=ask.raw)

    async def aclose(self) -> None:
        """Close the client of the running loop, if there is one."""
        await self._clients.aclose()

    def release(self) -> None:
        """Close the clients of all loops, soon. The switch calls this when a reload has dropped the provider."""
        self._clients.release()

    async def _send(self, ask: Ask) -> OpenResponse:
        return await self.send(await self.client(), ask)


def _notify(provider: ref[BaseProvider[Any]], notice: Notice) -> None:
    """Hand a notice to a provider, or to the log if the provider is gone."""
    living = provider()
    (write if living is None else living.notify)(notice)


def check_options(settings: ProviderSettings, known: Sequence[str]) -> None:
    """Reject unknown options; otherwise they would be ignored silently."""
    for name in settings.options:
        if name not in known:
            options = f"its options are {', '.join(known)}" if known else "it has no options"
            hint = did_you_mean(name, known) or f"; {options}"
            raise ConfigurationError(
                f"is not an option of a provider of the kind {settings.kind!r}{hint}",
                key=f"providers.{settings.name}.options.{name}",
            )


def missing_package(settings: ProviderSettings, error: ImportError) -> MissingPackageError:
    """The error for a package that a provider needs and cannot import; it names what to install."""
    adapter, module = vendor(settings.kind).adapter, error.name or ""
    requires = {} if adapter is None else adapter.requires
    package = next((name for name in requires if _is_part(module, name) or _is_part(name, module)), None)
    install = requires[package] if package is not None else module.partition(".")[0]
    who, quoted = f"providers of the kind {settings.kind!r} need", f"'{install}'"
    if isinstance(error, ModuleNotFoundError):
        message = not_installed(who, package or install, quoted)
    else:
        message = f"{who} {package or module or 'a package'}, which cannot be imported: {loggable(str(error))}"
        message += f"; install it again with: pip install --force-reinstall {quoted}" if install else ""
    return MissingPackageError(message, provider=settings.name, install=install)


def _is_part(module: str, package: str) -> bool:
    return bool(package) and (module == package or module.startswith(f"{package}."))
