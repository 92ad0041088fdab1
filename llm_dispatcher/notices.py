"""Notices: values that tell an operator what happens in a switch.

A notice is not an event of a stream: no reader gets it. Each part of the package sends its notices to a `Notify`
function. The switch hands them to its observers, and the log is one of them (`_log.write`). All notices are frozen, so
they may be kept and handed to other threads.

An error is held as a `Failure`, which is one line and has no key in it. A notice holds the exception itself only where
its traceback shows the application's own code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct

from .events import Failure
from .exceptions import ConfigurationError
from .tasks import Target

BreakerState: TypeAlias = Literal["closed", "open", "half_open"]
Period: TypeAlias = Literal["daily", "monthly"]


class _Notice(Struct, frozen=True, tag_field="type"):
    """The base of all notices. `type` is the name of the kind."""


# ── attempts ───────────────────────────────────────────────────────────────────────────────────────────────────────


class RetryScheduled(_Notice, frozen=True, tag="retry_scheduled"):
    """An attempt failed, and the same target is tried again after `seconds`. `delivered` counts the characters of this
    attempt that its reader has.
    """

    target: Target
    failure: Failure
    seconds: float
    delivered: int = 0


class RunReadOn(_Notice, frozen=True, tag="run_read_on"):
    """The connection to a run that the vendor keeps broke. The run is read on after `seconds`, and nothing is asked
    again. `delivered` counts the characters of this attempt that its reader has.
    """

    target: Target
    run: str
    failure: Failure
    seconds: float
    delivered: int = 0


class TargetGivenUp(_Notice, frozen=True, tag="target_given_up"):
    """An attempt failed, and this request does not try the same target again. `delivered` counts the characters of this
    attempt that its reader has.
    """

    target: Target
    failure: Failure
    delivered: int = 0


class TargetSkipped(_Notice, frozen=True, tag="target_skipped"):
    """A target was not asked: its breaker is open, or a rate limit, a budget or the time is used up."""

    target: Target
    failure: Failure


class FailedAfterCompletion(_Notice, frozen=True, tag="failed_after_completion"):
    """A vendor failed after it had said that its answer is complete. The answer counts."""

    target: Target
    failure: Failure


class UsageReportRejected(_Notice, frozen=True, tag="usage_report_rejected"):
    """A vendor reported a number of tokens that is not between 0 and `most`. The ledger estimates this attempt."""

    target: Target
    most: int


class RunNotCancelled(_Notice, frozen=True, tag="run_not_cancelled"):
    """A vendor keeps a run that nobody reads any more, and could not be told to stop it. It may cost tokens."""

    target: Target
    run: str
    failure: Failure


class AttemptNotRecorded(_Notice, frozen=True, tag="attempt_not_recorded"):
    """One account (`price`, `health`, `rate limits`, `cost` or `outcome`) could not record an attempt."""

    target: Target
    account: str
    failure: Failure


class RequestResent(_Notice, frozen=True, tag="request_resent"):
    """A server had closed an idle connection, so the request was sent again on a new one."""

    host: str
    failure: Failure


# ── tools ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class ToolRunBegan(_Notice, frozen=True, tag="tool_run_began"):
    """A tool is about to run, in a stream that belongs to no session: nothing else notes the run."""

    tool: str
    call: str
    run: str


class ToolRunFailed(_Notice, frozen=True, tag="tool_run_failed"):
    """A tool raised, or its result has no text. The model was told the type and the message of the error."""

    tool: str
    call: str
    run: str
    error: BaseException


class ToolRunStopped(_Notice, frozen=True, tag="tool_run_stopped"):
    """A run of a tool was cancelled for this `reason`. A plain function in a thread cannot be: it `still_runs`, and its
    result will be dropped.
    """

    tool: str
    call: str
    run: str
    reason: str
    still_runs: bool


# ── targets and money ──────────────────────────────────────────────────────────────────────────────────────────────


class BreakerChanged(_Notice, frozen=True, tag="breaker_changed"):
    """The breaker of a target has changed its state, for a `reason`."""

    target: Target
    state: BreakerState
    reason: str


class BudgetAlert(_Notice, frozen=True, tag="budget_alert"):
    """Spending has reached the share of a budget at which the policy wants an alert. `namespace` is empty for the
    budget of all requests together; `begins` is the day or the month.
    """

    namespace: str
    period: Period
    begins: str
    spent: float
    limit: float

    def __str__(self) -> str:
        whose = f"of {self.namespace!r} " if self.namespace else ""
        share = f"{self.spent / self.limit:.0%}" if self.limit else "100%"
        return f"the {self.period} budget {whose}is spent to {share}: ${self.spent:.4f} of ${self.limit:g}"


class BudgetCallbackFailed(_Notice, frozen=True, tag="budget_callback_failed"):
    """The application's `on_budget_alert` raised."""

    error: Exception


