"""Valid configurations, and the policies that they make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Protocol, get_args

import pytest
from anthropic.types import Model
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st
from openai.types import ChatModel

from llm_dispatcher._config import config_schema, load
from llm_dispatcher._config.from_yaml import parse_yaml
from llm_dispatcher._policy import Policy, Route
from llm_dispatcher._vendors import table as vendors
from llm_dispatcher.exceptions import ConfigurationError
from llm_dispatcher.provider import BODY, ModelSettings
from llm_dispatcher.tasks import Target, TaskType

WHOLE = """
providers:
  openai:    {api_key: ${OPENAI_API_KEY}, models: [gpt-5.1], api: responses}   # or chat
  anthropic: {api_key: ${ANTHROPIC_API_KEY}, models: {claude-a: {}, claude-3-sonnet: {alias: claude-a}}}
  google:    {api_key: ${GOOGLE_API_KEY}, models: [gemini-b]}
  local:     {kind: ollama, base_url: "http://localhost:11434", models: [llama3.3], options: {keep_alive: 5m}}
routing:
  default: [openai/gpt-5.1, anthropic/claude-a]
  tasks:
    code_generation: [anthropic/claude-a, openai/any/model]
    vision_analysis: {strategy: cost, targets: [google/gemini-b, openai/gpt-5.1]}
    math: [local/llama3.3, body]
resilience:
  max_retries: 2            # more tries of one target
  fallback_enabled: true
  on_break: continue
  timeouts: {connect: 10, first_token: 30, idle: 20, total: 300}
