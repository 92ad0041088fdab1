"""Draws a scenario from the choices of a seed. The plain result of every choice is the harmless one.

Each part has a stream of choices of its own, so that a choice which a shrunk run drops changes that part only.
Raise `scenario.VERSION` after a change here: see `test_seeds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from llm_dispatcher.testing import Kind
from llm_dispatcher.testing._simulation.choices import Choices
from tests.simulation.answers import answer_to, question
from tests.simulation.drawing_config import PROVIDERS, configuration, targets_of
from tests.simulation.scenario import (
    Happening,
    Phase,
    ReaderPlan,
    Refusal,
    Scenario,
    State,
    Strange,
    Through,
    ToolPlan,
    VendorPlan,
    Way,
    What,
)
from tests.simulation.scenario import Kind as ScenarioKind

DAY: Final = 86_400.0

RETRYABLE: Final = (
    "503",
    "500",
    "refuse",
    "cut",
    "429",
    "stall",
    "truncated",
    "garbage",
    "error frame",
    "overloaded",
    "unfinished",
    "descriptors",
)
"""Faults after which the same target may be asked again."""
IN_THE_MIDDLE: Final = (
    "cut", "cut", "cut", "truncated", "truncated", "error frame", "garbage", "stall", "unfinished",
)  # fmt: skip
"""Faults that come in the middle of an answer."""
FINAL: Final = ("401", "404", "quota", "context", "unsupported")
"""Faults after which another target is asked at once."""
FATAL: Final = ("invalid", "filter")
"""Faults that end a request."""

_STATES: Final[tuple[State, ...]] = (
    "healthy", "healthy", "down", "flaky", "flaky", "slow", "dripping", "stalling", "lying", "limited", "half",
    "reasoning", "declining",
)  # fmt: skip


_STRANGE: Final[tuple[Strange, ...]] = (
    "", "", "", "", "another answer", "another answer", "nothing new", "our words", "our words later", "open marks",
)  # fmt: skip
_BREAKS: Final[tuple[State, ...]] = (
    *("flaky",) * 8, "dripping", "stalling", "stalling", "declining", "healthy", "half",
)  # fmt: skip
_REFUSALS: Final[tuple[Refusal, ...]] = ("", "", "", "400", "404", "other text")
_FALLBACKS: Final = (("middle",), ("spare",), ("large", "spare"))
_KINDS: Final[tuple[ScenarioKind, ...]] = ("usual",) * 6 + ("breaking",) * 5 + ("outage", "quiet")
_WAYS: Final[tuple[Way, ...]] = ("text", "text", "events", "events", "metadata", "await", "collect")
_THROUGH: Final[tuple[Through, ...]] = ("request", "request", "request", "llm", "function", "body", "stand-in")
_HAPPENINGS: Final[tuple[What, ...]] = ("look", "look", "warm", "reload", "reload", "jump", "close", "kill")


def draw(choices: Choices) -> Scenario:
    """The scenario of a seed."""
    kind = choices.pick(_KINDS, "scenario")
    length = {"outage": 60.0, "quiet": 4 * 3_600.0}.get(kind, choices.number(20, 120, "scenario"))
    config = configuration(choices, has_faults=kind != "quiet")
    if kind == "breaking":
        config = _without_obstacles(choices, config)
    vendors = tuple(_vendor(choices, name, kind, length) for name in PROVIDERS)
    happenings = _happenings(choices, config, kind, length)
    kills = [each.at for each in happenings if each.kind == "kill"]
    readers = _outage_readers(choices) if kind == "outage" else _readers(choices, config, kind, length)
    return Scenario(
        kind=kind,
        config=config,
        vendors=vendors,
        readers=tuple(_in_its_process(reader, kills) for reader in readers),
        happenings=tuple(happenings),
        ends_at=length,
        is_watched=any(each.kind == "reload" for each in happenings) and choices.chance(0.4, "watching"),
        raises_on_alert=choices.chance(0.1, "alerts"),
    )


def _without_obstacles(choices: Choices, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what keeps targets away from a request, and so from continuing a broken answer."""
    stream = "breaking"
    for provider in config["providers"].values():
        provider.pop("limits", None)
        for model in provider["models"].values():
            model.pop("limits", None)
    resilience = dict(config["resilience"])
    if choices.chance(0.8, stream):
        resilience |= {"breaker": {"failures": None}, "retry_budget": {"share": None}}
    if choices.chance(0.7, stream):
        resilience.pop("on_break", None)
    if choices.chance(0.5, stream):
        resilience["durability"] = "reattachable"
    return {name: part for name, part in config.items() if name not in ("budgets", "cache")} | {
        "resilience": resilience
    }


