"""Every file under examples/ does what it says, against simulated vendors."""

from __future__ import annotations

import asyncio
import builtins
import runpy
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_dispatcher import LLM, LLMSwitch, use_switch
from llm_dispatcher.exceptions import ConfigurationError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import Continuing, Cut, HttpError, Reply, SaidToolCall, Stall

EXAMPLES = Path(__file__).parents[2] / "examples"
TALE = "Once upon a time there was a fox."
SHOWN_ELSEWHERE = {"first_stream.py", "fastapi_app.py"}  # in the README, and in test_web.py
SHOWN_HERE = {"terminal_chat.py", "rag.py", "custom_provider/echo_provider.py"}


def test_no_example_is_forgotten() -> None:
    there = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py")}
    assert there == SHOWN_ELSEWHERE | SHOWN_HERE


def run(name: str) -> None:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.fixture
def said_by_the_user(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person types, line by line, and then nothing."""
    lines: list[str] = []

    def type_in(prompt: str) -> str:
        sys.stdout.write(prompt)
        return lines.pop(0) if lines else ""

    monkeypatch.setattr(builtins, "input", type_in)
    return lines


def test_a_chat_remembers_and_goes_on_after_a_cut(
    simulated_switch: SimulatedSwitch, said_by_the_user: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    vendors = simulated_switch(openai=Reply(TALE, fault=Cut(3)), anthropic=Continuing(TALE))
    said_by_the_user += ["Tell me a tale.", "And then?"]
    run("terminal_chat.py")
    out, err = capsys.readouterr()
    assert out.count(f"model: {TALE}\n") == 2
    assert err == " [anthropic/simulated continues] "
    assert [turn.text for turn in vendors["anthropic"].requests[1].turns] == ["Tell me a tale.", TALE, "And then?"]


def test_a_chat_survives_an_error_and_ctrl_c(
    simulated_switch: SimulatedSwitch,
    said_by_the_user: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vendor = simulated_switch(openai=[Reply(fault=HttpError(401)), Reply(TALE, fault=Stall(3)), Reply("Hm.")])["openai"]
    said_by_the_user += ["One?", "Two?", "Three?"]
    written = sys.stdout.write

    def write(words: str) -> int:
        if words == " a":
            raise KeyboardInterrupt
        return written(words)

    monkeypatch.setattr(sys.stdout, "write", write)
    run("terminal_chat.py")
    assert "simulated (HTTP 401" in capsys.readouterr().out
    assert vendor.requests[1].wait_until_over() == "left"
    two, kept, three = [turn.text for turn in vendor.requests[2].turns]
    assert (two, three) == ("Two?", "Three?")
    assert kept.startswith("Once upon a")


def test_a_chat_has_a_tool_a_model_of_choice_branches_and_a_file(
    simulated_switch: SimulatedSwitch, said_by_the_user: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call = Reply(tool_calls=(SaidToolCall("current_time"),))
    vendors = simulated_switch(openai=[call, Reply("Noon.")], anthropic=[Reply("Hm."), Reply("Yes."), Reply("No.")])
    file = tmp_path / "chat.json"
    said_by_the_user += [
        "What time is it?", "/model anthropic/simulated", "/branch other", "Really?", "/branch main", "/model",
        "Are you sure?", f"/save {file}", "/branch other", f"/load {file}", "/load none.json", "/zebra", "Why?",
    ]  # fmt: skip
    run("terminal_chat.py")
    out, err = capsys.readouterr()
    assert err == " [current_time] "
    assert "No such file" in out
    assert "/zebra is not one of" in out
    (result,) = vendors["openai"].requests[1].results
    assert ":" in result.result
    asked = [
        [turn.text for turn in request.turns if turn.role == "user" and turn.text]
        for request in vendors["anthropic"].requests
    ]
    assert [each[-1] for each in asked] == ["Really?", "Are you sure?", "Why?"]
    assert "Really?" not in asked[2]


@pytest.mark.found("N-C17")
@pytest.mark.parametrize("key", [EOFError, KeyboardInterrupt], ids=["Ctrl-D", "Ctrl-C"])
def test_a_chat_ends_quietly_at_its_prompt(
    key: type[BaseException], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(prompt: str) -> str:
        raise key

    monkeypatch.setattr(builtins, "input", press)
    run("terminal_chat.py")
    assert capsys.readouterr() == ("\n", "")


def test_retrieval_sends_what_it_found_and_names_it(
    simulated_switch: SimulatedSwitch, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = simulated_switch(openai=Reply("Mice and berries."))["openai"]
    monkeypatch.setattr(sys, "argv", ["rag.py", "What", "do", "foxes", "eat?"])
    run("rag.py")
    out = capsys.readouterr().out
    assert out.startswith("Mice and berries.\n\nRead: foxes.md, ")
    assert "foxes.md: Foxes eat mice" in vendor.requests[0].text
    assert "lighthouse" not in vendor.requests[0].text
    assert vendor.requests[0].text.endswith("Question: What do foxes eat?")


@pytest.fixture
def _echo_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As `pip install ./examples/custom_provider` leaves it: the module, and what its pyproject says of it."""
    home = EXAMPLES / "custom_provider"
    project = tomllib.loads((home / "pyproject.toml").read_text())["project"]
    info = tmp_path / "echo_provider-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module in home.glob("*.py"):
        (tmp_path / module.name).write_text(module.read_text())
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("echo_provider", None)


@pytest.mark.usefixtures("_echo_is_installed")
def test_a_provider_from_an_entry_point_is_known_by_its_kind() -> None:
    async def main() -> None:
        async with LLMSwitch(EXAMPLES / "custom_provider" / "llm_dispatcher.yaml") as switch:
            with use_switch(switch):
                response = await LLM()("say it back to me").collect()
        assert (response.text, str(response.target), response.finish_reason) == (
            "say it back to me", "parrot/any", "stop",
        )  # fmt: skip
        assert response.usage.total_tokens == 10

    asyncio.run(main())


def test_without_it_the_kind_is_unknown() -> None:
    with pytest.raises(ConfigurationError, match="echo"):
        LLMSwitch(EXAMPLES / "custom_provider" / "llm_dispatcher.yaml")
