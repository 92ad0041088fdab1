"""Every error this library raises, sorted by the next step of the switch.

LLMDispatcherError
├── ProviderError                          one vendor failed: another one may not
│   ├── ProviderConnectionError            ┐
│   │   └── LocalResourceError             │ (this machine failed: it counts against no vendor)
│   ├── ProviderTimeoutError               │
│   ├── ProviderRateLimitError             │ try the same target again,
│   ├── ProviderServiceUnavailableError    │ then switch
│   ├── ProviderProtocolError              │
│   ├── StreamTruncatedError               │
│   ├── UnprovenContinuationError          ┘ (the other targets first)
│   ├── ProviderAuthenticationError        ┐
│   ├── ProviderQuotaExceededError         │
│   ├── ModelNotFoundError                 │ switch at once
│   ├── ModelUnsupportedError              │
│   ├── ContextLengthExceededError         │
│   ├── MissingPackageError                ┘ (this machine's: a package is not installed)
│   ├── AllProvidersFailedError            every target was tried (.failures)
│   └── NoProviderAvailableError           no target can serve the request (.reasons)
├── ContentFilterError                     raise at once, or switch if the route says `on_refusal: next`
├── InvalidRequestError                    ┐ raise at once: no other target would help
├── BudgetExceededError                    ┘
│   └── StreamBudgetExceededError (StreamingError)   … after text was delivered
├── StreamingError                         it broke after text was delivered (.partial .usage .failures)
│   ├── ToolLimitError                     the model went on calling tools (max_turns, max_tool_calls)
│   └── InvalidOutputError                 the answer does not follow its schema (.errors)
├── RequestTimeoutError (TimeoutError)     the `total` clock ran out
│   └── StreamTimeoutError (StreamingError)    … after text was delivered
├── ConfigurationError                     the policy is wrong (.problems; .file .line .key of the first)
├── CacheError                             a cache cannot be used as asked
└── SessionError                           something is wrong with a session
    ├── SessionBusyError                   another stream of it is being read
    ├── SessionStoreError                  its store could not be read or written
    │   └── SessionConflictError           another process has changed the session
    └── SessionFormatError                 a saved session cannot be read

`EventLoopRunningError` is a mistake in the program and stands apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar, TypedDict, Unpack

from msgspec import Struct

from ._usage import Usage
from .tasks import Target


class LLMDispatcherError(Exception):
    """The base of all errors that this library raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt from `args` alone by default, which loses every field (and fails on required ones).
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[LLMDispatcherError], args: tuple[object, ...], fields: dict[str, object]) -> LLMDispatcherError:
    error = kind.__new__(kind, *args)
    error.args = args  # a timeout is an OSError, which takes them in __init__ only
    error.__dict__.update(fields)
    return error


class _Answer(TypedDict, total=False):
    provider: str | None
    model: str | None
    status: int | None
    retry_after: float | None
    request_id: str | None


class _AnsweredError(LLMDispatcherError):
    """The fields of an error that a vendor's answer may have caused."""

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.model = model
        self.status = status
        self.retry_after = retry_after
        self.request_id = request_id

    def __str__(self) -> str:
        who = "/".join(part for part in (self.provider, self.model) if part)
        details = [f"HTTP {self.status}"] if self.status is not None else []
        if self.request_id:
            details.append(f"request {self.request_id}")
        text = f"{self.message} ({', '.join(details)})" if details else self.message
        return f"{who}: {text}" if who else text


class ProviderError(_AnsweredError):
    """A vendor failed. The error of its SDK or of the transport is the `__cause__`."""

    retryable: ClassVar[bool] = False
    """Whether the same target may be tried again."""


class ProviderConnectionError(ProviderError):
    """The connection could not be made, or broke."""

    retryable = True


class LocalResourceError(ProviderConnectionError):
    """The connection could not be made because this machine lacks file descriptors, memory, threads or ports.

    It is tried again after a pause, because these come back when other work ends. No vendor is to blame, so it counts
    against no breaker, no health and no retry budget.
    """


class ProviderTimeoutError(ProviderError):
    """The `connect`, `first_token`, `idle` or `flow` clock ran out (`clock` says which), or the vendor said 408."""

    retryable = True

    def __init__(self, message: str, *, clock: str | None = None, **answer: Unpack[_Answer]) -> None:
        super().__init__(message, **answer)
        self.clock = clock


class ProviderRateLimitError(ProviderError):
    """Too many requests or tokens a minute; `retry_after` says when to come back, if the vendor did."""

    retryable = True


class ProviderServiceUnavailableError(ProviderError):
    """The vendor is down, overloaded, or failed inside."""

    retryable = True


class ProviderProtocolError(ProviderError):
    """The vendor sent bytes that do not follow its protocol."""

    retryable = True


class StreamTruncatedError(ProviderError):
    """The stream ended, and the vendor did not say that the answer is complete."""

    retryable = True


class UnprovenContinuationError(ProviderError):
    """A model was asked for the rest of a broken answer, and its text could not be proved to be that.

    Nothing of it was shown. The vendor did answer, so this counts against no breaker and no health.
    """

    retryable = True


class ProviderAuthenticationError(ProviderError):
    """The key is missing or wrong, or the account may not do this."""


class ProviderQuotaExceededError(ProviderError):
    """The account's money or quota is spent. It does not come back within minutes."""


class ModelNotFoundError(ProviderError):
    """The vendor does not know the model, or the account may not use it."""


class ModelUnsupportedError(ProviderError):
    """The model or the vendor does not support something in the request."""


class ContextLengthExceededError(ProviderError):
    """The request is longer than the model's context window. Another model may have a longer one."""


