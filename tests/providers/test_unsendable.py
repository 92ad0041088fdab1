"""What no client could write as JSON is named before anything is sent, on every wire."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest

from llm_dispatcher.exceptions import InvalidRequestError
from llm_dispatcher.provider import Ask, ProviderSettings, Secret
from llm_dispatcher.providers import make
from llm_dispatcher.providers.unsendable import unsendable
from llm_dispatcher.tasks import ImagePart, Message, Target, TaskRequest, TextPart, ToolResultPart
from llm_dispatcher.testing import Reply, SimulatedVendor

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
    (TaskRequest("x", extra={HALF: 1}), "extra holds '\\ud83d'"),
    (TaskRequest("x", tools=[{"name": "f", "parameters": {"a": b""}}]), "tools[0].parameters.a cannot be written"),
    (TaskRequest("x", response_format={"title": object}), "response_format.title cannot be written"),
    (TaskRequest("x", extra={"a": DEEP}), "[0][0] cannot be written as JSON: maximum recursion"),
    (TaskRequest("x", extra={"a": LOOP}), "extra.a cannot be written as JSON: Circular reference"),
]


@pytest.mark.parametrize(("request_", "words"), WRONG)
def test_what_cannot_be_written_is_named(request_: TaskRequest, words: str) -> None:
    why = unsendable(request_)
    assert why is not None and words in why


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
async def test_nothing_is_sent(wire: str, kind: str, request_: TaskRequest, words: str) -> None:
    api: Literal["responses"] | None = "responses" if wire == "openai-responses" else None
    with SimulatedVendor(wire, Reply("hi")) as vendor:
        settings = ProviderSettings(name="a", kind=kind, api=api, api_key=Secret("test-key"), base_url=vendor.base_url)
        provider = make(settings)
        with pytest.raises(InvalidRequestError) as raised:
            async for _ in provider.stream(Ask(request_, Target("a", "m"))):
                pass
        await provider.aclose()
    assert words in str(raised.value) and raised.value.provider == "a"
    assert vendor.requests == [] and raised.value.__cause__ is not None
