"""What pytest shows of a simulated test that fails, and how a seed replays it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from llm_dispatcher.testing._simulation.seeds import VERSION
from tests.application.pytest_sessions import ALONE, AUTO, Report, Session, session

FAILING = """
@pytest.mark.simulated(seeds=100)
async def test_order(simulated_switch, caplog):
    simulated_switch(openai=[Reply("one"), Reply(fault=HttpError(503))], anthropic=Reply("other"))
    print("this run")
    got = await asyncio.gather(story("a"), story("b"))
    assert got == ["one", "other"]

@pytest.mark.simulated
async def test_whatever_is_drawn():
    await asyncio.sleep(3)
    assert False, "always"

@pytest.mark.simulated
async def test_sleeps():
    time.sleep(1)

@pytest.mark.simulated
async def test_stuck():
    await asyncio.Event().wait()

@pytest.mark.simulated
async def test_lost_error():
    async def lost():
        raise ValueError("nobody sees this")
    task = asyncio.create_task(lost())
    await asyncio.sleep(1)
    del task

@pytest.mark.simulated
async def test_says_so():
    pytest.fail("I say so")

@pytest.mark.simulated
async def test_cancelled():
    asyncio.current_task().cancel()
    await asyncio.sleep(1)

@pytest.mark.simulated
async def test_exits():
    raise SystemExit(3)

@pytest.mark.simulated
async def test_a_task_exits():
    async def leave():
        raise SystemExit(4)
    await asyncio.create_task(leave())

@pytest.mark.simulated
async def test_script(simulated_switch):
    def answer(request):
        assert "cat" in request.text
        return Reply("x")
    simulated_switch(openai=answer, anthropic="b")
    await story("dog")

SEEN = []

@pytest.mark.simulated
async def test_not_repeatable():
    SEEN.append(1)
    assert len(SEEN) != 3

def test_a_loop_of_another_thread_is_running(simulated_switch):
    simulated_switch(ollama=Reply("x"))  # whose adapter has no SDK to load
    assert story("a").result().text == "x"

@pytest.mark.simulated(seeds=3)
async def test_reads_in_another_loop(simulated_switch):
    simulated_switch(openai=Reply("x"))
    await asyncio.to_thread(lambda: story("a").result())
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return session(tmp_path_factory.mktemp("failing"), FAILING, *AUTO)


def command_in(report: Report, place: int) -> str:
    """The option that replays a run, as the report says."""
    lines = [line for line in report.text.splitlines() if "--simulated-seed=" in line]
    return lines[place].rpartition("--simulated-seed=")[2].strip("' ")


def test_a_failure_shows_the_error_the_seed_the_choices_and_the_trace(failed: Session) -> None:
    report = failed.reports["test_order"]
    assert "assert ['other', 'one'] == ['one', 'other']" in report.text
    assert '>       assert got == ["one", "other"]' in report.text
    assert f"Seed {VERSION}-" in report.text
    assert "pytest test_story.py::test_order --simulated-seed=" in report.text
    assert "The shortest run that fails in the same way has the first" in report.text
    assert "order (" in report.text, "only the order of two tasks matters"
    assert "vendor" not in report.text
    title, trace = list(report.sections.items())[-1]
    assert title == f"Simulated run of seed {command_in(report, 1)}"
    for line in (
        "0.000 s  main                     begins",
        "begins: 'Tell a short story about a.'",
        "vendor openai            is asked for simulated",
        "vendor openai            sends 'one'",
        "shows 'one'",
        "vendor openai            fails: ProviderServiceUnavailableError: openai/simulated: ",
        "switch                   TargetGivenUp(openai/simulated, ",
        "StreamCompleted('other', Usage(9, 12, 'reported'), 'stop', 'end_turn')",
        "main                     ends with AssertionError: assert ['other', 'one'] == ['one', 'other']",
    ):
        assert line in trace, line
    assert report.sections["Captured stdout call"] == "this run\n", "only the run that is shown"
    assert report.sections["Captured log call"].count("gave up after") == 1


