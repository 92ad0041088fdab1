"""The loop: the one place that decides what happens next in a stream."""

from .job import Dispatch
from .ledger import Ledger
from .loop import attempts
from .open_streams import UnderWay
from .retrying import load_what_failures_need

__all__ = ["Dispatch", "Ledger", "UnderWay", "attempts", "load_what_failures_need"]
