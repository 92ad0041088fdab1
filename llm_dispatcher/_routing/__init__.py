"""Routing: which targets may serve a request, in which order, why others may not, and whether they are free now."""

from .admission import Admission, Pass, RequestFacts
from .affinity import after as affinity_after
from .candidates import candidates
from .health import RouteBreakers
from .plan import Conditions, Plan, needs_prices, plan, route_of
from .requirements import demands, why_unusable
from .shared_state import SharedState
from .target_stats import TargetHealth

__all__ = [
    "Admission",
    "Conditions",
    "Pass",
    "Plan",
    "RequestFacts",
    "RouteBreakers",
    "SharedState",
    "TargetHealth",
    "affinity_after",
    "candidates",
    "demands",
    "needs_prices",
    "plan",
    "route_of",
    "why_unusable",
]
