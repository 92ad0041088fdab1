"""Which targets may serve a request, in which order, and why not the others; and whether they may be asked now."""

from .admission import Admission, Traffic
from .plan import Plan, Situation, Wishes, needs_prices, plan
from .pulse import TargetHealth

__all__ = ["Admission", "Plan", "Situation", "TargetHealth", "Traffic", "Wishes", "needs_prices", "plan"]
