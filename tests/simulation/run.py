"""Runs one seed: draws its scenario, lives through it in one process or several, and records it for the invariants.

A process is one `Simulation.run`. Its main task starts the readers and what else happens, each in a task of its own,
until the scenario ends or the process is killed. In the last process an epilogue follows: the vendors are healthy, all
cooldowns, limits and budgets are over, and each target that is enabled is asked twice by name.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import tempfile
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp  # noqa: F401 - the SDK of all simulated providers: what is loaded is not loaded in a thread

from llm_dispatcher import LLMSwitch, _catalog
from llm_dispatcher._policy import Policy
from llm_dispatcher._serving.runtime import Runtime
from llm_dispatcher.cache._english.lexicon import load_words
from llm_dispatcher.exceptions import ConfigurationError, LLMDispatcherError
from llm_dispatcher.notices import BudgetAlert, ConfigurationChanged, Notice, Notify
from llm_dispatcher.provider import Provider, ProviderSettings
from llm_dispatcher.streaming._observe import Observer
from llm_dispatcher.tasks import TaskRequest, TaskType
from llm_dispatcher.testing._runs import Background
from llm_dispatcher.testing._simulation.loop import SimulationStuckError
from llm_dispatcher.testing._simulation.seeds import Seed
from llm_dispatcher.testing._simulation.simulation import Simulation
from tests.simulation import inspection
from tests.simulation.answers import BIRDS, answer_to, question
from tests.simulation.drawing import draw
from tests.simulation.promises.kit import has_own_breakers
from tests.simulation.readers import Reader, Sessions, Watch, note_policy
from tests.simulation.record import Process, Reading, Run
from tests.simulation.scenario import VERSION, Happening, ReaderPlan, Scenario
from tests.simulation.vendors import VendorScript
from tests.simulation.witness import WitnessedProvider

_catalog.load_prices()  # these two take a third of a second, and the first run of a process would have another order
load_words()

CODE: Final = TaskType.CODE_GENERATION
MONTH: Final = 32 * 86_400.0
A_LONG_TIME: Final = 2 * 86_400.0
"""Virtual seconds until a target is asked in the epilogue. The longest wait that a vendor can ask for is a day, so no
bucket is empty after them, however slowly it fills.
"""
A_MOMENT: Final = 122.0
"""Virtual seconds until it is asked again. A bucket that fills in a minute is full again, even if its level was below
zero by all that it holds.
"""
PATIENCE: Final = 60.0
"""Virtual seconds that a cancelled reader has to end."""
SETTLING: Final = 5.0
"""Virtual seconds for the threads that write."""


@contextmanager
def lived_through(seed: Seed | int, scenario: Scenario | None = None, drawn: int = 0) -> Generator[Run, None, None]:
    """Run a seed, and give its record. After the block, the record is empty.

    Args:
        seed: The seed.
        scenario: A scenario that was kept, instead of the one that the seed draws.
        drawn: How many choices it took to draw that scenario.
    """
    seed = Seed(seed, version=VERSION) if isinstance(seed, int) else seed
    with _without_log(), Simulation(seed) as simulation:
        if scenario is None:
            scenario = draw(simulation.choices)
            drawn = simulation.choices.made
        else:
            for _ in range(drawn):
                simulation.choices.below(1, "skipped")
        run = _Runner(seed, scenario, simulation).run()
        run.drawn = drawn
        yield run
        # A killed process leaves coroutines that have not ended. They end when they are dropped, which has to happen
        # before the simulation is closed. Tracebacks hold their frames.
        for reading in run.readings:
            _forget_frames(reading.error)
        run.readings.clear()
        run.epilogue.clear()
        run.processes.clear()


class _Runner:
    """Lives through one scenario."""

    def __init__(self, seed: Seed, scenario: Scenario, simulation: Simulation) -> None:
        self.scenario = scenario
        self.simulation = simulation
        self.record = Run(str(seed), scenario, simulation)
        self.folder: Path | None = None
        self.readers: list[Reader] = []
        self.latest_wall = 0.0
        clocks = scenario.config["resilience"].get("timeouts", {})
        self.scripts = {
            plan.name: VendorScript(
                plan, simulation.choices, lambda: simulation.now, scenario.ends_at, clocks.get("idle", 20.0)
            )
            for plan in scenario.vendors
        }

    def run(self) -> Run:
        if self.scenario.needs_folder:
            self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
            self.simulation.trace.call(str(self.folder), "{folder}")
        try:
            kills = [each.at for each in self.scenario.happenings if each.kind == "kill"]
            for number, until in enumerate((*kills, None)):
                try:
                    self.simulation.run(lambda number=number, until=until: self._live(number, until), until=until)  # type: ignore[misc]
                except SimulationStuckError as error:
                    self.record.stuck = str(error)
                    break
                except Exception:
                    self.record.stuck = f"the main task of a process fails:\n{traceback.format_exc(limit=-4)}"
                    break
                finally:
                    self._end_process(was_killed=until is not None)
            for reader in self.readers:
                reader.finish()
        finally:
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
        return self.record

    def _end_process(self, *, was_killed: bool) -> None:
        if self.record.processes:
            process = self.record.processes[-1]
            process.was_killed = was_killed
            if was_killed:
                del process.switch  # nobody can ask a dead process
            else:
                process.left = list(self.simulation.left_over)
            self._read_files(process)
        self.record.stalled += self.simulation.loop.stalled

    def _read_files(self, process: Process) -> None:
        """Write down what the process has left on disk."""
        if self.folder is None:
            return
        self._give_back()
        if (path := self._spending_file) is not None:
            process.left_in_files = inspection.dollars_in_file(path)
        process.recordings = inspection.recordings_in_file(self.folder / "cache.db")

    @property
    def _spending_file(self) -> Path | None:
        has_one = "path" in self.scenario.config.get("budgets", {})
        return self.folder / "spending.db" if has_one and self.folder is not None else None

    # ── a process ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _live(self, number: int, killed_at: float | None) -> None:
        """The main task of a process."""
        loop = asyncio.get_running_loop()
        process = Process(number, loop.time(), None)  # type: ignore[arg-type]
        process.switch = self._switch(process)
        self.sessions = Sessions(None if self.folder is None else self.folder / "sessions.db")
        inspection.watch_releases(process.switch, process.released_in_excess.append)
        self.record.processes.append(process)
        if self._spending_file is not None:
            process.found_in_files = inspection.dollars_in_file(self._spending_file)
        process.policies.append((loop.time(), process.switch.policy))
        before = process.began_at if number else -1.0
        readers = [self._reader(plan, process) for plan in self.scenario.readers if plan.process == number]
        self.readers += readers
        self.record.readings += [reader.reading for reader in readers]
        tasks = [loop.create_task(reader.run(), name=reader.plan.name) for reader in readers]
        for happening in self.scenario.happenings:
            if happening.kind != "kill" and before < happening.at < (killed_at or self.scenario.ends_at):
                work = self._happen(happening, process)
                tasks.append(loop.create_task(work, name=f"{happening.kind} at {happening.at:.3f}"))
        if killed_at is not None:
            await loop.create_future()
        await self._until_over(tasks, readers)
        await asyncio.sleep(SETTLING)
        await self._take_stock(process)
        await self._epilogue(process)
        await process.switch.aclose()
        process.closed_at = loop.time()

    async def _until_over(self, tasks: list[asyncio.Task[None]], readers: list[Reader]) -> None:
        loop = asyncio.get_running_loop()
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, self.scenario.ends_at - loop.time()))
        for reader, task in zip(readers, tasks, strict=False):
            if not task.done():
                reader.reading.cancelled_at = reader.reading.ended_by_other = loop.time()
                task.cancel()
        if any(not task.done() for task in tasks):
            _, pending = await asyncio.wait(tasks, timeout=PATIENCE)
            if pending:
                names = ", ".join(task.get_name() for task in tasks if task in pending)
                self.record.stuck = f"still there {PATIENCE:g} s after they were cancelled: {names}"
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        await asyncio.sleep(max(0.0, self.scenario.ends_at - loop.time()))

    async def _take_stock(self, process: Process) -> None:
        for namespace in ("", "red", "blue"):
            process.spent[namespace] = await process.switch.aspent(namespace)
        for name in sorted({each.session for each in self.scenario.readers if each.session is not None}):
            process.sessions[name] = (await self.sessions.read(name)).messages
        process.health = process.switch.health()
        timers = [each for each in self.simulation.loop.left_over() if each.startswith("a timer")]
        process.held = inspection.held(process.switch) | ({"timers": timers} if timers else {})
        process.stock_at = self.simulation.now

    # ── what happens ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _happen(self, happening: Happening, process: Process) -> None:
        await asyncio.sleep(max(0.0, happening.at - self.simulation.now))
        self.simulation.note("the user", happening.kind)
        switch = process.switch
        match happening.kind:
            case "jump":
                self.latest_wall = max(self.latest_wall, self.simulation.source.wall())
                self.simulation.source.jump(happening.seconds)
            case "reload":
                self._reload(switch, happening)
            case "close":
                for reader in self.readers:
                    if reader.stream is not None and reader.reading.ended_at is None:
                        reader.reading.ended_by_other = self.simulation.now
                await switch.aclose()
            case "disk":
                await self._take_away(happening.seconds)
            case "warm":
                with suppress(ConfigurationError):  # the spending file cannot be read now
                    await switch.warm()
            case "look":
                await self._look(switch)
            case "kill":
                raise AssertionError("a kill is done from outside")

    async def _take_away(self, seconds: float) -> None:
        """Put a folder in the place of the spending file for a while."""
        path = self._spending_file
        if path is None or path.is_dir():
            return
        if path.exists():
            path.rename(_aside(path))
        path.mkdir()
        await asyncio.sleep(seconds)
        self._give_back()

    def _give_back(self) -> None:
        path = self._spending_file
        if path is not None and path.is_dir():
            path.rmdir()
            if _aside(path).exists():
                _aside(path).rename(path)

    def _reload(self, switch: LLMSwitch, happening: Happening) -> None:
        """Change the file. A switch that watches it notices that by itself; another one is told."""
        path = self._write(happening.config)
        if self.scenario.is_watched:
            return
        try:
            switch.reload(path)
        except ConfigurationError:
            self.simulation.note("the user", "is told that the file is wrong")

    async def _look(self, switch: LLMSwitch) -> None:
        switch.health()
        try:
            plan = await switch.aexplain(TaskRequest(question(1, 9)))
            self.simulation.note("the user", f"sees the plan {' '.join(map(str, plan.targets))}")
        except LLMDispatcherError as error:
            self.simulation.note("the user", f"sees {type(error).__name__}")
        with suppress(ConfigurationError):
            spent = await switch.aspent("red")
            self.simulation.note("the user", f"sees {spent['daily']:.6f} spent")

    # ── the epilogue ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _epilogue(self, process: Process) -> None:
        """Ask each enabled target when nothing stands in its way any more, and again when its limits are full again."""
        self.simulation.note("the user", "waits for better days")
        wall = self.simulation.source.wall()
        self.simulation.source.jump(max(0.0, self.latest_wall - wall))
        await self._ask(process, 0, None)  # a switch that watches its file looks at it now
        targets = enabled_targets(process.switch.policy)
        for number, model in enumerate(targets, 1):
            await self._ask(process, number, model)
            await self._ask(process, number, model, after=A_MOMENT)
        if has_own_breakers(process.switch.policy, CODE):
            for number, model in enumerate(targets, 1 + len(targets)):
                await self._ask(process, number, model, task=CODE)

    async def _ask(
        self, process: Process, number: int, model: str | None, after: float = A_LONG_TIME, task: str | None = None
    ) -> None:
        self.simulation.source.jump(MONTH)  # no budget is spent
        plan = ReaderPlan(
            name=f"epilogue {model or 'default'}",
            question=question(number % len(BIRDS), 5 + number),
            process=process.number,
            starts_at=self.simulation.now + after,
            request={"max_tokens": 200}
            | ({} if model is None else {"model": model})
            | ({} if task is None else {"task_type": task}),
            options={"timeout": 100.0, "cache": False, "on_break": "continue"},
        )
        reader = self._reader(plan, process)
        self.readers.append(reader)
        self.record.epilogue.append(reader.reading)
        await reader.run()

    # ── making things ──────────────────────────────────────────────────────────────────────────────────────────────

    def _reader(self, plan: ReaderPlan, process: Process) -> Reader:
        reading = Reading(plan.name, plan.question, answer_to(plan.question)[plan.open_turn :], plan, process.number)
        return Reader(plan, reading, process.switch, self.simulation.choices, self.sessions, self.simulation.note)

    def _switch(self, process: Process) -> LLMSwitch:
        scripts, plans = self.scripts, {plan.name: plan for plan in self.scenario.vendors}

        class SimulatedSwitch(LLMSwitch):
            @staticmethod
            def _make_provider(settings: ProviderSettings, notify: Notify) -> Provider:
                script, plan = scripts[settings.name], plans[settings.name]
                is_anthropic = settings.kind == "anthropic"  # which has neither runs nor token ids
                keeps_runs = plan.keeps_runs and settings.durability == "reattachable" and not is_anthropic
                provider = WitnessedProvider(
                    settings,
                    partial(script, keeps_run=keeps_runs),
                    trouble=script.trouble,
                    latency=script.latency,
                    refuses_prefill=plan.refuses_prefill,
                    background=Background(stream_for=plan.keeps_for) if keeps_runs else None,
                    token_ids="words" if plan.token_ids and not is_anthropic else None,
                    refuses_tokens=plan.refuses_tokens,
                )
                process.vendors.setdefault(settings.name, []).append(provider)
                return provider

            async def _runtime_now(self) -> Runtime:
                runtime = await super()._runtime_now()
                note_policy(runtime.policy)
                return runtime

        config: Any = self._config(self.scenario.config)
        return SimulatedSwitch(
            self._write(self.scenario.config) if self.scenario.is_watched else config,
            watch=self.scenario.is_watched,
            observers=(_Notices(process, self.simulation), Watch()),
            on_budget_alert=_alert if self.scenario.raises_on_alert else None,
        )

    def _config(self, config: dict[str, Any]) -> dict[str, Any]:
        if self.folder is None:
            return config
        filled: dict[str, Any] = json.loads(json.dumps(config).replace("{folder}", str(self.folder)))
        return filled

    def _write(self, config: dict[str, Any] | None) -> Path:
        """Write the file of the configuration, or a wrong one."""
        assert self.folder is not None
        path = self.folder / "llm_dispatcher.yaml"
        text = "providers: [this is wrong" if config is None else json.dumps(self._config(config))  # JSON is YAML
        path.write_text(text, "utf-8")
        return path


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.aside")


def _alert(alert: BudgetAlert) -> None:
    raise ValueError("the callback for budgets fails on purpose")


class _Notices(Observer):
    """Records the notices of a process, and shows them in the trace."""

    def __init__(self, process: Process, simulation: Simulation) -> None:
        self._process = process
        self._simulation = simulation

    def notice(self, notice: Notice) -> None:
        self._process.notices.append((self._simulation.now, notice))
        if isinstance(notice, ConfigurationChanged):
            self._process.policies.append((self._simulation.now, self._process.switch.policy))
        target, failure = getattr(notice, "target", None), getattr(notice, "failure", None)
        about = [str(each) for each in (target, getattr(failure, "kind", None), getattr(notice, "state", None)) if each]
        self._simulation.note("the switch", " ".join([type(notice).__name__, *about]))


@contextmanager
def _without_log() -> Generator[None, None, None]:
    """Write no log. pytest would keep its records, and with them the frames of a process that was killed."""
    logger = logging.getLogger("llm_dispatcher")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error and of its causes."""
    if error is not None:
        error.__traceback__ = None
        _forget_frames(error.__cause__)
        _forget_frames(error.__context__)


def enabled_targets(policy: Policy) -> list[str]:
    """Every target of a policy that may be asked."""
    return [
        f"{name}/{model}"
        for name, settings in policy.providers.items()
        for model in settings.models
        if settings.is_enabled(model)
    ]
