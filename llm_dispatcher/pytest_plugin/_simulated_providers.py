"""Makes a switch for a simulation: its vendors answer in the simulated loop, and everything is noted in the trace.

The providers keep their names, kinds, routes and models. Each of their requests and answers, each event of a stream and
each notice of the switch is a line of the trace of the running simulation. A vendor draws how long it takes.
"""

from __future__ import annotations

import os
from asyncio import CancelledError, _get_running_loop, get_running_loop
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack, aclosing
from functools import cache
from itertools import count
from typing import Any, Final
from weakref import WeakKeyDictionary

from msgspec import Struct
from msgspec.structs import fields

from .._catalog import load_prices
from .._dispatch import load_what_failures_need
from .._policy import ProviderSettings
from .._serving.switch import LLMSwitch
from .._vendors.table import vendor
from ..cache._english.lexicon import load_words
from ..events import Event, Failure, TextDelta
from ..notices import Notice, Notify
from ..provider import Ask, Piece, Provider
from ..streaming import Account, ObservedCall, Observer, Watcher
from ..tasks import Target
from ..testing._player import Script
from ..testing._runs import Background
from ..testing._script import Wire
from ..testing._simulation.provider import SimulatedProvider, wire_of
from ..testing._simulation.real_world import RealWorldError
from ..testing._simulation.simulation import Simulation, current
from ..testing._vendor import HELLO
from ._simulated_switch import policy_without_keys

LATENCIES: Final = (0.0, 0.0, 0.0, 0.01, 0.05, 0.4)
"""Seconds that a vendor takes for its head and for each piece, beside the pace of its reply."""


def make_simulated_providers(
    config: Mapping[str, Any] | str | os.PathLike[str] | None, scripts: Mapping[str, Script]
) -> tuple[LLMSwitch, dict[str, SimulatedProvider]]:
    """A switch whose vendors answer in a simulated loop, and the vendors by name. See `SimulatedSwitch`."""
    vendors: dict[str, SimulatedProvider] = {}
    simulation = current()
    if simulation is not None:
        _made_in(simulation).vendors.append(vendors)

    class SimulatedLLMSwitch(LLMSwitch):
        @staticmethod
        def _make_provider(settings: ProviderSettings, notify: Notify) -> Provider:
            vendor = vendors[settings.name] = _Vendor(settings, scripts.get(settings.name, HELLO))
            vendor.notify = notify
            return vendor

    return SimulatedLLMSwitch(policy_without_keys(config, scripts), observers=[_Notes()]), vendors


def undo_later(at_the_end: ExitStack, seed: int | None, *, is_marked: bool) -> Callable[[Callable[[], object]], object]:
    """What takes the function that undoes the replacement of the switch: the running simulation, or the test.

    Args:
        at_the_end: Its functions are called at the end of the test.
        seed: The seed that the caller has passed.
        is_marked: Whether the test is marked as simulated.

    Raises:
        RuntimeError: Vendors of a simulation could not answer where the fixture was called.
        TypeError: The seed is no number.
    """
    __tracebackhide__ = True
    if seed is not None and not isinstance(seed, int):
        raise TypeError(
            f"simulated_switch(seed=…) is a number, got {type(seed).__name__}; a provider that is called seed cannot "
            "have a script"
        )
    simulation = current()
    if simulation is not None:
        if seed is not None:
            raise RuntimeError(f"simulated_switch(seed={seed!r}): the running simulation has a seed; leave seed= out")
        return simulation.on_close
    if is_marked:
        raise RuntimeError(
            "simulated_switch was called before the simulation began, as in a fixture; call it in the test itself, so "
            "that each seed has a switch of its own"
        )
    if _get_running_loop() is not None:  # unlike its public twin it does not raise
        raise RuntimeError(
            f"simulated_switch(seed={seed!r}): the event loop of this test is a real one, in which nothing can be "
            "simulated; mark the test with @pytest.mark.simulated, and leave seed= out"
        )
    load_everything()
    return at_the_end.callback


def load_everything() -> None:
    """Load what a stream would load while it runs. In a simulation it would do so at a drawn moment, and only in the
    first run.
    """
    load_prices()
    load_words()
    load_what_failures_need()


