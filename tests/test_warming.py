"""Vendors' SDKs are loaded before a switch in the middle of an answer needs them."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher._background import _GeventExecutor
from llm_dispatcher._serving import warming
from llm_dispatcher._serving.warming import load_in_background, missing_sdks

SDKS = ["anthropic.resources.messages", "google.genai", "openai.resources.responses"]


def run(code: str) -> Any:
    """What a fresh process prints, as JSON: only there is nothing loaded yet."""
    program = "import asyncio, json, sys\nfrom llm_dispatcher import LLMSwitch, TaskRequest, init\n" + textwrap.dedent(
        code
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


POLICY = """
    from llm_dispatcher.testing import Cut, Reply, SimulatedVendor, Continuing
    SDKS = ["anthropic.resources.messages", "google.genai", "openai.resources.responses"]

    def loaded():
        return [name for name in SDKS if name in sys.modules]

    def policy():
        entry = {"api_key": "test-key", "base_url": "http://127.0.0.1:9", "models": ["m"]}
        return {
            "providers": {"openai": {**entry, "api": "chat"}, "anthropic": entry, "google": entry},
            "routing": {"default": ["openai/m", "google/m"]},
        }
"""


@pytest.mark.found("N-B10")
def test_the_sdks_of_a_routes_other_vendors_are_loaded_while_the_first_stream_is_read() -> None:
    assert run(
        POLICY
        + """
    async def main():
        async with SimulatedVendor("ollama", Reply("One two three.")) as vendor:  # its adapter has no SDK to load
            known = policy()
            known["providers"]["ollama"] = {"base_url": vendor.base_url, "models": ["m"]}
            known["routing"]["default"] = ["ollama/m", "openai/m"]
            before = loaded()
            async for chunk in LLMSwitch(known).stream_request(TaskRequest("Count.")):
                while "openai.resources.responses" not in sys.modules:
                    await asyncio.sleep(0.01)
            return [before, loaded()]

    print(json.dumps(asyncio.run(main())))
    """
    ) == [[], ["openai.resources.responses"]], "the others are not in the route"


@pytest.mark.found("N-B10")
@pytest.mark.slow
@pytest.mark.measured
def test_warm_loads_every_vendors_sdk_and_makes_its_client() -> None:
    assert run(
        POLICY
        + """
    async def main():
        async with LLMSwitch(policy()) as switch:
            before = loaded()
            await switch.warm()
            after = loaded()
            known = set(sys.modules)
            for provider in switch._runtime.providers.values():
                await provider.prepare()
            return [before, after, len(set(sys.modules) - known)]

    print(json.dumps(asyncio.run(main())))
    """
    ) == [[], SDKS, 0]


@pytest.mark.found("N-B10")
@pytest.mark.slow
@pytest.mark.measured
def test_init_can_load_them_in_a_thread() -> None:
    assert (
        run(
            POLICY
            + """
    import time
    providers = policy()["providers"]
    init({"providers": {name: providers[name] for name in ("google", "openai")}}, warm=True)
    while len(loaded()) < 2:
        time.sleep(0.01)
    print(json.dumps(loaded()))
    """
        )
        == SDKS[1:]
    )


def test_a_vendor_that_cannot_be_prepared_is_logged_and_keeps_no_other_from_it() -> None:
    assert run(
        POLICY
        + """
    import logging
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("llm_dispatcher").addHandler(handler)

    async def main():
        sys.modules["anthropic"] = None  # as if it were not installed
        providers = policy()["providers"]
        async with LLMSwitch({"providers": {name: providers[name] for name in ("anthropic", "openai")}}) as switch:
            await switch.warm()
            return [lines[0].partition(": providers")[0], len(lines), "openai.resources.responses" in sys.modules]

    print(json.dumps(asyncio.run(main())))
    """
    ) == ["anthropic: could not be prepared: MissingPackageError", 1, True]


def test_no_thread_imports_anything_under_gevent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take locks that gevent has patched, and nobody would hear that they are free again."""
    monkeypatch.setattr(warming, "gevent_is_in_force", lambda: True)
    monkeypatch.setattr(warming, "start_thread", lambda run, name: pytest.fail(f"{name} began"))
    monkeypatch.setattr(warming, "missing_sdks", lambda kinds: ["a_module"])
    assert not load_in_background(["openai"])

    def fail() -> None:
        raise OSError("no such file")

    executor = _GeventExecutor()
    assert executor.submit(threading.get_ident).result(timeout=0) == threading.get_ident()
    with pytest.raises(OSError, match="no such file"):
        executor.submit(fail).result(timeout=0)


def test_loaded_sdks_are_not_loaded_again() -> None:
    load_in_background(["openai"])  # (another test may have done so before)
    assert missing_sdks(["openai", "a kind of somebody else's"]) == []
    assert not load_in_background(["openai"])


@pytest.mark.found("N-B10", "S-D15")
def test_an_application_that_imports_an_sdk_meanwhile_gets_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two modules that import each other: from two ends in two threads, each would wait for the other."""
    package = tmp_path / "slow_sdk"
    (package / "resources").mkdir(parents=True)
    modules = {
        "__init__": "time.sleep(0.1)\nfrom . import _client",
        "_client": "time.sleep(0.2)\nfrom ._base import RETRIES",
        "_base": "time.sleep(0.2)\nfrom . import _client\nRETRIES = 2",
        "resources/__init__": "",
        "resources/messages": "from .._base import RETRIES",
    }
    for name, body in modules.items():
        (package / f"{name}.py").write_text(f"import time\n{body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("llm_dispatcher._serving.warming.sdk_modules", lambda kind: ("slow_sdk.resources.messages",))
    with ThreadPoolExecutor(1) as application:
        imported = application.submit(import_module, "slow_sdk")
        while "slow_sdk" not in sys.modules:
            time.sleep(0.001)
        assert load_in_background(["any"])
        while not hasattr(sys.modules.get("slow_sdk.resources.messages"), "RETRIES"):
            time.sleep(0.001)
        assert imported.result()._client.RETRIES == 2
    assert missing_sdks(["any"]) == []
    for name in [name for name in sys.modules if name.partition(".")[0] == "slow_sdk"]:
        del sys.modules[name]
