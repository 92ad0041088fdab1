"""Hints at the end of error messages, and estimates of tokens."""

from __future__ import annotations

import pytest

from llm_dispatcher._hints import did_you_mean, nearest_or_all
from llm_dispatcher._tokens import bytes_in, estimated_tokens, tokens_in_bytes


def test_the_nearest_name_is_given_as_it_is_written() -> None:
    assert did_you_mean("opneai", ["anthropic", "OpenAI"]) == "; did you mean 'OpenAI'?"
    assert did_you_mean("ANTHROPIC", ["anthropic", "openai"]) == "; did you mean 'anthropic'?"


def test_nothing_is_given_where_no_name_is_near_enough() -> None:
    assert did_you_mean("zebra", ["anthropic", "openai"]) == ""
    assert did_you_mean("anthropix", ["anthropic"], likeness=0.95) == ""
    assert did_you_mean("x", []) == ""


def test_where_no_name_is_near_all_are_listed_in_order() -> None:
    assert nearest_or_all("zebra", ["openai", "anthropic"]) == " (known: anthropic, openai)"
    assert nearest_or_all("opneai", ["openai", "anthropic"]) == "; did you mean 'openai'?"
    assert nearest_or_all("zebra", []) == ""


@pytest.mark.parametrize(("text", "size"), [("", 0), ("word", 4), ("grüße", 7), ("日本", 6), ("\ud83d", 3)])
def test_texts_are_measured_in_bytes(text: str, size: int) -> None:
    assert bytes_in(text) == size
    assert estimated_tokens(text) == tokens_in_bytes(size)


def test_tokens_are_rounded_up() -> None:
    assert [tokens_in_bytes(size) for size in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]
