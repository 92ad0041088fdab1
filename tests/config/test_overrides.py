"""A provider, a model and a route can change a part of `resilience`, and only what makes sense there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher._config import config_dump, load
from llm_dispatcher._policy import Policy
from llm_dispatcher._resilience import BreakerOverride, Flow, Resilience, ResilienceOverride, TimeoutsOverride
from llm_dispatcher.exceptions import ConfigurationError
from llm_dispatcher.tasks import Target, TaskType

MODEL, SIBLING, OTHER = Target("p", "m"), Target("p", "sibling"), Target("q", "n")


def policy_of(
    *,
    top: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None,
    provider: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
) -> Policy:
    """A policy with an override at each of these levels. Its route for math has the override of the route."""
    config = {
        "providers": {
            "p": {"kind": "ollama", "models": {"m": {"resilience": model}, "sibling": {}}, "resilience": provider},
            "q": {"kind": "ollama", "models": ["n"]},
        },
        "routing": {
            "default": ["p/m", "q/n"],
            "tasks": {"math": {"targets": ["p/m", "q/n"], "resilience": route}},
        },
        "resilience": top,
    }
    return load(config, environ=environ or {})


value: st.SearchStrategy[dict[str, Any] | None] = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "max_retries": st.integers(0, 10),
        "backoff": st.floats(0, 9),
        "max_retry_after": st.floats(0, 9),
        "timeouts": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "idle": st.none() | st.floats(1, 9),
                "connect": st.none() | st.floats(1, 9),
                "flow": st.none()
                | st.fixed_dictionaries({"characters": st.integers(1, 9), "seconds": st.floats(1, 9)}),
            },
        ),
    },
)


def strongest(levels: list[dict[str, Any] | None], *path: str) -> object:
    """What the last level that has the key says; the default if none has it."""
    found: object = Resilience()
    for name in path:
        found = getattr(found, name)
    for level in levels:
        below: Any = level
        for name in path:
            below = below.get(name, ...) if isinstance(below, dict) else ...
        found = found if below is ... else below
    return Flow(**found) if isinstance(found, dict) else found


@given(top=value, route=value, provider=value, model=value)
def test_the_nearest_level_that_has_a_key_wins(
    top: dict[str, Any] | None,
    route: dict[str, Any] | None,
    provider: dict[str, Any] | None,
    model: dict[str, Any] | None,
) -> None:
    policy = policy_of(top=top, route=route, provider=provider, model=model)
    for task, target, levels in (
        (TaskType.MATH, MODEL, [top, route, provider, model]),
        (TaskType.MATH, SIBLING, [top, route, provider]),
        (TaskType.MATH, OTHER, [top, route]),
        (TaskType.REASONING, MODEL, [top, provider, model]),
        (None, MODEL, [top, provider, model]),
        (TaskType.MATH, None, [top, route]),
    ):
        resilience = policy.resilience_of(task, target)
        assert resilience.max_retries == strongest(levels, "max_retries")
        assert resilience.backoff == strongest(levels, "backoff")
        assert resilience.max_retry_after == strongest(levels, "max_retry_after")
        for clock in ("idle", "connect", "flow"):
            assert getattr(resilience.timeouts, clock) == strongest(levels, "timeouts", clock)
        assert resilience.timeouts.total == 300
    again = load(config_dump(policy), environ={})
    assert again == policy


def test_a_policy_without_overrides_has_one_resilience() -> None:
    policy = policy_of(top={"max_retries": 7})
    assert policy.resilience_of(TaskType.MATH, MODEL) is policy.resilience


def test_an_empty_override_is_none() -> None:
    policy = policy_of(model={}, route={"timeouts": {}})
    assert policy.providers["p"].models["m"].resilience is None
    assert policy.resilience_of(TaskType.MATH, MODEL) == policy.resilience


def test_a_breaker_and_a_retry_budget_are_changed_in_part() -> None:
    policy = policy_of(
        top={"breaker": {"window": 60, "probes": 3}, "retry_budget": {"floor": 2}},
        provider={"breaker": {"failures": None, "window": 10}, "retry_budget": {"share": 0.5}},
        model={"breaker": {"window": 5}},
    )
    breaker = policy.resilience_of(None, MODEL).breaker
    assert (breaker.failures, breaker.window, breaker.cooldown, breaker.probes) == (None, 5, 15, 3)
    budget = policy.resilience_of(None, SIBLING).retry_budget
    assert (budget.share, budget.floor) == (0.5, 2)


@pytest.mark.parametrize(
    ("level", "override", "message"),
    [
        ("model", {"timeouts": {"total": 5}}, r"providers\.p\.models\.m\.resilience\.timeouts\.total: is for a whole"),
        ("provider", {"timeouts": {"total": 5}}, r"providers\.p\.resilience\.timeouts\.total: is for a whole request"),
        ("provider", {"on_break": "raise"}, r"on_break: is for a whole request: write it under resilience, or under a"),
        ("model", {"on_unproven": "show"}, r"on_unproven: is for a whole request"),
        ("model", {"fallback_enabled": False}, r"fallback_enabled: is for a whole request"),
        ("model", {"retry_budget": {"share": 1}}, r"retry_budget: is for a whole provider"),
        ("route", {"retry_budget": {"share": 1}}, r"retry_budget: is for a whole provider"),
        ("route", {"breaker": {"failures": 0}}, r"math\.resilience\.breaker\.failures: must be"),
        ("route", {"durability": "reattachable"}, r"durability: is the same for all routes"),
        ("model", {"timeouts": {"idel": 5}}, r"timeouts\.idel: unknown key; did you mean 'idle'\?"),
        ("route", {"max_retrys": 5}, r"math\.resilience\.max_retrys: unknown key; did you mean 'max_retries'\?"),
        ("route", {"timeouts": {"total": 0}}, r"timeouts\.total: must be more than 0"),
        ("model", {"max_retries": None}, r"max_retries: must be a whole number, got nothing"),
        ("provider", {"continuation": "go on"}, r"continuation: must hold \{anchor\}"),
    ],
)
def test_what_makes_no_sense_at_a_level_is_refused_by_name(level: str, override: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as error:
        policy_of(**{level: override})
    assert len(error.value.problems) <= 1


def test_a_route_has_a_total_of_its_own() -> None:
    policy = policy_of(top={"timeouts": {"total": 20}}, route={"timeouts": {"total": None}})
    assert policy.resilience_of(TaskType.MATH, None).timeouts.total is None
    assert policy.resilience_of(TaskType.REASONING, None).timeouts.total == 20


def test_an_override_comes_from_a_variable_too() -> None:
    policy = policy_of(
        provider={"timeouts": {"idle": 4}},
        environ={
            "LLM_DISPATCHER_PROVIDERS__P__RESILIENCE__TIMEOUTS__CONNECT": "0.5",
            "LLM_DISPATCHER_PROVIDERS__P__RESILIENCE__MAX_RETRIES": "9",
        },
    )
    assert policy.providers["p"].resilience == ResilienceOverride(
        max_retries=9, timeouts=TimeoutsOverride(idle=4.0, connect=0.5)
    )


def test_the_durability_of_a_provider_is_that_of_the_policy_or_its_own() -> None:
    """A provider is made once, with its settings, and sees no policy."""
    policy = policy_of(top={"durability": "reattachable"}, provider={"durability": "live"})
    assert policy.providers["q"].durability_of("n") == "reattachable"
    assert policy.providers["p"].durability_of("m") == "live"
    of_model = policy_of(model={"durability": "reattachable"})
    assert of_model.providers["p"].durability_of("m") == "reattachable"
    assert of_model.providers["p"].durability_of("sibling") == "live"
    for each, target in ((policy, OTHER), (policy, MODEL), (of_model, MODEL), (of_model, SIBLING)):
        settings = each.providers[target.provider]
        assert settings.durability_of(target.model) == each.resilience_of(None, target).durability


def test_overrides_can_be_written_in_code() -> None:
    override = ResilienceOverride(max_retries=0, breaker=BreakerOverride(failures=1))
    changed = override.over(Resilience(backoff=3.0))
    assert (changed.max_retries, changed.backoff, changed.breaker.failures, changed.breaker.window) == (0, 3.0, 1, 30)