class SpendingNotWritten(_Notice, frozen=True, tag="spending_not_written"):
    """The file of recorded spending could not be written. The amounts stay in memory and go with the next write."""

    path: str
    failure: Failure


class PricesNotLoaded(_Notice, frozen=True, tag="prices_not_loaded"):
    """The price list could not be loaded. The next stream tries again."""

    failure: Failure


# ── the switch ─────────────────────────────────────────────────────────────────────────────────────────────────────


class ConfigurationChanged(_Notice, frozen=True, tag="configuration_changed"):
    """A switch has taken another configuration. `source` is its file, if it was read from one."""

    source: str | None


class ConfigurationRejected(_Notice, frozen=True, tag="configuration_rejected"):
    """The watched file has changed and is wrong. The switch keeps the configuration that it has."""

    error: ConfigurationError


class ProviderNotPrepared(_Notice, frozen=True, tag="provider_not_prepared"):
    """`LLMSwitch.warm()` could not load a provider's SDK or make its client."""

    provider: str
    failure: Failure


class CallbackFailed(_Notice, frozen=True, tag="callback_failed"):
    """A callback of the application raised an exception. Its stream continues."""

    callback: str
    error: BaseException


class ObserverFailed(_Notice, frozen=True, tag="observer_failed"):
    """An observer of the application raised an exception. The stream continues. Only the log gets this notice."""

    observer: str
    error: BaseException


# ── the cache ──────────────────────────────────────────────────────────────────────────────────────────────────────


class CacheFailed(_Notice, frozen=True, tag="cache_failed"):
    """The cache could not look up or record an answer. `is_first` is true for the first failure of the cache."""

    failure: Failure
    is_first: bool


class CacheNotWritten(_Notice, frozen=True, tag="cache_not_written"):
    """The cache's file cannot be written, so it records nothing new. There is one notice for each store."""

    path: str
    failure: Failure


class CacheKeptInMemory(_Notice, frozen=True, tag="cache_kept_in_memory"):
    """The cache's store cannot be opened, so this process keeps its answers in memory."""

    failure: Failure


class CacheFileSetAside(_Notice, frozen=True, tag="cache_file_set_aside"):
    """The cache's file was damaged. It was renamed to `renamed`, and the cache started a new file."""

    path: str
    renamed: str
    reason: str


# ── sessions ───────────────────────────────────────────────────────────────────────────────────────────────────────


class SessionNotStored(_Notice, frozen=True, tag="session_not_stored"):
    """A stream of a session ended early, and its turn could not be stored. The next stream of the session stores it
    first. An answer that is complete and cannot be stored is an error of its stream, and not a notice.
    """

    session: str
    failure: Failure


Notice: TypeAlias = (
    RetryScheduled
    | RunReadOn
    | TargetGivenUp
    | TargetSkipped
    | FailedAfterCompletion
    | UsageReportRejected
    | RunNotCancelled
    | AttemptNotRecorded
    | RequestResent
    | ToolRunBegan
    | ToolRunFailed
    | ToolRunStopped
    | BreakerChanged
    | BudgetAlert
    | BudgetCallbackFailed
    | SpendingNotWritten
    | PricesNotLoaded
    | ConfigurationChanged
    | ConfigurationRejected
    | ProviderNotPrepared
    | CallbackFailed
    | ObserverFailed
    | CacheFailed
    | CacheNotWritten
    | CacheKeptInMemory
    | CacheFileSetAside
    | SessionNotStored
)

Notify: TypeAlias = Callable[[Notice], None]
"""A function that takes notices. Any thread may call it. It has to return soon, because a stream may wait for it, and
must not raise.
"""
