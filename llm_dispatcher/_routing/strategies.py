"""Strategies: in which order the targets that can serve are asked.

A strategy is a pure function that gives every target a figure; the lowest comes first. Targets with equal figures stay
in the order in which they are listed. A new strategy is a function here and a row of `STRATEGIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from math import inf, isinf, log
from typing import Final

from msgspec import Struct

from .._catalog import Capabilities
from .._durations import in_seconds
from .._policy import Route, Strategy
from ..tasks import Target, TaskType
from .requirements import Demands
from .target_stats import TargetHealth


class Contender(Struct, frozen=True):
    """A target that can serve, with everything that a strategy may look at."""

    target: Target
    capabilities: Capabilities
    health: TargetHealth
    dollars: float | None


class Ranking(Struct, frozen=True):
    """The targets to put in order, and what is known of the request. `draw` is the key of a weighted split, and
    `is_sticky` says whether the request has set it.
    """

    contenders: Sequence[Contender]
    route: Route
    demands: Demands
    task_type: TaskType
    draw: str
    is_sticky: bool = False


UNKNOWN: Final = -1.0
"""The figure of a target whose speed is unknown. It comes first, because its speed would never be known otherwise."""


def by_order(ranking: Ranking) -> list[float]:
    """The order in which the route lists its targets."""
    return [float(place) for place in range(len(ranking.contenders))]


def by_cost(ranking: Ranking) -> list[float]:
    """The expected cost of the request in US dollars. A target without a known price comes last."""
    return [inf if each.dollars is None else each.dollars for each in ranking.contenders]


def by_speed(ranking: Ranking) -> list[float]:
    """Seconds in which nine answers in ten are complete. A target that fails often is taken to be slower."""
    tokens = ranking.demands.output_tokens
    figures: list[float] = []
    for each in ranking.contenders:
        health = each.health
        if health.first_token_tail is None:
            figures.append(UNKNOWN if not health.failing else inf)
            continue
        writing = tokens / health.tokens_a_second if health.tokens_a_second else 0.0
        figures.append(inf if health.failing >= 1 else (health.first_token_tail + writing) / (1 - health.failing))
    return figures


def by_quality(ranking: Ranking) -> list[float]:
    """The operator's quality figure for the task, the best first. A target without a figure comes last."""
    task = ranking.task_type
    return [-each.capabilities.quality.get(task, -inf) for each in ranking.contenders]


def by_balance(ranking: Ranking) -> list[float]:
    """Cost, speed and quality, each from 0 (the best here) to 1 (the worst here), by their weights."""
    weights = ranking.route.weights
    total = weights.cost + weights.speed + weights.quality
    columns = [
        (weight / total, _from_0_to_1(figures(ranking)))
        for weight, figures in ((weights.cost, by_cost), (weights.speed, by_speed), (weights.quality, by_quality))
        if weight
    ]
    return [sum(weight * column[place] for weight, column in columns) for place in range(len(ranking.contenders))]


def by_weight(ranking: Ranking) -> list[float]:
    """A weighted split by a hash of the key: each target wins its share of the keys, and the same key always the same
    target. If a target drops out, only the keys that it had won go elsewhere.
    """
    split, draw = ranking.route.split, ranking.draw
    return [
        -log(_fraction(f"{draw}\0{each.target}")) / weight if (weight := split.get(each.target, 0.0)) else inf
        for each in ranking.contenders
    ]


STRATEGIES: Final[Mapping[Strategy, Callable[[Ranking], list[float]]]] = {
    "ordered": by_order,
    "cost": by_cost,
    "speed": by_speed,
    "quality": by_quality,
    "balanced": by_balance,
    "weighted": by_weight,
}


def in_words(strategy: Strategy, figure: float) -> str:
    """Why a target has its place."""
    match strategy:
        case "ordered":
            return f"number {figure + 1:g} as listed"
        case "cost":
            return "its price is not known" if isinf(figure) else f"about ${figure:.6f}"
        case "speed" if figure == UNKNOWN:
            return "its speed is not known yet"
        case "speed":
            return "it has been failing" if isinf(figure) else f"about {in_seconds(figure)}"
        case "quality":
            return "it has no quality figure" if isinf(figure) else f"quality {-figure:g}"
        case "balanced":
            return f"{figure:.2f} on a scale from 0 (the best in all) to 1"
        case _:  # weighted
            return "it has no share" if isinf(figure) else "its share of the split"


def _from_0_to_1(figures: list[float]) -> list[float]:
    """Figures on a common scale. An unknown figure is in the middle, and that of a failing target at the end."""
    finite = [figure for figure in figures if figure != UNKNOWN and not isinf(figure)]
    if not finite:
        return [0.5] * len(figures)
    least, width = min(finite), max(finite) - min(finite)
    return [
        0.5 if figure == UNKNOWN else 1.0 if isinf(figure) else (figure - least) / width if width else 0.0
        for figure in figures
    ]


def _fraction(key: str) -> float:
    """A number between 0 and 1 that looks random and is always the same for a key."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**64
