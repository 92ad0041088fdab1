"""Routing: which targets may serve a request, in which order, why others may not, and whether they are free now."""

from .admission import Admission, Errand, Traffic
from .candidates import candidates
from .plan import Plan, Situation, needs_prices, plan, route_of
from .requirements import demands, never_asked
from .target_stats import TargetHealth

__all__ = [
    "Admission",
    "Errand",
    "Plan",
    "Situation",
    "TargetHealth",
    "Traffic",
    "candidates",
    "demands",
    "needs_prices",
    "never_asked",
    "plan",
    "route_of",
]
