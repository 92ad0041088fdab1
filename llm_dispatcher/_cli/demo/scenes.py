"""The demo on simulated vendors: a policy, an example and seven scenes with faults."""

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
from . import CACHE
from .ending import show_comparison
from .screen import Screen, screen_on
from .stories import BAKERY, CODE, FERRY, LIGHTHOUSE, OWL, TRAIN

KEY: Final = "no-real-key"
VENDORS: Final = {
    "openai": ("openai-responses", "gpt-simulated"),
    "anthropic": ("anthropic", "claude-simulated"),
    "google": ("google", "gemini-simulated"),
}

IDLE: Final = 2.0
"""The `idle` timeout in the scene about silence, in seconds. If a busy machine pauses for longer at another place, the
next vendor continues from there, and the text is the same."""


class Count(Struct):
    """Counts over all scenes: the characters that the reader should get (`owed`), and the characters that it got."""

    owed: int = 0
    read: int = 0
    repeated: int = 0
    attempts: int = 0
    whole: bool = True

    def add(self, expected: str, read: str, attempts: int) -> None:
        self.owed += len(expected)
        self.read += len(read)
        self.repeated += max(0, len(read) - len(expected))
        self.attempts += attempts
        self.whole = self.whole and expected == read

    def __str__(self) -> str:
        verdict = "all owed, each once" if self.whole else "NOT as expected"
        counts = f"characters owed {self.owed}, read {self.read}, repeated {self.repeated}, attempts {self.attempts}"
        return f"{counts}: {verdict}"


class Scene(Struct, kw_only=True):
    """A scene: what the vendors do, the request, and the text that the reader should get."""

    title: str
    note: str
    scripts: dict[str, Script]
    ask: Callable[[], LLMStream[str]]
    tracker: ProgressTracker
    text: str
    task: TaskType = TaskType.TEXT_GENERATION
    idle: float | None = None


def simulated_demo(prompt: str | None = None, *, as_json: bool = False) -> int:
    """Run the demo. The exit code is 0 if the reader got every character once.

    With `as_json`, the result is JSON on standard output, and the demo is shown on standard error.
    """
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        count = _show(prompt)
    if as_json:
        say_json(structs.asdict(count))
    else:
        print(count)  # noqa: T201 - the demo's answer
    return 0 if count.whole else 1


def _show(prompt: str | None) -> Count:
    screen = screen_on(sys.stdout)
    count = Count()
    with ExitStack() as stack:
        vendors = {
            name: stack.enter_context(SimulatedVendor(wire, api_key=KEY, models=[model]))
            for name, (wire, model) in VENDORS.items()
        }
        stack.enter_context(_environment(vendors))
        screen.title("These vendors are simulated: seven short scenes")
        screen.note(
            "Three servers on this machine replace OpenAI, Anthropic and Google. The vendors' official SDKs send "
            "requests to them. The demo decides what they answer and when they fail. No key is needed, nothing leaves "
            "this machine, and nothing costs money."
        )
        screen.note(
            "Each scene begins with the plan, which is the order in which vendors are tried. It ends with the ledger, "
            "which has a row for each attempt."
        )
        screen.legend({"openai": "OpenAI", "anthropic": "Anthropic", "google": "Google", CACHE: "the cache"})
        example = _run_example(screen, vendors, count)
        asyncio.run(_scenes(screen, vendors, example, prompt, count))
    show_comparison(screen, survival=packaged_file("docs/survival.md"))
    return count


@contextlib.contextmanager
def _environment(vendors: dict[str, SimulatedVendor]) -> Generator[None, None, None]:
    """Set the variables that config/demo.yaml names."""
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


def _run_example(screen: Screen, vendors: dict[str, SimulatedVendor], count: Count) -> dict[str, Any]:
    """Run the example of the README unchanged, and count the characters that it prints."""
    _set_scripts(vendors, {"openai": Reply(LIGHTHOUSE, pace=_pace())})
    screen.title("1 of 7 · Your first stream")
    screen.note("This is examples/first_stream.py, unchanged: six lines that name no vendor.")
    screen.plan(LLMSwitch().explain(TaskRequest("Tell a short story about a lighthouse keeper.")))
    printed = _Tee(sys.stdout)
    with contextlib.redirect_stdout(printed):
        example = runpy.run_path(str(packaged_file("examples/first_stream.py")), run_name="__main__")
    print()  # noqa: T201 - the example prints no line end
    _check(screen, count, LIGHTHOUSE, printed.getvalue(), sum(len(vendor.requests) for vendor in vendors.values()))
    return example


class _Tee(io.StringIO):
    """Writes to a stream, and keeps a copy."""

    def __init__(self, out: Any) -> None:
        super().__init__()
        self._out = out

    def write(self, text: str) -> int:
        self._out.write(text)
        self._out.flush()
        return super().write(text)


