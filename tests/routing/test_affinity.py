"""Affinity in a plan: the target that answered last comes first, and cached tokens have a price of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_dispatcher import ConfigurationError, LLMSwitch
from llm_dispatcher._catalog import Capabilities, Catalog
from llm_dispatcher._policy import Affinity, Correction, Policy, Route, Wishes
from llm_dispatcher._routing import Conditions, Plan, TargetHealth, plan
from llm_dispatcher._routing.affinity import after
from llm_dispatcher.events import Attempt, AttemptOutcome, Usage
from llm_dispatcher.exceptions import BudgetExceededError
from llm_dispatcher.provider import BODY, ProviderSettings
from llm_dispatcher.tasks import Target, TaskRequest

A, B, C = (Target("p", name) for name in "abc")
THE_BODY = Target(BODY, "")
PRICED = Capabilities(input_price=10.0, cached_input_price=1.0, output_price=0.0)
LONG = TaskRequest("word " * 4_000)
"""About 5,000 tokens."""


def planned(
    route: Route,
    affinity: Affinity | None,
    known: Mapping[Target, Capabilities] | None = None,
    request: TaskRequest = LONG,
    *,
    fallback: bool = True,
    **conditions: Any,
) -> Plan:
    return plan(
        request,
        Policy({"p": ProviderSettings(name="p", kind="openai")}, route),
        capabilities=lambda target: (known or {}).get(target, PRICED),
        conditions=Conditions(**conditions),
        wishes=Wishes(affinity=affinity, fallback=fallback),
    )


def goes_on(route: Route, last: Target, **more: Any) -> tuple[Target, ...]:
    return planned(route, Affinity(last), **more).targets


# ── the target that answered last ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("strategy", ["ordered", "cost", "speed", "quality", "balanced"])
def test_it_is_asked_first_and_the_others_keep_their_order(strategy: Any) -> None:
    known = {A: PRICED, B: replace(PRICED, input_price=11.0), C: replace(PRICED, input_price=12.0)}
    assert planned(Route((A, B, C), strategy), None, known).targets == (A, B, C)
    assert planned(Route((A, B, C), strategy), Affinity(C), known).targets == (C, A, B)
    assert planned(Route((A, B, C), strategy), Affinity(A), known).targets == (A, B, C)


def test_without_fallback_it_is_the_only_one() -> None:
    decided = planned(Route((A, B)), Affinity(B), fallback=False)
    assert decided.targets == (B,) and decided.rejected == {A: "fallback is switched off"}


@pytest.mark.parametrize(
    ("health", "route"),
    [
        (TargetHealth(breaker="open", opens_in=3.0), Route((A, B, C))),
        (TargetHealth(breaker="half_open", opens_in=0.0), Route((A, B, C))),
        (TargetHealth(breaker="half_open"), Route((A, B, C))),
        (TargetHealth(first_token_tail=3.0), Route((A, B, C), max_latency=1.0)),
    ],
)
def test_it_is_not_asked_first_while_it_cannot_serve_well(health: TargetHealth, route: Route) -> None:
    assert goes_on(route, B, health={B: health})[0] == A
    assert goes_on(route, B)[0] == B


def test_it_is_not_asked_if_the_plan_does_not_have_it() -> None:
    assert goes_on(Route((A, B)), C) == (A, B)
    assert goes_on(Route((A, B)), B, limited={B: 3.0}) == (A,)
    dear = {B: replace(PRICED, input_price=1_000.0)}
    assert goes_on(Route((A, B), max_cost=0.1), B, known=dear) == (A,)
    assert goes_on(Route((A, B)), B, known=dear, money_left=0.1) == (A,)
    assert goes_on(Route((A, B)), B, request=replace(LONG, model="p/a")) == (A,)


@pytest.mark.parametrize("strategy", ["ordered", "cost"])
def test_the_body_is_never_asked_first_for_an_earlier_answer(strategy: Any) -> None:
    assert goes_on(Route((A, THE_BODY), strategy), THE_BODY, has_body=True) == (A, THE_BODY)


def test_a_route_can_switch_it_off_and_then_nothing_changes() -> None:
    route = Route((A, B), "cost", affinity="off")
    known = {A: PRICED, B: replace(PRICED, input_price=11.0)}
    affinity = Affinity(B, {B: 4_000})
    assert planned(route, affinity, known) == planned(route, None, known)
    assert planned(replace(route, affinity="conversation"), affinity, known).targets == (B, A)


# ── after an answer ────────────────────────────────────────────────────────────────────────────────────────────────


def attempt(target: Target, outcome: AttemptOutcome = "completed", delivered: int = 0, **usage: Any) -> Attempt:
    return Attempt(target, 1, outcome, None, delivered, "", None, Usage(**usage), None, None, 1.0)


def test_the_last_answer_and_the_last_report_of_each_target_count() -> None:
    assert after(None, []) is None
    assert after(None, [attempt(A, "failed"), attempt(THE_BODY)]) is None
    first = after(None, [attempt(A, "failed"), attempt(B, source="reported", cache_write_tokens=900)])
    assert first == Affinity(B, {B: 900})
    reads = attempt(B, source="reported", cache_read_tokens=900, cache_write_tokens=100)
    assert after(first, [attempt(C, source="estimated"), reads]) == Affinity(B, {B: 1_000})
    moved = after(first, [attempt(B, "failed"), attempt(A, source="reported")])
    assert moved == Affinity(A, {B: 900, A: 0}), "a hard failure moves it, and the cache that is left is known"
    assert after(moved, [attempt(B, "cancelled"), attempt(C, "failed", delivered=9)]) == moved
    assert after(moved, [attempt(A, "failed"), attempt(A)]) == moved, "a retry has helped"
    lost = after(moved, [attempt(A, "failed"), attempt(B, "failed", delivered=9)])
    assert lost == Affinity(None, {B: 900, A: 0}), "nobody has answered"
    left = after(moved, [attempt(C, "cancelled", delivered=9)])
    assert left is not None and left.last == C, "its reader has left in the middle of the answer"


# ── a weighted split ───────────────────────────────────────────────────────────────────────────────────────────────


def split(**shares: float) -> Route:
    return Route((A, B), "weighted", split={Target("p", name): share for name, share in shares.items()}, sticky="user")


@given(st.floats(0, 1))
def test_a_conversation_without_a_key_stays_on_its_side_of_a_split(draw: float) -> None:
    assert goes_on(split(a=99, b=1), B, draw=draw)[0] == B


@pytest.mark.parametrize("named", ["sticky", "metadata"])
def test_a_sticky_key_wins_over_the_affinity(named: str) -> None:
    def keyed(key: str) -> TaskRequest:
        return TaskRequest("hi", sticky=key) if named == "sticky" else TaskRequest("hi", metadata={"user": key})

    for key in map(str, range(20)):
        at_first = planned(split(a=50, b=50), None, request=keyed(key)).targets
        assert goes_on(split(a=50, b=50), A, request=keyed(key)) == at_first
        assert goes_on(split(a=50, b=50), B, request=keyed(key)) == at_first


def test_a_share_that_was_taken_away_moves_the_conversations() -> None:
    assert goes_on(split(a=100, b=0), B) == goes_on(split(a=100), B) == (A, B)


# ── cached tokens ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_cost_counts_what_a_vendor_has_in_its_cache() -> None:
    known = {A: PRICED, B: replace(PRICED, input_price=11.0), C: replace(PRICED, input_price=12.0)}
    route = Route((A, B, C), "cost")
    decided = planned(route, Affinity(None, {C: 4_000}), known)
    assert decided.targets == (C, A, B)
    cold = planned(route, None, known)
    tokens = 5_000
    assert dict(zip(cold.targets, cold.dollars, strict=True))[C] == pytest.approx(tokens * 12e-6)
    assert decided.dollars[0] == pytest.approx(4_000 * 1e-6 + (tokens - 4_000) * 12e-6)
    assert decided.dollars[1:] == cold.dollars[:2]


def test_balanced_counts_it_too() -> None:
    known = {A: PRICED, B: replace(PRICED, input_price=11.0)}
    assert planned(Route((A, B), "balanced"), Affinity(None, {B: 4_000}), known).targets == (B, A)


def test_max_cost_and_budgets_count_it() -> None:
    for refusing in ({"route": Route((A,), max_cost=0.03)}, {"route": Route((A,)), "money_left": 0.03}):
        with pytest.raises(BudgetExceededError):
            planned(affinity=None, **refusing)
        assert planned(affinity=Affinity(A, {A: 4_000}), **refusing).targets == (A,)


@given(st.integers(-5, 10**9), st.floats(0, 100), st.none() | st.floats(0, 100), st.integers(0, 10**6))
def test_cached_tokens_are_a_part_of_the_input(cached: int, price: float, cheap: float | None, tokens: int) -> None:
    can = Capabilities(input_price=price, cached_input_price=cheap, output_price=1.0)
    dollars = can.dollars(tokens, 0, cached)
    assert dollars is not None
    ends = sorted((tokens * price / 1e6, tokens * (price if cheap is None else cheap) / 1e6))
    assert ends[0] == pytest.approx(dollars) or ends[0] <= dollars
    assert ends[1] == pytest.approx(dollars) or dollars <= ends[1]


def test_a_model_whose_price_for_cached_tokens_is_unknown_has_no_discount() -> None:
    bare = replace(PRICED, cached_input_price=None)
    assert bare.dollars(1_000, 0, 1_000) == bare.dollars(1_000, 0)


def test_the_catalog_knows_prices_of_cached_tokens_and_the_configuration_corrects_them() -> None:
    mini = Target("openai", "gpt-5-mini")

    def catalog(**correction: Any) -> Catalog:
        return Catalog(lambda target: ("openai", target.model), {mini: Correction(**correction)})

    known = catalog().capabilities(mini)
    assert known.input_price and known.cached_input_price and known.cached_input_price < known.input_price
    assert catalog(input_price=0.0).capabilities(mini).cached_input_price is None, "it belongs to the other price"
    assert catalog(input_price=2.0, cached_input_price=0.5).capabilities(mini).cached_input_price == 0.5
    usage = Usage(input_tokens=1_000_000, cache_read_tokens=400_000)
    assert catalog(input_price=2.0, output_price=1.0).cost(mini, usage) == pytest.approx(2.0)
    corrected = catalog(input_price=2.0, cached_input_price=0.5, output_price=1.0)
    assert corrected.cost(mini, usage) == pytest.approx(0.6 * 2.0 + 0.4 * 0.5)
    only = catalog(cached_input_price=0.0).cost(mini, usage)
    assert only == pytest.approx(0.6 * known.input_price), "one corrected price leaves the others"


# ── what is said of it ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_reasons_and_the_printed_plan_say_both() -> None:
    decided = planned(Route((A, B, C)), Affinity(B, {B: 1_200, C: 800}))
    assert list(decided.reasons.items()) == [
        (B, "it answered last, and has about 1,200 tokens of this prompt in its cache; number 2 as listed"),
        (A, "number 1 as listed"),
        (C, "it has about 800 tokens of this prompt in its cache; number 3 as listed"),
    ]
    assert str(decided).splitlines() == [
        "1. p/b: it answered last, and has about 1,200 tokens of this prompt in its cache",
        "2. p/a",
        "3. p/c: it has about 800 tokens of this prompt in its cache",
    ]


def test_a_target_that_is_not_asked_first_although_it_answered_last_has_the_reason() -> None:
    health = {B: TargetHealth(first_token_tail=3.0)}
    late = planned(Route((A, B), max_latency=1.0), Affinity(B), health=health)
    assert late.reasons[B] == "slower than max_latency; it answered last; number 2 as listed"
    half_open = planned(Route((A, B)), Affinity(B), health={B: TargetHealth(breaker="half_open")})
    assert half_open.reasons[B] == "it answered last, but its breaker is half open; number 2 as listed"
    keyed = planned(split(a=100, b=0), Affinity(B))
    assert keyed.reasons[B] == "it answered last; it has no share"


# ── whatever the world is like ─────────────────────────────────────────────────────────────────────────────────────

affinities = st.builds(
    Affinity,
    st.sampled_from([None, A, B, C, THE_BODY]),
    st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 9_000)),
)


@given(affinities, st.permutations([A, B, C]), st.sampled_from(["ordered", "quality", "speed", "weighted"]))
def test_an_affinity_moves_one_target_at_most(affinity: Affinity, listed: list[Target], strategy: Any) -> None:
    route = Route((*listed, THE_BODY), strategy, split=dict.fromkeys(listed, 1.0))
    before = list(planned(route, None, has_body=True).targets)
    after = list(planned(route, affinity, has_body=True).targets)
    if affinity.last in listed:
        before.remove(affinity.last)
        before.insert(0, affinity.last)
    assert after == before


@given(affinities)
def test_the_figures_stay_with_their_targets(affinity: Affinity) -> None:
    assume(affinity.last in (A, B, C))
    decided = planned(Route((A, B, C)), affinity)
    assert dict(zip(decided.targets, decided.figures, strict=True)) == {A: 0.0, B: 1.0, C: 2.0}
    assert len(decided.dollars) == len(decided.health) == len(decided.targets)


# ── the setting ────────────────────────────────────────────────────────────────────────────────────────────────────


def configured(**routing: Any) -> Policy:
    tasks = {"math": {"targets": ["ollama/m"], "affinity": "conversation"}}
    return LLMSwitch({
        "providers": {"ollama": {"models": ["m"]}}, "routing": {"default": ["ollama/m"], "tasks": tasks, **routing},
    }).policy  # fmt: skip


def test_it_is_on_by_default_and_a_route_has_its_own() -> None:
    assert configured().default.affinity == "conversation"
    for off in ("off", False):
        policy = configured(affinity=off)
        assert policy.default.affinity == "off"
        assert [route.affinity for route in policy.tasks.values()] == ["conversation"]
    with pytest.raises(ConfigurationError, match=r"routing\.affinity: .*conversation.*off"):
        configured(affinity="session")


def test_yaml_reads_off_without_quotes(tmp_path: Any) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("providers: {ollama: {models: [m]}}\nrouting: {default: [ollama/m], affinity: off}\n")
    assert LLMSwitch(file).policy.default.affinity == "off"
