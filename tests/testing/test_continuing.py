"""`Continuing`: a vendor that continues the answer of another one."""

from __future__ import annotations

import pytest

from llm_dispatcher._dispatch.continuation import CONTINUE_PROMPT as PROMPT
from llm_dispatcher._join.join import anchor_of
from llm_dispatcher.testing import Continuing, Kind, ReceivedRequest, Turn, Wire

TEXT = "First, install it. Then run `a >>> b <<< c`, wait, and\n\nread the log: nothing else was ever needed. The end."


def continuation_of(delivered: str, wording: str = PROMPT) -> ReceivedRequest:
    request = ReceivedRequest(Wire.OPENAI_CHAT, "POST", "/", {}, {})
    request.turns = [
        Turn("user", "how?"),
        Turn("assistant", delivered),
        Turn("user", wording.replace("{anchor}", anchor_of(delivered))),
    ]
    return request


def test_the_words_to_repeat_are_found_after_any_cut() -> None:
    """Also if the text contains the marks."""
    for cut in range(1, len(TEXT)):
        delivered, anchor = TEXT[:cut], anchor_of(TEXT[:cut])
        answer = Continuing(TEXT)(continuation_of(delivered)).text
        assert answer.startswith(anchor)
        assert delivered.rstrip() + answer.removeprefix(anchor) == TEXT


@pytest.mark.parametrize("wording", ["Repeat <<<{anchor}>>>.", "Between <<< and >>> stands: <<<{anchor}>>>.", PROMPT])
def test_the_prompt_may_mention_the_marks(wording: str) -> None:
    assert Continuing(TEXT, Kind.EXACT)(continuation_of(TEXT[:60], wording)).text == TEXT[60:]


def test_a_new_request_gets_the_whole_text() -> None:
    request = ReceivedRequest(Wire.OPENAI_CHAT, "POST", "/", {}, {})
    request.turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "what does <<< mean, or >>>?")]
    assert Continuing(TEXT)(request).text == TEXT


def test_a_continuation_of_another_text_is_refused() -> None:
    with pytest.raises(ValueError, match="not in this script's text"):
        Continuing(TEXT)(continuation_of("Something else altogether."))
