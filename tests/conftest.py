"""No test reaches beyond this machine, and none sees the developer's keys."""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from llm_dispatcher import LLMSwitch
from llm_dispatcher.testing import SimulatedVendor

T = TypeVar("T")

collect_ignore = (
    ["cli/test_chat_terminal.py", "cli/test_demo.py", "cli/test_terminal.py"] if sys.platform == "win32" else []
)
"""These are about terminals of POSIX systems, and import modules that Windows has not."""

settings.register_profile(
    "suite",
    deadline=None,  # how long something takes is for benchmarks/
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("fast", settings.get_profile("suite"), max_examples=12)
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """`make test` looks at fewer examples of each property than `make test-all`."""
    settings.load_profile("fast" if config.option.markexpr == "not slow" else "suite")


# The SDKs hold so many objects that each collection of all garbage takes 0.1 to 0.3 s. Tests of garbage ask for one.
gc.set_threshold(5_000, 10, 100)


def pytest_sessionfinish() -> None:
    """pytest collects garbage five times now. After the first two, nothing is old enough to be looked at again."""
    gc.collect()
    gc.collect()
    gc.freeze()


def examples(number: int) -> int:
    """So many examples of a property in `make test-all`, and an eighth of them, or ten, in `make test`."""
    return max(10, number // 8) if settings.get_current_profile_name() == "fast" else number


def thinned(places: Sequence[T]) -> Sequence[T]:
    """All of these in `make test-all`; every third of them, and the last one, in `make test`."""
    return [*places[:-1:3], places[-1]] if settings.get_current_profile_name() == "fast" else places


def first_is_fast(first: Any, *rest: Any) -> list[Any]:
    """Parameters of which `make test` takes the first, and `make test-all` each."""
    return [first, *(pytest.param(each, marks=pytest.mark.slow) for each in rest)]


class ReachedOutError(RuntimeError):
    """A test tried to leave this machine."""


def _stay_on_this_machine(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.connect":
        address = args[1]
        if isinstance(address, tuple) and not ipaddress.ip_address(str(address[0])).is_loopback:
            raise ReachedOutError(f"connect to {address}")
    elif event == "socket.getaddrinfo" and args[0] not in (None, "localhost", b"localhost"):
        host = args[0].decode() if isinstance(args[0], bytes) else str(args[0])
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ReachedOutError(f"look-up of {host}")


# A shell's background job ignores Ctrl-C, and so would the programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An audit hook sees what no patched function would: connections made by C code and by event loops.
sys.addaudithook(_stay_on_this_machine)


@pytest.fixture(autouse=True)
def _no_developer_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        is_address = name.endswith(("_BASE_URL", "_ENDPOINT")) or name == "OLLAMA_HOST"
        if (
            name.startswith("LLM_DISPATCHER_")
            or name.endswith("_API_KEY")
            or name.lower().endswith("_proxy")
            or is_address
        ):
            monkeypatch.delenv(name)


@pytest.fixture
def collect_garbage() -> Iterator[Callable[[], object]]:
    """`gc.collect`, which looks only at what the test has made: all the objects of the SDKs would take 0.3 s."""
    gc.freeze()
    yield gc.collect
    gc.unfreeze()


KINDS: dict[str, dict[str, Any]] = {
    "openai-chat": {"kind": "openai", "api": "chat"},
    "openai-responses": {"kind": "openai", "api": "responses"},
    "anthropic": {"kind": "anthropic"},
    "google": {"kind": "google"},
    "ollama": {"kind": "ollama"},
}
"""What a provider's entry has to say so that it speaks the wire of a simulated vendor."""


TIRELESS: dict[str, Any] = {"breaker": {"failures": None}, "retry_budget": {"share": None}}
PATIENT: dict[str, Any] = {"timeouts": {"connect": 120, "first_token": 120, "idle": 120, "total": None}}
"""For tests of something else than clocks: on a slow machine forty at once take more than seconds."""


def policy_over(*vendors: SimulatedVendor, **resilience: Any) -> dict[str, Any]:
    """A configuration that asks these vendors one after the other; they are called a, b, c … However often a test lets
    one fail, it is asked again: breakers and retry budgets have tests of their own. A simulated vendor at an address of
    this machine stands for the vendor itself, so it is known how each continues.
    """
    names = "abcdefgh"[: len(vendors)]
    return {
        "providers": {
            name: {**KINDS[vendor.wire], "api_key": "test-key", "base_url": vendor.base_url, "models": ["m"]}
            for name, vendor in zip(names, vendors, strict=True)
        },
        "routing": {"default": [f"{name}/m" for name in names]},
        "catalog": {
            f"{name}/m": {"continues": "anchored"}
            for name, vendor in zip(names, vendors, strict=True)
            if vendor.wire == "anthropic"
        },
        "resilience": {"max_retries": 0, "backoff": 0.0, **TIRELESS, **PATIENT, **resilience},
    }


@pytest.fixture
async def switch_over() -> AsyncIterator[Callable[..., LLMSwitch]]:
    """Switches over simulated vendors, closed when the test is over."""
    made: list[LLMSwitch] = []

    def make(*vendors: SimulatedVendor, **resilience: Any) -> LLMSwitch:
        made.append(LLMSwitch(policy_over(*vendors, **resilience)))
        return made[-1]

    yield make
    for switch in made:
        await switch.aclose()
