"""`VendorProvider`: the base class of the providers of this package.

It adds to the public `BaseProvider` what the four vendors share: aiohttp as transport, the option `max_event_bytes`,
the request for the list of models, which is also the check of the key, and a way out of refused signatures.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Final

from msgspec.structs import replace

from ..._importing import is_installed
from ..._policy import ProviderSettings
from ..._vendors.vendor import Adapter
from ...provider import Ask, CheckResult
from ...provider._base import BaseProvider, missing_package
from ...provider._clients import Client
from ...provider._decoding import OpenResponse
from ...provider._errors import RefusedError
from .conversation import has_thoughts, without_thoughts
from .options import MAX_EVENT_BYTES, max_event_bytes

_ABOUT_THOUGHTS: Final = re.compile(
    r"signature\W+in\W+thinking|(corrupted|invalid) thought.signature|thought.signature('| is not valid)"
    r"|encrypted content .*could not be|type 'reasoning' was provided",
    re.IGNORECASE,
)
"""What vendors say of reasoning that they do not take back: of another model or account, or after something has changed
before it. Anthropic, Google and OpenAI, in this order.
"""


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

    async def _send(self, ask: Ask) -> OpenResponse:
        return await self.send_with_or_without_thoughts(ask, super()._send)

    async def send_with_or_without_thoughts(
        self, ask: Ask, send: Callable[[Ask], Awaitable[OpenResponse]]
    ) -> OpenResponse:
        """Send a request; if the vendor refuses the reasoning in it, send it again without.

        A vendor knows whether it takes a signature, and nobody else does. Without this, a conversation that it has
        once refused would be refused for ever.
        """
        try:
            return await send(ask)
        except Exception as error:
            if not has_thoughts(ask.request) or not self._refuses_thoughts(ask, error):
                raise
        return await send(replace(ask, request=without_thoughts(ask.request)))

    def _refuses_thoughts(self, ask: Ask, error: Exception) -> bool:
        reply = error.reply if isinstance(error, RefusedError) else self.error_reply(ask, error)
        return reply is not None and reply.status == 400 and _ABOUT_THOUGHTS.search(reply.message) is not None

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