"""
KEYS = {"OPENAI_API_KEY": "o", "ANTHROPIC_API_KEY": "a", "GOOGLE_API_KEY": "g"}


class LoadText(Protocol):
    def __call__(self, text: str, environ: Mapping[str, str] | None = None) -> Policy: ...


def test_every_key_reaches_the_policy(load_text: LoadText) -> None:
    policy = load_text(WHOLE, KEYS)
    openai, anthropic, _, local = policy.providers.values()
    assert (openai.name, openai.kind, openai.api, list(openai.models)) == ("openai", "openai", "responses", ["gpt-5.1"])
    assert (local.name, local.kind, local.base_url) == ("local", "ollama", "http://localhost:11434")
    assert local.options == {"keep_alive": "5m"}
    assert anthropic.models == {"claude-a": ModelSettings(), "claude-3-sonnet": ModelSettings(alias="claude-a")}
    assert policy.default == Route((Target("openai", "gpt-5.1"), Target("anthropic", "claude-a")))
    assert policy.tasks == {
        TaskType.CODE_GENERATION: Route((Target("anthropic", "claude-a"), Target("openai", "any/model"))),
        TaskType.VISION_ANALYSIS: Route((Target("google", "gemini-b"), Target("openai", "gpt-5.1")), "cost"),
        TaskType.MATH: Route((Target("local", "llama3.3"), Target(BODY, ""))),
    }
    assert policy.resilience.max_retries == 2
    assert policy.resilience.timeouts.connect == 10
    assert policy.source == "policy.yaml"


def test_an_alias_is_the_model_name_that_is_sent(load_text: LoadText) -> None:
    anthropic = load_text(WHOLE, KEYS).providers["anthropic"]
    assert anthropic.vendor_model("claude-3-sonnet") == "claude-a"
    assert anthropic.vendor_model("claude-a") == "claude-a"
    assert anthropic.vendor_model("unlisted") == "unlisted"


def test_sections_may_be_empty(load_text: LoadText) -> None:
    policy = load_text("providers:\n  openai:\n    headers:\nrouting:\n  tasks:\nresilience:\n  timeouts:\n", KEYS)
    assert policy.default.targets == (Target("openai", vendors.VENDORS["openai"].models["general"]),)


def test_without_routing_the_route_has_all_listed_models(load_text: LoadText) -> None:
    policy = load_text("providers: {ollama: {models: [m, n]}, openai: {models: {o: {}}}, google: {}}", KEYS)
    assert [str(target) for target in policy.default.targets] == [
        "ollama/m",
        "ollama/n",
        "openai/o",
        f"google/{vendors.VENDORS['google'].models['general']}",
    ]
    assert policy.tasks == {}


def test_a_provider_without_models_has_the_models_of_its_routes(load_text: LoadText) -> None:
    policy = load_text("providers: {openai: {}}\nrouting: {default: [openai/m], tasks: {math: [openai/n]}}", KEYS)
    assert list(policy.providers["openai"].models) == ["m", "n"]


def test_the_body_alone_is_a_route() -> None:
    policy = load({"routing": {"default": ["body"]}}, environ={})
    assert policy.default.targets == (Target(BODY, ""),)
    assert policy.providers == {}


@pytest.mark.parametrize("variables", [["OPENAI_API_KEY"], ["GOOGLE_API_KEY"], list(KEYS)])
def test_keys_alone_give_every_task_a_route(variables: list[str]) -> None:
    policy = load(environ=dict.fromkeys(variables, "test-key"))
    kinds = {variable.removesuffix("_API_KEY").lower() for variable in variables}
    assert set(policy.providers) == kinds
    for task in TaskType:
        targets = policy.route(task).targets
        assert {target.provider for target in targets} == kinds
        assert all(target.model in policy.providers[target.provider].models for target in targets)
    assert policy.route(TaskType.CODE_GENERATION) != policy.route(TaskType.TEXT_GENERATION)
    assert policy.source is None


def test_keys_as_arguments_are_enough() -> None:
    assert list(load(keys={"anthropic": "test-key"}, environ={}).providers) == ["anthropic"]


def test_a_file_without_providers_uses_all_known_keys(load_text: LoadText) -> None:
    policy = load_text("routing: {default: [openai/m]}\nresilience: {max_retries: 0}", KEYS)
    assert policy.default.targets == (Target("openai", "m"),)
    assert policy.resilience.max_retries == 0


def test_without_a_configuration_the_error_names_the_variables_to_set() -> None:
    with pytest.raises(ConfigurationError) as error:
        load(environ={})
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "llm_dispatcher.yaml"):
        assert name in str(error.value)


def test_offline_without_a_configuration_the_body_answers() -> None:
    assert load(environ={"LLM_DISPATCHER_OFFLINE": "1"}).default.targets == (Target(BODY, ""),)


def test_the_sdks_know_the_models_of_the_first_routes() -> None:
    literal, _ = get_args(Model)
    sdk_models = {"openai": set(get_args(ChatModel)), "anthropic": set(get_args(literal))}
    for kind, models in sdk_models.items():
        assert set(vendors.VENDORS[kind].models.values()) <= models
    for model in vendors.VENDORS["google"].models.values():
        get_snapshot().find_provider_model(model, None, "google", None)


def test_a_third_partys_kind_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = EntryPoint("acme", "acme:Provider", "llm_dispatcher.providers")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [theirs] if group == theirs.group else [])
    policy = load({"providers": {"acme": {"models": ["m"]}, "mine": {"kind": "acme", "api": "chat"}}}, environ={})
    assert {name: each.kind for name, each in policy.providers.items()} == {"acme": "acme", "mine": "acme"}


def test_the_schema_is_json_and_has_every_section() -> None:
    schema = json.loads(json.dumps(config_schema()))
    assert set(schema["properties"]) == {"providers", "routing", "catalog", "budgets", "cache", "resilience"}
    assert schema["additionalProperties"] is False


NAMES = """
providers routing resilience breaker failures retry_budget share floor catalog quality weights split sticky enabled
limits on_limit budgets daily monthly namespaces time_zone alert_at
max_cost max_latency optimization_strategy
openai ollama kind api_key base_url headers models m alias api options default tasks math
strategy targets max_retries on_break timeouts idle total backoff body
"""
names = st.sampled_from(NAMES.split()) | st.text(max_size=4)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values: st.SearchStrategy[object] = st.recursive(
    scalars | st.sampled_from(["openai/m", "${X}", "raise"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(names, values, max_size=4))
def test_any_mapping_is_a_policy_or_a_configuration_error(config: dict[str, object]) -> None:
    try:
        policy = load(config, environ={"OPENAI_API_KEY": "test-key"})
    except ConfigurationError:
        return
    assert policy.default.targets


@given(st.text(alphabet="ab:{}[]-,&*!?|>'\"%@`#$ \n\t0", max_size=60))
def test_any_text_is_a_tree_or_a_configuration_error(text: str) -> None:
    try:
        tree = parse_yaml(text, "policy.yaml").tree
    except ConfigurationError:
        return
    assert isinstance(tree, dict)
