"""The log: the observer that writes each notice as one line to the logger `llm_dispatcher`.

This is the only module that calls the logger. docs/operations.md has a table of all its lines, and a test compares the
two.
"""

from __future__ import annotations

import logging
from typing import Final

from ._durations import in_seconds
from ._redaction import loggable_id
from .events import Failure
from .notices import (
    AttemptNotRecorded,
    BreakerChanged,
    BudgetAlert,
    BudgetCallbackFailed,
    CacheFailed,
    CacheFileSetAside,
    CacheKeptInMemory,
    CacheNotWritten,
    CallbackFailed,
    ConfigurationChanged,
    ConfigurationRejected,
    FailedAfterCompletion,
    Notice,
    ObserverFailed,
    PricesNotLoaded,
    ProviderNotPrepared,
    RequestResent,
    RetryScheduled,
    RunNotCancelled,
    RunReadOn,
    SessionNotStored,
    SpendingNotWritten,
    TargetGivenUp,
    TargetSkipped,
    ToolRunBegan,
    ToolRunFailed,
    ToolRunStopped,
    UsageReportRejected,
)

logger: Final = logging.getLogger("llm_dispatcher")


def write(notice: Notice) -> None:
    """Write a notice to the log. Any thread may call this."""
    match notice:
        case RetryScheduled(target, failure, seconds, delivered):
            error = _in_short(failure, delivered)
            logger.info("%s: trying again in %s after %s", target, in_seconds(seconds), error)
        case RunReadOn(target, run, failure, seconds, delivered):
            error = _in_short(failure, delivered)
            logger.info("%s: reading the run %s on in %s after %s", target, run, in_seconds(seconds), error)
        case TargetGivenUp(target, failure, delivered):
            logger.warning("%s: gave up after %s", target, _in_short(failure, delivered))
        case TargetSkipped(target, failure):
            logger.warning("%s: skipped: %s", target, _in_short(failure))
        case FailedAfterCompletion(target, failure):
            logger.debug("%s: %s after the answer was complete", target, failure.message)
        case UsageReportRejected(target, most):
            logger.warning("%s: its usage report was ignored: a count is not between 0 and %s", target, most)
        case RunNotCancelled(target, run, failure):
            logger.warning("%s: the run %s could not be cancelled: %s", target, run, _error(failure))
        case AttemptNotRecorded(target, account, failure):
            logger.warning("%s: could not record the %s of an attempt: %s", target, account, _error(failure))
        case RequestResent(host, failure):
            logger.debug("%s: sending again, because a reused connection was closed: %s", host, failure.message)
        case ToolRunBegan(tool, call, run):
            logger.info("the tool %s runs for the call %s (run %s)", tool, loggable_id(call), run)
        case ToolRunFailed(tool, _, run, error):
            logger.error("the tool %s raised (run %s)", tool, run, exc_info=error)
        case ToolRunStopped(tool, _, run, reason, still_runs):
            outcome = "its thread still runs, and its result will be dropped" if still_runs else "it was cancelled"
            logger.warning("the tool %s is not waited for, because %s: %s (run %s)", tool, reason, outcome, run)
        case BreakerChanged(target, state, reason):
            level = logging.WARNING if state == "open" else logging.INFO
            logger.log(level, "%s: the breaker is %s: %s", target, state.replace("_", " "), reason)
        case BudgetAlert():
            logger.warning("budget alert: %s", notice)
        case BudgetCallbackFailed(error):
            logger.error("the callback for budget alerts failed", exc_info=error)
        case SpendingNotWritten(path, failure):
            logger.error("%s: spending is not written yet: %s", path, failure.message)
        case PricesNotLoaded(failure):
            logger.warning("prices could not be loaded yet: %s", _error(failure))
        case ConfigurationChanged(source):
            logger.info("the configuration was reloaded from %s", source)
        case ConfigurationRejected(error):
            logger.error("the configuration was not reloaded: %s", error)
        case ProviderNotPrepared(provider, failure):
            logger.warning("%s: could not be prepared: %s", provider, _error(failure))
        case ObserverFailed(observer, error):
            logger.error("the observer %s raised", observer, exc_info=error)
        case CallbackFailed(callback, error):
            logger.error("the callback %s raised", callback, exc_info=error)
        case CacheFailed(failure, is_first):
            level = logging.WARNING if is_first else logging.DEBUG  # a disk that is full is full for every request
            logger.log(level, "the cache failed, which costs a miss: %s", _error(failure))
        case CacheNotWritten(path, failure):
            logger.warning("the cache in %s records nothing new: %s", path, failure.message)
        case CacheKeptInMemory(failure):
            logger.warning(
                "the cache keeps its answers in memory, because its store cannot be opened: %s", _error(failure)
            )
        case CacheFileSetAside(path, renamed, reason):
            logger.warning("the cache in %s was renamed to %s: %s", path, renamed, reason)
        case SessionNotStored(session, failure):
            logger.error("the session %s is not stored yet: %s", session, failure.message)


def _error(failure: Failure) -> str:
    return f"{failure.kind}: {failure.message}"


def _in_short(failure: Failure, delivered: int = 0) -> str:
    status = f"HTTP {failure.status}" if failure.status is not None else ""
    request = f"request {failure.request_id}" if failure.request_id else ""
    details = ", ".join(filter(None, (status, request)))
    broke = f", {delivered} characters into the answer" if delivered else ""
    return f"{_error(failure)}{f' ({details})' if details else ''}{broke}"
