"""From what SDKs, transports and vendors call an error to what we call it: by type, status and code, not by message."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec
from msgspec import Struct

from ..._local_trouble import what_is_lacking
from ..._redaction import loggable, loggable_id
from ...exceptions import (
    ContentFilterError,
    InvalidRequestError,
    LocalResourceError,
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderRateLimitError,
    ProviderTimeoutError,
)
from ...provider import Ask
from ...tasks import Target
from .error_codes import TOOLS_NOT_ENABLED, UNKNOWN_TO_LITELLM, VendorError, class_of
from .json_check import unsendable
from .rate_limit_headers import believable, reset_after, retry_after

_LONGEST: Final = 2_000
"""A proxy's error may be a page of HTML."""


class Answer(Struct, frozen=True):
    """A vendor's answer that is an error: its status, its own words for it, and its headers."""

    message: str
    status: int | None = None
    codes: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}
    retry_after: float | None = None
    request_id: str | None = None
    param: str | None = None


class RefusedError(Exception):
    """Carries an HTTP answer that is an error past an SDK; it becomes one of our errors in `translated`."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.message)
        self.answer = answer


def error_for(answer: Answer, target: Target) -> VendorError:
    """Our error for a vendor's answer."""
    kind = class_of(answer.status, answer.codes, answer.param)
    wait = answer.retry_after if answer.retry_after is not None else retry_after(answer.headers)
    if wait is None and kind is ProviderRateLimitError:
        wait = reset_after(answer.headers)
    wait = believable(wait)
    return kind(
        loggable(answer.message[: 2 * _LONGEST])[:_LONGEST] or "the vendor sent an error and did not say which",
        provider=target.provider,
        model=target.model,
        status=answer.status,
        retry_after=wait,
        request_id=loggable_id(
            answer.request_id or answer.headers.get("x-request-id") or answer.headers.get("request-id")
        ),
    )


def answer_in(error: object) -> Answer:
    """What a vendor's error object says, in a body or in a stream: hosts differ in where they put its code."""
    if not isinstance(error, Mapping):
        return Answer(str(error))
    numbers = (_number(error.get(name)) for name in ("status_code", "status", "code", "raw_status_code"))
    status = next((each for each in numbers if each is not None and 400 <= each < 600), None)
    details = error.get("details")
    special = details.get("error_code") if isinstance(details, Mapping) else None  # Anthropic's, beside the type
    words = (special, *(error.get(name) for name in ("code", "type", "error_type")))
    codes = [each for each in words if isinstance(each, str)]
    message = said(error) or "the vendor sent an error"
    if (opening := _LITELLM.match(message)) is not None:
        codes.insert(0, opening[1] or UNKNOWN_TO_LITELLM)
    elif message.startswith(_VLLM_LACKS_TOOLS):
        codes.insert(0, TOOLS_NOT_ENABLED)
    param = error.get("param")
    return Answer(message, status, tuple(codes), param=param if isinstance(param, str) else None)


_LITELLM: Final = re.compile(r"(litellm\.\w+): |\S+: Invalid model name passed in model=")
"""How LiteLLM's proxy begins what it says, where its `code` and `type` say nothing: with the name of its own class; or,
of a model that it does not know, with the route and the same words in every version.
"""

_VLLM_LACKS_TOOLS: Final = '"auto" tool choice requires --enable-auto-tool-choice'
"""How vLLM begins its refusal of tools, if it was started without the flags for them. It has no code for that."""


def _number(value: object) -> int | None:
    """A status, which LiteLLM writes as text."""
    if isinstance(value, str) and len(value) == 3 and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) else None


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
    ask: Ask,
    answer_of: Callable[[BaseException], Answer | None],
    transport: Callable[[], tuple[type[BaseException], ...]],
) -> Generator[Exchange, None, None]:
    """Raise our errors in place of others. `answer_of` reads an SDK's status errors, `transport` gives the types of a
    connection's failures beside the built-in ones. What no client could write down is the caller's to change; anything
    else is a mistake of ours, and passes.
    """
    exchange, outside = Exchange(ask.target), sys.exception()
    try:
        yield exchange
    except (ProviderError, InvalidRequestError, ContentFilterError) as error:
        _tell(error, exchange)
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError) as error:  # (the last is google-genai's)
        raise _tell(
            ProviderProtocolError(f"the vendor sent an event that makes no sense: {loggable(str(error))}"), exchange
        ) from error
    except Exception as error:
        chain = _chain(error, outside)
        ours = _ours(chain, ask.target, answer_of, transport())
        if ours is None and (why := unsendable(ask.request)) is not None:
            ours = InvalidRequestError(why)
        # (What was sent can be written. So what came cannot be read.)
        if ours is None and isinstance(chain[0], RecursionError):
            ours = ProviderProtocolError("the vendor sent JSON that is nested too deep to be read")
        if ours is None:
            raise
        for link in chain:  # a traceback tells their words too
            link.args = tuple(word if (clean := loggable(str(word))) == str(word) else clean for word in link.args)
        raise _tell(ours, exchange) from error


def _tell(error: VendorError, exchange: Exchange) -> VendorError:
    error.provider = error.provider or exchange.target.provider
    error.model = error.model or exchange.target.model
    error.request_id = error.request_id or loggable_id(exchange.request_id)
    return error


def _ours(
    chain: list[BaseException],
    target: Target,
    answer_of: Callable[[BaseException], Answer | None],
    transport: tuple[type[BaseException], ...],
) -> VendorError | None:
    for link in chain:
        if (answer := link.answer if isinstance(link, RefusedError) else answer_of(link)) is not None:
            return error_for(answer, target)
        if (lacking := what_is_lacking(link)) is not None:
            return LocalResourceError(lacking)
        if isinstance(link, TimeoutError):
            return ProviderTimeoutError("no connection was made in time (the connect clock)", clock="connect")
        if isinstance(link, (OSError, *transport)):
            why = link.strerror if isinstance(link, OSError) and link.strerror else _in_words(type(link).__name__)
            host = _unreached_host(chain)
            what = "the connection broke" if host is None else f"no connection to {host} was made"
            return ProviderConnectionError(f"{what}: {loggable(why)}")
    return None


def _in_words(name: str) -> str:
    """What a transport's error means, for those that are met often and have no words of their own."""
    words = {
        "ClientPayloadError": "the body of the answer was cut off or makes no sense",
        "ServerDisconnectedError": "the server closed it without an answer",
    }.get(name)
    return f"{words} ({name})" if words else name


def _unreached_host(chain: list[BaseException]) -> str | None:
    """The host and port that no connection could be made to, if this is what went wrong (`ClientConnectorError`)."""
    for link in chain:
        host, port = getattr(link, "host", None), getattr(link, "port", None)
        if hasattr(link, "os_error") and isinstance(host, str):
            return host if port is None else f"{host}:{port}"
    return None


def said(body: object) -> str | None:
    """The vendor's own sentence in an error's body, wherever it stands there."""
    if isinstance(body, str):
        return body or None
    if not isinstance(body, Mapping):
        return None
    return next((said(body[name]) for name in ("error", "message", "detail") if body.get(name)), None)
