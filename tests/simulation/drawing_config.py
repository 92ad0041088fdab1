"""Draws the configuration of a scenario, as the mapping that a YAML file would hold."""

from __future__ import annotations

from typing import Any, Final

from llm_dispatcher.testing._simulation.choices import Choices

PROVIDERS: Final = ("alpha", "bravo", "charlie", "delta", "echo")
MODELS: Final = ("small", "middle", "large")
FLOWS: Final = (None, None, None, None, {"characters": 20, "seconds": 4.0}, {"characters": 60, "seconds": 6.0})


def configuration(
    choices: Choices, *, has_faults: bool, like: dict[str, Any] | None = None, stream: str = "config"
) -> dict[str, Any]:
    """A configuration. One that is `like` another names the same files, so that a reload keeps what was spent."""
    count = choices.pick((2, 3, 3, 1, 4, 5), stream)
    before = {} if like is None else like["providers"]
    providers = {name: _provider(choices, f"{stream} {name}", before.get(name)) for name in PROVIDERS[:count]}
    first = next(iter(providers.values()))
    first.pop("enabled", None)
    next(iter(first["models"].values())).pop("enabled", None)
    config: dict[str, Any] = {"providers": providers}
    config["routing"] = _routing(choices, f"{stream} routing", targets_of(config))
    config["catalog"] = {target: _facts(choices, f"{stream} {target}") for target in targets_of(config)}
    for target, facts in config["catalog"].items():
        if providers[target.partition("/")[0]]["kind"] == "openai_compatible":
            del facts["continues"]  # nobody knows whether this host takes an open turn
    config["resilience"] = _resilience(choices, f"{stream} resilience", has_faults=has_faults)
    budgets = _budgets(choices, f"{stream} budgets")
    cache = _cache(choices, f"{stream} cache")
    if has_faults:
        _override(choices, f"{stream} overrides", config)
    if like is not None:
        path = like.get("budgets", {}).get("path")
        budgets = None if budgets is None else {**budgets, **({"path": path} if path else {})}
        if path is None and budgets is not None:
            budgets.pop("path", None)
        cache = like.get("cache")
        if budgets is None and path is not None:
            budgets = {"path": path}
    if budgets is not None:
        config["budgets"] = budgets
    if cache is not None:
        config["cache"] = cache
    return config


def targets_of(config: dict[str, Any]) -> list[str]:
    """Every target that a configuration names, in order."""
    return [f"{name}/{model}" for name, provider in config["providers"].items() for model in provider["models"]]


def _provider(choices: Choices, stream: str, before: dict[str, Any] | None) -> dict[str, Any]:
    """An entry. If there was one `before`, it is of the same host."""
    models: dict[str, Any] = {}
    for model in MODELS[: choices.pick((1, 1, 2, 3), stream)]:
        models[model] = {}
        if choices.chance(0.06, stream):
            models[model]["enabled"] = False
        if choices.chance(0.1, stream):
            models[model]["limits"] = _limits(choices, stream)
    kind = choices.pick(("ollama", "ollama", "openai_compatible", "anthropic"), f"{stream} kind")
    kind = kind if before is None else before["kind"]
    provider: dict[str, Any] = {"kind": kind, "models": models}
    if kind == "openai_compatible":
        provider["base_url"] = "http://models.test/v1"
    if kind == "anthropic":
        provider["api_key"] = "simulated"
    if choices.chance(0.06, stream):
        provider["enabled"] = False
    if choices.chance(0.2, stream):
        provider["limits"] = _limits(choices, stream)
    return provider


def _limits(choices: Choices, stream: str) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if choices.chance(0.5, stream):
        limits["requests_per_minute"] = choices.pick((60, 20, 5, 2, 1), stream)
    if choices.chance(0.4, stream):
        limits["tokens_per_minute"] = choices.pick((20_000, 5_000, 1_200), stream)
    if choices.chance(0.7, stream):
        limits["concurrent_streams"] = choices.pick((4, 3, 2, 1, 1), stream)
    if choices.chance(0.5, stream):
        limits["on_limit"] = "wait"
    return limits


