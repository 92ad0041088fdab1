"""The demo's two screens: both show what happens to a stream, one by drawing, the other in lines."""

from __future__ import annotations

import io
import sys

import pytest

from llm_dispatcher import ProgressTracker
from llm_dispatcher._cli.demo.live_screen import LiveScreen
from llm_dispatcher._cli.demo.plain_screen import PlainScreen
from llm_dispatcher._cli.demo.screen import Screen, screen_on
from llm_dispatcher.events import (
    Attempt,
    Event,
    Failure,
    StreamFailed,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    Usage,
)
from llm_dispatcher.tasks import Target

A, B = Target("openai", "m"), Target("anthropic", "m")
BROKEN = Failure("StreamTruncatedError", "it was cut off")
ROW = Attempt(
    A, 1, "failed", BROKEN, 4, "", None, Usage(input_tokens=3, output_tokens=2, source="reported"), None, None, 1.0
)
SWITCH: list[Event] = [
    StreamStarted(A, 1, cached=False),
    TextDelta("Once", 0),
    StreamSwitched(A, B, "cut off", "anchor", "Once"),
    StreamStarted(B, 2, cached=False),
    TextDelta(" upon", 1),
]
"""A stream that another target continues."""


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 120) -> None:
    for name, value in {"COLUMNS": str(columns), "LINES": "30", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def shown(events: list[Event], screen: Screen) -> None:
    screen.open(ProgressTracker())
    for event in events:
        screen.event(event)
    screen.close()


@pytest.fixture(params=["live", "plain"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[LiveScreen | PlainScreen]:
    terminal(monkeypatch)
    return LiveScreen if request.param == "live" else PlainScreen


def drawn(events: list[Event], kind: type[LiveScreen | PlainScreen], capsys: pytest.CaptureFixture[str]) -> str:
    shown(events, kind() if kind is LiveScreen else PlainScreen(sys.stdout))
    return capsys.readouterr().out


def test_a_switch_is_named_beside_the_whole_text(
    kind: type[LiveScreen | PlainScreen], capsys: pytest.CaptureFixture[str]
) -> None:
    out = drawn(SWITCH, kind, capsys)
    assert "anthropic/m continues for openai/m (seam: anchor, 4 repeated characters removed)" in out
    assert "Once" in out
    assert " upon" in out


def test_an_answer_from_the_cache_names_who_gave_it(
    kind: type[LiveScreen | PlainScreen], capsys: pytest.CaptureFixture[str]
) -> None:
    out = drawn([StreamStarted(A, 1, cached=True), TextDelta("Once", 0)], kind, capsys)
    assert "from the cache: an earlier answer of openai/m" in out


def test_a_stream_that_failed_says_why(
    kind: type[LiveScreen | PlainScreen], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "failed: it was cut off" in drawn([StreamFailed(BROKEN)], kind, capsys)


@pytest.mark.parametrize(("columns", "has_tokens"), [(120, True), (80, False)])
def test_a_narrow_terminal_has_no_column_for_tokens(
    columns: int, has_tokens: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(monkeypatch, columns)
    LiveScreen().ledger([ROW])
    out = capsys.readouterr().out
    assert ("3/2 reported" in out) is has_tokens
    assert "StreamTruncatedError" in out


def test_a_ledger_without_rows_is_not_drawn(
    kind: type[LiveScreen | PlainScreen], capsys: pytest.CaptureFixture[str]
) -> None:
    kind().ledger([])
    assert capsys.readouterr().out == ""


def test_the_legend_names_each_vendor_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal(monkeypatch)
    LiveScreen().legend({"openai": "OpenAI", "body": "the function"})
    assert capsys.readouterr().out.strip() == "Colours: ■ OpenAI  ■ the function"


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "term", "kind_of_screen"),
    [(Tty(), "xterm", LiveScreen), (Tty(), "dumb", PlainScreen), (io.StringIO(), "xterm", PlainScreen)],
    ids=["a terminal", "one that cannot draw", "a file"],
)
def test_only_a_terminal_that_can_draw_is_drawn_on(
    out: io.StringIO, term: str, kind_of_screen: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    assert type(screen_on(out)) is kind_of_screen


def test_an_answer_that_begins_again_is_drawn_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(monkeypatch)
    again: list[Event] = [StreamReset(), StreamStarted(B, 2, cached=False, rung="restarted"), TextDelta("Whole.", 1)]
    out = drawn([StreamStarted(A, 1, cached=False), TextDelta("Half", 0), *again], LiveScreen, capsys)
    assert "Whole." in out
    assert "Half" not in out
    assert "the answer begins again" in out
