"""A week of simulated traffic, in simulated time, over the real plan, breakers, retry budgets and health.

python benchmarks/routing_week.py

Three vendors, a request every twelve seconds. On Tuesday the first vendor is slow, on Thursday it is down for six
hours, and on Saturday the cheapest raises its price. It writes the table in docs/routing.md and the plot beside it.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from llm_dispatcher._catalog import Catalog
from llm_dispatcher._dispatch.retrying import Retrying
from llm_dispatcher._policy import Correction, Policy, Route, Strategy, Wishes
from llm_dispatcher._resilience import Resilience
from llm_dispatcher._routing import Admission, Conditions, Pass, RequestFacts, SharedState, demands, plan
from llm_dispatcher.events import Attempt, Failure, Usage
from llm_dispatcher.exceptions import ProviderServiceUnavailableError
from llm_dispatcher.provider import ProviderSettings
from llm_dispatcher.tasks import Target, TaskRequest, TaskType

DAY: Final = 86_400.0
EVERY: Final = 12.0
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SLOW: Final = (1 * DAY, 2 * DAY)
DOWN: Final = (3 * DAY + 9 * 3600, 3 * DAY + 15 * 3600)
DEARER_FROM: Final = 5 * DAY
DOCS: Final = Path(__file__).parents[1] / "docs"


class Vendor(Struct, frozen=True):
    """How one simulated vendor is: `first` is the usual first-token time in seconds, prices are a million tokens."""

    target: Target
    first: float
    tokens_a_second: float
    failing: float
    input_price: float
    output_price: float
    quality: float


VENDORS: Final = (
    Vendor(Target("first", "large"), 0.5, 90, 0.004, 3.0, 15.0, 0.9),
    Vendor(Target("second", "medium"), 0.7, 70, 0.004, 1.0, 5.0, 0.8),
    Vendor(Target("third", "small"), 1.1, 45, 0.02, 0.2, 0.8, 0.6),
)
BY_TARGET: Final = {vendor.target: vendor for vendor in VENDORS}
PROVIDERS: Final = {
    vendor.target.provider: ProviderSettings(name=vendor.target.provider, kind="simulated") for vendor in VENDORS
}


class Answer(Struct, frozen=True):
    """The result of one request."""

    began: float
    first_token: float | None
    dollars: float


Course: TypeAlias = Generator[float, None, Answer]
"""A request on its way: it yields the seconds that it waits."""


class Week:
    """One strategy's week. The clock is turned from one thing that happens to the next."""

    def __init__(
        self,
        strategy: Strategy | None,
        choose: Callable[[random.Random], Target] | None = None,
        max_latency: float | None = None,
    ) -> None:
        self.now = 0.0
        self.choose = choose
        self.wishes = Wishes(strategy=strategy, max_latency=max_latency)
        self.policy = Policy(PROVIDERS, Route(tuple(BY_TARGET)), resilience=Resilience())
        self.traffic = SharedState(self.policy, clock=lambda: self.now, now=self._moment)
        self.catalog = self._priced(1.0)
        self.answers: list[Answer] = []

    def run(self) -> None:
        arrivals = random.Random(1)
        queue: list[tuple[float, int, Course]] = []
        number, at = 0, 0.0
        while at < 7 * DAY or queue:
            if at < 7 * DAY and (not queue or at <= queue[0][0]):
                self.now = at
                if at >= DEARER_FROM > at - EVERY * 20:
                    self.catalog = self._priced(12.0)  # as if the operator had reloaded the prices
                heapq.heappush(queue, (at, number, self._request(number)))
                number, at = number + 1, at + arrivals.expovariate(1 / EVERY)
                continue
            self.now, place, course = heapq.heappop(queue)
            try:
                heapq.heappush(queue, (self.now + next(course), place, course))
            except StopIteration as over:
                self.answers.append(over.value)

    def _moment(self) -> datetime:
        return datetime(2026, 11, 16, tzinfo=UTC) + timedelta(seconds=self.now)

    def _priced(self, times: float) -> Catalog:
        corrections = {
            vendor.target: Correction(
                input_price=vendor.input_price * (times if vendor is VENDORS[-1] else 1),
                output_price=vendor.output_price * (times if vendor is VENDORS[-1] else 1),
                quality={TaskType.TEXT_GENERATION: vendor.quality},
            )
            for vendor in VENDORS
        }
        return Catalog(lambda target: ("simulated", target.model), corrections)

    def _request(self, number: int) -> Course:
        dice = random.Random(number)
        request = TaskRequest("word " * dice.randint(50, 800), max_tokens=dice.randint(50, 600))
        began, dollars = self.now, 0.0
        admission = Admission(self.traffic, RequestFacts(demands=demands(request)))
        for target in self._targets(request, dice):
            tries, admitted = 0, None
            while self.choose is not None or (admitted := _enter(admission, target)) is not None:
                tries += 1
                attempt = self._attempt(target, request, random.Random(f"{number} {target} {tries}"))
                yield attempt.elapsed
                dollars += attempt.usage.cost or 0.0
                if admitted is not None:
                    admitted.note(attempt)
                    admitted.leave()
                if attempt.failure is None:
                    first = self.now - attempt.elapsed + (attempt.first_token_after or 0.0) - began
                    return Answer(began, first, dollars)
                seconds = Retrying(self.policy.resilience).seconds_to_wait(
                    ProviderServiceUnavailableError("down"), tries, None
                )
                if seconds is None:
                    break
                yield seconds
        return Answer(began, None, dollars)

    def _targets(self, request: TaskRequest, dice: random.Random) -> tuple[Target, ...]:
        if self.choose is not None:
            return (self.choose(dice),)
        now = Conditions(health=self.traffic.health.snapshot(), draw=dice.random())
        capabilities = partial(self.catalog.capabilities, load=False)
        return plan(request, self.policy, capabilities=capabilities, conditions=now, wishes=self.wishes).targets

    def _attempt(self, target: Target, request: TaskRequest, dice: random.Random) -> Attempt:
        """The outcome of one attempt, from the vendor's behaviour, the day and the dice."""
        vendor, is_first = BY_TARGET[target], target == VENDORS[0].target
        nothing = Attempt(target, 1, "failed", None, 0, "", None, Usage(), None, None, 0.3)
        if (is_first and DOWN[0] <= self.now < DOWN[1]) or dice.random() < vendor.failing:
            return replace(nothing, failure=Failure("ProviderServiceUnavailableError", "down", status=503))
        slow = 12.0 if is_first and SLOW[0] <= self.now < SLOW[1] else 1.0
        first = vendor.first * slow * math.exp(dice.gauss(0, 0.4))
        request_demands = demands(request)
        usage = Usage(
            request_demands.input_tokens, round(request_demands.most_output * dice.uniform(0.5, 1.0)), source="reported"
        )
        usage = replace(usage, cost=self.catalog.cost(target, usage))
        writing = usage.output_tokens / vendor.tokens_a_second
        return replace(nothing, outcome="completed", usage=usage, first_token_after=first, elapsed=first + writing)


