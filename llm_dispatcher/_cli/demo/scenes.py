"""The demo: a policy, an example and seven scenes, on vendors that break when they are told to."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import runpy
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import Any, Final

from msgspec import Struct, structs

from ..._llm import LLM
from ..._serving.current import get_global_switch, set_global_switch, use_switch
from ..._serving.switch import LLMSwitch
from ..._stream import LLMStream
from ...cache import StreamingCache
from ...streaming import ProgressTracker
from ...tasks import TaskRequest, TaskType
from ...testing import Continuing, Cut, HttpError, Reply, Script, SimulatedVendor, Stall
from ..packaged import packaged_file
from ..printing import say_json
from ..show import CACHE, Show
from .ending import show_the_end
from .screen import show_on
from .stories import BAKERY, CODE, FERRY, LIGHTHOUSE, OWL, TRAIN

KEY: Final = "no-real-key"
VENDORS: Final = {
    "openai": ("openai-responses", "gpt-simulated"),
    "anthropic": ("anthropic", "claude-simulated"),
    "google": ("google", "gemini-simulated"),
}

IDLE: Final = 2.0
"""Seconds of silence in the scene that is about silence. Should a busy machine be silent for longer elsewhere in that
scene, the next vendor goes on from there, and the text is the same."""


class Count(Struct):
    """What the reader was owed, over all scenes, and what it got."""

    owed: int = 0
    read: int = 0
    repeated: int = 0
    attempts: int = 0
    whole: bool = True

    def add(self, owed: str, read: str, attempts: int) -> None:
        self.owed += len(owed)
        self.read += len(read)
        self.repeated += max(0, len(read) - len(owed))
        self.attempts += attempts
        self.whole = self.whole and owed == read

    def __str__(self) -> str:
        verdict = "all owed, each once" if self.whole else "NOT what was owed"
        counted = f"characters owed {self.owed}, read {self.read}, repeated {self.repeated}, attempts {self.attempts}"
        return f"{counted}: {verdict}"


class Scene(Struct, kw_only=True):
    """One thing to see: what the vendors do, what is asked, and the text that the reader is owed."""

    title: str
    note: str
    scripts: dict[str, Script]
    ask: Callable[[], LLMStream[str]]
    tracker: ProgressTracker
    text: str
    task: TaskType = TaskType.TEXT_GENERATION
    idle: float | None = None


def simulated_demo(prompt: str | None = None, *, as_json: bool = False) -> int:
    """Run it; 0 if every character that was owed was read once. As JSON it says so, and shows elsewhere."""
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        count = _show(prompt)
    if as_json:
        say_json(structs.asdict(count))
    else:
        print(count)  # noqa: T201 - the demo's answer
    return 0 if count.whole else 1


def _show(prompt: str | None) -> Count:
    show = show_on(sys.stdout)
    count = Count()
    with ExitStack() as stack:
        vendors = {
            name: stack.enter_context(SimulatedVendor(wire, api_key=KEY, models=[model]))
            for name, (wire, model) in VENDORS.items()
        }
        stack.enter_context(_environment(vendors))
        show.title("These vendors are simulated: seven short scenes")
        show.note(
            "Three servers on this machine stand in for OpenAI, Anthropic and Google. The vendors' official SDKs talk "
            "to them. They answer what the demo tells them to answer, and fail when it tells them to. No key is "
            "needed, nothing leaves this machine, and nothing is paid for."
        )
        show.note(
            "Each scene begins with the plan, which is the order in which vendors are asked. It ends with the ledger, "
            "which has a row for every attempt."
        )
        show.legend({"openai": "OpenAI", "anthropic": "Anthropic", "google": "Google", CACHE: "the cache"})
        example = _run_example(show, vendors, count)
        asyncio.run(_scenes(show, vendors, example, prompt, count))
    show_the_end(show, survival=packaged_file("docs/survival.md"))
    return count


@contextlib.contextmanager
def _environment(vendors: dict[str, SimulatedVendor]) -> Generator[None, None, None]:
    """The variables that config/demo.yaml names; with them, any program would find these vendors."""
    before = dict(os.environ)
    os.environ.update({f"SIMULATED_{name.upper()}": vendor.base_url for name, vendor in vendors.items()})
    os.environ.update(SIMULATED_KEY=KEY, LLM_DISPATCHER_CONFIG=str(packaged_file("config/demo.yaml")))
    set_global_switch(None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        set_global_switch(None)


def _run_example(show: Show, vendors: dict[str, SimulatedVendor], count: Count) -> dict[str, Any]:
    """Run the README's example as it stands, and count what it prints."""
    _tell(vendors, {"openai": Reply(LIGHTHOUSE, pace=_pace())})
    show.title("1 of 7 · Your first stream")
    show.note("This is examples/first_stream.py as it stands: six lines, and nothing in them names a vendor.")
    show.plan(LLMSwitch().explain(TaskRequest("Tell a short story about a lighthouse keeper.")))
    heard = _Tee(sys.stdout)
    with contextlib.redirect_stdout(heard):
        example = runpy.run_path(str(packaged_file("examples/first_stream.py")), run_name="__main__")
    print()  # noqa: T201 - the example ends without a line end
    _judge(show, count, LIGHTHOUSE, heard.getvalue(), sum(len(vendor.requests) for vendor in vendors.values()))
    return example


