"""`llm-dispatcher stream`: only the text on standard output, everything else on standard error."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_dispatcher.events import StreamCompleted, StreamFailed, StreamReset, check_order, from_json
from llm_dispatcher.testing import CleanEnd, Continuing, Cut, HttpError, Reply, SimulatedVendor

TEXT = "Once upon a time there was a lighthouse, and the sea went to sleep beneath it.\nThe end."
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def test_only_the_text_is_on_standard_output(
    run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    result = run("stream", "Tell me.", "--config", write(simulated_vendor("ollama", Reply(TEXT))))
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")
    first, last = result.stderr.splitlines()
    assert first == "[a/m answers, attempt 1]"
    assert last.startswith("[a/m · ")


def test_a_text_with_a_final_line_end_gets_no_second_one(
    run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    result = run("stream", "Tell me.", "-c", write(simulated_vendor("ollama", Reply("One.\n"))))
    assert result.stdout == "One.\n"


def test_quiet_writes_only_the_answer(run: Any, policy: str) -> None:
    result = run("stream", "Hello", "-q", "-c", policy)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello, world!\n", "")


def test_with_json_each_event_is_a_line(run: Any, policy: str) -> None:
    result = run("stream", "Hello", "--json", "-c", policy)
    events = [from_json(line) for line in result.stdout.splitlines()]
    check_order(events)
    assert isinstance(events[-1], StreamCompleted)
    assert (events[-1].text, result.stderr) == ("Hello, world!", "")


def test_the_request_has_what_was_typed(run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]) -> None:
    vendor = simulated_vendor("openai-chat", Reply("Yes."))
    run(
        "stream", "Is it?", "--system", "Be short.", "--max-tokens", "7", "--temperature", "0.5",
        "--model", "a/special", "--config", write(vendor),
    )  # fmt: skip
    (request,) = vendor.requests
    assert (request.text, request.system, request.model) == ("Is it?", "Be short.", "special")
    assert request.body["temperature"] == 0.5
    assert 7 in (request.body.get("max_tokens"), request.body.get("max_completion_tokens"))


def test_a_provider_may_be_picked(run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]) -> None:
    policy = write(simulated_vendor("ollama", Reply("I am a.")), simulated_vendor("ollama", Reply("I am b.")))
    assert run("stream", "Who?", "-c", policy).stdout == "I am a.\n"
    assert run("stream", "Who?", "-p", "b", "-c", policy).stdout == "I am b.\n"


def test_the_prompt_may_come_from_standard_input(
    run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    vendor = simulated_vendor("ollama", Reply("Yes."))
    assert run("stream", "-", "-c", write(vendor), stdin="Ist das schön?\nJa.".encode()).exit_code == 0
    assert vendor.requests[0].text == "Ist das schön?\nJa."


@pytest.mark.found("N-B11")
@pytest.mark.parametrize(
    ("words", "stdin", "prompt"),
    [
        (["Explain this."], b"print(1)\n\n", "print(1)\n\nExplain this."),
        (["Explain this."], b"", "Explain this."),
        (["Explain this."], b"  \n", "Explain this."),
        ([], b"What is it?\n", "What is it?\n"),
        (["-"], b"What is it?", "What is it?"),
    ],
)
def test_piped_input_is_put_before_the_prompt(
    words: list[str],
    stdin: bytes,
    prompt: str,
    run: Any,
    write: Any,
    simulated_vendor: Callable[..., SimulatedVendor],
) -> None:
    vendor = simulated_vendor("ollama", Reply("Yes."))
    result = run("stream", *words, "-c", write(vendor), stdin=stdin)
    assert (result.exit_code, result.stdout) == (0, "Yes.\n")
    assert vendor.requests[0].text == prompt


@pytest.mark.found("N-B11")
def test_explain_reads_piped_input_too(run: Any, policy: str) -> None:
    assert run("explain", "-c", policy, stdin=b"What is it?").exit_code == 0
    nothing = run("explain", "-c", policy, stdin=b"")
    assert nothing.exit_code == 2
    assert "there is no prompt: write one" in nothing.stderr


@pytest.mark.found("N-B11")
@pytest.mark.parametrize(
    ("head", "words"),
    [(PNG, "an image and not text: .*--image"), (b"ID3\xff", "a recording and not .*--audio")],
)
def test_a_piped_image_is_refused_with_a_hint(head: bytes, words: str, run: Any, policy: str) -> None:
    result = run("stream", "What is it?", "-c", policy, stdin=head)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(words, result.stderr)


def test_longer_input_than_a_prompt_may_have_is_not_sent(
    run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor], monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = simulated_vendor("ollama", Reply("Yes."))
    policy = write(vendor)
    monkeypatch.setattr("llm_dispatcher._cli.request.MAX_BYTES", 1_000_000)
    assert run("stream", "-", "-c", policy, stdin=b"x" * 1_000_000).exit_code == 0
    result = run("stream", "-", "-c", policy, stdin=b"x" * 1_000_001)
    assert (result.exit_code, result.stdout, len(vendor.requests)) == (2, "", 1)
    assert "standard input is longer than 1 MB" in result.stderr


def test_closed_standard_input_is_not_a_prompt(run: Any, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_dispatcher._cli.request.sys", SimpleNamespace(stdin=None))
    result = run("stream", "-", "-c", policy)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "standard input is closed: write a prompt instead of -" in result.stderr


@pytest.mark.parametrize(
    ("stdin", "words"), [(b"\xff\xfe", "not UTF-8 text"), (b"  \n", "the prompt is empty")], ids=["no text", "blank"]
)
def test_input_that_is_not_text_is_not_sent(stdin: bytes, words: str, run: Any, policy: str) -> None:
    result = run("stream", "-", "-c", policy, stdin=stdin)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_images_are_sent(run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]) -> None:
    vendor = simulated_vendor("openai-chat", Reply("A dot."))
    Path("dot.png").write_bytes(PNG)
    result = run("stream", "What is it?", "--image", "dot.png", "-i", "https://example.com/x.png", "-c", write(vendor))
    assert result.stdout == "A dot.\n"
    body = str(vendor.requests[0].body)
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in body
    assert "https://example.com/x.png" in body


@pytest.mark.parametrize("option", ["--image", "--audio"])
def test_a_missing_file_is_named(option: str, run: Any, policy: str) -> None:
    result = run("stream", "What is it?", option, "nowhere.bin", "-c", policy)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "llm-dispatcher: nowhere.bin: there is no such file\n"


def test_a_continued_stream_is_noted_beside_the_text(
    run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    first_vendor, other = (
        simulated_vendor("ollama", Reply(TEXT, fault=Cut(5))),
        simulated_vendor("ollama", Continuing(TEXT)),
    )
    result = run("stream", "Tell me.", "-c", write(first_vendor, other))
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")
    assert "b/m continues for a/m" in result.stderr


def test_failed_targets_are_reported_with_their_reason(
    run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    first_vendor, other = (
        simulated_vendor("ollama", Reply(fault=HttpError(401))),
        simulated_vendor("ollama", Reply(TEXT)),
    )
    result = run("stream", "Tell me.", "-c", write(first_vendor, other))
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")
    _, remark, _ = result.stderr.splitlines()
    assert remark.startswith("[a/m failed: ProviderAuthenticationError: ")


def test_a_target_that_delivered_something_is_not_reported_as_failed(
    run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    replies = [Reply(TEXT, fault=Cut(0)), Reply(TEXT, fault=Cut(5)), Continuing(TEXT)]
    policy = write(simulated_vendor("ollama", replies), resilience={"max_retries": 3})
    result = run("stream", "Tell me.", "-c", policy)
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")
    assert "a/m · 3 attempts" in result.stderr
    assert "failed" not in result.stderr


def test_a_broken_answer_has_an_exit_code(
    run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    result = run("stream", "Tell me.", "-c", write(simulated_vendor("ollama", Reply(TEXT, fault=CleanEnd(5)))))
    assert result.exit_code == 4
    assert TEXT.startswith(result.stdout)
    assert result.stdout
    assert result.stderr.splitlines()[-1].startswith("llm-dispatcher: ")


def test_no_answer_has_an_exit_code(run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]) -> None:
    policy = write(simulated_vendor("ollama", Reply(fault=HttpError(503, message="down\nfor\x1b[31m repair"))))
    result = run("stream", "Tell me.", "-c", policy)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert r"down for\x1b[31m repair" in line
    assert "\x1b" not in line


def test_with_json_a_failure_is_an_event_and_an_error(
    run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    result = run("stream", "x", "--json", "-c", write(simulated_vendor("ollama", Reply(fault=HttpError(503)))))
    assert isinstance(from_json(result.stdout.splitlines()[-1]), StreamFailed)
    assert '"kind": "ProviderServiceUnavailableError"' in result.stderr


def test_written_text_is_not_taken_back(run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]) -> None:
    """With the policy `restart`, text is continued, and only events restart."""
    first_vendor, other = (
        simulated_vendor("ollama", Reply(TEXT, fault=Cut(5))),
        simulated_vendor("ollama", Continuing(TEXT)),
    )
    policy = write(first_vendor, other, resilience={"on_break": "restart"})
    assert run("stream", "Tell me.", "-c", policy).stdout == f"{TEXT}\n"
    events = [from_json(line) for line in run("stream", "Tell me.", "--json", "-c", policy).stdout.splitlines()]
    assert any(isinstance(event, StreamReset) for event in events)


def test_a_pipe_gets_the_text_unchanged(run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]) -> None:
    answer = "red: \x1b[31m, bell: \a, ü, 漢"
    assert run("stream", "x", "-c", write(simulated_vendor("ollama", Reply(answer)))).stdout == f"{answer}\n"


def test_cost_and_time_limits_are_obeyed(
    run: Any, write: Any, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    vendor = simulated_vendor("openai-chat", Reply("Yes."))
    result = run("stream", "x", "--max-cost", "0.5", "-c", write(vendor))
    assert (result.exit_code, vendor.requests) == (1, [])
    assert "its price is not known, and max_cost is set" in result.stderr
    assert run("stream", "x", "--max-cost", "-1", "-c", "policy.yaml").exit_code == 2
    assert run("stream", "x", "--timeout", "0", "-c", "policy.yaml").exit_code == 2
