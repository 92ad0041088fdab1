"""The API key of each provider, and that it is never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pytest

from llm_dispatcher._config import load
from llm_dispatcher._policy import Policy
from llm_dispatcher.exceptions import ConfigurationError
from llm_dispatcher.provider import Secret


class LoadText(Protocol):
    def __call__(
        self, text: str, environ: Mapping[str, str] | None = None, keys: Mapping[str, str] | None = None
    ) -> Policy: ...


def keys_of(policy: Policy) -> dict[str, str | None]:
    return {name: each.api_key.reveal() if each.api_key else None for name, each in policy.providers.items()}


def test_the_vendors_variable_is_enough(load_text: LoadText) -> None:
    text = "providers: {openai: {}, anthropic: {}, google: {}}"
    usual = {"OPENAI_API_KEY": "o", "ANTHROPIC_API_KEY": "a", "GEMINI_API_KEY": " g\n"}
    assert keys_of(load_text(text, usual)) == {"openai": "o", "anthropic": "a", "google": "g"}


def test_google_has_two_variables_and_the_first_one_wins() -> None:
    assert keys_of(load(environ={"GEMINI_API_KEY": "b", "GOOGLE_API_KEY": "a"})) == {"google": "a"}


def test_a_key_passed_as_an_argument_wins_over_all_others(load_text: LoadText) -> None:
    text = "providers: {openai: {api_key: ${OPENAI_API_KEY}}, mine: {kind: anthropic, api_key: own, models: [m]}}"
    environ = {"OPENAI_API_KEY": "variable", "LLM_DISPATCHER_PROVIDERS__OPENAI__API_KEY": "setting"}
    policy = load_text(text, environ, {"openai": "argument", "anthropic": "argument"})
    assert keys_of(policy) == {"openai": "argument", "mine": "argument"}


def test_a_key_passed_as_an_argument_wins_over_a_mapping_and_over_a_policy() -> None:
    policy = load({"providers": {"openai": {"api_key": "own"}}}, keys={"openai": "argument"}, environ={})
    assert keys_of(policy) == {"openai": "argument"}
    assert keys_of(load(policy, keys={"openai": "later"}, environ={})) == {"openai": "later"}
    assert keys_of(load(policy, environ={"OPENAI_API_KEY": "variable"})) == {"openai": "argument"}


def test_a_key_goes_to_the_provider_with_its_vendors_name(load_text: LoadText) -> None:
    """A second account keeps its own key; a provider without a key gets the vendor's."""
    text = """
    providers:
      openai: {api_key: first}
      second: {kind: openai, api_key: second, models: [m]}
      third: {kind: openai, models: [m]}
    """
    assert keys_of(load_text(text, keys={"openai": "argument"})) == {
        "openai": "argument",
        "second": "second",
        "third": "argument",
    }


def test_the_environment_replaces_a_key_in_the_file(load_text: LoadText) -> None:
    text = "providers: {openai: {api_key: in-the-file}, mine: {kind: openai, api_key: own, models: [m]}}"
    assert keys_of(load_text(text, {"OPENAI_API_KEY": "variable"})) == {"openai": "variable", "mine": "own"}


def test_a_providers_own_setting_wins_over_the_vendors_variable(load_text: LoadText) -> None:
    environ = {"OPENAI_API_KEY": "variable", "LLM_DISPATCHER_PROVIDERS__OPENAI__API_KEY": "setting"}
    assert keys_of(load_text("providers: {openai: {api_key: in-the-file}}", environ)) == {"openai": "setting"}


@pytest.mark.parametrize("entry", ["{api_key: ${MY_KEY}}", "{api_key: here, base_url: 'http://127.0.0.1:1'}"])
def test_the_vendors_key_does_not_replace_a_key_beside_a_base_url(entry: str, load_text: LoadText) -> None:
    environ = {"OPENAI_API_KEY": "variable", "MY_KEY": "here"}
    assert keys_of(load_text(f"providers: {{openai: {entry}}}", environ)) == {"openai": "here"}


def test_local_vendors_need_no_key(load_text: LoadText) -> None:
    text = """
    providers:
      local: {kind: ollama, models: [m]}
      mine: {kind: openai_compatible, base_url: "http://localhost:8000/v1/", models: [m]}
    """
    policy = load_text(text, {"OPENAI_API_KEY": "variable"})
    assert keys_of(policy) == {"local": None, "mine": None}
    assert policy.providers["mine"].base_url == "http://localhost:8000/v1"


def test_a_key_for_a_vendor_that_is_not_in_the_file_adds_it(load_text: LoadText) -> None:
    policy = load_text("providers: {ollama: {models: [m]}}", {"OPENAI_API_KEY": "variable"}, {"anthropic": "argument"})
    assert keys_of(policy) == {"ollama": None, "anthropic": "argument"}


def test_a_key_without_a_provider_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match="passed for 'opnai', but no provider is of that kind; did you mean 'open"
    ):
        load({"providers": {"openai": {"api_key": "own"}}}, keys={"opnai": "argument"}, environ={})


def test_a_key_without_a_provider_in_a_policy_is_refused() -> None:
    policy = load({"providers": {"openai": {"api_key": "own"}}}, environ={})
    with pytest.raises(ConfigurationError, match="passed for 'anthropic', but no provider is of that kind"):
        load(policy, keys={"anthropic": "argument"}, environ={})


@pytest.mark.parametrize("key", ["", "  "])
def test_an_empty_key_as_an_argument_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="the API key passed for 'openai' is empty"):
        load(keys={"openai": key}, environ={})


def test_a_key_of_another_type_is_refused_and_not_shown() -> None:
    with pytest.raises(TypeError, match="the API key for 'openai' is a str, got bytes"):
        load(keys={"openai": b"test-key"}, environ={})  # type: ignore[dict-item]


def test_a_key_that_no_header_can_carry_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match=r"^providers.openai.api_key: holds a character") as error:
        load(environ={"OPENAI_API_KEY": "test\nkey"})
    assert "test" not in str(error.value)


def test_a_key_may_be_a_secret() -> None:
    assert keys_of(load({"providers": {"openai": {"api_key": Secret("own")}}}, environ={})) == {"openai": "own"}


def test_a_policy_does_not_show_its_keys() -> None:
    hidden = "fake-credential-of-the-tests"
    policy = load(
        {"providers": {"openai": {"api_key": hidden, "headers": {"Authorization": hidden}}}},
        environ={},
    )
    assert hidden not in repr(policy)
    assert hidden not in str(policy)
    assert policy.providers["openai"].headers == {"Authorization": hidden}


def test_offline_no_key_is_needed(load_text: LoadText) -> None:
    """Nothing is sent offline, so a production policy loads on a machine without its keys."""
    text = "providers: {openai: {api_key: ${OPENAI_API_KEY}}, anthropic: {models: [m]}}"
    policy = load_text(text, {"LLM_DISPATCHER_OFFLINE": "1"})
    assert keys_of(policy) == {"openai": None, "anthropic": None}
