"""The simulated loop: its order, its time, its threads, what it refuses, and that a seed gives the same run again."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest

from llm_dispatcher import LLMSwitch, TaskRequest, _clock
from llm_dispatcher.exceptions import EventLoopRunningError
from llm_dispatcher.testing import Choices, RealWorldError, Seed, Simulation, SimulationStuckError, simulate
from llm_dispatcher.testing._simulation import steps
from llm_dispatcher.testing._simulation.seeds import VERSION
from llm_dispatcher.testing._simulation.simulate import failure_of

Main = Callable[[], Coroutine[Any, Any, Any]]
SEEDS = range(60)


def results(main: Main) -> list[Any]:
    """What a program returns under each of some seeds."""
    return [Simulation(seed).run(main) for seed in SEEDS]


# ── order ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def two_workers() -> str:
    done: list[str] = []

    async def worker(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            done.append(name)

    await asyncio.gather(worker("a"), worker("b"))
    return "".join(done)


def test_the_order_of_ready_tasks_comes_from_the_seed() -> None:
    orders = results(two_workers)
    assert len(set(orders)) > 10
    assert orders == results(two_workers)


async def callbacks_of_one_task() -> list[int]:
    loop, done = asyncio.get_running_loop(), list[int]()
    others = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
    for number in range(5):
        loop.call_soon(done.append, number)
    await asyncio.sleep(0)
    done.append(5)
    await asyncio.gather(*others)
    return done


def test_the_callbacks_of_one_task_stay_in_order() -> None:
    assert results(callbacks_of_one_task) == [[0, 1, 2, 3, 4, 5] for _ in SEEDS]


async def two_timers() -> str:
    done: list[str] = []
    loop = asyncio.get_running_loop()
    loop.call_later(1.0, done.append, "a")
    loop.call_later(1.0, done.append, "b")
    loop.call_later(0.5, done.append, "c")
    loop.call_later(0.7, done.append, "never").cancel()
    await asyncio.sleep(2.0)
    return "".join(done)


def test_timers_of_one_moment_fire_in_any_order_and_others_in_theirs() -> None:
    assert set(results(two_timers)) == {"cab", "cba"}


async def first_of_a_set() -> str:
    tasks = {asyncio.create_task(asyncio.sleep(0), name=f"t{number}") for number in range(20)}
    done, _ = await asyncio.wait(tasks)
    return ",".join(task.get_name() for task in done)


def test_a_set_of_tasks_has_one_order() -> None:
    assert Simulation(3).run(first_of_a_set) == Simulation(3).run(first_of_a_set)


# ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def a_long_wait() -> float:
    started = asyncio.get_running_loop().time()
    await asyncio.sleep(1_000_000)
    return asyncio.get_running_loop().time() - started


def test_a_million_seconds_take_no_time_and_the_packages_clocks_agree() -> None:
    with Simulation(0) as simulation:

        async def main() -> tuple[float, float, float]:
            wall, monotonic = _clock.wall(), _clock.monotonic()
            waited = await a_long_wait()
            simulation.source.jump(-3600)
            return waited, _clock.wall() - wall, _clock.monotonic() - monotonic

        assert simulation.run(main) == pytest.approx((1_000_000, 1_000_000 - 3600, 1_000_000))
        assert simulation.now >= 1_000_000


def test_coroutines_are_started_in_the_order_in_which_asyncio_gets_them() -> None:
    """asyncio makes a set of them, and their hashes are their addresses."""

    async def worker(number: int) -> int:
        return number

    async def main() -> list[int]:
        held.append([worker(0) for _ in range(len(held))])  # so that those below have other addresses in each run
        found = [await each for each in asyncio.as_completed([worker(number) for number in range(30)])]
        done, waiting = await asyncio.wait([asyncio.create_task(worker(number)) for number in found])
        assert (len(done), waiting) == (30, set())
        return found

    held: list[list[Coroutine[Any, Any, int]]] = []
    assert len({tuple(Simulation(7).run(main) or ()) for _ in range(10)}) == 1
    assert "set" not in vars(asyncio.tasks)
    for coroutine in (each for some in held for each in some):
        coroutine.close()


def test_a_busy_loop_makes_timers_and_callbacks_ready_together() -> None:
    async def main() -> bool:
        woken = asyncio.Event()
        asyncio.get_running_loop().call_later(0.002, woken.set)
        for _ in range(200):
            await asyncio.sleep(0)  # without a stall, no time passes here
        return woken.is_set()

    assert {True, False} == set(results(main))


def test_a_run_in_which_nothing_can_happen_any_more_names_who_waits() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(SimulationStuckError, match=r"nothing will ever happen again\n  main waits at .*, in main"):
        Simulation(0).run(main)


def test_a_run_that_never_waits_is_ended() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(SimulationStuckError, match="without any time passing"):
        Simulation(0).run(main)


def test_a_run_that_never_ends_although_time_passes_names_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MOST", 5_000)

    async def beat() -> None:
        while True:
            await asyncio.sleep(5)

    async def main() -> None:
        heart = asyncio.create_task(beat(), name="heart")
        await asyncio.Event().wait()
        heart.cancel()

    with (
        Simulation(0) as simulation,
        pytest.raises(SimulationStuckError, match=r"5000 callbacks .* not ended\n  main waits at .*\n  heart waits at"),
    ):
        simulation.run(main)
    assert not simulation.problems, "its tasks are cancelled all the same"


def test_a_task_that_cannot_be_cancelled_is_a_problem_and_not_an_endless_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MOST", 5_000)

    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(5)

    async def main() -> None:
        asyncio.create_task(stubborn(), name="stubborn")  # noqa: RUF006 - it lives on by its timer
        await asyncio.sleep(1)

    with Simulation(0) as simulation:
        simulation.run(main)
    assert "the program cannot be ended: 5000 callbacks have run" in simulation.problems[0]
    assert "stubborn waits at" in simulation.problems[0]


# ── threads ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def threads() -> list[Any]:
    done: list[Any] = []

    def work(what: str) -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()  # a thread has none
        done.append(what)
        return what

    with ThreadPoolExecutor(1) as pool:
        loop = asyncio.get_running_loop()
        first, second = loop.run_in_executor(pool, work, "first"), pool.submit(work, "second")
        other = asyncio.create_task(asyncio.to_thread(work, "other"))
        assert second.result() == "second"  # who blocks for the second waits for the first as well
        await asyncio.gather(first, other)
        pool.submit(work, "last")
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(work, "too late")
    return done


def test_executors_run_their_work_in_the_loop_and_a_pool_of_one_in_order() -> None:
    orders = results(threads)
    assert all(order.index("first") < order.index("second") < order.index("last") for order in orders)
    assert all(sorted(order) == ["first", "last", "other", "second"] for order in orders)
    assert threading.active_count() == 1 or not any("ThreadPool" in each.name for each in threading.enumerate())


def test_the_error_of_a_thread_is_raised_where_it_is_awaited() -> None:
    async def main() -> None:
        await asyncio.to_thread(int, "no number")

    with pytest.raises(ValueError, match="no number"):
        Simulation(0).run(main)


@pytest.mark.parametrize("is_abandoned", [False, True])
def test_threads_of_anyio_do_their_work_in_the_loop(is_abandoned: bool) -> None:
    place: ContextVar[str] = ContextVar("place")

    async def main() -> tuple[list[str], bool]:
        done: list[str] = []
        place.set("here")

        def work(what: str) -> None:
            done.append(f"{what} {place.get()}")

        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, work, "a")
            group.start_soon(anyio.to_thread.run_sync, work, "b")
        with anyio.move_on_after(0.1) as scope:
            await anyio.to_thread.run_sync(work, "c", abandon_on_cancel=is_abandoned)
        return done, scope.cancelled_caught

    seen = results(main)
    assert {tuple(done[:2]) for done, _ in seen} == {("a here", "b here"), ("b here", "a here")}
    assert all(done[2:] == ([] if is_late and is_abandoned else ["c here"]) for done, is_late in seen)
    assert {is_late for _, is_late in seen} >= ({True, False} if is_abandoned else {False})


# ── what is real is refused ────────────────────────────────────────────────────────────────────────────────────────


def touch_thread() -> None:
    threading.Thread(target=print).start()


def touch_signals() -> None:
    asyncio.get_running_loop().add_signal_handler(2, print)


async def touch_loop() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


@pytest.mark.parametrize(
    ("touch", "words"),
    [
        (lambda: time.sleep(1), "block its thread"), (socket.socket, "open a socket"),
        (lambda: socket.getaddrinfo("localhost", 80), "look up a host"), (touch_thread, "start a thread"),
        (lambda: subprocess.run(["true"], check=False), "start a process"),
        (lambda: _clock.sleep(1), "block its thread"), (lambda: threading.Event().wait(), "wait for another thread"),
        (lambda: queue.Queue().get(), "wait for another thread"), (touch_signals, "add_signal_handler"),
    ],
)  # fmt: skip
def test_something_real_is_refused_with_its_place(touch: Callable[[], object], words: str) -> None:
    async def main() -> None:
        touch()

    with pytest.raises(RealWorldError, match=rf"(?s){words}.*\n  at {__file__}:\d+, in "):
        Simulation(0).run(main)
    touch_again = socket.socket()
    touch_again.close()  # afterwards nothing is refused


def test_a_connection_is_refused_with_its_place() -> None:
    with pytest.raises(RealWorldError, match=rf"create_connection\(\)\n  at {__file__}:\d+, in touch_loop"):
        Simulation(0).run(touch_loop)


def test_a_connection_of_a_real_provider_is_refused_with_the_place() -> None:
    switch = LLMSwitch({"providers": {"ollama": {"models": ["m"]}}})

    async def main() -> None:
        async with switch:
            await switch.stream_request(TaskRequest("Hello?"))

    with pytest.raises(RealWorldError, match=r"may not .*getaddrinfo\(\)\n  at .*\.py:\d+, in "):
        Simulation(0).run(main)


def test_other_threads_are_not_in_the_simulation() -> None:
    opened: list[socket.socket] = []
    go, gone = threading.Event(), threading.Event()

    def open_one() -> None:
        go.wait()
        opened.append(socket.socket())
        gone.set()

    thread = threading.Thread(target=open_one)
    thread.start()

    async def main() -> None:
        go.set()
        while not gone.is_set():
            pass

    Simulation(0).run(main)
    thread.join()
    assert opened
    opened[0].close()


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_killed_process_runs_nothing_more_and_the_next_one_goes_on_in_time() -> None:
    happened: list[str] = []

    async def first() -> None:
        try:
            asyncio.get_running_loop().run_in_executor(None, happened.append, "thread")
            await asyncio.sleep(100)
        finally:
            happened.append("finally")

    async def second() -> float:
        assert happened in ([], ["thread"])
        return asyncio.get_running_loop().time()

    with Simulation(1) as simulation:
        assert simulation.run(first, until=50.0) is None
        assert simulation.run(second) == pytest.approx(50.0, abs=1.0)
        assert simulation.problems == []


def test_a_program_that_ends_before_it_would_be_killed_returns_its_result() -> None:
    assert Simulation(0).run(two_timers, until=50.0) in ("cab", "cba")


async def leave_a_task() -> None:
    task = asyncio.create_task(asyncio.sleep(100), name="forgotten")
    asyncio.get_running_loop().call_later(50, print)
    await asyncio.sleep(0)
    assert not task.done()


def test_what_is_left_at_the_end_is_named_and_cancelled() -> None:
    with Simulation(0) as simulation:
        simulation.run(leave_a_task)
        left = "\n".join(simulation.left_over)
    assert "forgotten: " in left and "a timer: <TimerHandle" in left


def test_an_exception_that_nobody_retrieves_is_a_problem() -> None:
    async def fail() -> None:
        raise ValueError("lost")

    async def main() -> None:
        tasks = [asyncio.create_task(fail())]
        tasks.clear()
        asyncio.get_running_loop().call_soon(int, "no number")
        await asyncio.sleep(1)

    with Simulation(0) as simulation:
        simulation.run(main)
        problems = "\n".join(simulation.problems)
    assert "ValueError: lost" in problems and "no number" in problems


def test_a_generator_that_is_dropped_is_closed_in_the_loop() -> None:
    closed: list[str] = []

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0.1)
            closed.append("closed")

    async def main() -> None:
        async for _ in numbers():
            break
        await asyncio.sleep(1)

    Simulation(0).run(main)
    assert closed == ["closed"]


def test_one_simulation_runs_at_a_time() -> None:
    async def main() -> None:
        Simulation(1).run(two_workers)

    with pytest.raises(RuntimeError, match="only one can run at a time"):
        Simulation(0).run(main)


async def test_a_simulation_is_refused_in_a_running_loop_and_runs_in_a_thread() -> None:
    with pytest.raises(EventLoopRunningError, match="call it from synchronous code"):
        Simulation(0).run(two_workers)
    first, second = [await asyncio.to_thread(Simulation(5).run, two_workers) for _ in range(2)]
    assert first == second is not None


# ── a seed replays the run ─────────────────────────────────────────────────────────────────────────────────────────


async def everything() -> None:
    """A program that depends on the order, on the time, on threads, on chance, and on the order of a set."""
    _clock.hex_id(8)
    names = {asyncio.create_task(two_workers()) for _ in range(5)}
    for task in names:
        await task
    for delay in (random.random(), _clock.uniform(0, 3)):
        await asyncio.sleep(delay)
    await asyncio.gather(*(asyncio.to_thread(sum, (1, 2)) for _ in range(3)))


def digest(seed: int) -> str:
    with Simulation(seed) as simulation:
        simulation.run(everything)
        return simulation.digest


def test_two_runs_of_a_seed_have_one_digest_also_in_another_process() -> None:
    here = [digest(seed) for seed in range(5)]
    assert here == [digest(seed) for seed in range(5)]
    assert len(set(here)) == 5
    code = "from tests.testing.test_simulation import digest; print(*[digest(seed) for seed in range(5)])"
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.split() == here


def test_dropping_a_choice_does_not_shift_the_others() -> None:
    def drawn(choices: Choices) -> list[int]:
        return [choices.below(1000, stream) for stream in "aabab"]

    whole = drawn(Choices(7))
    assert all(whole)
    assert drawn(Choices(7, without=[1])) == [whole[0], 0, *whole[2:]]
    assert drawn(Choices(7, limit=3)) == [*whole[:3], 0, 0]


def test_a_seed_is_a_text_and_one_of_another_version_is_refused() -> None:
    seed = Seed(48213, 312, (4, 7, 8, 9))
    assert str(seed) == "1-48213:312!4,7-9"
    assert Seed.parse(str(seed)) == seed
    assert Seed.parse("12") == Seed(12)
    with pytest.raises(ValueError, match="the seed 2-5 belongs to version 2 of the simulation, and this is version 1"):
        Seed.parse("2-5")
    for wrong in ("", "x", "1-", "1-2:", "1-2:3!", "1-2:3!-4"):
        with pytest.raises(ValueError, match="is not"):
            Seed.parse(wrong)


# ── failures are shrunk ────────────────────────────────────────────────────────────────────────────────────────────


async def an_account() -> None:
    """Two withdrawals that are correct unless the second one reads the balance before the first one has written it."""
    balance = 100

    async def withdraw(amount: int, pause: float) -> None:
        nonlocal balance
        await asyncio.sleep(pause)
        before = balance
        if before >= amount:
            await asyncio.sleep(0)
            balance = before - amount

    async def unrelated() -> None:
        for _ in range(10):
            await asyncio.sleep(0.01)

    await asyncio.gather(withdraw(60, 0.0), withdraw(50, 0.0), *(unrelated() for _ in range(4)))
    assert balance == 40, balance


def test_a_failure_prints_its_seed_the_shortest_run_and_a_trace() -> None:
    with pytest.raises(AssertionError) as failure:
        simulate(an_account)
    (report,) = failure.value.__notes__
    words = report.split()
    replays = [word.removeprefix('seed="').removesuffix('")') for word in words if word.startswith('seed="')]
    assert "withdraw" in report and " s  main" in report
    assert len(replays) == 2
    for replay in replays:
        with pytest.raises(AssertionError):
            simulate(an_account, seed=replay)
    seed, shortest = map(Seed.parse, replays)
    assert shortest.limit is not None and shortest.number == seed.number
    simulate(an_account, seed=str(Seed(seed.number, limit=0)))  # with plain choices only, it does not fail


def test_a_task_has_the_name_in_the_trace_that_its_group_gives_it_or_that_of_its_function() -> None:
    async def main() -> None:
        async def nap() -> None:
            await asyncio.sleep(2)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(1), name="the sleeper")
            tasks.create_task(nap())

    with Simulation(0) as simulation:
        simulation.run(main)
        lines = [(line.who, line.what) for line in simulation.trace.lines]
    names = ("main", "the sleeper", "nap 3", "the sleeper", "nap 3", "main")
    assert [who for who, _ in lines] == list(names), "without a name it is that of the function"
    assert [what for _, what in lines] == ["begins"] * 3 + ["ends"] * 3


def test_a_program_without_a_fault_passes_every_seed() -> None:
    simulate(functools.partial(asyncio.sleep, 1.0), seeds=20, first=1000)


def test_an_error_that_nobody_handled_fails_the_seed() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(int, "no number")
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="errors that no code handled"):
        simulate(main, seeds=1)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError("by nobody"), pytest.fail.Exception("so")])
def test_what_is_no_exception_fails_a_seed_as_well(error: BaseException) -> None:
    async def leave() -> None:
        raise error

    async def main() -> None:
        await asyncio.create_task(leave())

    with pytest.raises(type(error)) as failure:
        simulate(main)
    assert failure.value.__notes__[0].startswith(f"Seed {VERSION}-0 fails.")


def test_a_keyboard_interrupt_ends_all_runs() -> None:
    started: list[int] = []

    async def main() -> None:
        started.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as interrupt:
        simulate(main)
    assert len(started) == 1
    assert not hasattr(interrupt.value, "__notes__")


async def fail(error: Exception) -> None:
    raise error


async def fail_in_a_group(error: Exception) -> None:
    raise ExceptionGroup("several", [error])


async def leave(error: Exception) -> None:
    def fail_later() -> None:
        raise error

    asyncio.get_running_loop().call_soon(fail_later)
    await asyncio.sleep(1)


async def refer(place: str) -> None:
    """Raises in a library, because of one of two lines of the program."""
    if place == "here":
        json.loads("")
    else:
        json.loads("")


async def wait(place: str) -> None:
    if place == "here":
        await asyncio.Event().wait()
    else:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("rare", "usual"),
    [
        (partial(fail, KeyError("a")), partial(fail, ValueError("b"))),
        (partial(fail_in_a_group, KeyError("a")), partial(fail_in_a_group, ValueError("b"))),
        (partial(leave, KeyError("a")), partial(leave, ValueError("b"))),
        (partial(refer, "here"), partial(refer, "there")),
        (partial(wait, "here"), partial(wait, "there")),
    ],
    ids=["kind", "in a group", "left over", "line of the program", "stuck"],
)  # fmt: skip
def test_shrinking_ends_at_no_other_failure(rare: Main, usual: Main) -> None:
    ran: list[str] = []

    async def run(name: str) -> None:
        ran.append(name)

    async def main() -> None:
        ran.clear()
        await asyncio.wait([asyncio.create_task(run(name)) for name in "ab"])
        await (rare if ran == ["b", "a"] else usual)()

    orders = []
    for number in range(10):
        failure = failure_of(Seed(number), main)
        assert failure is not None
        orders.append(list(ran))
        assert failure_of(failure.shrunk, main) is not None
        assert ran == orders[-1]
        with contextlib.suppress(Exception), Simulation(number) as simulation:
            simulation.run(main)
        assert ran == orders[-1], "the shrunk run took the same way as the first one"
    assert ["b", "a"] in orders


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (
            lambda: cast(Any, simulate)(asyncio.sleep(0)),
            "runs a coroutine function, got a coroutine; pass the function itself",
        ),
        (lambda: cast(Any, Simulation(0).run)(asyncio.sleep(0)), "runs a coroutine function, got a coroutine"),
        (lambda: cast(Any, simulate)(print), "this function returned a NoneType; define it with `async def`"),
        (lambda: simulate(an_account, seeds=0), "seeds is a number of runs, 1 or more"),
        (lambda: simulate(an_account, seed=-1), "'-1' is not a seed"),
        (lambda: Simulation("one"), "'one' is not a seed"),
        (lambda: Simulation("2-1"), "belongs to version 2 of the simulation"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited")
def test_what_cannot_be_run_is_refused_with_the_reason(run: Callable[[], object], reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        run()


def test_a_simulation_takes_the_seed_of_a_report() -> None:
    assert Simulation("1-5:7!0-4").seed == Seed(5, 7, (0, 1, 2, 3, 4))
    simulate(functools.partial(asyncio.sleep, 1.0), seed=5)


def factory_of_tasks(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coro, loop=loop, **more)


@pytest.mark.parametrize("factory", [factory_of_tasks, getattr(asyncio, "eager_task_factory", factory_of_tasks)])
def test_tasks_of_a_factory_keep_their_names_and_are_ended(factory: Any) -> None:
    left: list[str] = []

    async def wait_long(name: str) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            left.append(name)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        kept = [asyncio.create_task(wait_long(name), name=name) for name in ("a", "b")]
        kept.append(asyncio.Task(wait_long("c"), name="c"))  # as libraries do, for which no factory is asked
        await asyncio.sleep(1)
        assert {task.get_name() for task in kept} <= {task.get_name() for task in asyncio.all_tasks()}

    with Simulation(0) as simulation:
        simulation.run(main)
    assert [line.split(":")[0] for line in simulation.left_over if "timer" not in line] == ["a", "b", "c"]
    assert sorted(left) == ["a", "b", "c"]
    assert not simulation.problems
