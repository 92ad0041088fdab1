"""The loop: the one place that decides what happens next in a stream."""

from .attempts import Dispatch, attempts
from .ledger import Ledger

__all__ = ["Dispatch", "Ledger", "attempts"]
