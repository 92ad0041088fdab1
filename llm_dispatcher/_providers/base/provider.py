"""`VendorProvider`: the base class of the providers of this package.

It adds to the public `BaseProvider` what the four vendors share: aiohttp as transport, the option `max_event_bytes`,
and the request for the list of models, which is also the check of the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from ..._importing import is_installed
from ..._policy import ProviderSettings
from ..._vendors.vendor import Adapter
from ...provider import CheckResult
from ...provider._base import BaseProvider, missing_package
from ...provider._clients import Client
from .options import MAX_EVENT_BYTES, max_event_bytes


class VendorProvider(BaseProvider[Client]):
    """A provider of this package. `adapter` is the row of `_vendors.adapters` that names its packages."""

    adapter: ClassVar[Adapter]

    @classmethod
    def option_names(cls, settings: ProviderSettings) -> Sequence[str]:
        return (*cls.options, MAX_EVENT_BYTES)

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        self._cap: Final = max_event_bytes(settings)

    def transport_errors(self) -> tuple[type[BaseException], ...]:
        import aiohttp
        import httpx2

        return (aiohttp.ClientError, httpx2.RequestError)

    async def check(self) -> CheckResult:
        """Ask for the list of models, which is free, and judge the answer. It does not import the SDK."""
        if (missing := _missing(self.adapter)) is not None:
            error = missing_package(self.settings, ModuleNotFoundError(name=missing))
            return CheckResult(ok=False, message=f"cannot be used: {error.message}")
        from .model_list import check

        return await check(self.settings)

    async def models(self) -> Sequence[str] | None:
        """Ask for the list of models. Raises a `ProviderError` if the vendor does not answer with it."""
        from .model_list import models

        return await models(self.settings, self.transport_errors)


def _missing(adapter: Adapter) -> str | None:
    """The first module that an adapter requires and that is not installed."""
    return next((name for name in adapter.requires if not is_installed(name)), None)
