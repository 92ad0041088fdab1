"""`cache stats`, `cache clear` and `cache explain`."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.cache import Entry, SQLiteStore
from llm_dispatcher.testing import Reply, SimulatedVendor


@pytest.fixture
async def policy(tmp_path: Path) -> str:
    """A configuration whose cache holds three answers of two namespaces."""
    file = tmp_path / "policy.yaml"
    with SimulatedVendor("openai-chat", Reply("Many.")) as vendor:
        provider = f"{{kind: openai, api: chat, api_key: test-key, base_url: '{vendor.base_url}', models: [m]}}"
        file.write_text(f"providers:\n  a: {provider}\ncache: {{store: {tmp_path / 'kept.sqlite'}}}\n")
        async with LLMSwitch(str(file)) as switch:
            for namespace, prompt in (("team", "Is tea good?"), ("team", "Is milk good?"), (None, "Is tea good?")):
                metadata = {} if namespace is None else {"namespace": namespace}
                await switch.stream_request(TaskRequest(prompt, metadata=metadata))
    return str(file)


async def test_stats_counts_entries_by_namespace(run: Any, policy: str) -> None:
    output = json.loads(run("cache", "stats", "-c", policy, "--json").stdout)
    assert {name: each["entries"] for name, each in output["namespaces"].items()} == {"": 1, "team": 2}
    assert output["entries"] == 3 and output["bytes"] == sum(each["bytes"] for each in output["namespaces"].values())
    lines = run("cache", "stats", "-c", policy).stdout.splitlines()
    assert "3 entries" in lines[0] and lines[2].split()[:2] == ["(none)", "1"] and lines[3].split()[:2] == ["team", "2"]


async def test_clear_deletes_all_or_one_namespace(run: Any, policy: str) -> None:
    assert json.loads(run("cache", "clear", "--namespace", "team", "-c", policy, "--json").stdout)["forgotten"] == 2
    assert run("cache", "clear", "-c", policy).stdout.endswith(": 1 entry deleted\n")
    assert json.loads(run("cache", "stats", "-c", policy, "--json").stdout)["entries"] == 0


@pytest.mark.parametrize("command", ["stats", "clear"])
def test_a_file_of_another_version_is_refused_and_unchanged(run: Any, closed_file: Path, command: str) -> None:
    with sqlite3.connect(closed_file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = closed_file.read_bytes()
    result = run("cache", command, "--store", str(closed_file))
    assert result.exit_code != 0
    assert "made by another version of llm_dispatcher" in result.stderr
    assert closed_file.read_bytes() == before


@pytest.fixture
def closed_file(tmp_path: Path) -> Path:
    """A cache's file that is not open."""
    file = tmp_path / "closed.sqlite"
    store = SQLiteStore(file)
    store.open()
    store.add(Entry(b"key", b"bucket", "Is tea good?", "team", 10, 1e12), b"recording")
    store.close()
    return file


def test_stats_only_reads(run: Any, closed_file: Path) -> None:
    before = closed_file.read_bytes()
    assert "1 entry" in run("cache", "stats", "--store", str(closed_file)).stdout
    assert (closed_file.read_bytes(), [each.name for each in closed_file.parent.iterdir()]) == (
        before,
        [closed_file.name],
    )


def test_an_open_file_can_be_read_and_cleared(run: Any, closed_file: Path) -> None:
    store = SQLiteStore(closed_file)
    store.open()
    store.add(Entry(b"another key", b"bucket", "Is milk good?", "team", 10, 1e12), b"recording")
    store.flush()
    assert "2 entries" in run("cache", "stats", "--store", str(closed_file)).stdout
    assert "2 entries deleted" in run("cache", "clear", "--store", str(closed_file)).stdout
    assert asyncio.run(store.read(b"key")) is None
    store.close()


@pytest.mark.found("N-A2")
@pytest.mark.parametrize("command", ["stats", "clear"])
def test_a_named_file_that_is_missing_is_an_error(run: Any, tmp_path: Path, command: str) -> None:
    missing = tmp_path / "typo.sqlite"
    result = run("cache", command, "--store", str(missing))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{missing}: there is no such file" in result.stderr
    assert not missing.exists()


def test_a_configured_file_that_does_not_exist_yet_is_empty(run: Any, tmp_path: Path) -> None:
    file, missing = tmp_path / "policy.yaml", tmp_path / "none.sqlite"
    file.write_text(f"providers:\n  ollama: {{models: [m]}}\ncache: {{store: {missing}}}\n")
    assert "0 entries" in run("cache", "stats", "-c", str(file)).stdout
    assert "0 entries deleted" in run("cache", "clear", "-c", str(file)).stdout
    assert not missing.exists()


def _another_database(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE entries (key, namespace)")
    connection.close()


@pytest.mark.found("N-A2")
@pytest.mark.parametrize("command", ["stats", "clear"])
@pytest.mark.parametrize("make", [lambda file: file.write_text('print("precious")'), _another_database])
def test_a_file_of_something_else_is_refused_and_unchanged(run: Any, tmp_path: Path, command: str, make: Any) -> None:
    file = tmp_path / "precious.py"
    make(file)
    before = file.read_bytes()
    result = run("cache", command, "--store", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert str(file) in result.stderr and "give the cache a path of its own" in result.stderr
    assert (file.read_bytes(), [each.name for each in tmp_path.iterdir()]) == (before, [file.name])


@pytest.mark.found("N-A2")
@pytest.mark.parametrize("command", ["stats", "clear"])
def test_a_damaged_file_is_reported_and_unchanged(run: Any, closed_file: Path, command: str) -> None:
    closed_file.write_bytes(closed_file.read_bytes()[:200] + bytes(5000))
    before = closed_file.read_bytes()
    result = run("cache", command, "--store", str(closed_file))
    assert (result.exit_code, "cannot be used" in result.stderr) == (1, True)
    assert (closed_file.read_bytes(), [each.name for each in closed_file.parent.iterdir()]) == (
        before,
        [closed_file.name],
    )


@pytest.mark.found("N-A2")
def test_config_check_reports_a_cache_file_that_is_not_a_caches(run: Any, tmp_path: Path) -> None:
    file, precious = tmp_path / "policy.yaml", tmp_path / "precious.py"
    precious.write_text("precious")
    file.write_text(f"providers:\n  ollama: {{models: [m]}}\ncache: {{store: {precious}}}\n")
    result = run("config", "check", "-c", str(file))
    assert (result.exit_code, "cache.store" in result.stderr, precious.read_text()) == (3, True, "precious")


@pytest.mark.parametrize(
    ("section", "output"),
    [("", "no cache is configured"), ("cache:\n", "the configured cache is in the memory")],
)
def test_a_cache_without_a_file_is_an_error(run: Any, tmp_path: Path, section: str, output: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(f"providers:\n  ollama: {{models: [m]}}\n{section}")
    result = run("cache", "stats", "-c", str(file))
    assert (result.exit_code, output in result.stderr) == (3, True)


def test_explain_says_whether_an_answer_would_be_served(run: Any) -> None:
    one = "What are the benefits of green tea?"
    assert run("cache", "explain", one, one.upper()).stdout == "served: canonical (score 1.000)\n"
    output = json.loads(run("cache", "explain", one, "What are the benefits of black tea?", "--json").stdout)
    assert (output["hit"], output["rule"]) == (False, "words differ")
    strict = run("cache", "explain", one, "What are benefits of green tea?", "--threshold", "1")
    assert strict.stdout.startswith("not served: below the threshold")
