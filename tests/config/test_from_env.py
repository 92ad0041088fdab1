"""`${VAR}` in a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pytest

from llm_dispatcher._config import load
from llm_dispatcher._policy import Policy
from llm_dispatcher.exceptions import ConfigurationError
from llm_dispatcher.tasks import Target


class LoadText(Protocol):
    def __call__(
        self, text: str, environ: Mapping[str, str] | None = None, keys: Mapping[str, str] | None = None
    ) -> Policy: ...


def alias(load_text: LoadText, text_in_yaml: str, environ: Mapping[str, str]) -> str:
    """The text that a policy has for a text in YAML."""
    policy = load_text(f"providers: {{ollama: {{models: {{m: {{alias: {text_in_yaml}}}}}}}}}", environ)
    return policy.providers["ollama"].vendor_model("m")


@pytest.mark.parametrize(
    ("text_in_yaml", "expected"),
    [
        ("${NAME}", "llama"),
        ('"${NAME}"', "llama"),
        ("'a ${NAME} of ${SIZE}'", "a llama of 3"),
        ("${NAME}-${SIZE:-7}b", "llama-3b"),
        ("${ABSENT:-alpaca}", "alpaca"),
        ("${EMPTY:-alpaca}", "alpaca"),
        ("${ABSENT:-a, b: [c] # d}", "a, b: [c] # d"),
        ("'$${NAME}'", "${NAME}"),
        ("'$NAME costs 5$'", "$NAME costs 5$"),
        ("'${TRICK}'", "${NAME}"),
        ("${NOTHING}", "null"),
        ("${ABSENT:-${NAME}", "${NAME"),
    ],
)
def test_a_variable_is_replaced_in_any_text(text_in_yaml: str, expected: str, load_text: LoadText) -> None:
    """Also in a flow mapping, where a bare `${` is not valid YAML. The value is not interpolated again."""
    assert (
        alias(
            load_text, text_in_yaml, {"NAME": "llama", "SIZE": "3", "EMPTY": "", "TRICK": "${NAME}", "NOTHING": "null"}
        )
        == expected
    )


def test_a_value_cannot_add_keys(load_text: LoadText) -> None:
    evil = "x}}}, openai: {api_key: y}"
    assert alias(load_text, "${NAME}", {"NAME": evil}) == evil


def test_a_variable_takes_the_type_of_its_key(load_text: LoadText) -> None:
    policy = load_text(
        """
        providers: {ollama: {models: [m], options: {port: '${NUMBER}'}}}
        resilience:
          max_retries: ${NUMBER}
          fallback_enabled: ${TRUTH:-no}
          backoff: "${FRACTION:-0.5}"
          timeouts: {idle: ${NEVER:-null}}
        """,
        {"NUMBER": "3"},
    )
    assert policy.resilience.max_retries == 3
    assert policy.resilience.fallback_enabled is False
    assert policy.resilience.backoff == 0.5
    assert policy.resilience.timeouts.idle is None
    assert policy.providers["ollama"].options == {"port": "3"}


def test_a_variable_of_the_wrong_type_is_refused(load_text: LoadText) -> None:
    with pytest.raises(ConfigurationError, match=r"policy.yaml:2: resilience.max_retries: must be a whole number, got"):
        load_text("providers: {ollama: {models: [m]}}\nresilience: {max_retries: ${N}}", {"N": "many"})


def test_variables_in_comments_are_ignored(load_text: LoadText) -> None:
    load_text("# ${ABSENT}\nproviders: {ollama: {models: [m]}}  # ${ALSO_ABSENT}\n")


def test_variables_are_replaced_in_a_mapping_as_in_a_file() -> None:
    policy = load(
        {"providers": {"ollama": {"models": ["${MODEL}"]}}, "routing": {"default": ["ollama/${MODEL}"]}},
        environ={"MODEL": "m"},
    )
    assert policy.default.targets == (Target("ollama", "m"),)


def test_an_unset_variable_is_ignored_if_a_stronger_layer_sets_the_key(load_text: LoadText) -> None:
    text = "providers: {openai: {api_key: ${OPENAI_API_KEY}, base_url: ${HOST}, models: [m]}}"
    policy = load_text(text, {"LLM_DISPATCHER_PROVIDERS__OPENAI__BASE_URL": "http://localhost"}, {"openai": "test-key"})
    assert policy.providers["openai"].base_url == "http://localhost"


def test_a_misspelt_variable_gets_a_hint(load_text: LoadText) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_APIKEY is not set; did you mean 'OPENAI_API_KEY'"):
        load_text("providers: {openai: {api_key: ${OPENAI_APIKEY}}}", {"OPENAI_API_KEY": "test-key"})