@pytest.mark.parametrize("place", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_printed_seed_replays_the_failure(failed: Session, place: int, tmp_path: Path) -> None:
    before = failed.reports["test_order"]
    seed = command_in(before, place)
    done = session(tmp_path, FAILING, *ALONE, f"--simulated-seed={seed}", "-k", "test_order")
    again = done.reports["test_order"]
    assert again.outcome == "failed"
    assert "pytest_plugin" not in again.text
    if place == 1:
        assert list(again.sections.items())[-1] == list(before.sections.items())[-1], "the same run, line by line"
        assert command_in(again, 0) == seed


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("test_whatever_is_drawn", ["AssertionError: always", "No choice matters: the test fails without any of them"]),
        ("test_sleeps", ["RealWorldError: a simulated program may not block its thread", "in test_sleeps"]),
        ("test_stuck", ["SimulationStuckError: nothing will ever happen", "main waits at ", "in test_stuck"]),
        ("test_lost_error", ["LeftProblemsError: ", "ValueError: nobody sees this"]),
        ("test_says_so", ["Failed: I say so", '>       pytest.fail("I say so")']),
        ("test_cancelled", ["CancelledError", ">       await asyncio.sleep(1)"]),
        ("test_exits", ["SystemExit: 3", ">       raise SystemExit(3)"]),
        ("test_a_task_exits", ["SystemExit: 4", ">       raise SystemExit(4)"]),
        ("test_script", ['>       assert "cat" in request.text', "assert 'cat' in 'Tell a short story about dog.'"]),
        ("test_not_repeatable", ["A second run of this seed did not fail in the same way"]),
        ("test_reads_in_another_loop", ["RealWorldError: the vendor 'openai' answers in a simulation only"]),
    ],
)  # fmt: skip
def test_each_kind_of_failure_names_its_cause_and_its_seed(failed: Session, name: str, parts: list[str]) -> None:
    report = failed.reports[name]
    assert report.outcome == "failed"
    for part in (*parts, f"Seed {VERSION}-", f"pytest test_story.py::{name} --simulated-seed={VERSION}-"):
        assert part in report.text
    assert "runtest" not in report.text, "a user is not helped by lines of plugins"


SEEDS = """
NUMBERS = []

@pytest.mark.simulated(seeds=3)
async def test_numbers():
    NUMBERS.append(random.random())

@pytest.mark.simulated(seed="7")
async def test_one():
    NUMBERS.append(random.random())

def test_show():
    print(NUMBERS)
"""


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        pytest.param([], [0, 1, 2, 7], marks=pytest.mark.slow),
        (["--simulated-first=5"], [5, 6, 7, 7]),
        pytest.param([f"--simulated-seed={VERSION}-3"], [3, 3], marks=pytest.mark.slow),
    ],
    ids=["by default", "from another seed on", "one seed"],
)
def test_the_seeds_are_the_same_in_each_session_and_can_begin_elsewhere(
    options: list[str], numbers: list[int], tmp_path: Path
) -> None:
    done = session(tmp_path, SEEDS, *ALONE, *options, "-rP")
    assert done.code == 0, done.output
    drawn = json.loads(done.reports["test_show"].sections["Captured stdout call"])
    assert drawn == [Random(number).random() for number in numbers]


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--simulated-seed=9999-1", "the seed 9999-1 belongs to version 9999 of the simulation"),
        pytest.param("--simulated-seed=one", "'one' is not a seed", marks=pytest.mark.slow),
        pytest.param(
            "--simulated-first=-1", "--simulated-first is the number of a seed: 0 or more", marks=pytest.mark.slow
        ),
    ],
)
def test_a_wrong_option_ends_the_session_with_the_reason(option: str, reason: str, tmp_path: Path) -> None:
    done = session(tmp_path, SEEDS, option)
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert reason in done.output
