"""`llm-dispatcher chat` with piped input: each line is a message or a command."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import Session
from llm_dispatcher._cli.chat.keyboard import Keyboard, read_message
from llm_dispatcher.events import StreamCompleted, ToolResult, check_order, from_json
from llm_dispatcher.testing import Continuing, Cut, HttpError, Reply, SaidToolCall, SimulatedVendor

TALE = "Once upon a time there was a fox who lived by the sea."
TOOLS = '''
from __future__ import annotations
from typing import Literal

Unit = Literal["C", "F"]
runs = []

def weather(city: str, unit: Unit = "C") -> str:
    """The weather in a city."""
    runs.append(city)
    return f"22 {unit} in {city}, run {len(runs)}"

async def delete(path: str) -> str:
    """Delete a file."""
    return f"{path} is gone"

def anything(*args):
    pass

number = 7
'''
Vendors = Callable[..., SimulatedVendor]


def called(name: str, **arguments: Any) -> Reply:
    return Reply(tool_calls=(SaidToolCall(name, json.dumps(arguments)),))


@pytest.fixture
def vendor(simulated_vendor: Vendors) -> SimulatedVendor:
    """A vendor that answers with its number of requests."""
    answers = ("One.", "Two.", "Three.", "Four.", "Five.", "Six.")
    return simulated_vendor("openai-chat", [Reply(answer) for answer in answers])


@pytest.fixture
def talk(run: Any, write: Any, vendor: SimulatedVendor) -> Any:
    """A chat with `vendor`, or with others: the lines are typed, and then the input is over."""

    def talk_it(*lines: str, options: tuple[str, ...] = (), vendors: tuple[SimulatedVendor, ...] = ()) -> Any:
        policy = write(*(vendors or (vendor,)))
        return run("chat", "-c", policy, *options, stdin="\n".join(lines).encode())

    return talk_it


def texts(vendor: SimulatedVendor, number: int = -1) -> list[str]:
    """The turns of a request."""
    return [turn.text for turn in vendor.requests[number].turns]


# ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_remembers_what_was_said(talk: Any, vendor: SimulatedVendor) -> None:
    result = talk("I am Ann.", "", "Who am I?", options=("--system", "Be kind."))
    assert (result.exit_code, result.stdout) == (0, "One.\nTwo.\n")
    assert texts(vendor) == ["I am Ann.", "One.", "Who am I?"]
    assert vendor.requests[1].system == "Be kind."
    assert [line.partition(" ·")[0] for line in result.stderr.splitlines()] == ["[a/m", "[a/m"]


def test_quiet_leaves_the_answers(talk: Any) -> None:
    result = talk("Hello.", "/model a/m", "And?", options=("-q",))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "One.\nTwo.\n", "")


def test_without_input_nothing_happens(talk: Any, vendor: SimulatedVendor) -> None:
    result = talk()
    assert (result.exit_code, result.stdout, result.stderr, len(vendor.requests)) == (0, "", "", 0)


def test_another_vendor_continues_and_the_conversation_stays_there(talk: Any, simulated_vendor: Vendors) -> None:
    dying = simulated_vendor("openai-chat", [Reply("Hello Ann."), Reply(TALE, fault=Cut(5))])
    other = simulated_vendor("anthropic", Continuing(TALE))
    result = talk("I am Ann.", "Tell me a tale.", "And then?", vendors=(dying, other))
    assert (result.exit_code, result.stdout) == (0, f"Hello Ann.\n{TALE}\n{TALE}\n")
    assert "[a/m broke off, and b/m continues]" in result.stderr.splitlines()
    assert texts(other) == ["I am Ann.", "Hello Ann.", "Tell me a tale.", TALE, "And then?"]
    assert len(dying.requests) == 2


def test_a_failed_turn_is_an_error_and_the_chat_goes_on(talk: Any, simulated_vendor: Vendors) -> None:
    vendor = simulated_vendor("openai-chat", [Reply(fault=HttpError(401)), Reply("Yes."), Reply("Again.")])
    result = talk("Are you there?", "/retry", "/retry", vendors=(vendor,))
    assert (result.exit_code, result.stdout) == (1, "Yes.\nAgain.\n")
    assert result.stderr.startswith("llm-dispatcher: a/m: simulated (HTTP 401")
    assert texts(vendor) == ["Are you there?"], "the first answer was taken back"


def test_a_failed_message_is_forgotten_on_another_branch(talk: Any, simulated_vendor: Vendors) -> None:
    vendor = simulated_vendor("openai-chat", [Reply("Yes."), Reply(fault=HttpError(401)), Reply("Again.")])
    result = talk("First.", "Second.", "/branch other", "/retry", vendors=(vendor,))
    assert result.stdout == "Yes.\nAgain.\n"
    assert texts(vendor) == ["First."]


def test_a_tool_that_fails_or_never_ends_its_turns_is_shown(
    talk: Any, simulated_vendor: Vendors, tmp_path: Path
) -> None:
    (tmp_path / "tools.py").write_text("def divide(by: int) -> float:\n    return 1 / by\n")
    vendor = simulated_vendor("openai-chat", called("divide", by=0))
    result = talk("Divide.", "/history", options=("--tool", "tools.py:divide"), vendors=(vendor,))
    assert result.exit_code == 4
    shown = result.stderr.splitlines()
    assert shown[:2] == ["[divide(by=0)]", "[divide failed: ZeroDivisionError: division by zero]"]
    assert "the model still calls tools after 8 turns" in shown[-1]
    assert "Traceback" not in result.stderr
    assert result.stdout.startswith("you: Divide.\na/m: [calls divide")


def test_with_json_each_event_is_a_line(talk: Any, simulated_vendor: Vendors, tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    vendor = simulated_vendor("openai-chat", [called("weather", city="Rome"), Reply("Sunny.")])
    result = talk("Hello.", "/history", "/wrong", options=("--json", "--tool", "tools.py:weather"), vendors=(vendor,))
    events = [from_json(line) for line in result.stdout.splitlines()]
    check_order(events)
    assert isinstance(events[-1], StreamCompleted)
    assert [event.result for event in events if isinstance(event, ToolResult)] == ["22 C in Rome, run 1"]
    assert json.loads(result.stderr.splitlines()[-1])["exit_code"] == 2
    assert result.exit_code == 2


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_models_calls_run_and_are_shown(talk: Any, simulated_vendor: Vendors, tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    vendor = simulated_vendor(
        "anthropic", [called("weather", city="Rome"), Reply("Sunny."), called("weather", city="Oslo"), Reply("Rain.")]
    )
    result = talk("Rome?", "Oslo?", "/tools", options=("--tool", "tools.py:weather"), vendors=(vendor,))
    assert (result.exit_code, result.stdout.splitlines()[:2]) == (0, ["Sunny.", "Rain."])
    assert "weather  The weather in a city." in result.stdout
    shown = result.stderr.splitlines()
    assert shown[:2] == ["[weather(city='Rome')]", "[weather → 22 C in Rome, run 1]"]
    assert "[weather → 22 C in Oslo, run 2]" in shown
    assert [each.result for each in vendor.requests[-1].results] == ["22 C in Oslo, run 2"]


def test_a_tool_that_must_be_approved_does_not_run_without_a_person(
    talk: Any, simulated_vendor: Vendors, tmp_path: Path
) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    vendor = simulated_vendor("openai-chat", [called("delete", path="/x"), Reply("I must not.")])
    result = talk("Delete it.", "y", options=("--ask-tool", "tools.py:delete"), vendors=(vendor,))
    assert result.stdout.startswith("I must not.\n")
    assert "nobody is at the keyboard" in vendor.requests[1].results[0].result


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("weather", "weather: this is not a tool: write --tool FILE:FUNCTION, as in --tool tools.py:weather"),
        ("tools.py:", "tools.py:: this is not a tool"),
        ("none.py:weather", "none.py: there is no such file"),
        ("tools.py:wether", "tools.py has no function 'wether'; did you mean 'weather'?"),
        ("tools.py:anything", r"tools.py:anything: .*\*args"),
        ("tools.py:number", "tools.py:number: .*int"),
        ("broken.py:f", "broken.py cannot be run: ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_tool_is_refused_at_once(
    tool: str, words: str, talk: Any, vendor: SimulatedVendor, tmp_path: Path
) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "broken.py").write_text("1 / 0")
    result = talk("Hello.", options=("--tool", tool))
    assert (result.exit_code, result.stdout, len(vendor.requests)) == (2, "", 0)
    (line,) = result.stderr.splitlines()
    assert re.search(words, line), line


def test_two_tools_of_one_name_are_refused(talk: Any, tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    result = talk("Hello.", options=("--tool", "tools.py:weather", "--ask-tool", "tools.py:weather"))
    assert result.exit_code == 2
    assert "two tools are called 'weather'" in result.stderr


# ── branches and files ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_branch_parts_here_and_the_other_one_stays(talk: Any, vendor: SimulatedVendor) -> None:
    result = talk("First.", "/branch draft", "Second.", "/branch main", "Third.", "/branch")
    assert texts(vendor, 1) == ["First.", "One.", "Second."]
    assert texts(vendor, 2) == ["First.", "One.", "Third."]
    assert result.stdout.endswith("branch\n*  main\n   draft\n")
    assert "[a new branch draft begins here]" in result.stderr
    assert "[back on the branch main, which has 2 messages]" in result.stderr


def test_rewind_takes_back_and_retry_asks_again(talk: Any, vendor: SimulatedVendor) -> None:
    result = talk("First.", "Second.", "/rewind", "Third.", "/retry", "/rewind 2", "Fourth.", "/rewind 5", "/rewind x")
    assert [texts(vendor, number) for number in (2, 3, 4)] == [
        ["First.", "One.", "Third."], ["First.", "One.", "Third."], ["Fourth."],
    ]  # fmt: skip
    assert "[taken back, from your message on: Second.]" in result.stderr
    assert "has 1 turns of the user, got 5" in result.stderr
    assert "write /rewind N with a number" in result.stderr
    assert result.exit_code == 2


def test_a_saved_conversation_goes_on_in_another_process(
    talk: Any, vendor: SimulatedVendor, start: Any, write: Any
) -> None:
    talk("I am Ann.", "/save talk.json", "Who am I?", "/branch other")
    process = start(
        "chat", "-c", write(vendor), "--session", "talk.json",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = process.communicate(b"And now?\n")
    assert (process.returncode, out) == (0, b"Three.\n")
    assert b"[4 messages from talk.json, on the branch other]" in err
    assert texts(vendor) == ["I am Ann.", "One.", "Who am I?", "Two.", "And now?"]
    assert len(Session.load("talk.json")) == 6


def test_a_session_file_is_made_and_written_after_each_turn(talk: Any, simulated_vendor: Vendors) -> None:
    vendor = simulated_vendor("openai-chat", [Reply("One."), Reply(TALE, fault=Cut(5))])
    result = talk("First.", "Tell.", options=("--session", "new.json"), vendors=(vendor,))
    assert result.exit_code == 4
    turns = Session.load("new.json").turns
    assert [turn.state for turn in turns] == ["complete", "partial"]
    assert turns[1].messages[-1].text == "Once upon a time there"


def test_load_goes_on_elsewhere(talk: Any, vendor: SimulatedVendor) -> None:
    talk("I am Ann.", "/save ann.json")
    result = talk("I am Bob.", "/load ann.json", "Who am I?", "/save", options=("--session", "bob.json"))
    assert texts(vendor) == ["I am Ann.", "One.", "Who am I?"]
    assert [len(Session.load(name)) for name in ("ann.json", "bob.json")] == [4, 2]
    assert "[saved in ann.json, and again after each turn]" in result.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [("{}", "broken.json"), ('{"format": "llm_dispatcher.session", "version": 99}', "update llm_dispatcher")],
)
def test_a_broken_file_is_refused_and_stays_as_it_is(
    content: str, words: str, talk: Any, vendor: SimulatedVendor, tmp_path: Path
) -> None:
    file = tmp_path / "broken.json"
    file.write_text(content)
    refused = talk("Hello.", options=("--session", "broken.json"))
    assert (refused.exit_code, len(vendor.requests)) == (1, 0)
    assert words in refused.stderr
    assert "One." in talk("/load broken.json", "/load", "/load none.json", "Hello.").stdout
    assert file.read_text() == content


def test_a_file_that_cannot_be_written_is_an_error_at_once(talk: Any, vendor: SimulatedVendor) -> None:
    result = talk("Hello.", options=("--session", "no/such/folder.json"))
    assert (result.exit_code, len(vendor.requests)) == (2, 0)
    assert "there is no folder no/such" in result.stderr
    later = talk("Hello.", "/save no/such/folder.json", "Still there?", "/save")
    assert (later.exit_code, later.stdout) == (2, "One.\nTwo.\n")
    assert "this conversation has no file yet: write /save FILE" in later.stderr


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_model_is_moved_by_hand_in_mid_conversation(talk: Any, simulated_vendor: Vendors) -> None:
    a, b = simulated_vendor("openai-chat", Reply("I am a.")), simulated_vendor("google", Reply("I am b."))
    result = talk(
        "One?", "/model b/m", "Two?", "/model auto", "Three?", "/model a/special", "Four?", "/model", vendors=(a, b)
    )
    assert result.stdout.startswith("I am a.\nI am b.\nI am b.\nI am a.\n"), "it stays where it was moved"
    assert texts(a) == ["One?", "I am a.", "Two?", "I am b.", "Three?", "I am b.", "Four?"]
    assert a.requests[1].model == "special"
    assert result.stdout.splitlines()[-3:] == ["   a/m", "   b/m", "*  a/special  answered last"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/sav", "there is no command /sav; did you mean '/save'?"),
        ("/qqqq", "there is no command /qqqq; /help lists them (a message that begins with / is typed as //)"),
        ("/model c/m", "there is no model 'c/m'"),
        ("/model m", "there is no model 'm'; write one of a/m, b/m"),
        ("/image", "write /image FILE"),
        ("/image none.png", "none.png: there is no such file"),
        ("/retry", "there is no message to send again"),
        ("/branch a\tb", "the name of a branch"),
    ],
)
def test_a_wrong_command_says_what_to_write(line: str, words: str, talk: Any, simulated_vendor: Vendors) -> None:
    vendors = (simulated_vendor("ollama", Reply("Yes.")), simulated_vendor("ollama", Reply("No.")))
    result = talk(line, "Still there?", vendors=vendors)
    assert (result.exit_code, result.stdout) == (2, "Yes.\n")
    assert words in result.stderr
    assert texts(vendors[0]) == ["Still there?"]


def test_a_message_may_begin_with_a_slash(talk: Any, vendor: SimulatedVendor) -> None:
    talk("//help me", "/usr/bin is what?", "/EXIT", "no more")
    assert texts(vendor) == ["/help me", "One.", "/usr/bin is what?"]


def test_commands_show_what_they_are_asked_for(talk: Any, vendor: SimulatedVendor) -> None:
    result = talk("/history", "/system", "/system Be brief.", "/system", "/help", "Hello.", "/history", "/explain Why?")
    assert result.exit_code == 0
    assert result.stdout.startswith("Nothing was said yet.\nThere is no system prompt.\nBe brief.\ncommand ")
    assert "you: Hello.\na/m: One.\n" in result.stdout
    assert "1.  a/m     it answered last" in result.stdout
    assert vendor.requests[0].system == "Be brief."
    assert len(vendor.requests) == 1


def test_an_image_is_sent_with_the_next_message(talk: Any, vendor: SimulatedVendor, tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
    (tmp_path / "fox.png").write_bytes(png)
    result = talk("/image fox.png", "What is it?", "/history", "/retry")
    assert "you: [image]\n" in result.stdout
    first, again = (request.body["messages"][0]["content"] for request in vendor.requests)
    assert [part["type"] for part in first] == ["text", "image_url"] or [part["type"] for part in first] == [
        "image_url", "text",
    ]  # fmt: skip
    assert again == first


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("lines", "messages"),
    [
        (["a", "b"], ["a", "b"]),
        (["a\\", "b\\", "c", "d"], ["a\nb\nc", "d"]),
        ([r"a \\", "b"], [r"a \\", "b"]),
        (["a\\"], ["a\n"]),
        (['"""', "a", "", "/b\\", '"""', "c"], ["a\n\n/b\\", "c"]),
        (['"""a', 'b"""'], ["a\nb"]),
        (['"""a"""', "b"], ["a", "b"]),
        (['"""a', "b"], ["a\nb"]),
    ],
)
def test_a_message_may_have_several_lines(lines: list[str], messages: list[str]) -> None:
    left = list(lines)

    def read_line(prompt: str) -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    found = []
    while left:
        found.append(read_message(read_line, "> "))
    assert found == messages


