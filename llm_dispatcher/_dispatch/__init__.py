"""The loop: the one place that decides what happens next in a stream."""

from .course import Course
from .job import AdmissionControl, Job, NoAdmission, Pass
from .ladder import offered_rung
from .ledger import Ledger
from .loop import attempts
from .open_streams import OpenStreams
from .retrying import RetryStop, RetryWait, check_strategies, load_what_failures_need

__all__ = [
    "AdmissionControl",
    "Course",
    "Job",
    "Ledger",
    "NoAdmission",
    "OpenStreams",
    "Pass",
    "RetryStop",
    "RetryWait",
    "attempts",
    "check_strategies",
    "load_what_failures_need",
    "offered_rung",
]
