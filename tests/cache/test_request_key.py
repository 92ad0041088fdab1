"""The key of a request: two requests share a bucket only if everything but their last words is equal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import force_setattr
from pydantic import Field, create_model

from llm_dispatcher.cache._request_key import COMPARED, NOT_COMPARED, request_key
from llm_dispatcher.exceptions import CacheError
from llm_dispatcher.tasks import CachePoint, ImagePart, Message, Target, TaskRequest, TaskType, TextPart

TARGETS = (Target("openai", "m"), Target("anthropic", "n"))
PIXEL = "data:image/png;base64,iVBORw0KGgo="
texts = st.sampled_from(["", "a", "b", "a b"])

CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "task_type": st.sampled_from([TaskType.TEXT_GENERATION, TaskType.QUESTION_ANSWERING, TaskType.MATH]),
    "system": st.none() | texts,
    "messages": st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), texts), max_size=2),
    "images": st.lists(st.sampled_from([PIXEL, PIXEL.replace("iV", "iW")]), max_size=2),
    "audio": st.lists(st.just("data:audio/wav;base64,UklGRg=="), max_size=1),
    "tools": st.lists(st.sampled_from([{"name": "f"}, {"name": "g"}]), max_size=2),
    "tool_choice": st.none() | st.sampled_from(["auto", "none"]),
    "response_format": st.none() | st.sampled_from([{"type": "json_object"}, {"type": "text"}]),
    "temperature": st.none() | st.sampled_from([0.0, 0.5]),
    "top_p": st.none() | st.sampled_from([0.5, 1.0]),
    "max_tokens": st.none() | st.integers(1, 3),
    "stop": st.lists(texts, max_size=2),
    "seed": st.none() | st.integers(0, 2),
    "reasoning_effort": st.none() | st.sampled_from(["low", "high"]),
    "extra": st.sampled_from([{}, {"k": 1}, {"k": 2}]),
    "namespace": st.none() | st.sampled_from(["a", "b"]),
}
conditions = st.fixed_dictionaries({}, optional=CONDITIONS)


@pytest.mark.found("H-5")
def test_compared_and_excluded_fields_are_all_fields() -> None:
    assert set(COMPARED) | NOT_COMPARED == set(TaskRequest.__struct_fields__)
    assert not set(COMPARED) & NOT_COMPARED
    assert set(COMPARED) <= CONDITIONS.keys(), "give the new field values here, so that its part in the key is tested"


@pytest.mark.found("H-5")
@pytest.mark.parametrize("field", COMPARED)
def test_requests_that_differ_in_one_field_have_different_buckets(field: str) -> None:
    different = TaskRequest("x")
    force_setattr(different, field, "another value")
    assert request_key(different, TARGETS, "", b"s").bucket != request_key(TaskRequest("x"), TARGETS, "", b"s").bucket


def bucket(cache: str = "", targets: tuple[Target, ...] = TARGETS, **request: Any) -> bytes:
    """The bucket of a request in a cache whose own namespace is `cache`."""
    return request_key(TaskRequest("What is tea?", **request), targets, cache, b"secret").bucket


@given(conditions, conditions)
def test_two_requests_share_a_bucket_only_if_all_fields_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    a, b = TaskRequest("x", **one), TaskRequest("x", **other)
    assert (bucket(**one) == bucket(**other)) is (a == b)


@given(conditions)
def test_namespaces_targets_and_secrets_have_different_buckets(request: dict[str, Any]) -> None:
    mine = bucket(**request)
    assert mine != bucket("other", **request)
    assert mine != bucket(targets=TARGETS[:1], **request)
    assert mine == bucket(targets=TARGETS[::-1], **request)
    assert mine != request_key(TaskRequest("What is tea?", **request), TARGETS, "", b"another secret").bucket


def test_a_namespace_may_be_a_field_or_a_key_of_the_metadata() -> None:
    assert bucket(namespace="a") == bucket(metadata={"namespace": "a"}) != bucket()


def test_the_text_is_the_prompt_or_the_last_user_message() -> None:
    by_prompt = request_key(TaskRequest("What is tea?"), TARGETS, "", b"secret")
    by_message = request_key(TaskRequest(messages=[Message("user", "What is tea?")]), TARGETS, "", b"secret")
    assert by_prompt == by_message
    assert by_prompt.text == "What is tea?"
    answered = [Message("user", "What is tea?"), Message("assistant", "A drink.")]
    assert request_key(TaskRequest(messages=answered), TARGETS, "", b"secret").text == ""


def test_a_message_of_two_texts_is_compared_for_equality_only() -> None:
    """None of the two is the text that may be worded differently."""
    two = TaskRequest(messages=[Message("user", [TextPart("What is tea?"), TextPart("Briefly.")])])
    other = TaskRequest(messages=[Message("user", [TextPart("What is tea?"), TextPart("At length.")])])
    keys = [request_key(each, TARGETS, "", b"secret") for each in (two, other)]
    assert [key.text for key in keys] == ["", ""]
    assert keys[0].bucket != keys[1].bucket


def test_points_for_a_vendors_prompt_cache_are_not_compared() -> None:
    marked = [Message("system", ["Be kind.", CachePoint("1h")]), Message("user", [CachePoint(), "What is tea?"])]
    plain = [Message("system", "Be kind."), Message("user", "What is tea?")]
    keys = [request_key(TaskRequest(messages=each), TARGETS, "", b"secret") for each in (marked, plain)]
    assert keys[0] == keys[1]
    assert keys[0].text == "What is tea?"


def test_models_are_compared_by_their_json_schema() -> None:
    """Two models with one name and signature may ask for different things."""
    one, same, other = (
        create_model("M", answer=(str, Field(description=words))) for words in ("A word.", "A word.", "A page.")
    )
    assert bucket(extra={"k": one}) == bucket(extra={"k": same}) != bucket(extra={"k": other})


def test_python_functions_are_compared_by_name_and_signature() -> None:
    assert bucket(tools=[json.loads]) == bucket(tools=[json.loads])
    assert bucket(tools=[json.loads]) != bucket(tools=[json.dumps])
    with pytest.raises(CacheError, match="local function"):
        bucket(tools=[lambda: None])
    with pytest.raises(CacheError, match="a value of type object cannot be compared"):
        bucket(extra={"k": object()})


def test_a_request_with_media_by_url_has_no_key() -> None:
    with pytest.raises(CacheError, match="referenced by URL"):
        bucket(images=["https://pictures.example/cat.png"])
    with pytest.raises(CacheError, match="referenced by URL"):
        bucket(messages=[Message("user", ImagePart("https://pictures.example/cat.png"))])


@pytest.mark.parametrize(
    ("exact", "request_"),
    [
        (False, TaskRequest("I am late")),
        (False, TaskRequest("I am late", system="You are kind.")),
        (True, TaskRequest("I am late", system="Correct the user's grammar.")),
        (True, TaskRequest("I am late", system="Translate what you are given.")),
        (True, TaskRequest("I am late", messages=[Message("user", "Classify the next message.")])),
        (True, TaskRequest("I am late", task_type=TaskType.TRANSLATION)),
        (True, TaskRequest("I am late", task_type=TaskType.SENTIMENT_ANALYSIS)),
    ],
)
def test_a_text_to_process_is_compared_for_equality_only(exact: bool, request_: TaskRequest) -> None:
    assert request_key(request_, TARGETS, "", b"secret").exact is exact
