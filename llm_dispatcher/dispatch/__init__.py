"""The loop: the one place that decides what happens next in a stream."""

from .attempts import attempts
from .given import Dispatch
from .ledger import Ledger
from .patience import load_what_failures_need
from .under_way import UnderWay

__all__ = ["Dispatch", "Ledger", "UnderWay", "attempts", "load_what_failures_need"]