class MissingPackageError(ProviderError):
    """A Python package that the provider needs is not installed; `install` is its name for `pip install`."""

    def __init__(self, message: str, *, install: str = "", **answer: Unpack[_Answer]) -> None:
        super().__init__(message, **answer)
        self.install = install


class AllProvidersFailedError(ProviderError):
    """Every target was tried. `failures` holds their errors in order."""

    def __init__(self, failures: Sequence[ProviderError | ContentFilterError]) -> None:
        self.failures: tuple[ProviderError | ContentFilterError, ...] = tuple(failures)
        who = "the only attempt" if len(self.failures) == 1 else f"all {len(self.failures)} attempts"
        super().__init__(f"{who} failed: " + "; ".join(_counted(self.failures)))


def _counted(failures: Iterable[ProviderError | ContentFilterError]) -> Iterator[str]:
    """Failures in words. Those of one target that say the same in a row are the last one, with their number."""
    for _, alike in groupby(failures, lambda each: (each.provider, each.model, each.status, each.message)):
        *others, last = alike
        yield f"{last} ({len(others) + 1} times)" if others else str(last)


class NoProviderAvailableError(ProviderError):
    """No target can serve the request. `reasons` says why, by target."""

    def __init__(self, message: str, *, reasons: Mapping[Target, str] | None = None) -> None:
        self.reasons: dict[Target, str] = dict(reasons or {})
        why = "; ".join(f"{target}: {reason}" for target, reason in self.reasons.items())
        super().__init__(f"{message}: {why}" if why else message)


class InvalidRequestError(_AnsweredError):
    """The request is wrong for every vendor."""


class ContentFilterError(_AnsweredError):
    """A vendor's filter stopped the request or its answer, or a model refused to answer.

    It ends the stream, unless the route says `on_refusal: next` and another target can be asked.
    """

    retryable: ClassVar[bool] = False
    """Whether the same target may be tried again."""


class BudgetExceededError(LLMDispatcherError):
    """The request would cost more than is allowed."""


class StreamingError(LLMDispatcherError):
    """The stream broke after text was delivered, and it could not be continued.

    Args:
        message: The reason, in one line.
        partial: The delivered text.
        usage: The usage of all attempts.
        failures: Their errors in order.
    """

    def __init__(
        self, message: str, *, partial: str, usage: Usage, failures: Sequence[LLMDispatcherError] = ()
    ) -> None:
        super().__init__(message)
        self.partial = partial
        self.usage = usage
        self.failures: tuple[LLMDispatcherError, ...] = tuple(failures)


class RequestTimeoutError(LLMDispatcherError, TimeoutError):
    """The `total` clock ran out."""


class StreamTimeoutError(RequestTimeoutError, StreamingError):
    """The `total` clock ran out after text was delivered.

    Args:
        message: The reason, in one line.
        partial: The delivered text.
        usage: The usage of all attempts.
        failures: Their errors in order.
    """

    def __init__(
        self, message: str, *, partial: str, usage: Usage, failures: Sequence[LLMDispatcherError] = ()
    ) -> None:
        StreamingError.__init__(self, message, partial=partial, usage=usage, failures=failures)


class StreamBudgetExceededError(BudgetExceededError, StreamingError):
    """A budget was passed after text was delivered. Its arguments are those of a `StreamingError`."""


class ToolLimitError(StreamingError):
    """The model went on calling tools after `max_turns` turns or `max_tool_calls` calls."""


class InvalidOutputError(StreamingError):
    """The answer does not follow its schema, also after it was asked for again with the errors.

    Args:
        message: The reason, in one line.
        partial: The text of the last answer.
        usage: The usage of all attempts.
        errors: What is wrong with the text, as the model was told.
        failures: Errors of attempts that failed, in order.
    """

    def __init__(
        self,
        message: str,
        *,
        partial: str,
        usage: Usage,
        errors: str = "",
        failures: Sequence[LLMDispatcherError] = (),
    ) -> None:
        super().__init__(message, partial=partial, usage=usage, failures=failures)
        self.errors = errors

    @property
    def text(self) -> str:
        """The text of the last answer, which is `partial`."""
        return self.partial


class SessionError(LLMDispatcherError):
    """Something is wrong with a session."""


class SessionBusyError(SessionError):
    """Another stream of this session is being read. A session answers one turn at a time."""


class SessionStoreError(SessionError):
    """The store of a session could not be read or written."""


class SessionConflictError(SessionStoreError):
    """Another process, or another object, has stored the same session in the meantime. Nothing was overwritten."""


class SessionFormatError(SessionError):
    """A saved session cannot be read: it is damaged, or a newer version of this library has written it."""


class ConfigurationProblem(Struct, frozen=True):
    """One problem of a configuration. `variable` is the environment variable that set the value, if one did."""

    message: str
    file: str | None = None
    line: int | None = None
    key: str | None = None
    variable: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file or self.variable
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigurationError(LLMDispatcherError):
    """The configuration is missing or wrong.

    Args:
        message: The problem.
        file: The file of the first problem.
        line: Its line.
        key: Its key.
        problems: Every problem.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        problems: Sequence[ConfigurationProblem] = (),
    ) -> None:
        super().__init__(message)
        self.file = file
        self.line = line
        self.key = key
        self.problems: tuple[ConfigurationProblem, ...] = tuple(problems) or (
            ConfigurationProblem(message, file, line, key),
        )

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file or ""
        return ": ".join(part for part in (place, self.key, self.message) if part)


class CacheError(LLMDispatcherError):
    """A cache cannot be made or used in this way."""


class EventLoopRunningError(RuntimeError, TypeError):
    """A synchronous method would block a thread whose event loop is running.

    It is a `TypeError` as well, because `iter()` raises one for an object that is not iterable. A framework that tries
    `iter()` first, as Django does, then calls `aiter()`.
    """
