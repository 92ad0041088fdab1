"""How long a plan takes: 20 targets, each strategy, health and money in view. The bound is 50 µs.

python benchmarks/planning.py
"""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial
from typing import get_args

from llm_dispatcher._catalog import Catalog, load_prices
from llm_dispatcher._policy import Correction, Policy, Route, Strategy, Wishes
from llm_dispatcher._routing import Admission, Conditions, Pass, RequestFacts, SharedState, demands, plan
from llm_dispatcher.events import Attempt, Usage
from llm_dispatcher.provider import ProviderSettings
from llm_dispatcher.tasks import Target, TaskRequest, TaskType

TARGETS = tuple(Target(f"p{number % 4}", f"m{number}") for number in range(20))
REQUEST = TaskRequest("word " * 200, system="Be short.", max_tokens=300, metadata={"user": "u7"})
ROUNDS, PLANS = 50, 200


async def known_traffic(policy: Policy) -> SharedState:
    """Every target has been asked often."""
    traffic = SharedState(policy)
    for number, target in enumerate(TARGETS * 20):
        admission = Admission(traffic, RequestFacts(demands=demands(REQUEST)))
        admitted = await admission.enter(target)
        assert isinstance(admitted, Pass)
        first = 0.2 + number % 7 / 10
        usage = Usage(input_tokens=50, output_tokens=200)
        admitted.note(Attempt(target, 1, "completed", None, 9, "", None, usage, None, first, first + 2))
        admitted.leave()
    return traffic


def main() -> None:
    load_prices()
    quality = {TaskType.TEXT_GENERATION: 0.5}
    corrections = {
        target: Correction(input_price=number, output_price=30 - number, context_window=100_000, quality=quality)
        for number, target in enumerate(TARGETS, start=1)
    }
    catalog = Catalog(lambda target: ("openai_compatible", target.model), corrections)
    providers = {name: ProviderSettings(name=name, kind="openai_compatible") for name in ("p0", "p1", "p2", "p3")}
    route = Route(TARGETS, max_cost=1.0, max_latency=5.0, split=dict.fromkeys(TARGETS, 5.0), sticky="user")
    policy = Policy(providers, route)
    traffic = asyncio.run(known_traffic(policy))
    capabilities = partial(catalog.capabilities, load=False)
    for strategy in get_args(Strategy):
        wishes = Wishes(strategy=strategy)
        rounds: list[float] = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for _ in range(PLANS):
                now = Conditions(health=traffic.health.snapshot(), draw=0.5)
                plan(REQUEST, policy, capabilities=capabilities, conditions=now, wishes=wishes)
            rounds.append((time.perf_counter() - began) / PLANS)
        print(f"{strategy:9} median {statistics.median(rounds) * 1e6:5.1f} µs, best {min(rounds) * 1e6:5.1f} µs")


if __name__ == "__main__":
    main()