class _Tee(io.StringIO):
    """Writes through, and remembers."""

    def __init__(self, out: Any) -> None:
        super().__init__()
        self._out = out

    def write(self, text: str) -> int:
        self._out.write(text)
        self._out.flush()
        return super().write(text)


async def _scenes(
    show: Show, vendors: dict[str, SimulatedVendor], example: dict[str, Any], prompt: str | None, count: Count
) -> None:
    """Scenes 2 to 7. Whatever the order in which a busy machine lets things happen, the text is owed in full."""
    story: Any = example["story"]
    said, tracker = story.progress_tracker, ProgressTracker()
    coder = LLM(task_type=TaskType.CODE_GENERATION, progress_tracker=tracker)
    teller = LLM(cache=StreamingCache(), progress_tracker=tracker)
    pace = _pace()

    def tell(topic: str) -> Callable[[], LLMStream[str]]:
        return lambda: story(prompt or topic)  # the example's own function

    def tell_twice(typed: str) -> Callable[[], LLMStream[str]]:
        return lambda: teller(prompt or typed)

    def go_on(text: str) -> Script:
        return Continuing(text, reply=Reply(pace=pace))

    for scene in (
        Scene(
            title="2 of 7 · Another task, another vendor",
            note="The policy (config/demo.yaml) sends code to Anthropic first.",
            task=TaskType.CODE_GENERATION,
            scripts={"anthropic": Reply(CODE, pace=pace)},
            ask=lambda: coder("Write a function for the n-th Fibonacci number."),
            tracker=tracker,
            text=CODE,
        ),
        Scene(
            title="3 of 7 · The connection breaks in mid-sentence",
            note="OpenAI's connection is cut after 24 words, and again when it is asked to go on. Anthropic finishes "
            "the sentence. It repeats a few words so that the seam can be checked, and these are cut out.",
            scripts={
                "openai": Reply(FERRY, fault=Cut(after=24), pace=pace),
                "anthropic": go_on(FERRY),
                "google": go_on(FERRY),
            },
            ask=tell("a ferry in the fog"),
            tracker=said,
            text=FERRY,
        ),
        Scene(
            title="4 of 7 · The vendor falls silent",
            note=f"OpenAI stops after 30 words and keeps the connection open. After {IDLE:g} seconds of silence (the "
            "`idle` clock) it is asked again, stops again, and Anthropic goes on.",
            scripts={
                "openai": Reply(TRAIN, fault=Stall(after=30), pace=pace),
                "anthropic": go_on(TRAIN),
                "google": go_on(TRAIN),
            },
            ask=tell("a night train"),
            tracker=said,
            text=TRAIN,
            idle=IDLE,
        ),
        Scene(
            title="5 of 7 · Too many requests",
            note="OpenAI answers 429 and says when to come back (Retry-After). The request waits that long and is sent "
            "again.",
            scripts={"openai": [Reply(fault=HttpError(429, retry_after=0.3)), Reply(BAKERY, pace=pace)]},
            ask=tell("a bakery on market day"),
            tracker=said,
            text=BAKERY,
        ),
        Scene(
            title="6 of 7 · With a cache, asked for the first time",
            note="The answer is recorded while it is read.",
            scripts={"openai": Reply(OWL, pace=pace)},
            ask=tell_twice("Tell a short story about an owl."),
            tracker=tracker,
            text=OWL,
        ),
        Scene(
            title="7 of 7 · Every vendor is down, and the same is asked again",
            note="It is typed a little differently. The recording is the answer: no vendor is asked, so there is no "
            "ledger.",
            scripts={},
            ask=tell_twice("tell a short story about an owl"),
            tracker=tracker,
            text=OWL,
        ),
    ):
        with use_switch(_with_idle(get_global_switch(), scene.idle)) as switch:
            await _play(show, vendors, scene, count)
        if scene.idle is not None:
            await switch.aclose()


def _with_idle(switch: LLMSwitch, idle: float | None) -> LLMSwitch:
    """A switch by the same policy with this `idle` clock. The policy's own is far longer than a busy machine pauses."""
    if idle is None:
        return switch
    resilience = switch.policy.resilience
    clocks = structs.replace(resilience.timeouts, idle=idle)
    return LLMSwitch(structs.replace(switch.policy, resilience=structs.replace(resilience, timeouts=clocks)))


async def _play(show: Show, vendors: dict[str, SimulatedVendor], scene: Scene, count: Count) -> None:
    _tell(vendors, scene.scripts)
    show.title(scene.title)
    show.note(scene.note)
    show.plan(get_global_switch().explain(TaskRequest("…", task_type=scene.task)))
    stream = scene.ask()
    show.open(scene.tracker)
    try:
        async for event in stream.events():
            show.event(event)
    finally:
        show.close()
    response = stream.response
    show.ledger(response.attempts)
    _judge(show, count, scene.text, response.text, len(response.attempts))


def _judge(show: Show, count: Count, owed: str, read: str, attempts: int) -> None:
    count.add(owed, read, attempts)
    show.note(
        f"✓ all {len(owed)} characters arrived, each once"
        if owed == read
        else "✗ NOT what was owed: please report this"
    )


def _tell(vendors: dict[str, SimulatedVendor], scripts: dict[str, Script]) -> None:
    """Give the vendors their scripts; one that has none in this scene is out of order."""
    for name, vendor in vendors.items():
        vendor.script = scripts.get(name, Reply(fault=HttpError(503)))


def _pace() -> float:
    """Slow enough to watch, where somebody does."""
    return 0.03 if sys.stdout.isatty() else 0.002
