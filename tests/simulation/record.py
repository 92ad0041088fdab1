"""What a run leaves for the invariants: `Run`, and a `Reading` for each reader.

The runner and the readers fill these in while the run is under way. The invariants only read them, when it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from llm_dispatcher import LLMSwitch
from llm_dispatcher._policy import Policy
from llm_dispatcher._routing import TargetHealth
from llm_dispatcher.cache import Entry
from llm_dispatcher.events import Event, TaskResponse
from llm_dispatcher.notices import Notice, Period
from llm_dispatcher.provider import Piece, ProviderSettings
from llm_dispatcher.tasks import Message, Target, TaskRequest
from llm_dispatcher.testing._simulation.kept_runs import ScriptedRun
from llm_dispatcher.testing._simulation.simulation import Simulation
from tests.simulation.scenario import ReaderPlan, Scenario

Outcome: TypeAlias = Literal["open", "completed", "failed", "left", "cancelled"]


class Served(Protocol):
    """What one attempt really got from a vendor: `testing._simulation.provider.Served`."""

    @property
    def target(self) -> Target: ...
    @property
    def request(self) -> TaskRequest: ...
    @property
    def asked_at(self) -> float: ...
    @property
    def ended_at(self) -> float | None: ...
    @property
    def pieces(self) -> list[Piece]: ...
    @property
    def finished(self) -> bool: ...
    @property
    def silence(self) -> float: ...
    @property
    def waits(self) -> list[float]: ...
    @property
    def fault(self) -> str: ...
    @property
    def run(self) -> ScriptedRun | None: ...
    @property
    def reads_on(self) -> bool: ...


class Vendor(Protocol):
    """A simulated provider, as the invariants read it."""

    @property
    def settings(self) -> ProviderSettings: ...
    @property
    def served(self) -> Sequence[Served]: ...
    @property
    def asked_by(self) -> Sequence[Reading | None]:
        """Whose each of these requests is: `witness.WitnessedProvider`."""
        ...

    @property
    def asked_in_order(self) -> Sequence[int]:
        """The place of each of these requests among those to all vendors."""
        ...

    @property
    def script_error(self) -> Exception | None: ...
    @property
    def with_tokens(self) -> set[int]:
        """The `id` of each `Served` whose request had token ids."""
        ...

    @property
    def runs(self) -> Sequence[ScriptedRun]: ...
    @property
    def released_at(self) -> Sequence[float]: ...


@dataclass(eq=False)
class ToolRun:
    """One run of a reader's tool: its argument, when it began, and when it ended, if it did. `returned` is what it has
    returned; `None` if it raised or was stopped.
    """

    argument: object
    began_at: float
    ended_at: float | None = None
    returned: str | None = None


@dataclass(eq=False)
class Reading:
    """What one reader asked, got and saw. Times are virtual seconds since the run began.

    Attributes:
        name: The reader's name in the trace.
        question: What it asked.
        truth: The whole answer that honest vendors give to this question.
        plan: The plan of the reader.
        process: The number of the process that it was in.
        began_at: When it first asked the stream for something.
        ended_at: When it was over, or `None` if the process was killed before.
        last_asked_at: When it last asked the stream for something.
        outcome: How it ended. `open`: the process was killed, or it never ended.
        error: The exception that it got, or the one behind its `StreamFailed`.
        text: The text that it has got, since the last reset. It is empty if it awaited the whole answer and got none.
        events: The events that a reader of events has got.
        watched: Everything that an observer of its stream saw, also of a reader of text.
        response: `stream.response` at the end of the run, when late rows of its ledger are there as well.
        callbacks: The names of its callbacks in the order of their calls.
        progress: The progress at each item that it got.
        policy: The policy of its stream; `None` if it never began.
        total: The seconds of the `total` clock that is in force for its call.
        cancelled_at: When it was cancelled, by another task or in a step of its own. It was still reading then.
        cancellations: How many cancellations of its task were not taken back at its end.
        tool_runs: Each run of its tool, in the order in which they began.
        ended_by_other: When another task closed its stream or cancelled it, or the switch was closed meanwhile.
    """

    name: str
    question: str
    truth: str
    plan: ReaderPlan
    process: int = 0
    began_at: float = 0.0
    ended_at: float | None = None
    last_asked_at: float = 0.0
    outcome: Outcome = "open"
    error: BaseException | None = None
    text: str = ""
    events: list[Event] = field(default_factory=list)
    watched: list[Event] = field(default_factory=list)
    response: TaskResponse | None = None
    callbacks: list[str] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    policy: Policy | None = None
    total: float | None = None
    cancelled_at: float | None = None
    cancellations: int = 0
    ended_by_other: float | None = None
    tool_runs: list[ToolRun] = field(default_factory=list)


@dataclass(eq=False)
class Process:
    """One process of a run. A killed one has no `switch`, `spent`, `health` and `left`.

    Attributes:
        number: It counts from 0.
        switch: Its switch.
        vendors: Every simulated provider that was made in it, by name.
        notices: The notices of its switch, with their times.
        policies: The policies that were in force, with the time from which on.
        closed_at: When its switch was closed, for the last time.
        was_killed: Whether it was killed.
        spent: US dollars by namespace ("" is all of them), before it was closed.
        health: The health of its targets, before it was closed.
        stock_at: When the scenario was over and all its readers had ended. The epilogue comes after that: the wall
            clock jumps to other months in it, so that no budget is spent.
        held: What the streams of its switch held at `stock_at`, when all readers had ended (`inspection.held`).
        released_in_excess: Each release of more money than was reserved.
        left: The tasks and timers that were left after it was closed.
        found_in_files: What its spending file held when it began, by namespace and by day or month.
        left_in_files: What its spending file held at its end; `None` if it has none.
        sessions: The messages of each stored session when all its readers had ended, read from the file.
        recordings: The entries in the file of its cache at its end, with their recordings.
    """

    number: int
    began_at: float
    switch: LLMSwitch
    vendors: dict[str, list[Vendor]] = field(default_factory=dict)
    notices: list[tuple[float, Notice]] = field(default_factory=list)
    policies: list[tuple[float, Policy]] = field(default_factory=list)
    closed_at: float | None = None
    was_killed: bool = False
    spent: dict[str, dict[Period, float]] = field(default_factory=dict)
    health: dict[Target, TargetHealth] = field(default_factory=dict)
    stock_at: float | None = None
    held: dict[str, object] = field(default_factory=dict)
    released_in_excess: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    found_in_files: dict[tuple[str, str], float] = field(default_factory=dict)
    left_in_files: dict[tuple[str, str], float] | None = None
    sessions: dict[str, tuple[Message, ...]] = field(default_factory=dict)
    recordings: list[tuple[Entry, list[Event]]] = field(default_factory=list)


@dataclass(eq=False)
class Run:
    """One run of one seed.

    Attributes:
        seed: Its seed, as text.
        scenario: What the seed decided before.
        simulation: The simulation that it ran in.
        readings: The readers of the scenario.
        epilogue: The readers after it: all vendors are healthy, and the default route is asked, then each enabled
            target twice by name. The question of each is its own, so that no cache answers.
        processes: Its processes.
        stalled: The seconds in which the loop was busy: slack for deadlines.
        stuck: The error of a run that could not end, or "".
        drawn: How many choices it took to draw the scenario.
    """

    seed: str
    scenario: Scenario
    simulation: Simulation
    readings: list[Reading] = field(default_factory=list)
    epilogue: list[Reading] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    stalled: float = 0.0
    stuck: str = ""
    drawn: int = 0

    @property
    def last(self) -> Process:
        """The last process, which was not killed."""
        return self.processes[-1]

    @property
    def switch(self) -> LLMSwitch:
        return self.last.switch

    @property
    def policy(self) -> Policy:
        """The policy in force at the end."""
        return self.switch.policy

    @property
    def vendors(self) -> dict[str, list[Vendor]]:
        """All simulated providers that ever were, by name."""
        every: dict[str, list[Vendor]] = {}
        for process in self.processes:
            for name, vendors in process.vendors.items():
                every.setdefault(name, []).extend(vendors)
        return every

    @property
    def notices(self) -> list[Notice]:
        """The notices of all processes, in order."""
        return [notice for process in self.processes for _, notice in process.notices]

    @property
    def spent(self) -> dict[str, dict[Period, float]]:
        """What the last process says was spent, by namespace."""
        return self.last.spent

    @property
    def cache(self) -> Any:
        """The configured cache of the last process, or `None`."""
        return self.switch._runtime.cache_in_use

    @property
    def problems(self) -> list[str]:
        """Exceptions that nobody retrieved, and errors in callbacks of the loop."""
        return self.simulation.problems
