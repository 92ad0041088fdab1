"""Errors: SDKs', transports' and vendors' errors become errors of this package, by type, status and code.

How it works
------------
`translated` wraps the sending of a request and the reading of its answer. An exception that leaves it is one of the
errors that `Provider.stream` may raise, or a fault of this package. Messages are not parsed, with two exceptions for
servers that have no codes (`_LITELLM`, `_VLLM_LACKS_TOOLS`).

- The chain of causes is searched from the innermost error outwards, because an SDK wraps what its transport raised.
  `raise … from None` ends the chain: the author of the error suppressed what was before it. The error that was being
  handled when the block began is not part of the chain, because it caused nothing inside the block.
- Every message in the chain is redacted, because a traceback shows it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec
from msgspec import Struct

from .._local_trouble import what_is_lacking
from .._redaction import loggable, loggable_id
from ..exceptions import (
    ContentFilterError,
    InvalidRequestError,
    LocalResourceError,
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderRateLimitError,
    ProviderTimeoutError,
)
from ..tasks import Target
from . import Ask
from ._error_codes import TOOLS_NOT_ENABLED, UNKNOWN_TO_LITELLM, VendorError, class_of
from ._json_check import unsendable
from ._rate_limit_headers import believable, reset_after, retry_after

_LONGEST: Final = 2_000
"""Characters of a message. A proxy's error may be a page of HTML."""


class ErrorReply(Struct, frozen=True):
    """A vendor's answer that is an error: its message, HTTP status, codes (the most specific first) and headers.

    `param` is the parameter of the request that the vendor blames. Header names are in lower case.
    """

    message: str
    status: int | None = None
    codes: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}
    retry_after: float | None = None
    request_id: str | None = None
    param: str | None = None


class RefusedError(Exception):
    """Carries an HTTP answer that is an error, past an SDK if need be. `translated` makes a `ProviderError` of it."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.message)
        self.reply = reply


def error_for(reply: ErrorReply, target: Target) -> VendorError:
    """The error to raise for a vendor's answer."""
    kind = class_of(reply.status, reply.codes, reply.param)
    wait = reply.retry_after if reply.retry_after is not None else retry_after(reply.headers)
    if wait is None and kind is ProviderRateLimitError:
        wait = reset_after(reply.headers)
    wait = believable(wait)
    return kind(
        loggable(reply.message[: 2 * _LONGEST])[:_LONGEST] or "the vendor sent an error without a message",
        provider=target.provider,
        model=target.model,
        status=reply.status,
        retry_after=wait,
        request_id=loggable_id(
            reply.request_id or reply.headers.get("x-request-id") or reply.headers.get("request-id")
        ),
    )


def read_error(error: object) -> ErrorReply:
    """Read an error object of a vendor, from a body or a stream. Hosts differ in where they put its code."""
    if not isinstance(error, Mapping):
        return ErrorReply(str(error))
    numbers = (_number(error.get(name)) for name in ("status_code", "status", "code", "raw_status_code"))
    status = next((each for each in numbers if each is not None and 400 <= each < 600), None)
    details = error.get("details")
    special = details.get("error_code") if isinstance(details, Mapping) else None  # Anthropic's, beside the type
    candidates = (special, *(error.get(name) for name in ("code", "type", "error_type")))
    codes = [code for code in candidates if isinstance(code, str)]
    message = error_message(error) or "the vendor sent an error"
    if (opening := _LITELLM.match(message)) is not None:
        codes.insert(0, opening[1] or UNKNOWN_TO_LITELLM)
    elif message.startswith(_VLLM_LACKS_TOOLS):
        codes.insert(0, TOOLS_NOT_ENABLED)
    param = error.get("param")
    return ErrorReply(message, status, tuple(codes), param=param if isinstance(param, str) else None)


_LITELLM: Final = re.compile(r"(litellm\.\w+): |\S+: Invalid model name passed in model=")
"""The start of a message of LiteLLM's proxy, which often has no code: the name of its error class or, for a model that
it does not know, the route and the same words in every version.
"""

_VLLM_LACKS_TOOLS: Final = '"auto" tool choice requires --enable-auto-tool-choice'
"""The start of vLLM's refusal of tools, if it was started without the flags for them. It has no code for that."""


def _number(value: object) -> int | None:
    """A status as a number. LiteLLM writes it as text."""
    if isinstance(value, str) and len(value) == 3 and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) else None


