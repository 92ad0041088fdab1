"""An error while an attempt is recorded does not change its answer.

Price, health, rate limits and budgets record an attempt when it is over. They work with numbers that came from a
vendor, so each of them may meet a number that it cannot handle. The error then becomes a notice and is not raised.
See docs/decisions/0020.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from .events import Failure
from .notices import AttemptNotRecorded, Notify
from .tasks import Target


@contextmanager
def reported_not_raised(target: Target, account: str, notify: Notify) -> Generator[None, None, None]:
    """Run one step of recording an attempt. If it fails, send a notice that names the account, and go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - an error of the bookkeeping must not reach the reader
        notify(AttemptNotRecorded(target, account, Failure.of(error)))
