"""Which targets may serve a request, in which order, and why not the others."""

from .admission import Admission, Traffic
from .health import Health, TargetHealth
from .plan import Plan, plan

__all__ = ["Admission", "Health", "Plan", "TargetHealth", "Traffic", "plan"]