def error_message(body: object) -> str | None:
    """The vendor's message in the body of an error, or `None`."""
    if isinstance(body, str):
        return body or None
    if not isinstance(body, Mapping):
        return None
    return next((error_message(body[name]) for name in ("error", "message", "detail") if body.get(name)), None)


# ── translation ────────────────────────────────────────────────────────────────────────────────────────────────────


class ErrorContext:
    """What errors tell about the request: its target and, once the answer has begun, the answer's id."""

    __slots__ = ("request_id", "target")

    def __init__(self, target: Target) -> None:
        self.target: Target = target
        self.request_id: str | None = None


@contextmanager
def translated(
    ask: Ask,
    error_reply: Callable[[BaseException], ErrorReply | None] = lambda error: None,
    transport_errors: Callable[[], tuple[type[BaseException], ...]] = tuple,
) -> Generator[ErrorContext, None, None]:
    """Raise errors of this package in place of an SDK's, a transport's or the system's.

    `error_reply` reads an SDK's error for an HTTP status and returns `None` for any other error. `transport_errors`
    returns the types of a failed connection, beside `OSError`. Both are called after an error only. A request that
    cannot be written as JSON is an `InvalidRequestError`. An error that none of this explains passes unchanged.
    """
    context, outside = ErrorContext(ask.target), sys.exception()
    try:
        yield context
    except (ProviderError, InvalidRequestError, ContentFilterError) as error:
        _complete(error, context)
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError) as error:  # google-genai uses json
        raise _complete(
            ProviderProtocolError(f"the vendor sent an event that cannot be decoded: {loggable(str(error))}"), context
        ) from error
    except Exception as error:
        chain = _chain(error, outside)
        translation = _translation(chain, ask.target, error_reply, transport_errors())
        if translation is None and (why := unsendable(ask.request)) is not None:
            translation = InvalidRequestError(why)
        # The request can be written, so it is the answer that is nested too deep.
        if translation is None and isinstance(chain[0], RecursionError):
            translation = ProviderProtocolError("the vendor sent JSON that is nested too deep to be read")
        if translation is None:
            raise
        for link in chain:
            link.args = tuple(word if (clean := loggable(str(word))) == str(word) else clean for word in link.args)
        raise _complete(translation, context) from error


def _complete(error: VendorError, context: ErrorContext) -> VendorError:
    """Add the target and the answer's id to an error that does not have them."""
    error.provider = error.provider or context.target.provider
    error.model = error.model or context.target.model
    error.request_id = error.request_id or loggable_id(context.request_id)
    return error


def _chain(error: BaseException, outside: BaseException | None) -> list[BaseException]:
    """The error and its causes, innermost first, without the error that was being handled `outside`."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link is not outside and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return chain[::-1]


def _translation(
    chain: list[BaseException],
    target: Target,
    error_reply: Callable[[BaseException], ErrorReply | None],
    transport_errors: tuple[type[BaseException], ...],
) -> VendorError | None:
    """The error that a chain of exceptions becomes, or `None` if no link of it explains what happened."""
    for link in chain:
        if (reply := link.reply if isinstance(link, RefusedError) else error_reply(link)) is not None:
            return error_for(reply, target)
        if (lacking := what_is_lacking(link)) is not None:
            return LocalResourceError(lacking)
        if isinstance(link, TimeoutError):
            return ProviderTimeoutError("no connection was made in time (the connect clock)", clock="connect")
        if isinstance(link, (OSError, *transport_errors)):
            why = link.strerror if isinstance(link, OSError) and link.strerror else _in_words(type(link).__name__)
            host = _unreached_host(chain)
            what = "the connection broke" if host is None else f"no connection to {host} was made"
            return ProviderConnectionError(f"{what}: {loggable(why)}")
    return None


def _in_words(name: str) -> str:
    """What a transport's error means, for the frequent ones that have no message."""
    words = {
        "ClientPayloadError": "the body of the answer was cut off or is malformed",
        "ServerDisconnectedError": "the server closed it without an answer",
    }.get(name)
    return f"{words} ({name})" if words else name


def _unreached_host(chain: list[BaseException]) -> str | None:
    """The host and port that could not be connected to, if that is the failure (aiohttp's `ClientConnectorError`)."""
    for link in chain:
        host, port = getattr(link, "host", None), getattr(link, "port", None)
        if hasattr(link, "os_error") and isinstance(host, str):
            return host if port is None else f"{host}:{port}"
    return None
