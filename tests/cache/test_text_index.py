"""Texts with common signs: what one of them leaves behind is still found."""

from __future__ import annotations

import pytest

from llm_dispatcher.cache._english.index import TextIndex
from llm_dispatcher.cache._english.likeness import LIKE, read
from llm_dispatcher.cache._store import Entry

SPELLINGS = ("What is the history of paper?", "what is the history of paper", "What is the history of paper ?")


def entry(text: str) -> Entry:
    return Entry(text.encode(), b"bucket", text, "", 10, 1e9)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_entries_with_the_same_signs_leave_one_by_one(count: int) -> None:
    """One entry, two, or more are filed under a sign in different forms; each form gives the rest back."""
    entries = [entry(text) for text in SPELLINGS[:count]]
    index: TextIndex[Entry] = TextIndex()
    for each in entries:
        index.add(each, read(each.text))
    while entries:
        found, likeness = index.find(b"bucket", read("What is the history of paper"), LIKE)
        assert likeness.hit
        assert found in entries
        index.remove(entries.pop(0).key)
    assert index.find(b"bucket", read("What is the history of paper"), LIKE)[0] is None


def test_taking_out_what_is_not_filed_changes_nothing() -> None:
    index: TextIndex[Entry] = TextIndex()
    filed = entry(SPELLINGS[0])
    index.add(filed, read(filed.text))
    index.remove(b"another")
    assert index.find(b"bucket", read(SPELLINGS[0]), LIKE)[0] is filed
