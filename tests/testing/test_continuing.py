"""A vendor that goes on with what another had begun."""

from __future__ import annotations

import pytest

from llm_dispatcher._dispatch.continuation import CONTINUE_PROMPT as PROMPT
from llm_dispatcher._join.join import anchor_of
from llm_dispatcher.testing import Continuing, Kind, ReceivedRequest, Turn, Wire

TEXT = "First, install it. Then run `a >>> b <<< c`, wait, and\n\nread the log: nothing else was ever needed. The end."


def asked_to_go_on(delivered: str, wording: str = PROMPT) -> ReceivedRequest:
    request = ReceivedRequest(Wire.OPENAI_CHAT, "POST", "/", {}, {})
    request.turns = [
        Turn("user", "how?"),
        Turn("assistant", delivered),
        Turn("user", wording.replace("{anchor}", anchor_of(delivered))),
    ]
    return request


def test_the_words_to_repeat_are_found_wherever_the_text_was_cut() -> None:
    """Also where the text holds the marks itself."""
    for cut in range(1, len(TEXT)):
        delivered, anchor = TEXT[:cut], anchor_of(TEXT[:cut])
        answer = Continuing(TEXT)(asked_to_go_on(delivered)).text
        assert answer.startswith(anchor)
        assert delivered.rstrip() + answer.removeprefix(anchor) == TEXT


@pytest.mark.parametrize("wording", ["Repeat <<<{anchor}>>>.", "Between <<< and >>> stands: <<<{anchor}>>>.", PROMPT])
def test_the_wording_may_speak_of_the_marks(wording: str) -> None:
    assert Continuing(TEXT, Kind.EXACT)(asked_to_go_on(TEXT[:60], wording)).text == TEXT[60:]


def test_a_request_that_begins_gets_the_whole_text() -> None:
    request = ReceivedRequest(Wire.OPENAI_CHAT, "POST", "/", {}, {})
    request.turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "what does <<< mean, or >>>?")]
    assert Continuing(TEXT)(request).text == TEXT


def test_what_is_not_the_beginning_of_the_text_cannot_be_gone_on_with() -> None:
    with pytest.raises(ValueError, match="not in this script's text"):
        Continuing(TEXT)(asked_to_go_on("Something else altogether."))
