"""The commands `explain`, `models` and `config`, which send nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_dispatcher import TaskType
from llm_dispatcher._catalog import Capabilities
from llm_dispatcher._cli.inspect import _row
from llm_dispatcher._config import config_schema
from llm_dispatcher._policy import Policy, Route
from llm_dispatcher.provider import ModelSettings, ProviderSettings
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import SimulatedVendor

ROOT = Path(__file__).parents[2]

POLICY = """
providers:
  openai: {api_key: test-key, models: [gpt-6-luna, gpt-audio-mini], api: chat}
  google: {api_key: test-key, models: [gemini-3.8-flash]}
  ollama: {models: [llama3.3]}
routing:
  default: [openai/gpt-6-luna, google/gemini-3.8-flash, ollama/llama3.3]
  tasks:
    audio_transcription: [openai/gpt-6-luna, google/gemini-3.8-flash]
    math: {strategy: cost, targets: [google/gemini-3.8-flash, openai/gpt-6-luna]}
    translation: [openai/gpt-6-luna]
"""


@pytest.fixture(autouse=True)
def _policy() -> None:
    Path("llm_dispatcher.yaml").write_text(POLICY)


def note(target: str) -> str:
    return f"note: {target} is not in the catalog and has its vendor's defaults; add facts under catalog:"


# ── explain ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_explain_lists_targets_and_reasons(run: Any) -> None:
    result = run("explain", "Hello")
    heading, _, first, second, third, *_ = result.stdout.splitlines()
    assert (result.exit_code, heading) == (0, "text_generation (ordered), by llm_dispatcher.yaml")
    assert first.split()[:2] == ["1.", "openai/gpt-6-luna"]
    assert second.split()[:2] == ["2.", "google/gemini-3.8-flash"]
    assert third.split()[:2] == ["3.", "ollama/llama3.3"]


def test_explain_lists_rejected_targets_with_reasons(run: Any) -> None:
    Path("a.wav").write_bytes(b"RIFF....WAVE")
    output = json.loads(run("explain", "-a", "a.wav", "--task", "Audio-Transcription", "--json").stdout)
    assert (output["task"], output["configuration"]) == ("audio_transcription", "llm_dispatcher.yaml")
    assert [each["target"] for each in output["targets"]] == ["google/gemini-3.8-flash"]
    assert output["rejected"] == {"openai/gpt-6-luna": "it cannot take audio"}
    assert "it cannot take audio" in run("explain", "-a", "a.wav", "-t", "audio_transcription").stdout


def test_explain_notes_models_that_the_catalog_does_not_know(run: Any) -> None:
    assert run("explain", "Hello").stdout.splitlines()[-1] == note("ollama/llama3.3")
    assert json.loads(run("explain", "Hello", "--json").stdout)["unknown"] == ["ollama/llama3.3"]
    assert "note:" not in run("explain", "Hello", "--task", "math").stdout
    assert json.loads(run("explain", "Hello", "--task", "math", "--json").stdout)["unknown"] == []
    Path("llm_dispatcher.yaml").write_text(POLICY.replace("models: [llama3.3]", "models: {llama3.3: {enabled: false}}"))
    switched_off = json.loads(run("explain", "Hello", "--json").stdout)
    assert (list(switched_off["rejected"]), switched_off["unknown"]) == (["ollama/llama3.3"], ["ollama/llama3.3"])
    nobody = json.loads(run("explain", "Hello", "--model", "ollama/llama3.3", "--json").stdout)
    assert (nobody["targets"], nobody["unknown"]) == ([], ["ollama/llama3.3"])


def test_explain_shows_expected_costs(run: Any) -> None:
    output = json.loads(run("explain", "Hello", "--task", "math", "--max-tokens", "1000", "--json").stdout)
    dollars = [each["dollars"] for each in output["targets"]]
    assert output["strategy"] == "cost"
    assert dollars == sorted(dollars)
    assert all(dollars)


def test_explain_obeys_its_options(run: Any) -> None:
    assert json.loads(run("explain", "Hello", "--strategy", "cost", "--json").stdout)["strategy"] == "cost"
    one = json.loads(run("explain", "Hello", "--model", "ollama/other", "--json").stdout)
    assert [each["target"] for each in one["targets"]] == ["ollama/other"]
    dear = run("explain", "Hello", "--task", "translation", "--max-cost", "0.0000001")
    assert dear.exit_code == 1
    assert "over max_cost" in dear.stderr


def test_explain_of_a_request_that_no_target_can_serve(run: Any) -> None:
    Path("a.wav").write_bytes(b"RIFF....WAVE")
    words = ("explain", "-a", "a.wav", "--task", "translation")
    result = run(*words)
    assert result.exit_code == 1
    assert "it cannot take audio" in result.stderr
    json_result = run(*words, "--json")
    assert (json_result.exit_code, json.loads(json_result.stdout)["rejected"]) == (
        1,
        {"openai/gpt-6-luna": "it cannot take audio"},
    )


@pytest.mark.parametrize(
    ("words", "task"),
    [
        (["Hello"], TaskType.TEXT_GENERATION),
        (["Hello", "-i", "https://example.com/a.png"], TaskType.VISION_ANALYSIS),
        (["-a", "data:audio/wav;base64,UklGRg=="], TaskType.AUDIO_ANALYSIS),
        (["-i", "https://example.com/a.png", "-a", "data:audio/wav;base64,UklGRg=="], TaskType.MULTIMODAL_ANALYSIS),
        (["Hello", "-i", "https://example.com/a.png", "-t", "classification"], TaskType.CLASSIFICATION),
    ],
)
def test_images_and_audio_decide_the_task(words: list[str], task: TaskType, run: Any) -> None:
    assert json.loads(run("explain", *words, "-p", "google", "--json").stdout)["task"] == task


def test_explain_sends_nothing(run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]) -> None:
    vendor = simulated_vendor("ollama")
    assert run("explain", "Hello", "-c", write(vendor)).exit_code == 0
    assert (vendor.requests, vendor.open_connections) == ([], 0)


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_models_lists_models_with_their_capabilities(run: Any) -> None:
    models = {each["target"]: each for each in json.loads(run("models", "--json").stdout)}
    assert list(models) == ["openai/gpt-6-luna", "openai/gpt-audio-mini", "google/gemini-3.8-flash", "ollama/llama3.3"]
    assert models["openai/gpt-audio-mini"]["audio"]
    assert models["openai/gpt-6-luna"]["input_price"] < models["google/gemini-3.8-flash"]["input_price"]
    assert models["openai/gpt-6-luna"]["known"]
    assert not models["ollama/llama3.3"]["known"]
    table = run("models").stdout.splitlines()
    assert len(table) == 5
    assert re.search(r"ollama/llama3\.3 .*vendor's defaults", table[-1])


def test_models_of_a_task_come_in_the_order_of_its_route(run: Any) -> None:
    listed = json.loads(run("models", "--task", "math", "--json").stdout)
    assert [each["target"] for each in listed] == ["google/gemini-3.8-flash", "openai/gpt-6-luna"]


# ── config ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_check_reports_a_valid_configuration(run: Any) -> None:
    result = run("config", "check")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "llm_dispatcher.yaml: valid: 3 providers, 4 models, 4 routes",
        note("ollama/llama3.3"),
    ]
    assert json.loads(run("config", "check", "--json").stdout) == {
        "valid": True,
        "configuration": "llm_dispatcher.yaml",
        "problems": [],
        "unknown": ["ollama/llama3.3"],
        "never_asked": {},
        "not_kept": [],
    }


def test_check_reports_the_options_that_a_kind_does_not_have(run: Any) -> None:
    Path("llm_dispatcher.yaml").write_text(
        "providers:\n"
        "  openai: {api_key: test-key, api: chat, models: [m], options: {background: true}}\n"
        "  vllm: {models: [m], options: {token_id: true}}\n"
    )
    result = run("config", "check")
    assert result.exit_code == 3
    first, second = result.stderr.splitlines()
    assert "llm_dispatcher.yaml:2: providers.openai.options.background: is for OpenAI's responses interface" in first
    assert "llm_dispatcher.yaml:3: providers.vllm.options.token_id: is not an option" in second
    assert "did you mean 'token_ids'?" in second
    problems = json.loads(run("config", "check", "--json").stdout)["problems"]
    assert [each["key"] for each in problems] == [
        "providers.openai.options.background",
        "providers.vllm.options.token_id",
    ]


def test_a_missing_key_hides_no_wrong_option(run: Any) -> None:
    Path("llm_dispatcher.yaml").write_text(
        "providers:\n  openai:\n    models: [m]\n    options:\n      backgroud: true\n  vllm: {options: {token_id: 1}}"
    )
    result = run("config", "check")
    lines = [line.removeprefix("llm-dispatcher: ") for line in result.stderr.splitlines()]
    assert result.exit_code == 3
    assert [line.split(": ")[:2] for line in lines] == [
        ["llm_dispatcher.yaml:2", "providers.openai.api_key"],
        ["llm_dispatcher.yaml:5", "providers.openai.options.backgroud"],
        ["llm_dispatcher.yaml:6", "providers.vllm.options.token_id"],
    ]
    problems = json.loads(run("config", "check", "--json").stdout)["problems"]
    assert [each["line"] for each in problems] == [2, 5, 6]


@pytest.mark.found("S-D3", "N-A6")
def test_a_model_that_only_transcribes_is_noted(run: Any) -> None:
    Path("llm_dispatcher.yaml").write_text(
        "providers: {openai: {api_key: test-key, models: [whisper-1, gpt-audio-mini]}}\n"
        "routing: {default: [openai/gpt-audio-mini, openai/whisper-1]}"
    )
    reason = "it does nothing but transcribe, which is not supported yet; models that take audio in a chat can do it"
    line = f"note: openai/whisper-1 gets no requests: {reason}"
    for command in (("config", "check"), ("models",)):
        result = run(*command)
        assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, line)
    assert json.loads(run("config", "check", "--json").stdout)["never_asked"] == {"openai/whisper-1": reason}
    listed = {each["target"]: each["never_asked"] for each in json.loads(run("models", "--json").stdout)}
    assert listed == {"openai/whisper-1": reason, "openai/gpt-audio-mini": None}
    assert reason in " ".join(run("explain", "Hi.").stdout.split())


@pytest.mark.parametrize(
    ("everywhere", "anthropic", "noted"),
    [
        ("live", "reattachable", ["anthropic/claude-x"]),
        ("reattachable", "live", []),
        ("reattachable", "reattachable", ["anthropic/claude-x"]),
    ],
)
def test_runs_that_cannot_be_kept_are_noted(run: Any, everywhere: str, anthropic: str, noted: list[str]) -> None:
    write = Path("llm_dispatcher.yaml").write_text
    write(
        f"""
