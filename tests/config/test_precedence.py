"""Arguments win over the environment, the environment over YAML, and YAML over the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from llm_dispatcher._config import load
from llm_dispatcher._policy import Policy
from llm_dispatcher._resilience import Flow, Resilience
from llm_dispatcher.exceptions import ConfigurationError
from llm_dispatcher.tasks import Target, TaskType

YAML = """
providers:
  openai: {api_key: test-key, models: [m]}
  anthropic: {api_key: test-key, models: [n]}
resilience:
  max_retries: 4
  timeouts: {idle: 5}
"""


class LoadText(Protocol):
    def __call__(
        self, text: str, environ: Mapping[str, str] | None = None, keys: Mapping[str, str] | None = None
    ) -> Policy: ...


def test_settings_that_the_file_leaves_out_have_defaults(load_text: LoadText) -> None:
    resilience = load_text(YAML).resilience
    assert resilience.max_retries == 4
    assert resilience.timeouts.idle == 5
    assert resilience.timeouts.total == Resilience().timeouts.total
    assert resilience.on_break == Resilience().on_break


def test_the_environment_wins_over_the_file(load_text: LoadText) -> None:
    policy = load_text(
        YAML,
        {
            "LLM_DISPATCHER_RESILIENCE__MAX_RETRIES": "0",
            "LLM_DISPATCHER_RESILIENCE__FALLBACK_ENABLED": "false",
            "LLM_DISPATCHER_RESILIENCE__ON_BREAK": "raise",
            "LLM_DISPATCHER_RESILIENCE__TIMEOUTS__TOTAL": "null",
            "LLM_DISPATCHER_ROUTING__DEFAULT": '["anthropic/n"]',
            "LLM_DISPATCHER_PROVIDERS__OPENAI__BASE_URL": "http://127.0.0.1:1/v1",
        },
    )
    assert policy.resilience.max_retries == 0
    assert policy.resilience.fallback_enabled is False
    assert policy.resilience.on_break == "raise"
    assert policy.resilience.timeouts.total is None
    assert policy.resilience.timeouts.idle == 5
    assert policy.default.targets == (Target("anthropic", "n"),)
    assert policy.providers["openai"].base_url == "http://127.0.0.1:1/v1"
    assert list(policy.providers["openai"].models) == ["m"]
    assert list(policy.providers) == ["openai", "anthropic"]


def test_a_whole_section_may_be_json(load_text: LoadText) -> None:
    policy = load_text(YAML, {"LLM_DISPATCHER_RESILIENCE": '{"max_retries": 1, "timeouts": {"connect": 2.5}}'})
    assert (policy.resilience.max_retries, policy.resilience.timeouts.connect) == (1, 2.5)
    assert policy.resilience.timeouts.idle == 5


def test_an_argument_wins_over_the_environment() -> None:
    environ = {"LLM_DISPATCHER_RESILIENCE__MAX_RETRIES": "0", "LLM_DISPATCHER_RESILIENCE__BACKOFF": "1.5"}
    policy = load(
        {"providers": {"ollama": {"models": ["m"]}}, "resilience": {"max_retries": 7}},
        environ=environ,
    )
    assert policy.resilience.max_retries == 7
    assert policy.resilience.backoff == 1.5


def test_with_a_mapping_no_file_is_read() -> None:
    Path("llm_dispatcher.yaml").write_text("nonsense: [")
    assert list(load({"providers": {"ollama": {"models": ["m"]}}}, environ={}).providers) == ["ollama"]


def test_a_policy_is_used_unchanged() -> None:
    policy = load({"providers": {"ollama": {"models": ["m"]}}}, environ={})
    assert load(policy, environ={"LLM_DISPATCHER_RESILIENCE__MAX_RETRIES": "9"}) == policy


def test_a_mapping_may_hold_python_values() -> None:
    policy = load({"providers": {"ollama": {"models": ("m", "n")}}, "routing": {"default": ("ollama/n",)}}, environ={})
    assert list(policy.providers["ollama"].models) == ["m", "n"]
    assert policy.default.targets == (Target("ollama", "n"),)


@pytest.mark.parametrize("wrong", [5, ["providers"], b"policy.yaml"])
def test_a_configuration_of_another_type_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="a configuration is a mapping, the path of a YAML file, a Policy or None"):
        load(wrong, environ={})  # type: ignore[arg-type]


def test_a_mapping_that_contains_itself_is_refused() -> None:
    endless: dict[str, object] = {}
    endless["providers"] = {"ollama": {"options": endless}}
    with pytest.raises(ConfigurationError, match="nested more than 32 levels deep"):
        load(endless, environ={})


def test_a_list_that_contains_itself_twice_is_refused_quickly() -> None:
    endless: list[object] = []
    endless += [endless, endless]
    with pytest.raises(ConfigurationError, match="nested more than 32 levels deep") as error:
        load({"providers": {"ollama": {"models": ["m"], "options": {"each": endless}}}}, environ={})
    assert len(error.value.problems) == 1


def test_a_wrong_variable_is_in_the_list_of_problems(load_text: LoadText) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(YAML + "more: 1\n", {"LLM_DISPATCHER_RESILIENCE__MAX_RETRIES": "99"})
    file, variable = error.value.problems
    assert (file.file, file.line, file.key, file.variable) == ("policy.yaml", 8, "more", None)
    assert (variable.file, variable.key) == (None, "resilience.max_retries")
    assert variable.variable == "LLM_DISPATCHER_RESILIENCE__MAX_RETRIES"


def test_a_mapping_with_a_key_that_is_not_text_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="providers: a key must be text, got 5"):
        load({"providers": {5: {}}}, environ={})


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LLM_DISPATCHER_RESILIENCE__MAX_RETRIES", "many", "resilience.max_retries: must be a whole number, got text"),
        ("LLM_DISPATCHER_RESILIENCE__MAX_RETRIES", "99", "resilience.max_retries: must be at most 10, got 99"),
        (
            "LLM_DISPATCHER_RESILIENCE__MAX_RETRYS",
            "1",
            "resilience.max_retrys: unknown key; did you mean 'max_retries'?",
        ),
        ("LLM_DISPATCHER_RESILIENCE__TIMEOUT__IDLE", "3", "resilience.timeout: unknown key; did you mean 'timeouts'?"),
        ("LLM_DISPATCHER_RESILIENCE_MAX_RETRIES", "1", "did you mean 'LLM_DISPATCHER_RESILIENCE__MAX_RETRIES'?"),
        ("LLM_DISPATCHER_RESILIANCE__MAX_RETRIES", "1", "unknown setting; did you mean 'LLM_DISPATCHER_RESILIENCE'?"),
        ("LLM_DISPATCHER_RESILIENCE", "3", "resilience: must be a mapping, got a number"),
        ("LLM_DISPATCHER_RESILIENCE", "{", "must be JSON"),
        ("LLM_DISPATCHER_ROUTING__DEFAULT", '["nobody/m"]', "routing.default[0]: unknown provider 'nobody'"),
        (
            "LLM_DISPATCHER_ROUTING__DEFAULT",
            "openai/m",
            "routing.default: must be a list or a mapping, got text; a list",
        ),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, words: str, load_text: LoadText) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_text(YAML, {variable: value})
    assert words in str(error.value)
    assert variable in str(error.value)
    assert error.value.file is None


def test_other_variables_with_the_prefix_are_ignored(load_text: LoadText) -> None:
    load_text(YAML, {"LLM_DISPATCHER_LOG": "debug", "LLM_DISPATCHER_CONFIG": "absent.yaml", "OTHER__THING": "1"})


def test_an_empty_variable_is_ignored(load_text: LoadText) -> None:
    assert load_text(YAML, {"LLM_DISPATCHER_RESILIENCE__MAX_RETRIES": ""}).resilience.max_retries == 4


def test_files_are_looked_for_by_name_then_in_the_working_folder_then_in_the_users(tmp_path: Path) -> None:
    def policy(retries: int) -> str:
        return f"providers: {{ollama: {{models: [m]}}}}\nresilience: {{max_retries: {retries}}}\n"

    home = tmp_path / "home"
    own = home / ".config" / "llm_dispatcher" / "llm_dispatcher.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(policy(1))
    environ = {"HOME": str(home)}
    assert load(environ=environ).resilience.max_retries == 1
    Path("llm_dispatcher.yaml").write_text(policy(2))
    assert load(environ=environ).resilience.max_retries == 2
    Path("named.yaml").write_text(policy(3))
    policy_of_named = load(environ={**environ, "LLM_DISPATCHER_CONFIG": "named.yaml"})
    assert (policy_of_named.resilience.max_retries, policy_of_named.source) == (3, "named.yaml")


def test_the_users_folder_follows_xdg_config_home(tmp_path: Path) -> None:
    file = tmp_path / "xdg" / "llm_dispatcher" / "llm_dispatcher.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("providers: {ollama: {models: [m]}}\n")
    assert load(environ={"XDG_CONFIG_HOME": str(tmp_path / "xdg")}).source == str(file)


def test_a_named_file_that_is_missing_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml: cannot be read"):
        load(environ={"LLM_DISPATCHER_CONFIG": "absent.yaml", "OPENAI_API_KEY": "test-key"})


def test_a_flow_comes_from_a_file_or_from_variables(load_text: LoadText) -> None:
    whole = "providers: {ollama: {models: [m]}}\nresilience: {timeouts: {flow: {characters: 30, seconds: 5}}}"
    name = "LLM_DISPATCHER_RESILIENCE__TIMEOUTS__FLOW"
    assert load_text(whole, {}).resilience.timeouts.flow == Flow(30, 5.0)
    assert load_text(whole, {f"{name}__SECONDS": "2.5"}).resilience.timeouts.flow == Flow(30, 2.5)
    assert load_text(whole, {name: "null"}).resilience.timeouts.flow is None
    with pytest.raises(ConfigurationError, match=r"resilience\.timeouts\.flow\.seconds: is missing"):
        load_text("providers: {ollama: {models: [m]}}", {f"{name}__CHARACTERS": "20"})


def test_a_route_has_the_rule_for_refusals_of_all_routes_unless_it_has_its_own(load_text: LoadText) -> None:
    policy = load_text(
        "providers: {ollama: {models: [m]}}\n"
        "routing:\n"
        "  on_refusal: next\n"
        "  default: [ollama/m]\n"
        "  tasks: {math: {targets: [ollama/m], on_refusal: stop}}",
        {},
    )
    assert policy.default.on_refusal == "next"
    assert policy.route(TaskType.MATH).on_refusal == "stop"
