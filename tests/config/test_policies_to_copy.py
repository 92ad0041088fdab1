"""The policies in `config/` load unchanged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from llm_dispatcher import LLMSwitch, Target, TaskRequest, TaskType
from llm_dispatcher._config import load
from llm_dispatcher._policy import Policy
from llm_dispatcher.exceptions import ConfigurationError, NoProviderAvailableError

FOLDER = Path(__file__).parents[2] / "config"
POLICIES = sorted(FOLDER.glob("*.yaml"))
NAMES = {
    "cheapest_first.yaml",
    "demo.yaml",
    "local_first.yaml",
    "one_vendor.yaml",
    "production.yaml",
    "three_vendors.yaml",
    "vision_and_audio.yaml",
}


class ReferencedVariables(dict[str, str]):
    """An environment with exactly the variables that a policy names."""

    def __init__(self, text: str) -> None:
        variables = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*_(?:API_)?KEY\b|(?<=\$\{)[A-Z_]+(?=\})", text))
        super().__init__((name, "http://127.0.0.1:1/v1" if "KEY" not in name else "test-key") for name in variables)


def loaded(path: Path) -> Policy:
    return load(path, environ=ReferencedVariables(path.read_text()))


def test_the_policies_are_all_tested() -> None:
    assert {path.name for path in POLICIES} == NAMES


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_a_policy_loads_with_the_variables_that_it_names(path: Path) -> None:
    policy = loaded(path)
    for task in TaskType:
        for target in policy.route(task).targets:
            assert target.model in policy.providers[target.provider].models


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_every_listed_model_is_on_a_route(path: Path) -> None:
    policy = loaded(path)
    routed = {target for task in TaskType for target in policy.route(task).targets}
    assert routed == {Target(name, model) for name, settings in policy.providers.items() for model in settings.models}


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_a_policy_begins_with_its_purpose_and_has_comments(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    assert len(re.findall(r"#", text)) >= 2
    assert yaml.safe_load(text).keys() >= {"providers", "routing", "resilience"}


@pytest.mark.parametrize("name", sorted(NAMES - {"demo.yaml", "production.yaml"}))
def test_the_first_comment_names_the_keys_that_the_policy_needs(name: str) -> None:
    """Without these keys it does not load."""
    path = FOLDER / name
    head = path.read_text().partition("providers:")[0]
    variable_names = set(re.findall(r"[A-Z]+_API_KEY", head))
    with pytest.raises(ConfigurationError) as error:
        load(path, environ={})
    assert set(re.findall(r"set ([A-Z]+_API_KEY)", str(error.value))) == variable_names


def test_the_production_policy_reports_all_missing_variables() -> None:
    with pytest.raises(ConfigurationError) as error:
        load(FOLDER / "production.yaml", environ={})
    missing = {re.findall(r"variable (\w+) is not set", problem.message)[0] for problem in error.value.problems}
    assert missing == {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GATEWAY_KEY", "GATEWAY_URL"}


def test_the_media_policy_has_a_model_for_each_kind_of_media() -> None:
    switch = LLMSwitch(loaded(FOLDER / "vision_and_audio.yaml"))
    with_image = TaskRequest("What is this?", task_type=TaskType.VISION_ANALYSIS, images=[b"\x89PNG"])
    assert switch.explain(with_image).rejected == {}
    with_audio = TaskRequest("What is said?", task_type=TaskType.AUDIO_TRANSCRIPTION, audio=[b"RIFF"])
    assert switch.explain(with_audio).targets == (
        Target("google", "gemini-3.8-flash"),
        Target("openai-audio", "gpt-audio-mini"),
    )


def test_the_cheapest_first_policy_tries_the_cheapest_model_first() -> None:
    switch = LLMSwitch(loaded(FOLDER / "cheapest_first.yaml"))
    asked = switch.explain(TaskRequest("Hello")).targets
    prices = [switch.capabilities(target) for target in asked]
    dollars = [each.input_price + each.output_price for each in prices if each.input_price and each.output_price]
    assert len(dollars) == len(asked) == 6
    assert dollars == sorted(dollars)


ONE = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "google": "GEMINI_API_KEY"}
MEDIA = {
    TaskType.VISION_ANALYSIS: {"images": [b"\x89PNG"]},
    TaskType.AUDIO_TRANSCRIPTION: {"audio": [b"RIFF"]},
    TaskType.AUDIO_ANALYSIS: {"audio": [b"RIFF"]},
    TaskType.MULTIMODAL_ANALYSIS: {"images": [b"\x89PNG"], "audio": [b"RIFF"]},
}


@pytest.mark.parametrize("vendor", ONE)
@pytest.mark.parametrize("task", TaskType)
def test_with_one_key_each_task_has_a_target_that_can_serve_it(task: TaskType, vendor: str) -> None:
    """Except audio, if the vendor has no model that accepts it: then the error gives the reason."""
    switch = LLMSwitch(load(environ={ONE[vendor]: "test-key"}))
    request = TaskRequest("…", task_type=task, **MEDIA.get(task, {}))  # type: ignore[arg-type]  # one key each
    takes_sounds = vendor == "google" or (vendor == "openai" and not request.images)
    if request.audio and not takes_sounds:
        with pytest.raises(NoProviderAvailableError, match="it cannot take audio"):
            switch.explain(request)
    else:
        assert [target.provider for target in switch.explain(request).targets] == [vendor]