def _routing(choices: Choices, stream: str, targets: list[str]) -> dict[str, Any]:
    routing: dict[str, Any] = {"default": _route(choices, stream, targets, starts_with=targets[0])}
    if choices.chance(0.4, stream):
        routing["tasks"] = {"code_generation": _route(choices, f"{stream} of code", targets)}
    if choices.chance(0.25, stream):
        routing["on_refusal"] = "next"
    if choices.chance(0.15, f"{stream}, affinity"):
        routing["affinity"] = "off"
    if choices.chance(0.1, stream):
        routing["max_latency"] = choices.pick((10.0, 1.5), stream)
    return routing


def _route(choices: Choices, stream: str, targets: list[str], starts_with: str | None = None) -> Any:
    """A route with some of the targets, in a drawn order. `starts_with` is one of them in any case."""
    ordered = list(targets)
    for place in range(len(ordered) - 1):
        other = place + choices.below(len(ordered) - place, stream)
        ordered[place], ordered[other] = ordered[other], ordered[place]
    ordered = ordered[: choices.pick((len(ordered), len(ordered), 4, 3, 2), stream)]
    if starts_with is not None and starts_with not in ordered:
        ordered.append(starts_with)
    if choices.chance(0.25, stream):
        ordered.append("body")
    strategy = choices.pick(
        ("ordered", "ordered", "ordered", "cost", "speed", "quality", "balanced", "weighted"), stream
    )
    route: dict[str, Any] = {"targets": ordered, "strategy": strategy}
    if strategy == "weighted":
        route["split"] = {target: choices.pick((1.0, 2.0, 0.5), stream) for target in ordered}
        if choices.chance(0.4, stream):
            route["sticky"] = "customer"
    if strategy == "balanced":
        route["weights"] = {"cost": 1.0, "speed": choices.pick((1.0, 3.0), stream), "quality": 0.5}
    return route


def _facts(choices: Choices, stream: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"continues": choices.pick(("anchored", "prefill"), stream), "tools": True}
    if not choices.chance(0.1, stream):
        facts["input_price"] = choices.pick((100.0, 0.0, 500.0), stream)
        if choices.chance(0.5, f"{stream}, cached input"):
            facts["cached_input_price"] = choices.pick((10.0, 0.0), f"{stream}, cached input")
        facts["output_price"] = choices.pick((500.0, 0.0, 2_000.0), stream)
    if choices.chance(0.1, stream):
        facts["reasoning"] = True
    if choices.chance(0.3, stream):
        facts["quality"] = {"text_generation": choices.pick((1.0, 2.0, 3.0), stream)}
    return facts


def _resilience(choices: Choices, stream: str, *, has_faults: bool) -> dict[str, Any]:
    resilience: dict[str, Any] = {}

    def offer(name: str, *values: Any) -> None:
        """One of these values; the first is the default, which is left out."""
        chosen = choices.pick(values, stream)
        if chosen != values[0]:
            resilience[name] = chosen

    offer("max_retries", 2, 2, 2, 0, 1, 4)
    offer("fallback_enabled", *[True] * 9, False)
    offer("on_break", "continue", "continue", "continue", "restart", "raise")
    offer("backoff", 0.25, 0.25, 1.0, 0.0)
    offer("max_backoff", 8.0, 8.0, 2.0)
    offer("max_retry_after", 20.0, 20.0, 2.0, 60.0)
    offer("on_unproven", "next", "next", "show")
    offer("durability", "live", "reattachable")
    timeouts: dict[str, Any] = {}
    for name, values in (
        ("connect", (10.0, 10.0, 2.0, None)),
        ("first_token", (30.0, 30.0, 5.0, 2.0, None)),
        ("idle", (20.0, 20.0, 5.0, 2.0, None)),
        ("flow", FLOWS),
        ("total", (300.0, 60.0, 20.0, 8.0, None)),
    ):
        value: Any = choices.pick(values, stream)
        if value != values[0] and has_faults:
            timeouts[name] = value
    breaker = {
        "failures": choices.pick((5, 5, 3, 2, 1, None), stream),
        "window": choices.pick((30.0, 5.0, 120.0), stream),
        "cooldown": choices.pick((15.0, 3.0, 1.0, 60.0), stream),
        "probes": choices.pick((1, 1, 2), stream),
    }
    budget = {
        "share": choices.pick((0.1, 0.1, 0.1, None, 0.0, 0.5, 1.0), stream),
        "floor": choices.pick((10, 10, 3, 0), stream),
    }
    return {**resilience, "timeouts": timeouts, "breaker": breaker, "retry_budget": budget}