# ── vendors ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _vendor(choices: Choices, name: str, kind: str, length: float) -> VendorPlan:
    stream = f"plan of {name}"
    if kind == "outage":
        phases: tuple[Phase, ...] = (Phase(state="down", fault=choices.pick(RETRYABLE[:6], stream)),)
    elif kind == "breaking":
        phases = (
            Phase(
                state=choices.pick(_BREAKS, stream),
                fault=choices.pick(IN_THE_MIDDLE, stream),
                share=choices.pick((0.8, 0.5, 1.0, 0.2), stream),
            ),
        )
    else:
        phases = _phases(choices, stream, length)
    ladder = f"ladder of {name}"
    refuses_tokens = choices.pick(_REFUSALS, f"tokens of {name}")
    return VendorPlan(
        name=name,
        phases=phases,
        continuing="anchor"
        if choices.chance(0.7 if kind == "breaking" else 0.0, stream)
        else choices.pick([each.value for each in Kind], stream),
        refuses_prefill=choices.chance(0.6 if refuses_tokens else 0.2 if kind == "breaking" else 0.1, stream),
        head=choices.pick((0.2, 0.0, 0.05, 0.9), stream),
        pace=choices.pick((0.05, 0.0, 0.01, 0.2), stream),
        chunk_size=choices.pick((None, None, None, 1, 7, 40), stream),
        instead=choices.pick(_STRANGE, ladder),
        strange=choices.pick((0.5, 1.0, 0.2), ladder),
        begins_anew=choices.chance(0.2, ladder),
        keeps_runs=choices.chance(0.4, ladder),
        keeps_for=choices.pick((300.0, 300.0, 20.0, 3.0), ladder),
        unreachable=choices.pick((0.0, 0.0, 0.1, 0.5, 1.0), ladder),
        token_ids=choices.chance(0.25, ladder),
        refuses_tokens=refuses_tokens,
        fallbacks=choices.pick(_FALLBACKS, f"fallbacks of {name}"),
        hands_over=choices.pick((0.0, 0.0, 0.2, 0.6), f"fallbacks of {name}"),
        honours_limits=choices.chance(0.75, ladder),
        breaks_in_calls=choices.chance(0.5, ladder),
    )


def _phases(choices: Choices, stream: str, length: float) -> tuple[Phase, ...]:
    phases = [_phase(choices, stream, 0.0)]
    for _ in range(choices.below(4, stream)):
        begins = phases[-1].begins + choices.number(0, length / 2, stream)
        if begins < length:
            phases.append(_phase(choices, stream, begins))
    return tuple(phases)


def _phase(choices: Choices, stream: str, begins: float) -> Phase:
    faults = RETRYABLE * 4 + FINAL * 2 + FATAL
    return Phase(
        begins=begins,
        state=choices.pick(_STATES, stream),
        fault=choices.pick(faults, stream),
        share=choices.pick((0.5, 0.2, 0.8, 1.0), stream),
    )


# ── readers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _outage_readers(choices: Choices) -> list[ReaderPlan]:
    """Many requests, one shortly after the other, each with a question of its own."""
    count = 30 + choices.below(40, "outage")
    every = choices.number(0.1, 0.6, "outage")
    return [
        ReaderPlan(name=f"reader {number}", question=question(number, 5 + number), starts_at=number * every)
        for number in range(count)
    ]


def _readers(choices: Choices, config: dict[str, Any], kind: str, length: float) -> list[ReaderPlan]:
    readers: list[ReaderPlan] = []
    count = 2 + choices.pick((0, 1, 2, 2, 3, 3, 4, 5, 6, 10), "readers")
    starts_at, asked, bird = 0.0, "", 0
    has_sessions = choices.chance(0.35, "sessions")
    for number in range(count):
        stream = f"reader {number}"
        joins = bool(readers) and choices.chance(0.4, stream)  # the same question at the same moment, or just after
        first = readers[-1] if joins else None
        if joins:
            starts_at += choices.pick((0.0, 0.0, 0.3, 1.0, 3.0), stream)
        else:
            starts_at = choices.number(0, length * 0.7, stream)
            bird = number if choices.chance(0.8, stream) else bird
            asked = question(bird, 4 + choices.below(30, stream) + 10 * (kind == "breaking"))
            if readers and choices.chance(0.15, stream):  # a question that was asked before, at some other time
                first = choices.pick(readers, stream)
                asked = first.question
        reader = _reader(choices, config, stream, asked, starts_at, slow=kind != "quiet")
        if kind == "breaking":
            reader = replace(
                reader,
                pause=reader.pause if choices.chance(0.2, stream) else 0.0,
                wants_tools=choices.chance(0.25, stream) and reader.tool is None,
                options={name: value for name, value in reader.options.items() if name not in ("on_break", "max_cost")},
            )
        reader = _twin(reader, first) if first is not None and choices.chance(0.7, stream) else reader
        readers.append(_in_a_session(choices, reader) if has_sessions else reader)
    return readers


