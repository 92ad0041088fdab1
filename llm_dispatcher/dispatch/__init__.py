"""The loop: the one place that decides what happens next in a stream."""

from .attempts import attempts
from .given import Dispatch
from .ledger import Ledger
from .under_way import UnderWay

__all__ = ["Dispatch", "Ledger", "UnderWay", "attempts"]