def _enter(admission: Admission, target: Target) -> Pass | None:
    """Ask the admission; without rate limits it has nothing to wait for."""
    asking = admission.enter(target)
    try:
        asking.send(None)
    except StopIteration as answered:
        return answered.value if isinstance(answered.value, Pass) else None
    raise AssertionError("the admission waits")


# ── results ────────────────────────────────────────────────────────────────────────────────────────────────


def tail(answers: list[Answer], share: float) -> float:
    firsts = sorted(answer.first_token for answer in answers if answer.first_token is not None)
    return firsts[int(share * len(firsts))] if firsts else math.nan


def row(name: str, answers: list[Answer]) -> str:
    dollars = 1_000 * statistics.fmean(answer.dollars for answer in answers)
    served = statistics.fmean(answer.first_token is not None for answer in answers)
    tails = " | ".join(f"{tail(answers, share):.2f} s" for share in (0.5, 0.95, 0.99))
    return f"| {name} | ${dollars:.2f} | {tails} | {served:.2%} |"


COLORS: Final = ("#777777", "#bbbbbb", "#d62728", "#8c564b", "#2ca02c", "#1f77b4", "#9467bd", "#ff7f0e")
BUCKET: Final = DAY / 4
DASHED: Final = ("quality", "balanced")
"""Lines that lie upon others, which show through them."""
EVENTS: Final = (("slow", *SLOW), ("down", *DOWN), ("a price rises", DEARER_FROM, 7 * DAY))
WIDTH, HEIGHT, LEFT, TOP = 900, 190, 70, 80


