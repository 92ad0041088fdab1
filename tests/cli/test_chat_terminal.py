"""`llm-dispatcher chat` in a real terminal, and when it is ended by a signal or by its reader."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Semaphore
from typing import Any

import pytest

from llm_dispatcher import Session
from llm_dispatcher.testing import Continuing, Cut, ReceivedRequest, Reply, SaidToolCall, SimulatedVendor, Stall
from tests.cli.terminals import PATIENCE, Terminal, controlling, ending, plain

TALE = "Once upon a time there was a fox who lived by the sea."
TOOLS = '''
def delete(path: str) -> str:
    """Delete a file."""
    return f"{path} is \\x1b[2Jgone"
'''
Vendors = Callable[..., SimulatedVendor]
Chat = Callable[..., Any]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


@pytest.fixture
def chat(start: Any, write: Any, terminal: Terminal) -> Chat:
    """Start a chat on the terminal. In the block, it waits at its first prompt; after it, it has ended."""

    @contextmanager
    def chat_it(*vendors: SimulatedVendor, options: tuple[str, ...] = (), **streams: Any) -> Iterator[Any]:
        streams = {"stdin": terminal.theirs, "stdout": terminal.theirs, "stderr": terminal.theirs, **streams}
        process = start("chat", "-c", write(*vendors), *options, preexec_fn=controlling, **streams)
        with ending(process):
            terminal.hand_over()
            terminal.read_next("> ")
            yield process
        assert "Traceback" not in terminal.drawn

    return chat_it


def called(*paths: str) -> Reply:
    return Reply(tool_calls=tuple(SaidToolCall("delete", json.dumps({"path": path})) for path in paths))


def texts(vendor: SimulatedVendor, number: int = -1) -> list[str]:
    return [turn.text for turn in vendor.requests[number].turns]


def leave(terminal: Terminal) -> None:
    """Press Ctrl-D at the next prompt."""
    terminal.read_next("> ")
    terminal.type(b"\x04")
    terminal.read_to_the_end()


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_another_vendor_continues_and_the_screen_says_so_in_one_line(
    chat: Chat, terminal: Terminal, simulated_vendor: Vendors
) -> None:
    dying = simulated_vendor("openai-chat", [Reply("Hello Ann."), Reply(TALE, fault=Cut(5))])
    other = simulated_vendor("anthropic", Continuing(TALE))
    with chat(dying, other) as process:
        terminal.type(b"I am Ann.\r")
        terminal.read_next("Hello Ann.")
        terminal.read_next("> ")
        terminal.type(b"Tell me a tale.\r")
        shown = plain(terminal.read_next("by the sea."))
        leave(terminal)
    assert process.returncode == 0
    assert "Once upon a time there\n[a/m broke off, and b/m continues]\n was a fox" in shown
    assert texts(other) == ["I am Ann.", "Hello Ann.", "Tell me a tale.", "Once upon a time there"]
    assert terminal.drawn.count("\x1b[?25l") == terminal.drawn.count("\x1b[?25h"), "the cursor is there again"


def test_ctrl_c_stops_the_answer_and_what_was_said_is_kept(
    chat: Chat, terminal: Terminal, simulated_vendor: Vendors
) -> None:
    replies, asked = iter([Reply(TALE, fault=Stall(4)), Reply("On."), Reply("Hm.", fault=Stall(0))]), Semaphore(0)

    def script(_: ReceivedRequest) -> Reply:
        asked.release()
        return next(replies)

    vendor = simulated_vendor("openai-chat", script)
    with chat(vendor) as process:
        terminal.type(b"Tell me a tale.\r")
        terminal.read_next("Once upon a time")
        terminal.type(b"\x03")
        terminal.read_next("[stopped; the answer so far is kept]")
        terminal.read_next("> ")
        assert vendor.requests[0].wait_until_over() == "left"
        terminal.type(b"Go on.\r")
        terminal.read_next("On.")
        terminal.read_next("> ")
        terminal.type(b"And?\r")
        assert all(asked.acquire(timeout=PATIENCE) for _ in range(3))
        terminal.type(b"\x03")
        terminal.read_next("[stopped; nothing of it is kept]")
        terminal.read_next("> ")
        terminal.type(b"/history\r")
        terminal.read_next("you: Go on.\r\na/m: On.\r\n")
        terminal.type(b"/quit\r")
        terminal.read_to_the_end()
    assert process.returncode == 0
    assert texts(vendor, 1) == ["Tell me a tale.", "Once upon a time", "Go on."]


@pytest.mark.slow
def test_a_model_and_a_tool_cannot_control_the_terminal(
    chat: Chat, terminal: Terminal, simulated_vendor: Vendors, tmp_path: Path
) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    vendor = simulated_vendor("openai-chat", [called("/\x1b]0;x\x07"), Reply("Done\x1b[2J.")])
    with chat(vendor, options=("--tool", "tools.py:delete")):
        terminal.type(b"Delete it.\r")
        shown = terminal.read_next("in total]")
        leave(terminal)
    assert "Done␛[2J." in shown
    assert "is ␛[2Jgone" in shown
    assert "\x1b]0;" not in terminal.drawn
    assert "\x1b[2J" not in terminal.drawn


@pytest.mark.slow
def test_answers_go_to_a_pipe_while_a_person_types(chat: Chat, terminal: Terminal, simulated_vendor: Vendors) -> None:
    vendor = simulated_vendor("openai-chat", [Reply("One."), Reply("Two.")])
    with chat(vendor, stdout=subprocess.PIPE) as process:
        terminal.type(b"Hello.\n")
        terminal.read_next("> ")
        terminal.type(b"And?\n")
        terminal.read_next("> ")
        terminal.type(b"\x04")
        assert process.stdout.read() == b"One.\nTwo.\n"
        terminal.read_to_the_end()
    assert process.returncode == 0


# ── approvals ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tool_asks_before_each_run(chat: Chat, terminal: Terminal, simulated_vendor: Vendors, tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    vendor = simulated_vendor(
        "openai-chat", [called("/a", "/b", "/c", "/d", "/e"), Reply("Done."), called("/f"), Reply("Again.")]
    )
    with chat(vendor, options=("--ask-tool", "tools.py:delete")):
        terminal.type(b"Delete them.\ry\n")  # the y is typed before the question, and does not answer it
        terminal.read_next("run delete(path='/a')? [y]es, [n]o, [a]lways, or say why not: ")
        for answer, following in ((b"n", "/b"), (b"y", "/c"), (b"it is mine", "/d"), (b"\x04", "/e")):
            terminal.type(answer if answer == b"\x04" else answer + b"\n")
            terminal.read_next(f"path='{following}')? [y]es, [n]o, [a]lways, or say why not: ")
        terminal.type(b"a\n")
        terminal.read_next("Done.")
        terminal.read_next("> ")
        terminal.type(b"And f.\r")
        terminal.read_next("Again.")
        leave(terminal)
    refusal, gone = "The user does not want this tool to run", "is \x1b[2Jgone"
    assert [each.result.removeprefix("Error: ") for each in vendor.requests[1].results] == [
        f"{refusal}.", f"/b {gone}", f"{refusal}: it is mine", f"{refusal}.", f"/e {gone}",
    ]  # fmt: skip
    assert [each.result for each in vendor.requests[3].results] == [f"/f {gone}"]


@pytest.mark.slow
def test_ctrl_c_at_a_question_stops_the_answer(
    chat: Chat, terminal: Terminal, simulated_vendor: Vendors, tmp_path: Path
) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    vendor = simulated_vendor("openai-chat", [called("/a"), Reply("I did not.")])
    with chat(vendor, options=("--ask-tool", "tools.py:delete")):
        terminal.type(b"Delete it.\r")
        terminal.read_next("why not: ")
        terminal.type(b"\x03")
        terminal.read_next("[stopped; the answer so far is kept]")
        terminal.read_next("> ")
        terminal.type(b"Did you?\r")
        terminal.read_next("I did not.")
        leave(terminal)
    (result,) = [result for turn in vendor.requests[1].turns for result in turn.results]
    assert "gone" not in result.result


# ── the prompt ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_lines_are_edited_pasted_completed_and_recalled(
    chat: Chat, terminal: Terminal, simulated_vendor: Vendors
) -> None:
    vendor = simulated_vendor("openai-chat", [Reply("One."), Reply("Two."), Reply("Three.")])
    talk = Session(messages=[{"role": "user", "content": "Long ago."}, {"role": "assistant", "content": "Yes."}])
    talk.save("talk.json")
    with chat(vendor, options=("--session", "talk.json")):
        terminal.type(b"\x1b[A\r")  # the arrow up recalls what was said in the file
        terminal.read_next("One.")
        terminal.read_next("> ")
        terminal.type(b"\x1b[200~a\nb\x1b[201~\r")
        terminal.read_next("Two.")
        terminal.read_next("> ")
        terminal.type(b"/bra\tdraft\r")
        terminal.read_next("[a new branch draft begins here]")
        terminal.read_next("draft> ")
        terminal.type(b"/branch ma\t\r")
        terminal.read_next("[back on the branch main")
        terminal.read_next("> ")
        terminal.type(b"c\\\r")
        terminal.read_next("… ")
        terminal.type(b"d\r")
        terminal.read_next("Three.")
        leave(terminal)
    assert texts(vendor) == ["Long ago.", "Yes.", "Long ago.", "One.", "a\nb", "Two.", "c\nd"]
    assert set(Session.load("talk.json").branches) == {"main", "draft"}


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_colours_can_be_switched_off(
    environment: dict[str, str], chat: Chat, terminal: Terminal, simulated_vendor: Vendors
) -> None:
    with chat(simulated_vendor("openai-chat", Reply("Yes.")), env=environment):
        terminal.type(b"Hello.\r")
        terminal.read_next("in total]")
        leave(terminal)
    assert not re.search(r"\x1b\[[0-9;]*m", terminal.drawn)


# ── signals and pipes ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_chat_without_a_terminal_and_its_file_has_what_was_said(
    number: signal.Signals, code: int, start: Any, write: Any, simulated_vendor: Vendors
) -> None:
    vendor = simulated_vendor("openai-chat", [Reply("Yes.\n"), Reply(f"Hm.\n{TALE}", fault=Stall(4))])
    process = start(
        "chat", "-c", write(vendor), "--session", "talk.json", "-q",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with ending(process):
        process.stdin.write(b"One?\nTwo?\nThree?\n")
        process.stdin.close()
        assert process.stdout.readline() == b"Yes.\n"
        assert process.stdout.readline() == b"Hm.\n"
        process.send_signal(number)
        assert process.stderr.read() == b""
    assert process.returncode == code
    assert vendor.requests[1].wait_until_over() == "left"
    turns = Session.load("talk.json").turns
    assert [turn.state for turn in turns] == ["complete", "partial"]
    assert turns[1].messages[1].text.startswith("Hm.\n")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_a_chat_that_waits_for_its_next_line(
    number: signal.Signals, code: int, start: Any, write: Any, simulated_vendor: Vendors
) -> None:
    process = start(
        "chat", "-c", write(simulated_vendor("openai-chat", Reply("Yes."))),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with ending(process):
        process.stdin.write(b"One?\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"Yes.\n"
        assert process.stderr.readline().startswith(b"[a/m")
        process.send_signal(number)
        assert process.stderr.read() == b""
        process.stdin.close()
    assert process.returncode == code


@pytest.mark.slow
def test_a_reader_that_closes_the_pipe_ends_the_chat(start: Any, write: Any, simulated_vendor: Vendors) -> None:
    vendor = simulated_vendor("openai-chat", Reply(f"Yes.\n{TALE}", fault=Stall(4)))
    process = start(
        "chat", "-c", write(vendor), "-q", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with ending(process):
        process.stdin.write(b"One?\nTwo?\n")
        process.stdin.close()
        assert process.stdout.readline() == b"Yes.\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
    assert len(vendor.requests) == 1