def test_a_line_that_is_not_text_is_an_error(run: Any, write: Any, vendor: SimulatedVendor) -> None:
    result = run("chat", "-c", write(vendor), stdin=b"\xef\xbb\xbfHi.\r\n\xff\xfe\nStill there?")
    assert (result.exit_code, result.stdout) == (2, "One.\nTwo.\n")
    assert "not UTF-8 text" in result.stderr
    assert texts(vendor) == ["Hi.", "One.", "Still there?"]


# ── a person ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("typed", "code", "asked"),
    [
        ([KeyboardInterrupt, "Hello.", KeyboardInterrupt, "And?", EOFError], 0, ["Hello.", "One.", "And?"]),
        (["Hello.", KeyboardInterrupt, KeyboardInterrupt, "And?"], 130, ["Hello."]),
        (["Hello.", "/wrong", EOFError], 0, ["Hello."]),
    ],
)
def test_two_ctrl_c_in_a_row_end_the_chat(
    typed: list[Any], code: int, asked: list[str], talk: Any, vendor: SimulatedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal would not do: Python may miss a Ctrl-C right before readline waits for keys."""
    steps = iter(typed)

    def message(self: Keyboard, prompt: str) -> str:
        step = next(steps)
        if isinstance(step, str):
            return step
        raise step

    monkeypatch.setattr(Keyboard, "message", message)
    monkeypatch.setattr(Keyboard, "is_terminal", property(lambda self: True, lambda self, value: None), raising=False)
    result = talk()
    assert result.exit_code == code
    assert texts(vendor) == asked
    assert ("[Ctrl-C again ends the chat]" in result.stderr) == (KeyboardInterrupt in typed)
