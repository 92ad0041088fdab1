"""`cache stats`, `cache clear` and `cache explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
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


async def test_stats_says_what_is_kept(run: Any, policy: str) -> None:
    said = json.loads(run("cache", "stats", "-c", policy, "--json").stdout)
    assert {name: each["entries"] for name, each in said["namespaces"].items()} == {"": 1, "team": 2}
    assert said["entries"] == 3 and said["bytes"] == sum(each["bytes"] for each in said["namespaces"].values())
    lines = run("cache", "stats", "-c", policy).stdout.splitlines()
    assert "3 entries" in lines[0] and lines[2].split()[:2] == ["(none)", "1"] and lines[3].split()[:2] == ["team", "2"]


async def test_clear_forgets_all_or_one_namespace(run: Any, policy: str) -> None:
    assert json.loads(run("cache", "clear", "--namespace", "team", "-c", policy, "--json").stdout)["forgotten"] == 2
    assert run("cache", "clear", "-c", policy).stdout.endswith(": 1 entries forgotten\n")
    assert json.loads(run("cache", "stats", "-c", policy, "--json").stdout)["entries"] == 0


def test_a_file_that_is_not_there_holds_nothing(run: Any, tmp_path: Path) -> None:
    missing = tmp_path / "none.sqlite"
    assert "0 entries" in run("cache", "stats", "--store", str(missing)).stdout
    assert not missing.exists()


@pytest.mark.parametrize(
    ("section", "said"), [("", "no cache is configured"), ("cache:\n", "the configured cache lives in its process")]
)
def test_a_cache_without_a_file_says_so(run: Any, tmp_path: Path, section: str, said: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(f"providers:\n  ollama: {{models: [m]}}\n{section}")
    done = run("cache", "stats", "-c", str(file))
    assert (done.exit_code, said in done.stderr) == (3, True)


def test_explain_says_what_counts_as_a_repeat(run: Any) -> None:
    one = "What are the benefits of green tea?"
    assert run("cache", "explain", one, one.upper()).stdout == "served: canonical (score 1.000)\n"
    said = json.loads(run("cache", "explain", one, "What are the benefits of black tea?", "--json").stdout)
    assert (said["hit"], said["rule"]) == (False, "words differ")
    strict = run("cache", "explain", one, "What are benefits of green tea?", "--threshold", "1")
    assert strict.stdout.startswith("not served: below the threshold")
