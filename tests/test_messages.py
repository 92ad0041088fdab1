"""A message is a role and parts; what is neither is refused where it is written."""

from __future__ import annotations

from typing import Any

import pytest

from llm_dispatcher.tasks import ImagePart, Message, TaskRequest, TextPart


@pytest.mark.parametrize("parts", ["hi", TextPart("hi"), ["hi"], (TextPart("hi"),), iter(["hi"])])
def test_parts_are_a_text_a_part_or_several_of_both(parts: Any) -> None:
    assert Message("user", parts).parts == (TextPart("hi"),)


def test_text_leaves_out_what_is_not_text() -> None:
    assert Message("user", ["one ", ImagePart("harbour.png"), "two"]).text == "one two"


@pytest.mark.parametrize(
    ("role", "parts", "error", "words"),
    [
        ("robot", "hi", ValueError, "a message's role is one of .*; got 'robot'"),
        ("user", 5, TypeError, "a message's parts are a str or a sequence of parts, got int"),
        (
            "user",
            ["hi", 5],
            TypeError,
            r"a part of a message is a str or a part of llm_dispatcher.tasks \(.*\), got int",
        ),
    ],
)
def test_a_value_that_is_not_a_message_is_refused(role: Any, parts: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Message(role, parts)


def test_a_tool_choice_is_a_name() -> None:
    def weather(city: str) -> str:
        return city

    with pytest.raises(TypeError, match=r'got function; write tool_choice="weather"'):
        TaskRequest("x", tool_choice=weather)  # type: ignore[arg-type]
