"""Exit codes, errors in one line, help and completion."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from msgspec.structs import fields
from typer.main import get_command

from llm_dispatcher import exceptions
from llm_dispatcher._cli import app, inspect
from llm_dispatcher._cli.early_end import ending_early
from llm_dispatcher._cli.exit_codes import BUG, CODES, TERMINATED, exit_code
from llm_dispatcher._cli.options import RequestOptions
from llm_dispatcher._cli.printing import harmless
from llm_dispatcher.events import Usage
from llm_dispatcher.tasks import TaskType

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stream"], "there is no prompt: write one after the command, or pipe one in"),
        (["stream", "x", "--tusk", "math"], "No such option: --tusk (Possible options: --task) (llm-dispatcher stream"),
        (["strem", "x"], "No such command 'strem'. Did you mean 'stream'? (llm-dispatcher --help)"),
        (["stream", "x", "--task", "tanslation"], "unknown task 'tanslation'; did you mean 'translation'?"),
        (["stream", "x", "--task", "xyz"], "unknown task 'xyz'; use one of text_generation, code_generation"),
        (["stream", "x", "--strategy", "sped"], "unknown strategy 'sped'; did you mean 'speed'?"),
        (["stream", "x", "--max-tokens", "many"], "Input should be a valid integer"),
        (["stream", "x", "--max-tokens", "0"], "max_tokens is 1 or more, got 0"),
        (["stream", "x", "--model", "nobody/m"], "model= names the provider 'nobody', which is not configured"),
        (["stream", "x", "--provider", "nobody"], "providers= names the provider 'nobody', which is not configured"),
        (["stream", "\udcff"], "the prompt is not UTF-8 text"),
        (["stream", " "], "the prompt is empty: write a prompt, or pass messages"),
        (["explain"], "there is no prompt"),
        (["config"], "Missing command. (llm-dispatcher config --help)"),
        (["simulate"], "Missing option '--wire'"),
        (["simulate", "--wire", "ollama", "--script", "nowhere.json"], "nowhere.json: No such file or directory"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_an_invalid_command_line_is_reported_in_one_line(words: list[str], message: str, run: Any, policy: str) -> None:
    configured = [*words, "-c", policy] if words[0] in ("stream", "explain") and len(words) > 1 else words
    result = run(*configured)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("llm-dispatcher: ")
    assert message in line


def test_without_a_configuration_the_error_names_the_variables_to_set(run: Any) -> None:
    result = run("stream", "x")
    assert result.exit_code == 3
    assert "no provider is configured: set OPENAI_API_KEY" in result.stderr


def test_without_a_command_the_help_is_shown(run: Any) -> None:
    result = run()
    assert result.exit_code == 0
    assert "Usage: llm-dispatcher" in result.stdout


def raise_error(*_: object, **__: object) -> int:
    raise RuntimeError("out of\ncheese")


def test_an_unexpected_error_is_reported_as_a_bug(run: Any, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "models", raise_error)
    result = run("models", "-c", policy)
    assert result.exit_code == BUG
    assert result.stderr == (
        "llm-dispatcher: RuntimeError: out of cheese (a bug in llm-dispatcher; --debug shows the traceback)\n"
    )


@pytest.mark.parametrize("place", [0, 1, 3])
def test_debug_shows_the_traceback_at_any_place(
    place: int, run: Any, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect, "models", raise_error)
    words = ["models", "-c", policy]
    result = run(*words[:place], "--debug", *words[place:])
    assert result.exit_code == BUG
    assert "Traceback" in result.stderr
    assert "in raise_error" in result.stderr


def test_words_after_two_hyphens_are_not_options(run: Any, policy: str) -> None:
    result = run("stream", "-c", policy, "-q", "--", "--debug")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello, world!\n", "")


def test_with_json_errors_are_json(run: Any) -> None:
    result = run("stream", "x", "--tusk", "--json")
    error = json.loads(result.stderr)
    assert (result.exit_code, error["exit_code"]) == (2, 2)
    assert "No such option" in error["error"]["message"]


def every_error() -> list[Exception]:
    usage: Any = {"partial": "", "usage": Usage()}
    kinds: dict[str, Any] = {
        name: kind
        for name, kind in vars(exceptions).items()
        if isinstance(kind, type) and issubclass(kind, exceptions.LLMDispatcherError) and not name.startswith("_")
    }
    return [
        kind([]) if name == "AllProvidersFailedError" else kind("x", **(usage if _has_a_part(kind) else {}))
        for name, kind in kinds.items()
    ]


def _has_a_part(kind: type[Exception]) -> bool:
    return issubclass(kind, exceptions.StreamingError)


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_error_of_the_library_has_an_exit_code(error: Exception) -> None:
    match error:
        case exceptions.StreamingError():
            assert exit_code(error) == 4
        case exceptions.ConfigurationError():
            assert exit_code(error) == 3
        case exceptions.InvalidRequestError():
            assert exit_code(error) == 2
        case _:
            assert exit_code(error) == 1


def test_an_aborted_command_has_failed() -> None:
    assert exit_code(typer.Abort()) == 1


def test_control_characters_become_visible() -> None:
    """Except line ends and tabs."""
    assert harmless("a\tb\nc") == "a\tb\nc"
    controls = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)])).replace("\n", "").replace("\t", "")
    assert harmless(controls).isprintable()
    assert len(harmless(controls)) == len(controls)


# ── the page and the help ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_and_the_help_list_every_exit_code(run: Any) -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE))
    assert {int(code): words for code, words in rows.items()} == CODES
    help_text = " ".join(run("--help").stdout.split())
    assert all(f"{code} {words}" in help_text for code, words in CODES.items())


def test_the_page_has_every_command() -> None:
    commands: Any = get_command(app)
    names: list[str] = []
    for name, command in commands.commands.items():
        inner = getattr(command, "commands", None)
        names += [name] if inner is None else [f"{name} {each}" for each in inner]
    page = PAGE.read_text()
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_stream_and_explain_have_all_options_of_a_request() -> None:
    commands: Any = get_command(app)
    names = {field.name for field in fields(RequestOptions)}
    assert "max_latency" in names
    for command in ("stream", "explain"):
        assert names <= {option.name for option in commands.commands[command].params}, command


def test_every_command_takes_json() -> None:
    def commands(group: Any) -> list[Any]:
        return [
            each for one in group.commands.values() for each in (commands(one) if hasattr(one, "commands") else [one])
        ]

    all_commands = commands(get_command(app))
    assert len(all_commands) >= 9
    assert [each.name for each in all_commands if "--json" not in str([option.opts for option in each.params])] == []


HEAVY = {"openai", "anthropic", "google", "pydantic", "rich", "aiohttp", "httpx2", "yaml", "genai_prices", "asyncio"}


def test_the_list_of_commands_imports_nothing_heavy() -> None:
    code = "import sys, llm_dispatcher._cli.commands; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    root = PAGE.parents[1]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    loaded = result.stdout.split()
    assert not set(loaded) & HEAVY


# ── completion ───────────────────────────────────────────────────────────────────────────────────────────────────────


def completed(run: Any, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """The completions of the last word."""
    monkeypatch.setenv("_LLM_DISPATCHER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(("llm-dispatcher", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    return list(run().stdout.split())


def test_completion_knows_commands_tasks_and_the_configuration(
    run: Any, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_DISPATCHER_CONFIG", policy)
    assert completed(run, monkeypatch, "str") == ["stream"]
    assert completed(run, monkeypatch, "config", "s") == ["show", "schema"]
    assert completed(run, monkeypatch, "stream", "--task", "audio_") == ["audio_transcription", "audio_analysis"]
    assert completed(run, monkeypatch, "explain", "--strategy", "s") == ["speed"]
    assert completed(run, monkeypatch, "stream", "--model", "a") == ["a/m"]
    assert completed(run, monkeypatch, "stream", "--provider", "") == ["a"]
    assert set(completed(run, monkeypatch, "models", "--task", "")) == set(TaskType)


def test_a_broken_configuration_completes_nothing(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("llm_dispatcher.yaml").write_text("rooting: {}")
    assert completed(run, monkeypatch, "stream", "--model", "") == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows' event loop watches no signals")
async def test_two_signals_end_the_command_once() -> None:
    """The loop reports a closed pipe again and again while the stream is being closed."""

    async def reading() -> None:
        with ending_early():
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                arrived = asyncio.Event()
                asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, arrived.set)
                os.kill(os.getpid(), signal.SIGUSR1)
                await arrived.wait()

    with pytest.raises(typer.Exit) as exit_:
        await reading()
    assert exit_.value.exit_code == TERMINATED
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