def _in_a_session(choices: Choices, reader: ReaderPlan) -> ReaderPlan:
    """The reader, whose question may be a turn of a session."""
    is_in_one = choices.chance(0.7, f"session of {reader.name}")
    name = choices.pick(("chat", "chat", "talk"), f"session of {reader.name}")
    if not is_in_one or reader.way == "metadata" or reader.through in ("body", "stand-in"):
        return reader
    return replace(reader, session=name, through="llm", open_turn=0, options={**reader.options, "cache": False})


def _twin(reader: ReaderPlan, first: ReaderPlan) -> ReaderPlan:
    """The reader with the request and the options of the first, so that the two can share a stream."""
    own = {name: value for name, value in reader.options.items() if name in _OWN}
    shared = {name: value for name, value in first.options.items() if name not in _OWN}
    if reader.way in ("text", "metadata") and shared.get("on_break") == "restart":
        return reader
    return replace(
        reader,
        request=first.request,
        options=own | shared,
        wants_tools=first.wants_tools,
        tool=first.tool,
        open_turn=first.open_turn if reader.through == "request" and reader.way != "metadata" else reader.open_turn,
    )


_OWN: Final = ("buffer_size", "min_chunk_size")
"""Options in which calls that share a stream may differ."""


def _reader(
    choices: Choices, config: dict[str, Any], stream: str, asked: str, starts_at: float, *, slow: bool
) -> ReaderPlan:
    way = choices.pick(_WAYS, stream)
    through = choices.pick(_THROUGH, stream)
    tool = _tool(choices, f"tool of {stream}")
    ends = choices.pick(
        ("whole",) * 7 + ("leaves", "cancelled", "cancelled", "closed", "dropped", "cancelled later"), stream
    )
    return ReaderPlan(
        name=stream,
        question=asked,
        starts_at=starts_at,
        way=way,
        through=through,
        request=_request(choices, config, stream),
        options=_options(choices, config, stream, way),
        pause=choices.pick((0.0, 0.0, 0.0, 0.0, 0.02, 0.5, 3.0, 25.0) if slow else (0.0,), stream),
        leaves_after=choices.below(12, stream) if ends in ("leaves", "dropped") else None,
        is_dropped=ends == "dropped",
        cancelled_after=choices.below(choices.pick((60, 6, 15), stream), stream) if ends == "cancelled" else None,
        cancelled_at=_moment(choices, stream) if ends == "cancelled later" else None,
        closed_after=choices.number(0, 6, stream) if ends == "closed" else None,
        has_callbacks=choices.chance(0.3, stream),
        raises_in_callbacks=choices.chance(0.1, stream),
        waits_in_callbacks=choices.chance(0.3, stream),
        has_progress=choices.chance(0.3, stream),
        wants_tools=choices.chance(0.08, stream) and tool is None,
        tool=tool,
        open_turn=_open_turn(choices, stream, asked, through, way) if tool is None else 0,
    )


def _tool(choices: Choices, stream: str) -> ToolPlan | None:
    """The tool of a reader that has one."""
    has_one = choices.chance(0.2, stream)
    plan = ToolPlan(
        turns=choices.pick((1, 1, 2, 3), stream),
        calls=choices.pick((1, 1, 2, 3), stream),
        seconds=choices.pick((0.0, 0.0, 0.5, 4.0, 30.0), stream),
        trouble=choices.pick(("", "", "raises", "is slow", "blocks"), stream),
        share=choices.pick((0.5, 1.0), stream),
        timeout=choices.pick((None, None, 2.0), stream),
    )
    return plan if has_one else None


