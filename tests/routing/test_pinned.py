"""Which targets `model=` and `providers=` name."""

from __future__ import annotations

import re

import pytest

from llm_dispatcher._policy import Policy, Route
from llm_dispatcher._routing.candidates import candidates
from llm_dispatcher.exceptions import InvalidRequestError
from llm_dispatcher.provider import BODY, ModelSettings, ProviderSettings
from llm_dispatcher.tasks import Target, TaskRequest


def policy(**models: tuple[str, ...]) -> Policy:
    """A policy with these providers and their models; the default route has the first model of each."""
    providers = {
        name: ProviderSettings(name=name, kind="openai", models=dict.fromkeys(listed, ModelSettings()))
        for name, listed in models.items()
    }
    return Policy(providers, Route(targets=tuple(Target(name, listed[0]) for name, listed in models.items() if listed)))


def named(request: TaskRequest, decided: Policy) -> list[str]:
    return [str(target) for target in candidates(request, decided)]


def test_a_model_without_a_provider_goes_to_the_only_one_although_it_does_not_list_it() -> None:
    assert named(TaskRequest("hi", model="new-model"), policy(a=("m",))) == ["a/new-model"]


def test_a_model_without_a_provider_goes_to_all_that_list_it() -> None:
    assert named(TaskRequest("hi", model="m"), policy(a=("m",), b=("x", "m"), c=("x",))) == ["a/m", "b/m"]


def test_a_model_that_nobody_lists_is_refused_and_the_providers_are_named() -> None:
    with pytest.raises(InvalidRequestError, match=re.escape("write it as provider/model, with one of a, b")):
        named(TaskRequest("hi", model="z"), policy(a=("m",), b=("m",)))


def test_the_body_is_a_provider_that_needs_no_configuration() -> None:
    assert list(candidates(TaskRequest("hi", providers=[BODY]), policy(a=("m",)))) == [Target(BODY, "")]
    assert list(candidates(TaskRequest("hi", model=f"{BODY}/it"), policy(a=("m",)))) == [Target(BODY, "it")]


def test_a_provider_outside_the_route_is_asked_for_its_first_model() -> None:
    outside = Policy(policy(a=("m",), b=("x", "y")).providers, Route(targets=(Target("a", "m"),)))
    assert named(TaskRequest("hi", providers=["b"]), outside) == ["b/x"]


def test_a_provider_without_any_model_is_refused_with_the_key_to_write() -> None:
    with pytest.raises(InvalidRequestError, match=re.escape("list models under providers.b.models")):
        named(TaskRequest("hi", providers=["b"]), policy(a=("m",), b=()))