def panel(place: int, title: str, lines: dict[str, list[float]], top: float, unit: str) -> str:
    """One picture of the week: a line a strategy."""
    base = TOP + place * (HEIGHT + 50)

    def point(index: int, value: float) -> str:
        x = LEFT + (index + 0.5) * (WIDTH - LEFT - 20) / 28
        return f"{x:.1f},{base + HEIGHT * (1 - min(value, top) / top):.1f}"

    def x_of(moment: float) -> float:
        return LEFT + moment / (7 * DAY) * (WIDTH - LEFT - 20)

    parts = [f'<text x="{LEFT}" y="{base - 8}" font-weight="bold">{title}</text>']
    for what, begin, end in EVENTS:
        width, middle = x_of(end) - x_of(begin), (x_of(begin) + x_of(end)) / 2
        parts.append(f'<rect x="{x_of(begin):.1f}" y="{base}" width="{width:.1f}" height="{HEIGHT}" fill="#f3f0e4"/>')
        parts.append(f'<text x="{middle:.1f}" y="{base + 18}" text-anchor="middle" fill="#8a8060">{what}</text>')
    for day, name in enumerate(DAYS):
        parts.append(f'<text x="{x_of((day + 0.4) * DAY):.1f}" y="{base + HEIGHT + 16}">{name}</text>')
    for step in range(5):
        y = base + HEIGHT * (1 - step / 4)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{top * step / 4:g}{unit}</text>')
    for color, (name, values) in zip(COLORS, lines.items(), strict=True):
        dashes = ' stroke-dasharray="6 6"' if name in DASHED else ""
        points = " ".join(point(index, value) for index, value in enumerate(values) if not math.isnan(value))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"{dashes}/>')
    return "\n".join(parts)


def plot(weeks: dict[str, list[Answer]]) -> str:
    """The week as an SVG picture: quarters of days."""

    def quarters(answers: list[Answer]) -> list[list[Answer]]:
        parts: list[list[Answer]] = [[] for _ in range(28)]
        for answer in answers:
            parts[int(answer.began / BUCKET)].append(answer)
        return parts

    cut = {name: quarters(answers) for name, answers in weeks.items()}
    tails = {name: [tail(part, 0.95) for part in parts] for name, parts in cut.items()}
    cost = {
        name: [1_000 * statistics.fmean(answer.dollars for answer in part) for part in parts]
        for name, parts in cut.items()
    }
    served = {
        name: [100 * statistics.fmean(answer.first_token is not None for answer in part) for part in parts]
        for name, parts in cut.items()
    }
    legend = "\n".join(
        f'<rect x="{LEFT + 200 * (place % 4)}" y="{10 + 22 * (place // 4)}" width="12" height="12" fill="{color}"/>'
        f'<text x="{LEFT + 200 * (place % 4) + 18}" y="{20 + 22 * (place // 4)}">{name}</text>'
        for place, (color, name) in enumerate(zip(COLORS, weeks, strict=True))
    )
    height = TOP + 3 * (HEIGHT + 50)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="{WIDTH}" height="{height}" fill="white"/>\n{legend}\n'
        + panel(0, "first token, 95 % are faster", tails, 16, " s")
        + panel(1, "US dollars a thousand requests", cost, 8, "")
        + panel(2, "answered", served, 100, " %")
        + "\n</svg>\n"
    )


def main() -> None:
    weeks = {
        "always the first": Week(None, lambda dice: VENDORS[0].target),
        "random": Week(None, lambda dice: dice.choice(VENDORS).target),
        "ordered": Week("ordered"),
        "ordered, ≤ 2 s": Week("ordered", max_latency=2.0),
        "cost": Week("cost"),
        "speed": Week("speed"),
        "quality": Week("quality"),
        "balanced": Week("balanced"),
    }
    rows: list[str] = []
    for name, week in weeks.items():
        random.seed(7)  # the waits between tries are drawn from here
        began = time.perf_counter()
        week.run()
        rows.append(row(name, week.answers))
        print(f"{rows[-1]}  ({len(week.answers)} requests in {time.perf_counter() - began:.1f} s)")
    table = [
        "| strategy | a thousand requests | first token, half | 95 % | 99 % | answered |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    page = DOCS / "routing.md"
    before, _, rest = page.read_text().partition("<!-- routing_week -->\n")
    after = rest.partition("<!-- end of routing_week -->")[2]
    page.write_text(f"{before}<!-- routing_week -->\n" + "\n".join(table) + f"\n<!-- end of routing_week -->{after}")
    (DOCS / "routing_week.svg").write_text(plot({name: week.answers for name, week in weeks.items()}))


if __name__ == "__main__":
    main()
