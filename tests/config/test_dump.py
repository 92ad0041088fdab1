"""Dumping a policy: loading the dump makes the same policy, but for its secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_dispatcher._config import config_dump, identity, load
from llm_dispatcher._policy import Policy
from llm_dispatcher.exceptions import ConfigurationError
from llm_dispatcher.provider import Secret
from tests.conftest import examples

SECRET = "fake-credential-of-the-tests"


def policy_of(config: dict[str, Any]) -> Policy:
    return load(config, environ={})


def without_secrets(policy: Policy) -> Policy:
    """A policy without its keys and headers."""
    providers = {
        name: replace(
            settings,
            api_key=None if settings.api_key is None else Secret("***"),
            headers=dict.fromkeys(settings.headers, "***"),
        )
        for name, settings in policy.providers.items()
    }
    return replace(policy, providers=providers)


names = st.sampled_from(["openai", "anthropic", "mine"])
models = st.sampled_from(["m", "n", "a/b", "5", "yes"])
dollars = st.none() | st.floats(0, 100)
limits = st.fixed_dictionaries(
    {}, optional={"requests_per_minute": st.integers(1, 9), "on_limit": st.sampled_from(["wait", "switch"])}
)
provider = st.fixed_dictionaries(
    {"kind": st.sampled_from(["openai", "anthropic", "google"]), "api_key": st.just("test-key")},
    optional={
        "base_url": st.just("http://127.0.0.1:1/v1"),
        "headers": st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.sampled_from(["1", "null"])),
        "enabled": st.booleans(),
        "limits": limits,
        "options": st.dictionaries(st.sampled_from(["one", "two"]), st.integers() | st.lists(st.booleans())),
        "models": st.lists(models, max_size=3, unique=True)
        | st.dictionaries(models, st.fixed_dictionaries({}, optional={"alias": models, "limits": limits}), max_size=3),
    },
)
target = st.tuples(names, models).map("/".join)
targets = st.lists(target, min_size=1, max_size=3)
ways: dict[str, st.SearchStrategy[Any]] = {
    "strategy": st.sampled_from(["ordered", "cost", "speed", "quality", "balanced"]),
    "max_cost": dollars,
    "weights": st.fixed_dictionaries({}, optional={"cost": st.integers(1, 5)}),
    "sticky": st.just("user"),
    "on_refusal": st.sampled_from(["stop", "next"]),
    "affinity": st.sampled_from(["conversation", "off", False]),
}
route = targets | st.fixed_dictionaries({"targets": targets}, optional=ways)
canary = st.just({"targets": ["openai/m", "mine/n"], "strategy": "weighted", "split": {"openai/m": 95, "mine/n": 5}})
facts: dict[str, st.SearchStrategy[Any]] = {
    "vision": st.booleans(),
    "input_price": st.integers(0, 9),
    "cached_input_price": st.integers(0, 9),
    "quality": st.dictionaries(st.sampled_from(["math", "reasoning"]), st.floats(0, 10)),
}
whole = st.fixed_dictionaries(
    {
        "providers": st.fixed_dictionaries(dict.fromkeys(["openai", "anthropic", "mine"], provider)),
        "routing": st.fixed_dictionaries(
            {"default": route, "tasks": st.dictionaries(st.sampled_from(["math", "reasoning"]), route | canary)},
            optional={
                "optimization_strategy": st.sampled_from(["cost", "speed"]),
                "max_cost": dollars,
                "on_refusal": st.sampled_from(["stop", "next"]),
                "affinity": st.sampled_from(["conversation", "off"]),
            },
        ),
        "catalog": st.dictionaries(target, st.fixed_dictionaries({}, optional=facts), max_size=2),
        "budgets": st.fixed_dictionaries(
            {}, optional={"daily": dollars, "namespaces": st.dictionaries(names, st.just({"monthly": 5}), max_size=2)}
        ),
        "resilience": st.fixed_dictionaries(
            {},
            optional={
                "max_retries": st.integers(0, 10),
                "on_break": st.sampled_from(["continue", "raise"]),
                "on_unproven": st.sampled_from(["next", "show"]),
                "durability": st.sampled_from(["live", "reattachable"]),
                "timeouts": st.fixed_dictionaries(
                    {},
                    optional={
                        "idle": st.none() | st.floats(0.5, 900),
                        "total": st.none() | st.floats(0.5, 900),
                        "flow": st.none() | st.just({"characters": 20, "seconds": 5.0}),
                    },
                ),
            },
        ),
    },
    optional={"cache": st.fixed_dictionaries({}, optional={"ttl": st.none() | st.floats(1, 900), "store": names})},
)


@settings(max_examples=examples(30))
@given(whole)
def test_loading_a_dump_makes_the_same_policy(config: dict[str, Any]) -> None:
    policy = policy_of(config)
    again = yaml.safe_load(yaml.safe_dump(config_dump(policy)))
    assert without_secrets(policy_of(again)) == without_secrets(policy)


@pytest.mark.parametrize(
    "entry",
    [
        {"api_key": SECRET},
        {"api_key": "k", "headers": {"authorization": SECRET}},
        {"api_key": "k", "options": {"session_token": SECRET}},
        {"api_key": "k", "options": {"deep": {"Password": [SECRET]}}},
    ],
)
def test_a_dump_has_no_secrets(entry: dict[str, Any]) -> None:
    assert SECRET not in json.dumps(config_dump(policy_of({"providers": {"openai": {**entry, "models": ["m"]}}})))


def test_a_dump_masks_a_password_in_an_address() -> None:
    """A file may not hold one, but code may."""
    policy = policy_of({"providers": {"openai": {"api_key": "k", "models": ["m"]}}})
    address = f"https://me:{SECRET}@localhost/v1"
    providers = {"openai": replace(policy.providers["openai"], base_url=address)}
    assert SECRET not in json.dumps(config_dump(replace(policy, providers=providers)))


def test_a_dump_shows_which_secrets_are_set() -> None:
    dump = config_dump(
        policy_of({"providers": {"openai": {"api_key": SECRET, "headers": {"x-team": "blue"}, "models": ["m"]}}})
    )
    assert dump["providers"] == {
        "openai": {"kind": "openai", "api_key": "***", "headers": {"x-team": "***"}, "models": ["m"]}
    }


def test_a_number_is_not_masked_because_of_its_name() -> None:
    options = {"max_tokens": 1000}
    dump: Any = config_dump(
        policy_of({"providers": {"anthropic": {"api_key": SECRET, "options": options, "models": ["m"]}}})
    )
    assert dump["providers"]["anthropic"]["options"] == options


def test_a_dump_includes_defaults() -> None:
    dump: Any = config_dump(policy_of({"providers": {"ollama": {"models": ["m"]}}}))
    assert dump["resilience"]["timeouts"]["total"] == 300
    assert dump["routing"] == {"default": ["ollama/m"], "tasks": {}}


def test_a_dump_has_every_section() -> None:
    with pytest.raises(ConfigurationError, match=r"known: (.*)\)") as error:
        policy_of({"xyz": 1})
    sections = str(error.value).partition("known: ")[2].split(")")[0].split(", ")
    assert sorted(config_dump(policy_of({"providers": {"ollama": {"models": ["m"]}}, "cache": {}}))) == sections


def test_the_identity_of_a_target_costs_no_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request to a target asks for it, and the fields of a dump take a hundred times as long."""
    entry = {"kind": "openai", "api_key": "test-key", "base_url": "http://127.0.0.1:1", "models": {"m": {}}}
    settings = policy_of({"providers": {"a": {**entry, "options": {"organization": "ours"}}}}).providers["a"]
    monkeypatch.setattr("llm_dispatcher._config.dump.fields", None)
    assert json.loads(identity(settings, "m")) == ["openai", None, "http://127.0.0.1:1", {"organization": "ours"}, "m"]
