"""What no client could write as JSON is named before anything is sent, on every wire."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pydantic
import pytest
from openai._utils import _json as openai_json

from llm_dispatcher._providers import make
from llm_dispatcher._providers.base.encoding import encoded
from llm_dispatcher.exceptions import InvalidRequestError, ProviderRateLimitError
from llm_dispatcher.provider import Ask, ProviderSettings, Secret
from llm_dispatcher.provider._errors import ErrorReply, translated
from llm_dispatcher.provider._json_check import unsendable
from llm_dispatcher.tasks import ImagePart, Message, Target, TaskRequest, TextPart, Tool, ToolResultPart
from llm_dispatcher.testing import Reply, SimulatedVendor

A = Target("a", "m")
HALF = "\ud83d"
"""Half of an emoji, as it comes of text that was cut by a language that counts in UTF-16."""
LOOP: dict[str, Any] = {}
LOOP["self"] = LOOP
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]

WRONG = [
    (TaskRequest(f"Oh {HALF}"), "prompt holds '\\ud83d', half of a character"),
    (TaskRequest("x", system=HALF), "system holds '\\ud83d'"),
    (TaskRequest("x", messages=[Message("user", ["a", HALF])]), "messages[0].parts[1].text holds"),
    (TaskRequest(messages=[Message("tool", ToolResultPart("c", "f", HALF))]), "messages[0].parts[0].result holds"),
    (TaskRequest("x", extra={"a": {"b": [1, object()]}}), "extra.a.b[1] cannot be written as JSON"),
    (TaskRequest("x", extra={"a": math.nan}), "extra.a cannot be written as JSON"),
    (TaskRequest("x", images=[f"https://example.org/{HALF}.png"]), "images[0] holds '\\ud83d'"),
    (TaskRequest(messages=[Message("user", ImagePart(HALF))]), "messages[0].parts[0].source holds"),
    (TaskRequest("x", extra={HALF: math.inf}), "extra.\\ud83d cannot be written as JSON"),
    (TaskRequest("x", extra={HALF: 1}), "extra holds '\\ud83d'"),
    (TaskRequest("x", tools=[{"name": "f", "parameters": {"a": b""}}]), "tools[0].parameters.a cannot be written"),
    (TaskRequest("x", response_format={"title": object}), "response_format.title cannot be written"),
    (TaskRequest("x", extra={"a": DEEP}), "[0][0] cannot be written as JSON: maximum recursion"),
    (TaskRequest("x", extra={"a": LOOP}), "extra.a cannot be written as JSON: Circular reference"),
]


@pytest.mark.parametrize(("request_", "words"), WRONG)
def test_an_unencodable_value_is_named(request_: TaskRequest, words: str) -> None:
    why = unsendable(request_)
    assert why is not None and words in why


def test_the_functions_of_tools_are_not_sent_so_they_do_not_count() -> None:
    tool = Tool("f", parameters={"type": "object"}, function=len, check=dict)
    assert unsendable(TaskRequest("x", tools=[tool])) is None
    wrong = Tool("f", parameters={"type": "object", "default": object()}, function=len)
    why = unsendable(TaskRequest("x", tools=[wrong]))
    assert why is not None and why.startswith("tools[0].parameters.default cannot be written as JSON")


def test_a_vendors_word_goes_before_ours() -> None:
    """One client writes what another cannot."""
    with (
        pytest.raises(ProviderRateLimitError),
        translated(Ask(WRONG[4][0], A), lambda _: ErrorReply("no", 429), lambda: ()),
    ):
        raise OSError
    with pytest.raises(TypeError), translated(Ask(TaskRequest("x"), A), lambda _: None, lambda: ()):
        raise TypeError("a mistake of ours")


def test_the_words_themselves_can_be_written() -> None:
    why = unsendable(TaskRequest("x", extra={HALF * 1000: math.nan}))
    assert why is not None and why.encode() and len(why) < 200


class Place(pydantic.BaseModel):
    city: str
    country: str = "Peru"


def test_all_clients_encode_the_same_values() -> None:
    """OpenAI's and Anthropic's clients write times and pydantic models; so do we where we write."""
    extra = {"when": datetime(2026, 11, 21, tzinfo=UTC), "where": Place(city="Lima")}
    assert unsendable(TaskRequest("x", extra=extra)) is None
    assert json.loads(encoded(extra)) == {"when": "2026-11-21T00:00:00+00:00", "where": {"city": "Lima"}}
    assert json.loads(openai_json.openapi_dumps(extra)) == json.loads(encoded(extra))


def test_what_is_coded_before_it_is_sent_has_a_form() -> None:
    picture = Message("user", [ImagePart(b"\x89PNG"), ImagePart(Path("a.png")), TextPart("What is it?")])
    assert unsendable(TaskRequest("x", images=[b"\x89PNG"], audio=[Path("a.wav")], messages=[picture])) is None


@pytest.mark.parametrize(
    ("wire", "kind"),
    [
        ("openai-chat", "openai_compatible"),
        ("openai-responses", "openai"),
        ("anthropic", "anthropic"),
        ("google", "google"),
        ("ollama", "ollama"),
    ],
)
@pytest.mark.parametrize(("request_", "words"), [WRONG[0], WRONG[4], WRONG[5]])
async def test_an_unencodable_request_is_not_sent(wire: str, kind: str, request_: TaskRequest, words: str) -> None:
    api: Literal["responses"] | None = "responses" if wire == "openai-responses" else None
    with SimulatedVendor(wire, Reply("hi")) as vendor:
        settings = ProviderSettings(name="a", kind=kind, api=api, api_key=Secret("test-key"), base_url=vendor.base_url)
        provider = make(settings)
        with pytest.raises(InvalidRequestError) as raised:
            async for _ in provider.stream(Ask(request_, A)):
                pass
        await provider.aclose()
    assert words in str(raised.value) and raised.value.provider == "a"
    assert vendor.requests == [] and raised.value.__cause__ is not None