def _open_turn(choices: Choices, stream: str, asked: str, through: Through, way: Way) -> int:
    """How much of the answer the request has already: some words of it."""
    is_open, count = choices.chance(0.1, stream), 1 + choices.below(3, stream)
    if not is_open or through != "request" or way == "metadata":
        return 0
    return len(" ".join(answer_to(asked).split(" ")[:count]))


def _moment(choices: Choices, stream: str) -> float:
    """The seconds of a clock, or a little more: clocks are given a millisecond of grace."""
    return choices.pick((20.0, 8.0, 5.0, 2.0, 1.5, 30.0, 60.0), stream) + choices.pick((0.001, 0.0, 0.0005), stream)


def _request(choices: Choices, config: dict[str, Any], stream: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if choices.chance(0.12, stream):
        options["model"] = choices.pick(targets_of(config), stream)
    if choices.chance(0.25, stream):
        options["namespace"] = choices.pick(("red", "blue"), stream)
    if choices.chance(0.15, stream):
        options["sticky"] = choices.pick(("one", "two", "three"), stream)
    if choices.chance(0.25, stream):
        options["task_type"] = "code_generation"
    if choices.chance(0.25, stream):
        options["max_tokens"] = choices.pick((1_000, 100, 60, 40, 20), stream)
    if choices.chance(0.05, stream):
        options["response_format"] = {"type": "json_object"}
    if choices.chance(0.08, stream):
        options["providers"] = [choices.pick(list(config["providers"]), stream)]
    return options


def _options(choices: Choices, config: dict[str, Any], stream: str, way: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    offers: Sequence[tuple[str, float, Sequence[Any]]] = (
        ("timeout", 0.2, (60.0, 20.0, 5.0, 1.5)),
        ("on_break", 0.2, ("continue", "raise", *(("restart",) if way in ("events", "await", "collect") else ()))),
        ("max_retries", 0.1, (2, 0, 1, 4)),
        ("fallback_enabled", 0.06, (True, False)),
        ("buffer_size", 0.1, (1, 3, 8)),
        ("min_chunk_size", 0.1, (1, 12, 60)),
        ("optimization_strategy", 0.1, ("ordered", "cost", "speed", "quality", "balanced")),
        ("max_cost", 0.08, (50.0, 3.0, 0.2)),
        ("max_latency", 0.08, (10.0, 1.0, 0.3)),
        ("cache", 0.05, (False,)),
        ("raw", 0.05, (True,)),
    )
    for name, probability, values in offers:
        is_set, value = choices.chance(probability, stream), choices.pick(values, stream)
        if is_set:
            options[name] = value
    is_strange = choices.chance(0.05, stream)  # what the reader has cannot be taken back, so it is refused
    if config["resilience"].get("on_break") == "restart" and way in ("text", "metadata") and not is_strange:
        options.setdefault("on_break", "continue")
    return options


def _in_its_process(reader: ReaderPlan, kills: Sequence[float]) -> ReaderPlan:
    return replace(reader, process=sum(reader.starts_at >= at for at in kills))


# ── happenings ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _happenings(choices: Choices, config: dict[str, Any], kind: str, length: float) -> list[Happening]:
    if kind == "outage":
        return []
    happenings: list[Happening] = []
    stream = "happenings"
    if "path" in config.get("budgets", {}) and choices.chance(0.3, "disk"):
        at, seconds = choices.number(0, length * 0.8, "disk"), choices.number(1.0, 20.0, "disk")
        happenings.append(Happening(at=at, kind="disk", seconds=seconds))
    for _ in range(choices.pick((0, 0, 1, 1, 2, 3), stream)):
        what = choices.pick(_HAPPENINGS, stream)
        at = choices.number(0, length * 0.9, stream)
        number = len(happenings)
        if what == "reload":
            changed = configuration(choices, has_faults=True, like=config, stream=f"reload {number}")
            if choices.chance(0.5, f"reload {number}"):  # most reloads change one thing
                changed = {**config, "resilience": changed["resilience"]}
            is_wrong = choices.chance(0.1, f"reload {number}")
            happenings.append(Happening(at=at, kind="reload", config=None if is_wrong else changed))
        elif what == "jump":
            seconds = choices.pick((60.0, -60.0, 3_600.0, -3_600.0, DAY, -DAY, 21 * DAY, -21 * DAY), f"jump {number}")
            happenings.append(Happening(at=at, kind="jump", seconds=seconds))
        else:
            happenings.append(Happening(at=at, kind=what))
    return sorted(happenings, key=lambda each: each.at)
