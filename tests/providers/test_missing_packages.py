"""A package that is not installed is a line that says what to install, and the rest of the library works without it.

Imports are blocked in a process of its own, as if the package had been uninstalled.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher._providers.base.provider import _missing
from llm_dispatcher._vendors import adapters
from llm_dispatcher.testing import Reply, SimulatedVendor

Start = Callable[..., SimulatedVendor]

BLOCKED = """
import sys

class Uninstalled:
    def find_spec(self, name, path=None, target=None):
        if name in BLOCKED or any(name.startswith(f"{each}.") for each in BLOCKED):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = sys.argv[1].split(",")
sys.meta_path.insert(0, Uninstalled())
"""


def run(blocked: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code, blocked, *arguments], capture_output=True, text=True, check=False
    )


ASK = """
import asyncio, json
from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.exceptions import MissingPackageError

async def main():
    async with LLMSwitch(json.loads(sys.argv[2])) as switch:
        stream = switch.stream_request(TaskRequest("Hello?"))
        text = await stream
        failures = [attempt.failure for attempt in stream.response.attempts if attempt.failure]
        print(json.dumps([text, [[failure.kind, failure.message] for failure in failures]]))
        for name in json.loads(sys.argv[3]):  # the missing packages, each alone
            try:
                await switch.stream_request(TaskRequest("Hello?", model=f"{name}/m"))
            except MissingPackageError as error:
                print(json.dumps([str(error), error.install]))

asyncio.run(main())
"""


def policy(vendors: dict[str, SimulatedVendor]) -> dict[str, Any]:
    return {
        "providers": {
            name: {"base_url": vendor.base_url, "api_key": "test-key", "models": ["m"]}
            for name, vendor in vendors.items()
        },
        "routing": {"default": [f"{name}/m" for name in vendors]},
        "resilience": {"max_retries": 0},
    }


WIRES = {"openai": "openai-chat", "anthropic": "anthropic", "google": "google", "ollama": "ollama"}
INSTALLS = {
    "openai": ("openai", "openai[aiohttp]"),
    "anthropic": ("anthropic", "anthropic[aiohttp]"),
    "google": ("google.genai", "google-genai[aiohttp]"),
}
"""The package of each kind that has one, and how it is installed."""


def test_without_an_sdk_the_next_target_is_asked_and_the_error_says_what_to_install(simulated_vendor: Start) -> None:
    """All three are missing in one process: an SDK that was loaded would cost this test a second."""
    vendors = {name: simulated_vendor(wire, Reply(f"By {name}."), api_key="test-key") for name, wire in WIRES.items()}
    blocked = ",".join(package for package, _ in INSTALLS.values())
    done = run(blocked, ASK, json.dumps(policy(vendors)), json.dumps(list(INSTALLS)))
    assert done.returncode == 0, done.stderr
    (text, failures), *alone = map(json.loads, done.stdout.splitlines())
    assert text == "By ollama."
    assert [kind for kind, _ in failures] == ["MissingPackageError"] * 3
    for (kind, (package, install)), (_, failure), (error, offered) in zip(
        INSTALLS.items(), failures, alone, strict=True
    ):
        message = (
            f"providers of the kind {kind!r} need the Python package {package}, which is not installed; "
            f"install it with: pip install '{install}'"
        )
        assert message in failure
        assert (message in error, offered) == (True, install)
        assert not vendors[kind].requests


@pytest.mark.parametrize("kind", WIRES)
@pytest.mark.slow
@pytest.mark.measured
def test_one_vendor_works_without_the_sdks_of_all_others(kind: str, simulated_vendor: Start) -> None:
    blocked = ",".join(package for name, (package, _) in INSTALLS.items() if name != kind)
    vendors = {kind: simulated_vendor(WIRES[kind], Reply(f"By {kind}."), api_key="test-key")}
    done = run(blocked, ASK, json.dumps(policy(vendors)), "[]")
    assert (done.returncode, done.stdout) == (0, json.dumps([f"By {kind}.", []]) + "\n"), done.stderr


PRICES = """
import asyncio, json
from llm_dispatcher import LLMSwitch, TaskRequest

async def main():
    async with LLMSwitch(json.loads(sys.argv[2])) as switch:
        stream = switch.stream_request(TaskRequest("Hello?"))
        text = await stream
        known = switch.capabilities("ollama/m")
        print(json.dumps([text, known.input_price, switch.capabilities("openai/gpt-5-mini").input_price]))

asyncio.run(main())
"""


def test_without_genai_prices_only_the_prices_of_local_servers_are_known(simulated_vendor: Start) -> None:
    """(OpenAI is not in the route, so that its SDK is not loaded.)"""
    vendors = {name: simulated_vendor(WIRES[name], Reply("Hi."), api_key="test-key") for name in ("ollama", "openai")}
    configuration = {**policy(vendors), "routing": {"default": ["ollama/m"]}}
    done = run("genai_prices", PRICES, json.dumps(configuration))
    assert (done.returncode, done.stdout) == (0, '["Hi.", 0.0, null]\n'), done.stderr


LIVE = """
from llm_dispatcher.streaming import ProgressTracker
with ProgressTracker().live():
    print("drawn")
"""
COMMAND = """
from llm_dispatcher._cli import main
sys.argv[1:] = ["version"]
main()
"""


def test_without_rich_a_live_bar_says_what_to_install() -> None:
    done = run("rich", LIVE)
    assert done.returncode != 0 and done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.endswith(
        "ProgressTracker.live needs the Python package rich, which is not installed; install it with: pip install rich"
    )


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_its_packages_the_command_says_what_to_install(package: str) -> None:
    done = run(package, COMMAND)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: the command needs the Python package {package}, which is not installed; "
        f"install it with: pip install {package}\n"
    )


@pytest.mark.parametrize("adapter", [adapters.OPENAI, adapters.ANTHROPIC, adapters.GOOGLE, adapters.OLLAMA])
def test_what_an_adapter_requires_is_a_dependency_of_the_package(adapter: Any) -> None:
    """And each name is one that can be imported: a typing error in the table would be a false alarm."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = " ".join([*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())])
    assert _missing(adapter) is None
    assert all(install in declared for install in adapter.requires.values())