def _override(choices: Choices, stream: str, config: dict[str, Any]) -> None:
    """Give some providers, models and routes resilience of their own."""
    for provider in config["providers"].values():
        if choices.chance(0.12, stream):
            provider["resilience"] = _own_resilience(choices, stream, with_breaker=True)
        for model in provider["models"].values():
            if choices.chance(0.08, stream):
                model["resilience"] = _own_resilience(choices, stream, with_breaker=True)
    for name, route in (("", config["routing"]["default"]), *config["routing"].get("tasks", {}).items()):
        if choices.chance(0.4 if name else 0.08, stream):
            route["resilience"] = _own_resilience(choices, stream, with_breaker=False)
        if choices.chance(0.4 if name else 0.08, f"{stream}, breakers of routes"):
            breaker = {"failures": choices.pick((1, 2, 3), stream), "cooldown": choices.pick((2.0, 8.0), stream)}
            route["resilience"] = {**route.get("resilience", {}), "breaker": breaker}


def _own_resilience(choices: Choices, stream: str, *, with_breaker: bool) -> dict[str, Any]:
    """One or two settings of a provider or a model (`with_breaker`), or of a route."""
    offers: list[dict[str, Any]] = [
        {"max_retries": choices.pick((0, 1, 3), stream)},
        {"timeouts": {"idle": choices.pick((1.0, 4.0, None), stream)}},
        {"timeouts": {"first_token": choices.pick((1.0, 8.0, None), stream)}},
        {"timeouts": {"flow": choices.pick(FLOWS[-2:], stream)}},
        {"backoff": 0.0},
    ]
    if with_breaker:
        offers.append({"breaker": {"failures": choices.pick((1, 4), stream), "cooldown": 2.0}})
        offers.append({"durability": "reattachable"})
    else:
        offers.append({"timeouts": {"total": choices.pick((9.0, 40.0), stream)}})
        offers.append({"on_unproven": "show"})
    return {**choices.pick(offers, stream), **choices.pick(offers, stream)}


def _budgets(choices: Choices, stream: str) -> dict[str, Any] | None:
    is_set = choices.chance(0.35, stream)
    has_file = choices.chance(0.5, stream)
    daily = choices.pick((1_000.0, 30.0, 8.0, 3.0, 1.0, None), stream)
    monthly = choices.pick((None, 1_000.0, 40.0, 10.0), stream)
    of_red = choices.pick((None, 20.0, 4.0), stream)
    zone = choices.pick(("UTC", "UTC", "UTC", "America/New_York"), stream)
    if not is_set:
        return None
    budgets: dict[str, Any] = {"daily": daily, "monthly": monthly, "time_zone": zone}
    if has_file:
        budgets["path"] = "{folder}/spending.db"
    if of_red is not None:
        budgets["namespaces"] = {"red": {"daily": of_red}}
    return budgets


def _cache(choices: Choices, stream: str) -> dict[str, Any] | None:
    is_set = choices.chance(0.45, stream)
    cache = {
        "store": choices.pick(("memory", "memory", "{folder}/cache.db"), stream),
        "ttl": choices.pick((86_400.0, 60.0, 5.0, None), stream),
        "similarity_threshold": choices.pick((0.95, 1.0, 0.8), stream),
        "max_cache_size": choices.pick((100, 100, 2, 1), stream),
        "replay": choices.pick(("instant", "instant", "instant", 200.0, 20.0, 4.0), stream),
    }
    return cache if is_set else None
