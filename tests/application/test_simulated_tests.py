"""The marker `simulated`: pytest runs a test of an application under many seeds, whatever else runs async tests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import LLM, get_global_switch, set_global_switch
from llm_dispatcher.pytest_plugin import SimulatedSwitch
from llm_dispatcher.testing import Continuing, Cut, CutEach, HttpError, RealWorldError, Reply, Simulation
from tests.application.pytest_sessions import ALONE, AUTO, STRICT, session

TALE = "Once upon a time there was a fox."

WORKING = """
RUNS = []

@pytest.mark.simulated(seeds=20)
async def test_a_clock_of_asyncio_rings_in_virtual_time(simulated_switch):
    simulated_switch(openai=Reply(TALE, fault=Stall(after=3)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await story("a fox")
    assert 5 <= asyncio.get_running_loop().time() < 10
    RUNS.append(1)

def test_it_ran_once_for_each_seed():
    assert len(RUNS) == 20

@pytest.mark.simulated(seeds=20)
async def test_groups_and_threads_work(simulated_switch):
    vendors = simulated_switch(openai=Reply(TALE, fault=Cut(after=3)), anthropic=Continuing(TALE))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(story("a").text()) for _ in range(3)]
    assert [task.result() for task in tasks] == [TALE] * 3
    assert len(vendors["openai"].requests) == 3
    assert await asyncio.to_thread(lambda: 5) == 5

@pytest.mark.parametrize("word", ["a", "b"])
@pytest.mark.simulated(seeds=3)
async def test_parameters(simulated_switch, word):
    simulated_switch(openai=Reply(word))
    assert await story("a") == word

@pytest.mark.simulated(seeds=3)
class TestOfAClass:
    async def test_method(self, simulated_switch):
        simulated_switch(openai=Reply("x"))
        assert await story("a") == "x"

    @staticmethod
    async def test_static_method(simulated_switch):
        simulated_switch(openai=Reply("x"))
        assert await story("a") == "x"

POLICY = {
    "providers": {"openai": {"models": ["gpt-5-mini"]}, "anthropic": {"models": ["claude-sonnet-4-5"]}},
    "routing": {"default": {"targets": ["openai/gpt-5-mini", "anthropic/claude-sonnet-4-5"], "strategy": "cost"}},
    "budgets": {"daily": 5.0},
    "cache": {},
}

@pytest.mark.simulated(seeds=3)
async def test_a_policy_with_prices_budgets_and_a_cache(simulated_switch):
    vendors = simulated_switch(POLICY, openai=[Reply(fault=HttpError(429, retry_after=2)), Reply(TALE)])
    assert await story("foxes") == await story("foxes") == TALE
    assert 2 <= asyncio.get_running_loop().time() < 10
    assert len(vendors["openai"].requests) == 2 and vendors["anthropic"].requests == []
    switch = get_global_switch()
    assert switch.spent()["daily"] > 0
    await switch.aclose()

CALLED = []

def counting(function):
    @functools.wraps(function)
    async def wrapper(*args, **kwargs):
        CALLED.append(1)
        return await function(*args, **kwargs)
    return wrapper

@pytest.mark.simulated(seeds=3)
@counting
async def test_decorated():
    await asyncio.sleep(1)

def test_the_decorator_was_kept():
    assert len(CALLED) == 3

@pytest.mark.simulated
async def test_skips():
    pytest.skip("not here")

EXPECTED = []

@pytest.mark.simulated
async def test_expects_to_fail():
    EXPECTED.append(1)
    pytest.xfail("known")

def test_an_expected_failure_is_not_shrunk():
    assert len(EXPECTED) == 1

@pytest.mark.xfail(strict=True)
@pytest.mark.simulated
async def test_marked_to_fail():
    assert False

@pytest.mark.skip
@pytest.mark.simulated(seeds=0)
async def test_marked_to_be_skipped():
    assert False

@pytest.mark.simulated(seeds=3)
async def test_warnings():
    with pytest.warns(UserWarning):
        warnings.warn("hm")

SEEN = []

@pytest.mark.simulated(seeds=3)
async def test_the_log_of_each_run_begins_empty(simulated_switch, caplog):
    SEEN.append(set_global_switch(None))
    simulated_switch(openai=Reply(fault=HttpError(503)), anthropic=Reply("x"))
    assert await story("a") == "x"
    assert len(caplog.records) == 1

@pytest.mark.simulated(seeds=3)
async def test_the_output_of_each_run_begins_empty(simulated_switch, capsys):
    print("first")
    assert capsys.readouterr().out == "first\\n"
    print("second")

def test_the_switch_is_put_back_after_each_seed():
    assert SEEN == [None] * 3 and set_global_switch(None) is None
"""


@pytest.mark.parametrize(
    "options",
    [
        (*AUTO, "-W", "error"),
        pytest.param(STRICT, marks=pytest.mark.slow),
        pytest.param((*ALONE, "-W", "error"), marks=pytest.mark.slow),
        pytest.param(("-p", "no:asyncio", "-o", "anyio_mode=auto"), marks=pytest.mark.slow),
    ],
    ids=["pytest-asyncio auto", "pytest-asyncio strict", "no other plugin", "anyio"],
)
def test_a_simulated_test_runs_whatever_else_runs_async_tests(options: tuple[str, ...], tmp_path: Path) -> None:
    done = session(tmp_path, WORKING, *options)
    outcomes = {name.removesuffix("[asyncio]"): outcome for name, outcome in done.outcomes.items()}
    skipped = {"test_skips", "test_expects_to_fail", "test_marked_to_fail", "test_marked_to_be_skipped"}
    assert {name for name, outcome in outcomes.items() if outcome != "passed"} == skipped, done.output
    assert {outcomes[name] for name in skipped} == {"skipped"}
    assert len(outcomes) == 19
    assert done.code == 0


WRONG = """
@pytest.mark.simulated(seeds=0)
async def test_no_run(): ...

@pytest.mark.simulated(200)
async def test_position(): ...

@pytest.mark.simulated(seeeds=2)
async def test_name(): ...

@pytest.mark.simulated(seed="9999-3")
async def test_version(): ...

@pytest.mark.simulated(seed="x")
async def test_seed(): ...

@pytest.mark.simulated(seed=2.5)
async def test_type(): ...

@pytest.mark.simulated(seed="3", seeds=5)
async def test_both(): ...

@pytest.mark.simulated
def test_sync(): ...

from hypothesis import given, strategies

@pytest.mark.simulated
@given(strategies.integers())
async def test_given(number): ...

@pytest.fixture
async def connection():
    yield 5

@pytest.mark.simulated
async def test_async_fixture(connection): ...

class TestOld(unittest.TestCase):
    @pytest.mark.simulated
    def test_old(self): ...

@pytest.fixture
def vendors(simulated_switch):
    return simulated_switch(openai=Reply("x"))

@pytest.mark.simulated
async def test_switch_in_a_fixture(vendors): ...

@pytest.mark.simulated(seeds=2)
async def test_vendor(simulated_vendor):
    simulated_vendor("openai-chat")

@pytest.mark.simulated(seeds=2)
async def test_seed_inside(simulated_switch):
    simulated_switch(openai=Reply("x"), seed=5)

async def test_seed_in_a_plain_test(simulated_switch):
    simulated_switch(openai=Reply("x"), seed=5)

def test_provider_called_seed(simulated_switch):
    simulated_switch(openai=Reply("x"), seed=Reply("y"))
"""

REASONS = {
    "test_no_run": "@pytest.mark.simulated(seeds=0): seeds is a number of runs, 1 or more",
    "test_position": "@pytest.mark.simulated takes its arguments by name; write seeds=200",
    "test_name": "@pytest.mark.simulated has no argument 'seeeds'; it has seeds and seed",
    "test_version": "@pytest.mark.simulated(seed='9999-3'): the seed 9999-3 belongs to version 9999 of the simulation",
    "test_seed": "@pytest.mark.simulated(seed='x'): 'x' is not a seed; a seed looks like",
    "test_type": '@pytest.mark.simulated(seed=2.5): seed is a text, as in seed="1-48213"',
    "test_both": "takes seeds=, or seed= for one run only, and not both; remove one of them",
    "test_sync": "test_sync is not an `async def` function",
    "test_given": "test_given has @given and @pytest.mark.simulated, and both of them draw and shrink; remove @given",
    "test_async_fixture": "test_async_fixture uses the async fixture 'connection'",
    "TestOld::test_old": "test_old is a test of a unittest.TestCase",
    "test_switch_in_a_fixture": "called before the simulation began, as in a fixture; call it in the test itself",
    "test_vendor": "use simulated_switch in a simulated test",
    "test_seed_inside": "simulated_switch(seed=5): the running simulation has a seed; leave seed= out",
    "test_seed_in_a_plain_test": "mark the test with @pytest.mark.simulated, and leave seed= out",
    "test_provider_called_seed": "a provider that is called seed cannot have a script",
}


def test_what_cannot_be_simulated_is_refused_with_the_reason(tmp_path: Path) -> None:
    done = session(tmp_path, WRONG, *AUTO)
    assert done.reports.keys() == REASONS.keys(), done.output
    for name, reason in REASONS.items():
        report = done.reports[name]
        assert reason in report.text, name
        before_fixtures = name not in {
            name for name in REASONS if name.startswith(("test_vendor", "test_seed_", "test_pro"))
        }
        assert report.outcome == ("error" if before_fixtures else "failed"), name
        if name != "TestOld::test_old":
            assert "pytest_plugin" not in report.text, f"{name}: a user is not helped by lines of the plugin"


# ── without the marker ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plain_test_can_run_a_simulation_itself(simulated_switch: SimulatedSwitch) -> None:
    vendors = simulated_switch(seed=7, openai=Reply(TALE, fault=Cut(after=3)), anthropic=Continuing(TALE))

    async def main() -> str:
        return await LLM()("a fox")

    with Simulation(7) as simulation:
        assert simulation.run(main) == TALE
    assert [len(vendor.requests) for vendor in vendors.values()] == [1, 1]
    assert vendors["openai"].served[0].fault == "Cut"
    assert "vendor anthropic" in str(simulation.trace)


def test_a_switch_that_is_made_in_a_simulation_ends_with_it(simulated_switch: SimulatedSwitch) -> None:
    before = set_global_switch(None)
    try:

        async def main() -> str:
            simulated_switch(
                {
                    "providers": {
                        "openai": {"models": ["gpt-x"]},
                        "azure": {"models": ["m"], "base_url": "https://here.openai.azure.com"},
                    },
                    "routing": {"default": ["openai/gpt-x", "azure/m"]},
                    "resilience": {"max_retries": 0},
                },
                openai=Reply(fault=HttpError(503)),
            )
            switch = get_global_switch()
            assert [settings.kind for settings in switch.policy.providers.values()] == ["openai", "azure"]
            return await LLM()("hi")

        with Simulation(0) as simulation:
            assert simulation.run(main) == "Hello!"
            inside = get_global_switch()
        assert set_global_switch(None) is not inside
    finally:
        set_global_switch(before)


def test_vendors_of_a_simulation_answer_nowhere_else(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(seed=7, openai=Reply(TALE))
    with pytest.raises(RealWorldError, match=r"the vendor 'openai' answers in a simulation only.*Simulation\(seed\)"):
        LLM()("hi").result()


def test_a_seed_decides_everything(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(seed=7, openai=[Reply(TALE, fault=Cut(after=3)), "One."], anthropic=Continuing(TALE))

    async def main() -> tuple[str, str]:
        return await asyncio.gather(LLM()("a"), LLM()("b"))

    def run(seed: int) -> tuple[str, float]:
        simulated_switch(seed=seed, openai=[Reply(TALE, fault=Cut(after=3)), "One."], anthropic=Continuing(TALE))
        with Simulation(seed) as simulation:
            simulation.run(main)
            return simulation.digest, simulation.now

    runs = [run(seed) for seed in range(5)]
    assert runs == [run(seed) for seed in range(5)]
    digests, seconds = zip(*runs, strict=True)
    assert len(set(digests)) == 5
    assert len(set(seconds)) > 1, "the vendors draw how long they take"


@pytest.mark.parametrize(
    ("name", "entry", "reply", "rung"),
    [
        ("openai", {"options": {"background": True}}, Reply(TALE, fault=CutEach(events=2)), "reattached"),
        ("openai", {"resilience": {"durability": "reattachable"}}, Reply(TALE, fault=Cut(3)), "reattached"),
        ("openai", {}, [Reply(TALE, fault=Cut(3)), Continuing(TALE)], "anchored"),
        ("vllm", {"base_url": "http://gpu-1/v1"}, [Reply(TALE, fault=Cut(3)), Continuing(TALE)], "exact"),
        ("llamacpp", {}, [Reply(TALE, fault=Cut(3)), Continuing(TALE)], "prefill"),
    ],
)
def test_a_simulated_vendor_continues_an_answer_as_the_policy_has_it(
    name: str, entry: dict[str, Any], reply: Any, rung: str, simulated_switch: SimulatedSwitch
) -> None:
    simulated_switch({"providers": {name: {"models": ["m"], **entry}}}, seed=7, **{name: reply})

    async def main() -> tuple[str, str | None]:
        response = await LLM()("hi").collect()
        return response.text, response.attempts[-1].rung

    with Simulation(7) as simulation:
        assert simulation.run(main) == (TALE, rung)