async def _scenes(
    screen: Screen, vendors: dict[str, SimulatedVendor], example: dict[str, Any], prompt: str | None, count: Count
) -> None:
    """Scenes 2 to 7. The reader gets the whole text even if a busy machine delays some steps."""
    story: Any = example["story"]
    story_tracker, tracker = story.progress_tracker, ProgressTracker()
    coder = LLM(task_type=TaskType.CODE_GENERATION, progress_tracker=tracker)
    teller = LLM(cache=StreamingCache(), progress_tracker=tracker)
    pace = _pace()

    def tell(topic: str) -> Callable[[], LLMStream[str]]:
        return lambda: story(prompt or topic)  # The function of the example.

    def tell_cached(text: str) -> Callable[[], LLMStream[str]]:
        return lambda: teller(prompt or text)

    def continuing(text: str) -> Script:
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
            title="3 of 7 · The connection breaks in the middle of a sentence",
            note="OpenAI's connection is cut after 24 words, and again in the next attempt. Anthropic continues the "
            "sentence. It repeats a few words, which are compared and then removed.",
            scripts={
                "openai": Reply(FERRY, fault=Cut(after=24), pace=pace),
                "anthropic": continuing(FERRY),
                "google": continuing(FERRY),
            },
            ask=tell("a ferry in the fog"),
            tracker=story_tracker,
            text=FERRY,
        ),
        Scene(
            title="4 of 7 · The vendor stops sending",
            note=f"OpenAI stops after 30 words and keeps the connection open. After {IDLE:g} seconds of silence (the "
            "`idle` timeout) the request is retried, OpenAI stops again, and Anthropic continues.",
            scripts={
                "openai": Reply(TRAIN, fault=Stall(after=30), pace=pace),
                "anthropic": continuing(TRAIN),
                "google": continuing(TRAIN),
            },
            ask=tell("a night train"),
            tracker=story_tracker,
            text=TRAIN,
            idle=IDLE,
        ),
        Scene(
            title="5 of 7 · Too many requests",
            note="OpenAI answers 429 with Retry-After. The dispatcher waits that long and sends the request again.",
            scripts={"openai": [Reply(fault=HttpError(429, retry_after=0.3)), Reply(BAKERY, pace=pace)]},
            ask=tell("a bakery on market day"),
            tracker=story_tracker,
            text=BAKERY,
        ),
        Scene(
            title="6 of 7 · A cache records an answer",
            note="The answer is recorded while it is read.",
            scripts={"openai": Reply(OWL, pace=pace)},
            ask=tell_cached("Tell a short story about an owl."),
            tracker=tracker,
            text=OWL,
        ),
        Scene(
            title="7 of 7 · Every vendor is down, and the cache answers",
            note="The same prompt, typed a little differently. The recording is the answer: no request is sent, so "
            "there is no ledger.",
            scripts={},
            ask=tell_cached("tell a short story about an owl"),
            tracker=tracker,
            text=OWL,
        ),
    ):
        with use_switch(_with_idle(get_global_switch(), scene.idle)) as switch:
            await _play(screen, vendors, scene, count)
        if scene.idle is not None:
            await switch.aclose()


def _with_idle(switch: LLMSwitch, idle: float | None) -> LLMSwitch:
    """A switch with the same policy and this `idle` timeout. The policy's own is longer than a busy machine pauses."""
    if idle is None:
        return switch
    resilience = switch.policy.resilience
    clocks = structs.replace(resilience.timeouts, idle=idle)
    return LLMSwitch(structs.replace(switch.policy, resilience=structs.replace(resilience, timeouts=clocks)))


async def _play(screen: Screen, vendors: dict[str, SimulatedVendor], scene: Scene, count: Count) -> None:
    _set_scripts(vendors, scene.scripts)
    screen.title(scene.title)
    screen.note(scene.note)
    screen.plan(get_global_switch().explain(TaskRequest("…", task_type=scene.task)))
    stream = scene.ask()
    screen.open(scene.tracker)
    try:
        async for event in stream.events():
            screen.event(event)
    finally:
        screen.close()
    response = stream.response
    screen.ledger(response.attempts)
    _check(screen, count, scene.text, response.text, len(response.attempts))


def _check(screen: Screen, count: Count, expected: str, read: str, attempts: int) -> None:
    count.add(expected, read, attempts)
    screen.note(
        f"✓ all {len(expected)} characters arrived, each once"
        if expected == read
        else "✗ the text is not as expected: please report this"
    )


def _set_scripts(vendors: dict[str, SimulatedVendor], scripts: dict[str, Script]) -> None:
    """Set the vendors' scripts. A vendor without a script in this scene answers 503."""
    for name, vendor in vendors.items():
        vendor.script = scripts.get(name, Reply(fault=HttpError(503)))


def _pace() -> float:
    """Seconds between words: slow enough to watch in a terminal."""
    return 0.03 if sys.stdout.isatty() else 0.002
