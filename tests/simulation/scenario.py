"""A scenario: everything that one seed decides before its run begins.

The values are frozen and can be written as JSON, so that a kept seed stores its whole scenario. What is decided while
the run is under way (what a vendor does with one request, the order of tasks) comes from the same choices, in streams
of their own.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

VERSION: Final = 13
"""Raise it when `draw` draws something else from the same seed: see `test_seeds.py`."""

State: TypeAlias = Literal[
    "healthy", "down", "flaky", "slow", "dripping", "stalling", "lying", "limited", "half", "reasoning", "declining"
]
"""What a vendor does in a phase. `down` and `flaky` fail in the way of `Phase.fault`; `half` ends with `length`, and
`declining` with a filter or a refusal."""
Refusal: TypeAlias = Literal["", "400", "404", "other text"]
"""How a host refuses token ids: by a status, or because they do not make the text there. "" takes them."""

Strange: TypeAlias = Literal["", "another answer", "nothing new", "our words", "our words later", "open marks"]
"""What a model writes that does not continue as it was asked to."""

Way: TypeAlias = Literal["events", "text", "metadata", "await", "collect"]
Kind: TypeAlias = Literal["usual", "outage", "quiet", "breaking"]
"""`breaking`: most answers break in the middle, again and again, and nothing else is in their way."""
What: TypeAlias = Literal["reload", "jump", "close", "kill", "warm", "look", "disk"]
ToolTrouble: TypeAlias = Literal["", "raises", "is slow", "blocks"]
"""What goes wrong in a tool. One that `blocks` is a function that runs in a thread."""
Through: TypeAlias = Literal["request", "llm", "function", "body", "stand-in"]
"""`function`: a decorated function whose body makes the prompt. `body`: one whose body opens the stream itself.
`stand-in`: one whose body answers if no model can, and its route names it."""


class Phase(Struct, frozen=True, kw_only=True):
    """What a vendor does from the virtual second `begins` on. `share` of its requests are treated in this way."""

    begins: float = 0.0
    state: State = "healthy"
    fault: str = ""
    share: float = 1.0


class VendorPlan(Struct, frozen=True, kw_only=True):
    """A vendor: how fast it is, how it continues a broken answer, and its phases in the order of time.

    `continuing` is a value of `testing.Kind`. A `strange` share of the continuations are something else (`instead`). A
    vendor that `begins_anew` takes an open turn for one that is complete. `is_honest` is false if it lies in a phase.

    It `keeps_runs` for `keeps_for` seconds if its entry asks for that; a share of the requests about a run have a
    trouble (`unreachable`), as have those that cancel one. With `token_ids`, it gives and takes token ids, or
    `refuses_tokens` that come back. On Anthropic's wire, it `hands_over` a share of its requests to its `fallbacks`:
    models that go on for one that declines.
    If it `breaks_in_calls`, it fails inside a tool call if there is one.
    One that `honours_limits` writes no more than `max_tokens`, of four characters each.
    """

    name: str
    phases: tuple[Phase, ...] = (Phase(),)
    continuing: str = "anchor"
    refuses_prefill: bool = False
    head: float = 0.2
    pace: float = 0.05
    chunk_size: int | None = None
    instead: Strange = ""
    strange: float = 0.5
    begins_anew: bool = False
    keeps_runs: bool = False
    keeps_for: float = 300.0
    unreachable: float = 0.0
    token_ids: bool = False
    refuses_tokens: Refusal = ""
    fallbacks: tuple[str, ...] = ()
    hands_over: float = 0.0
    honours_limits: bool = False
    breaks_in_calls: bool = False

    @property
    def is_honest(self) -> bool:
        return all(phase.state != "lying" for phase in self.phases)


class ToolPlan(Struct, frozen=True, kw_only=True):
    """The tool of a reader: the model is to call it `calls` times in each of so many `turns`, and then to answer.

    A run takes so many `seconds`. A `share` of the runs have a trouble; one that `is slow` is stopped after `timeout`.
    """

    turns: int = 1
    calls: int = 1
    seconds: float = 0.0
    trouble: ToolTrouble = ""
    share: float = 0.5
    timeout: float | None = None


class ReaderPlan(Struct, frozen=True, kw_only=True):
    """A reader: when it starts, what it asks, how it reads, and how it ends.

    `request` holds options of the `TaskRequest`, `options` those of the call. It makes a `pause` after each item, and
    leaves after `leaves_after` items (without closing the stream, if `is_dropped`), is cancelled in the step
    `cancelled_after` of its task, or another task closes its stream `closed_after` seconds after it has begun.
    `process` counts the processes of a run from 0. Another task cancels it `cancelled_at` seconds after it has begun:
    often in the moment in which a clock of the stream runs out. Its request ends with an open turn of the assistant,
    which has the first `open_turn` characters of the answer. Its callbacks take time if it `waits_in_callbacks`.
    With `wants_tools`, the model ends its answer with a call that is only reported. A `tool` is a function that runs.
    What it asks is a turn of the `session` with this id, which is stored in a file of the run.
    """

    name: str
    question: str
    process: int = 0
    starts_at: float = 0.0
    way: Way = "text"
    through: Through = "request"
    request: dict[str, Any] = {}
    options: dict[str, Any] = {}
    pause: float = 0.0
    leaves_after: int | None = None
    is_dropped: bool = False
    cancelled_after: int | None = None
    cancelled_at: float | None = None
    closed_after: float | None = None
    has_callbacks: bool = False
    raises_in_callbacks: bool = False
    waits_in_callbacks: bool = False
    has_progress: bool = False
    wants_tools: bool = False
    tool: ToolPlan | None = None
    session: str | None = None
    open_turn: int = 0


class Happening(Struct, frozen=True, kw_only=True):
    """Something that is done to the process at the virtual second `at`.

    `reload`: its configuration is replaced by `config`, or by a wrong file if that is `None`. `jump`: the wall clock
    jumps by `seconds`. `close`: the switch is closed, and used further. `kill`: the process dies, and the next one
    begins. `disk`: for so many `seconds`, the spending file cannot be used. `warm`: `switch.warm()`. `look`: a
    person calls `explain`, `health` and `spent`.
    """

    at: float
    kind: What
    seconds: float = 0.0
    config: dict[str, Any] | None = None


class Scenario(Struct, frozen=True, kw_only=True):
    """Everything that is decided before a run. `config` is the configuration as a mapping.

    `{folder}` in its paths stands for the folder of the run. `ends_at` is when the epilogue begins: all vendors are
    healthy from then on. In an `outage`, every vendor is down until then. If the file of the configuration
    `is_watched`, a reload only changes the file. `raises_on_alert`: the user's `on_budget_alert` raises.
    """

    kind: Kind = "usual"
    config: dict[str, Any]
    vendors: tuple[VendorPlan, ...]
    readers: tuple[ReaderPlan, ...]
    happenings: tuple[Happening, ...] = ()
    ends_at: float = 60.0
    is_watched: bool = False
    raises_on_alert: bool = False

    @property
    def needs_folder(self) -> bool:
        """Whether the run writes files."""
        return (
            "{folder}" in str(self.config)
            or self.is_watched
            or any(each.kind == "reload" for each in self.happenings)
            or any(each.session is not None for each in self.readers)
        )