providers:
  openai: {{api_key: test-key, models: [gpt-x]}}
  anthropic: {{api_key: test-key, models: [claude-x], resilience: {{durability: {anthropic}}}}}
  google: {{api_key: test-key, models: [gemini-x]}}
routing: {{default: [openai/gpt-x, anthropic/claude-x, google/gemini-x]}}
resilience: {{durability: {everywhere}}}
"""
    )
    lines = run("config", "check").stdout.splitlines()
    told = [line for line in lines if "durability" in line]
    assert told == [
        f"note: durability: reattachable changes nothing for {target}: its runs cannot be kept" for target in noted
    ]
    assert json.loads(run("config", "check", "--json").stdout)["not_kept"] == noted


def test_durability_that_nobody_has_is_noted_for_all(run: Any) -> None:
    Path("llm_dispatcher.yaml").write_text(
        """
providers:
  anthropic: {api_key: test-key, models: [claude-x]}
  google: {api_key: test-key, models: [gemini-x]}
routing: {default: [anthropic/claude-x, google/gemini-x]}
resilience: {durability: reattachable}
"""
    )
    checked = json.loads(run("config", "check", "--json").stdout)
    assert checked["not_kept"] == ["anthropic/claude-x", "google/gemini-x"]


def test_check_notes_unknown_models_of_routes_but_none_with_facts(run: Any) -> None:
    Path("llm_dispatcher.yaml").write_text(
        """
