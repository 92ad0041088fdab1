"""The loop: the one place that decides what happens next in a stream."""

from .attempts import Dispatch, attempts
from .ledger import Ledger
from .under_way import UnderWay

__all__ = ["Dispatch", "Ledger", "UnderWay", "attempts"]
