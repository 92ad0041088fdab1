"""Which targets may serve a request, in which order, and why not the others; and whether they may be asked now."""

from .admission import Admission, Errand, Traffic
from .budgets import BudgetAlert, Period
from .candidates import candidates
from .plan import Plan, Situation, Wishes, needs_prices, plan, route_of
from .requirements import demands, never_asked
from .target_stats import TargetHealth

__all__ = [
    "Admission",
    "BudgetAlert",
    "Errand",
    "Period",
    "Plan",
    "Situation",
    "TargetHealth",
    "Traffic",
    "Wishes",
    "candidates",
    "demands",
    "needs_prices",
    "never_asked",
    "plan",
    "route_of",
]