providers:
  openai: {api_key: test-key, models: {mine: {alias: gpt-6-luna}, odd: {}}}
  ollama: {models: [llama3.3]}
routing: {default: [openai/mine, openai/gpt-99, ollama/llama3.3, body]}
catalog: {ollama/llama3.3: {vision: true}}
"""
    )
    result = run("config", "check")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [note("openai/odd"), note("openai/gpt-99")]
    assert result.stderr == ""


@pytest.mark.parametrize("words", [["wrong.yaml"], ["--config", "wrong.yaml"]])
def test_check_reports_each_problem_in_a_line(words: list[str], run: Any) -> None:
    Path("wrong.yaml").write_text("providers:\n  ollama: {models: [m]}\nrooting: {}\nresilience: {max_retries: 99}\n")
    result = run("config", "check", *words)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.splitlines() == [
        "llm-dispatcher: wrong.yaml:3: rooting: unknown key; did you mean 'routing'?",
        "llm-dispatcher: wrong.yaml:4: resilience.max_retries: must be at most 10, got 99",
    ]
    json_result = run("config", "check", *words, "--json")
    output = json.loads(json_result.stdout)
    assert (json_result.exit_code, output["valid"], output["configuration"]) == (3, False, "wrong.yaml")
    assert [(each["line"], each["key"]) for each in output["problems"]] == [
        (3, "rooting"),
        (4, "resilience.max_retries"),
    ]


@pytest.mark.parametrize(
    "command", [("stream", "x"), ("explain", "x"), ("models",), ("providers",), ("config", "show")]
)
def test_every_command_reports_the_problems_of_the_configuration(command: tuple[str, ...], run: Any) -> None:
    Path("llm_dispatcher.yaml").write_text("rooting: {}\n")
    result = run(*command, "--json")
    assert (result.exit_code, result.stdout) == (3, "")
    report = json.loads(result.stderr)
    assert (report["exit_code"], report["error"]["kind"]) == (3, "ConfigurationError")
    assert [each["key"] for each in report["error"]["problems"]] == ["rooting", "providers"]


def test_loading_the_output_of_show_makes_the_same_policy(run: Any) -> None:
    result = run("config", "show")
    assert result.stdout.startswith("# llm_dispatcher.yaml\n")
    assert yaml.safe_load(result.stdout) == json.loads(run("config", "show", "--json").stdout)
    Path("shown.yaml").write_text(result.stdout)
    assert run("config", "show", "shown.yaml").stdout.replace("shown.yaml", "llm_dispatcher.yaml") == result.stdout


def test_show_includes_the_environment(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_DISPATCHER_RESILIENCE__MAX_RETRIES", "7")
    assert json.loads(run("config", "show", "--json").stdout)["resilience"]["max_retries"] == 7
    Path("llm_dispatcher.yaml").unlink()
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    assert run("config", "show").stdout.startswith("# no file, only the keys in the environment\n")


def test_schema_prints_the_schema_or_the_reference(run: Any) -> None:
    assert json.loads(run("config", "schema").stdout) == json.loads(json.dumps(config_schema()))
    assert run("config", "schema", "--markdown").stdout == (ROOT / "docs" / "configuration.md").read_text()


SECRET = "fake-credential-of-the-tests"


@pytest.mark.parametrize(
    "words",
    [["config", "show"], ["config", "check"], ["providers", "--no-ask"], ["models"], ["explain", "x"]],
    ids=lambda words: words[0] + words[-1],
)
@pytest.mark.parametrize("more", [[], ["--json"], ["--debug"]])
def test_no_command_shows_a_secret(words: list[str], more: list[str], run: Any) -> None:
    Path("llm_dispatcher.yaml").write_text(
        f"""
providers:
  openai:
    {{api_key: {SECRET}, base_url: "http://127.0.0.1:1/v1", headers: {{x-key: {SECRET}}}, models: [m]}}
"""
    )
    result = run(*words, *more)
    assert result.exit_code == 0
    assert SECRET not in result.output


@pytest.mark.found("N-C17")
def test_capabilities_of_a_third_partys_kind_are_unknown() -> None:
    settings = ProviderSettings(name="polly", kind="parrot", models={"grey": ModelSettings()})
    policy = Policy(providers={"polly": settings}, default=Route((Target("polly", "grey"),)))
    unknown = Capabilities(tools=True, structured_output=True, known=False)
    row = _row(Target("polly", "grey"), unknown, policy)
    assert row[:3] == ("polly/grey", "?", "?")
