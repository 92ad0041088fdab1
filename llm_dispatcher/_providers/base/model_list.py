"""The list of models that a vendor offers: what `check` and `models` of our providers ask for.

All vendors answer a GET with their models and charge nothing for it. The row of the table of vendors has its path and
headers. The request goes over aiohttp and not over the SDK, because some SDKs take seconds to import.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.request import getproxies

import aiohttp
import msgspec
from msgspec import Struct

from ... import _clock
from ..._importing import importing
from ..._policy import ProviderSettings
from ..._redaction import loggable
from ..._vendors.table import vendor
from ...exceptions import ProviderProtocolError
from ...provider import Ask, CheckResult
from ...provider._decoding import lower
from ...provider._errors import ErrorReply, RefusedError, error_message, read_error, translated
from ...tasks import Target, TaskRequest
from .tls import trust

LONGEST_LIST: Final = 16 * 1024 * 1024
"""Bytes. The longest lists of models are smaller than one."""


class _Reply(Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    body: bytes


async def check(settings: ProviderSettings) -> CheckResult:
    """Whether a vendor is reachable and accepts the key."""
    if (why := _not_asked(settings)) is not None:
        return CheckResult(ok=None, message=f"not asked: {why}")
    began = _clock.monotonic()
    try:
        reply = await _get(settings)
    except TimeoutError:
        return CheckResult(ok=False, message="unreachable: no answer in time")
    except aiohttp.ClientResponseError as error:
        return CheckResult(ok=False, message=f"answers, but not in HTTP ({type(error).__name__})")
    except (OSError, aiohttp.ClientError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return CheckResult(ok=False, message=f"unreachable: {loggable(reason) or type(error).__name__}")
    milliseconds = round((_clock.monotonic() - began) * 1000)
    ok, message = _judged(reply.status)
    return CheckResult(ok=ok, message=message, status=reply.status, milliseconds=milliseconds)


async def models(
    settings: ProviderSettings, transport_errors: Callable[[], tuple[type[BaseException], ...]]
) -> list[str] | None:
    """The names of the models, or `None` if nobody but the SDK knows where to ask."""
    if _not_asked(settings) is not None:
        return None
    ask = Ask(TaskRequest(), Target(settings.name, ""))
    with translated(ask, transport_errors=transport_errors):
        reply = await _get(settings)
        content = _decoded(reply.body)
        if reply.status != 200:
            error = read_error(content.get("error", content) if isinstance(content, dict) else content)
            message = error_message(content) or f"HTTP {reply.status} to a request for the list of models"
            raise RefusedError(ErrorReply(message, reply.status, error.codes, reply.headers))
        names = _names(content)
        if names is None:
            raise ProviderProtocolError("the vendor answered with something else than a list of models")
        return names


def _not_asked(settings: ProviderSettings) -> str | None:
    """Why a vendor cannot be asked without its SDK; `None` if it can."""
    row = vendor(settings.kind)
    if row.instead_of_key is not None and settings.options.get(row.instead_of_key):
        return "its SDK makes its address"
    if settings.base_url is None and row.base_url is None:
        return f"only the kind {settings.kind} knows its address"
    return None


async def _get(settings: ProviderSettings) -> _Reply:
    """Send the request. Redirects are not followed, because the key is for the configured host only."""
    row = vendor(settings.kind)
    address = (settings.base_url or row.base_url or "").rstrip("/") + row.models_path
    headers = {**row.models_headers, **settings.headers, "user-agent": "llm-dispatcher"}
    if settings.api_key is not None:
        present = {name.lower() for name in headers}
        key = row.key_headers(settings.api_key.reveal())
        headers |= {name: value for name, value in key.items() if name not in present}
    encrypted = address.startswith("https:")
    connector = aiohttp.TCPConnector(ssl=await asyncio.to_thread(importing, trust) if encrypted else True)
    async with (
        aiohttp.ClientSession(connector=connector, trust_env=bool(getproxies())) as session,
        session.get(address, headers=headers, allow_redirects=False) as response,
    ):
        body = bytearray()
        async for data in response.content.iter_any():
            body += data
            if len(body) > LONGEST_LIST:
                break
        return _Reply(response.status, lower(response.headers), bytes(body))


def _judged(status: int) -> tuple[bool, str]:
    match status:
        case 401 | 403:
            return False, f"refuses the key (HTTP {status})"
        case 429:
            return True, "ok, but it has too many requests (HTTP 429)"
        case _ if status < 300:
            return True, "ok"
        case _ if status < 500:
            return True, f"reachable; the key was not checked (HTTP {status})"
        case _:
            return False, f"error (HTTP {status})"


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body[:200].decode("utf-8", "replace")


def _names(content: Any) -> list[str] | None:
    """The names in a list of models, in any of its forms: `{data: [{id}]}`, `{models: [{name}]}` or `[{id}]`."""
    entries = content.get("data", content.get("models")) if isinstance(content, dict) else content
    if not isinstance(entries, list):
        return None
    names = (each.get("id") or each.get("name") if isinstance(each, dict) else each for each in entries)
    return [name.removeprefix("models/") for name in names if isinstance(name, str)]