# ── vendors ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Vendor(SimulatedProvider):
    """A vendor that notes what it does."""

    def __init__(self, settings: ProviderSettings, script: Script) -> None:
        super().__init__(
            settings,
            script,
            latency=_latency_of(settings.name),
            background=Background() if _keeps_runs(settings) else None,
            token_ids=settings.kind if _has_token_ids(settings) else None,
        )

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        name = f"vendor {self.settings.name}"
        simulation = current()
        if simulation is None or simulation.loop is not get_running_loop():
            raise RealWorldError(
                f"the vendor {self.settings.name!r} answers in a simulation only, and a real event loop asks it; "
                "read the stream with await or async for, in a simulated test or in Simulation(seed).run(main)"
            )
        _note(name, f"is asked for {ask.target.model}")
        try:
            async with aclosing(super().stream(ask)) as pieces:
                async for piece in pieces:
                    _note(name, f"sends {_short(piece)}")
                    yield piece
        except Exception as error:
            _note(name, f"fails: {_short(error)}")
            raise
        except (GeneratorExit, CancelledError):
            _note(name, "is left by its reader")
            raise


def _keeps_runs(settings: ProviderSettings) -> bool:
    """Whether the policy has the requests to a provider run in the background."""
    if wire_of(settings) != Wire.OPENAI_RESPONSES:
        return False
    durable = any(settings.durability_of(model) == "reattachable" for model in (*settings.models, ""))
    return bool(settings.options.get("background", durable and vendor(settings.kind).keeps_runs))


def _has_token_ids(settings: ProviderSettings) -> bool:
    """Whether a broken answer of a provider goes on from its token ids."""
    source = vendor(settings.kind).id_source
    is_used = wire_of(settings) == Wire.OPENAI_CHAT and source is not None
    return is_used and bool(settings.options.get("token_ids", source == "answer"))


def _latency_of(name: str) -> Callable[[], float]:
    """A function that draws how long a vendor takes."""

    def draw() -> float:
        simulation = current()
        return 0.0 if simulation is None else simulation.choices.pick(LATENCIES, f"vendor {name}")

    return draw


def script_error(simulation: Simulation) -> Exception | None:
    """The first error that a function in a script has raised in this simulation."""
    vendors = [vendor for vendors in _made_in(simulation).vendors for vendor in vendors.values()]
    return next((vendor.script_error for vendor in vendors if vendor.script_error is not None), None)


# ── the trace ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Made:
    """What was made in one simulation."""

    def __init__(self) -> None:
        self.vendors: list[dict[str, SimulatedProvider]] = []
        self.streams = count(1)


_made: Final[WeakKeyDictionary[Simulation, _Made]] = WeakKeyDictionary()


def _made_in(simulation: Simulation) -> _Made:
    return _made.setdefault(simulation, _Made())


class _Notes(Observer):
    """Notes in the trace what the streams of a switch show, and the notices."""

    needs_sequence = False

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher | None:
        simulation = current()
        if simulation is None:
            return None
        stream = _Stream(f"stream {next(_made_in(simulation).streams)}")
        conversation = () if call is None else call.request.conversation
        _note(stream.name, f"begins: {conversation[-1].text!r}" if conversation else "begins")
        return stream

    def notice(self, notice: Notice) -> None:
        _note("switch", _short(notice))


class _Stream:
    """Notes the events of one stream. A piece of text that a vendor has just sent is not noted a second time."""

    def __init__(self, name: str) -> None:
        self.name = name

    def chunk(self, event: TextDelta, account: Account, /) -> None:
        simulation = current()
        if simulation is not None and simulation.trace.lines[-1].what != f"sends {event.text!r}":
            _note(self.name, f"shows {event.text!r}")

    def watch(self, event: Event, account: Account, /) -> None:
        _note(self.name, _short(event))


def _note(who: str, what: str) -> None:
    simulation = current()
    if simulation is not None:
        simulation.note(who, what)


def _short(value: object) -> str:
    """A piece, an event, a notice or an error in one line. Fields that have their defaults are left out."""
    match value:
        case BaseException():
            return f"{type(value).__name__}: {value}"
        case Target() | Failure():
            return str(value)
        case Struct():
            values = [(getattr(value, name), default) for name, default in _fields(type(value))]
            shown = [_short(each) for each, default in values if each != default]
            return f"{type(value).__name__}({', '.join(shown)})"
        case _:
            return repr(value)


@cache
def _fields(kind: type[Struct]) -> list[tuple[str, object]]:
    """The fields of a kind of value that are worth a line, with their defaults. msgspec takes a while to find them."""
    return [(field.name, field.default) for field in fields(kind) if field.name not in ("sequence", "raw")]
