"""The command in a real terminal, and in real pipes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llm_dispatcher.testing import Continuing, Cut, Reply, SimulatedVendor, Stall
from tests.cli.terminals import Terminal, controlling, ending, plain

TEXT = "".join(f"Line {number} of a tale of a lighthouse and the sea.\n" for number in range(30))


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


# ── a terminal ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_in_a_terminal_the_text_is_live_and_a_summary_follows(
    start: Any, write: Any, terminal: Terminal, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    first_vendor, other = (
        simulated_vendor("ollama", Reply(TEXT, fault=Cut(200))),
        simulated_vendor("ollama", Continuing(TEXT)),
    )
    process = start(
        "stream", "Tell me.", "-c", write(first_vendor, other), stdin=terminal.theirs, stdout=terminal.theirs,
        stderr=terminal.theirs, preexec_fn=controlling,
    )  # fmt: skip
    with ending(process):
        terminal.hand_over()
        output = plain(terminal.read_to_the_end())
    assert process.returncode == 0
    remarks = r"\n?\[[^\]\n]*\]\n"
    lines = "".join(re.findall(remarks, output))
    assert "b/m continues for a/m" in lines
    assert re.search(r"\[b/m · 2 attempts · .* s in total\]", lines)
    text = re.sub(remarks, "", output)
    assert text.replace("\n", "").endswith(TEXT.replace("\n", ""))


def test_text_is_shown_while_it_arrives_and_ctrl_c_ends_it_quietly(
    start: Any, write: Any, terminal: Terminal, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    vendor = simulated_vendor("ollama", Reply(TEXT, fault=Stall(12)))
    process = start(
        "stream", "Tell me.", "-c", write(vendor), stdin=terminal.theirs, stdout=terminal.theirs,
        stderr=terminal.theirs, preexec_fn=controlling,
    )  # fmt: skip
    with ending(process):
        terminal.hand_over()
        terminal.read_until("Line 0 of a tale")
        terminal.type(b"\x03")
        output = terminal.read_to_the_end()
    assert process.returncode == 130
    assert "Traceback" not in output
    assert "llm-dispatcher:" not in output
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h"), "the cursor is there again"
    assert vendor.requests[0].wait_until_over() == "left"
    assert vendor.wait_until_unconnected() == 0


def test_a_model_can_neither_control_a_terminal_nor_reverse_the_direction_of_text(
    start: Any, write: Any, terminal: Terminal, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    control = "\x1b]0;Gotcha\a\x1b[2J\x9b31mred, "
    reverse = "safe\u202egnp.exe\u2066\u2069, but \u05e9\u05dc\u05d5\u05dd\u200f"
    policy = write(simulated_vendor("ollama", Reply(control + reverse)))
    process = start("stream", "x", "-q", "-c", policy, stdout=terminal.theirs, stderr=terminal.theirs)
    with ending(process):
        terminal.hand_over()
        harmless = "␛]0;Gotcha␇␛[2J�31mred, safe�gnp.exe��, but \u05e9\u05dc\u05d5\u05dd\u200f\r\n"
        assert terminal.read_to_the_end() == harmless


def test_a_progress_bar_is_drawn_if_the_text_goes_elsewhere(
    start: Any, write: Any, terminal: Terminal, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    policy = write(simulated_vendor("ollama", Reply(TEXT)))
    process = start("stream", "Tell me.", "-c", policy, stdout=subprocess.PIPE, stderr=terminal.theirs)
    with ending(process):
        terminal.hand_over()
        text = process.stdout.read()
        output = terminal.read_to_the_end()
    assert (process.returncode, text.decode()) == (0, TEXT)
    assert "100.0 %" in plain(output)
    assert "a tale of a lighthouse" not in output


@pytest.mark.slow
@pytest.mark.measured
def test_tables_are_drawn_in_a_terminal(start: Any, policy: str, terminal: Terminal) -> None:
    with ending(start("models", "-c", policy, stdout=terminal.theirs, stderr=terminal.theirs)) as process:
        terminal.hand_over()
        output = terminal.read_to_the_end()
    assert process.returncode == 0
    assert "\x1b[1m" in output
    assert "a/m" in plain(output)


@pytest.mark.slow
def test_help_is_drawn_in_a_terminal(start: Any, terminal: Terminal) -> None:
    with ending(start("stream", "--help", stdout=terminal.theirs, stderr=terminal.theirs)) as process:
        terminal.hand_over()
        output = plain(terminal.read_to_the_end())
    assert process.returncode == 0
    assert "--max-latency" in output
    assert "╭─ Options" in output


# ── pipes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_closed_pipe_ends_it_quietly_while_the_vendor_is_silent(
    start: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    """As with `… | head -1`. The connection is closed at once, before the vendor sends more."""
    vendor = simulated_vendor("ollama", Reply(TEXT, fault=Stall(40)))
    command = start("stream", "Tell me.", "-c", write(vendor), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with ending(command):
        assert command.stdout.readline() == b"Line 0 of a tale of a lighthouse and the sea.\n"
        command.stdout.close()
        assert command.stderr.read().decode() == "[a/m answers, attempt 1]\n"
    assert command.returncode == 141
    assert vendor.requests[0].wait_until_over() == "left"
    assert vendor.wait_until_unconnected() == 0


@pytest.mark.parametrize(
    "words",
    [
        ("stream", "Tell me."),
        pytest.param(("stream", "Tell me.", "--json"), marks=pytest.mark.slow),
        pytest.param(("config", "schema"), marks=pytest.mark.slow),
        pytest.param(("--help",), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_a_failed_write_ends_it_quietly(
    words: tuple[str, ...], start: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    policy = write(simulated_vendor("ollama", Reply(TEXT)))
    if words[0] == "stream":
        words = (*words, "-c", policy, *([] if "--json" in words else ["-q"]))
    ours, theirs = os.pipe()
    os.close(ours)
    command = start(*words, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    with ending(command):
        assert command.stderr.read() == b""
    assert command.returncode == 141


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.slow
@pytest.mark.measured
def test_a_signal_ends_it_quietly(
    number: signal.Signals, code: int, start: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    vendor = simulated_vendor("ollama", Reply(TEXT, fault=Stall(40)))
    command = start("stream", "Tell me.", "-q", "-c", write(vendor), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with ending(command):
        command.stdout.readline()
        command.send_signal(number)
        assert command.stderr.read() == b""
    assert command.returncode == code
    assert vendor.requests[0].wait_until_over() == "left"


def test_pipes_are_utf_8(start: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]) -> None:
    vendor = simulated_vendor("ollama", Reply("漢字, ü.\n"))
    command = start(
        "stream", "-", "-q", "-c", write(vendor), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with ending(command):
        out, err = command.communicate("Was heißt das?".encode())
    assert (command.returncode, out.decode(), err) == (0, "漢字, ü.\n", b"")
    assert vendor.requests[0].text == "Was heißt das?"


@pytest.mark.slow
def test_a_character_outside_of_the_encoding_does_not_stop_it(
    start: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    policy = write(simulated_vendor("ollama", Reply("a 漢 b")))
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = start("stream", "x", "-q", "-c", policy, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    with ending(command):
        out, err = command.communicate()
    assert (command.returncode, out, err) == (0, b"a ? b\n", b"")


@pytest.mark.found("N-B11")
@pytest.mark.parametrize("kind", ["pipe", "file", "/dev/null", "closed", "terminal"])
@pytest.mark.slow
@pytest.mark.measured
def test_standard_input_is_read_from_pipes_and_files_only(
    kind: str,
    start: Any,
    write: Any,
    terminal: Terminal,
    tmp_path: Any,
    simulated_vendor: Callable[..., SimulatedVendor],
) -> None:
    vendor = simulated_vendor("ollama", Reply("Yes."))
    code_file = tmp_path / "code.py"
    code_file.write_text("print(1)\n")
    with code_file.open("rb") as file:
        options: dict[str, Any] = {
            "pipe": {"stdin": subprocess.PIPE},
            "file": {"stdin": file},
            "/dev/null": {"stdin": subprocess.DEVNULL},
            "closed": {"preexec_fn": lambda: os.close(0)},
            "terminal": {"stdin": terminal.theirs},
        }[kind]
        command = start(
            "stream", "Explain.", "-q", "-c", write(vendor), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )
        with ending(command):
            out, err = command.communicate(b"print(1)\n" if kind == "pipe" else None)
    assert (command.returncode, out, err) == (0, b"Yes.\n", b"")
    assert vendor.requests[0].text == ("print(1)\n\nExplain." if kind in ("pipe", "file") else "Explain.")


@pytest.mark.found("N-B11")
@pytest.mark.slow
@pytest.mark.measured
def test_a_hint_says_that_it_waits_for_a_pipe_and_ctrl_c_ends_it(
    start: Any, policy: str, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    command = start(
        "stream", "Explain.", "-c", policy, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with ending(command):
        assert command.stderr.readline().startswith(b"[waiting for standard input to end")
        command.send_signal(signal.SIGINT)
        assert command.stderr.read() == b""
        command.stdin.close()
    assert command.returncode == 130


# ── without colours ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("N-C17")
@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
@pytest.mark.slow
@pytest.mark.measured
def test_colours_can_be_switched_off(environment: dict[str, str], start: Any, policy: str, terminal: Terminal) -> None:
    command = start("stream", "x", "-c", policy, stdout=terminal.theirs, stderr=terminal.theirs, env=environment)
    with ending(command):
        terminal.hand_over()
        output = terminal.read_to_the_end()
    assert "[a/m · " in output
    assert not re.search(r"\x1b\[[0-9;]*m", output)
