"""From what SDKs, transports and vendors call an error to what we call it: by type, status and code, not by message."""

from __future__ import annotations

import email.utils
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from ..events import redacted
from ..exceptions import (
    ContentFilterError,
    ContextLengthExceededError,
    InvalidRequestError,
    ModelNotFoundError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderQuotaExceededError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
    ProviderTimeoutError,
)
from ..tasks import Target

VendorError: TypeAlias = ProviderError | InvalidRequestError | ContentFilterError


class Answer(Struct, frozen=True):
    """A vendor's answer that is an error: its status, its own words for it, and its headers."""

    message: str
    status: int | None = None
    codes: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}
    retry_after: float | None = None
    request_id: str | None = None


_BY_STATUS: Final[dict[int, type[VendorError]]] = {
    400: InvalidRequestError,
    401: ProviderAuthenticationError,
    402: ProviderQuotaExceededError,
    403: ProviderAuthenticationError,
    404: ModelNotFoundError,
    408: ProviderTimeoutError,
    413: ContextLengthExceededError,
    422: InvalidRequestError,
    429: ProviderRateLimitError,
}
_BY_CODE: Final[dict[str, type[VendorError]]] = {
    # What a vendor says beside the status says more than the status.
    "insufficient_quota": ProviderQuotaExceededError,
    "billing_error": ProviderQuotaExceededError,
    "billing_hard_limit_reached": ProviderQuotaExceededError,
    "context_length_exceeded": ContextLengthExceededError,
    "request_too_large": ContextLengthExceededError,
    "string_above_max_length": ContextLengthExceededError,
    "content_filter": ContentFilterError,
    "content_policy_violation": ContentFilterError,
    "invalid_prompt": ContentFilterError,
    "model_not_found": ModelNotFoundError,
    "not_found_error": ModelNotFoundError,
    "NOT_FOUND": ModelNotFoundError,
    "invalid_api_key": ProviderAuthenticationError,
    "authentication_error": ProviderAuthenticationError,
    "permission_error": ProviderAuthenticationError,
    "UNAUTHENTICATED": ProviderAuthenticationError,
    "PERMISSION_DENIED": ProviderAuthenticationError,
    "rate_limit_error": ProviderRateLimitError,
    "rate_limit_exceeded": ProviderRateLimitError,
    "RESOURCE_EXHAUSTED": ProviderRateLimitError,
    "timeout_error": ProviderTimeoutError,
    "DEADLINE_EXCEEDED": ProviderTimeoutError,
    "overloaded_error": ProviderServiceUnavailableError,
    "api_error": ProviderServiceUnavailableError,
    "server_error": ProviderServiceUnavailableError,
    "INTERNAL": ProviderServiceUnavailableError,
    "UNAVAILABLE": ProviderServiceUnavailableError,
    "API_KEY_INVALID": ProviderAuthenticationError,
    "invalid_request_error": InvalidRequestError,
    "INVALID_ARGUMENT": InvalidRequestError,
}


def error_for(answer: Answer, target: Target) -> VendorError:
    """Our error for a vendor's answer. One of which nothing is known is the vendor's trouble, not the request's."""
    specific = next((_BY_CODE[code] for code in answer.codes if code in _BY_CODE), None)
    by_status = None if answer.status is None else _BY_STATUS.get(answer.status)
    if by_status is None and answer.status is not None:
        by_status = ProviderServiceUnavailableError if answer.status in (409, 425) or answer.status >= 500 else None
        if by_status is None and answer.status >= 400:
            by_status = InvalidRequestError
    # A general code ("invalid_request_error" beside a 401) says less than the status does.
    if specific in (InvalidRequestError, ProviderServiceUnavailableError):
        specific = by_status or specific
    kind = specific or by_status or ProviderServiceUnavailableError
    return kind(
        redacted(answer.message),
        provider=target.provider,
        model=target.model,
        status=answer.status,
        retry_after=answer.retry_after if answer.retry_after is not None else retry_after(answer.headers),
        request_id=answer.request_id or answer.headers.get("x-request-id") or answer.headers.get("request-id"),
    )


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Seconds to wait, as headers say it: in milliseconds, in seconds, or as a date."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    given = headers.get("retry-after")
    if given is None:
        return None
    if (seconds := _number(given)) is not None:
        return seconds
    try:
        date = email.utils.parsedate_to_datetime(given)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - now())


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return number if number >= 0 else None


def _chain(error: BaseException, outside: BaseException | None) -> list[BaseException]:
    """The error and what caused it, the innermost first. What was under way `outside` before caused nothing here."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link is not outside and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return chain[::-1]


class Exchange:
    """One request and its answer; its errors tell the answer's id once that is known."""

    __slots__ = ("request_id", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.request_id: str | None = None


@contextmanager
def translated(
    target: Target,
    answer_of: Callable[[BaseException], Answer | None],
    transport: Callable[[], tuple[type[BaseException], ...]],
) -> Generator[Exchange, None, None]:
    """Raise our errors in place of others. `answer_of` reads an SDK's status errors, `transport` gives the types of a
    connection's failures beside the built-in ones; anything else is a mistake of ours, and passes.
    """
    exchange, outside = Exchange(target), sys.exception()
    try:
        yield exchange
    except (ProviderError, InvalidRequestError, ContentFilterError) as error:
        _tell(error, exchange)
        raise
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _tell(
            ProviderProtocolError(f"the vendor sent an event that makes no sense: {error}"), exchange
        ) from error
    except Exception as error:
        ours = _ours(_chain(error, outside), target, answer_of, transport())
        if ours is None:
            raise
        raise _tell(ours, exchange) from error


def _tell(error: VendorError, exchange: Exchange) -> VendorError:
    error.provider = error.provider or exchange.target.provider
    error.model = error.model or exchange.target.model
    error.request_id = error.request_id or exchange.request_id
    return error


def _ours(
    chain: list[BaseException],
    target: Target,
    answer_of: Callable[[BaseException], Answer | None],
    transport: tuple[type[BaseException], ...],
) -> VendorError | None:
    for link in chain:
        if (answer := answer_of(link)) is not None:
            return error_for(answer, target)
        if isinstance(link, TimeoutError):
            return ProviderTimeoutError("no connection was made in time (the connect clock)", clock="connect")
        if isinstance(link, (OSError, *transport)):
            why = link.strerror if isinstance(link, OSError) and link.strerror else type(link).__name__
            return ProviderConnectionError(f"the connection broke: {redacted(why)}")
    return None


def said(body: object) -> str | None:
    """The vendor's own sentence in an error's body."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, Mapping) else inner
        return message if isinstance(message, str) else None
    return None
