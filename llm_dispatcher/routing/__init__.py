"""Which targets may serve a request, in which order, and why not the others."""

from .health import Health, TargetHealth
from .plan import Plan, plan

__all__ = ["Health", "Plan", "TargetHealth", "plan"]
