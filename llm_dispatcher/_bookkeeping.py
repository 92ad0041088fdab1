"""What is recorded about an attempt must not decide about its answer.

Price, health, rate limits and budgets are told of an attempt when it is over. They work with numbers that came from a
vendor, so each of them may meet a number that it cannot handle. Such a failure is logged here and goes no further.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from .tasks import Target

logger: Final = logging.getLogger("llm_dispatcher")


@contextmanager
def logged_not_raised(target: Target, account: str) -> Generator[None, None, None]:
    """Run one step of recording an attempt. If it fails, log a warning that names the account, and go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, the reader's answer is not to suffer from it
        logger.warning(
            "%s: could not record the %s of an attempt: %s: %s", target, account, type(error).__name__, error
        )
