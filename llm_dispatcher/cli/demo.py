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
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, structs

from ..cache import StreamingCache
from ..llm import LLM
from ..stream import LLMStream
from ..streaming import ProgressTracker
from ..switch import LLMSwitch, get_global_switch, set_global_switch
from ..tasks import TaskRequest, TaskType
from ..testing import Continuing, Cut, HttpError, Reply, Script, SimulatedVendor, Stall
from .out import say_json
from .show import Show, show_on

KEY: Final = "simulated"
VENDORS: Final = {
    "openai": ("openai-responses", "gpt-simulated"),
    "anthropic": ("anthropic", "claude-simulated"),
    "google": ("google", "gemini-simulated"),
}

STORY: Final = (
    "Every evening the keeper climbed the ninety-nine steps, trimmed the wick, and read the sea its bedtime story. "
    "One night the lamp went dark in the middle of a sentence. Before the first wave could ask what came next, "
    "the lighthouse across the bay took up the line exactly where it had stopped, and the ships sailed on, "
    "none the wiser. “We never read the same word twice,” said the keeper in the morning, “and we never skip one.”"
)
CODE: Final = (
    "def fibonacci(n: int) -> int:\n"
    '    """The n-th number of the sequence."""\n'
    "    a, b = 0, 1\n"
    "    for _ in range(n):\n"
    "        a, b = b, a + b\n"
    "    return a\n"
)


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


class Scene(Struct):
    """One thing to see: what the vendors do, what is asked, and the text that the reader is owed."""

    title: str
    task: TaskType
    scripts: dict[str, Script]
    ask: Callable[[], LLMStream[str]]
    tracker: ProgressTracker
    text: str


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
        show.title("These vendors are simulated")
        show.note(
            "Three servers on this machine speak the wires of OpenAI, Anthropic and Google, through their official"
        )
        show.note("SDKs. They say what they are told to, and break when they are told to. No key, no network, no bill.")
        example = _run_example(show, vendors, count)
        asyncio.run(_scenes(show, vendors, example, prompt, count))
    show.title("What came of it")
    return count


@contextlib.contextmanager
def _environment(vendors: dict[str, SimulatedVendor]) -> Generator[None, None, None]:
    """The variables that config/demo.yaml names; with them, any program would find these vendors."""
    before = dict(os.environ)
    os.environ.update({f"SIMULATED_{name.upper()}": vendor.base_url for name, vendor in vendors.items()})
    os.environ.update(SIMULATED_KEY=KEY, LLM_DISPATCHER_CONFIG=str(_file("config/demo.yaml")))
    set_global_switch(None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        set_global_switch(None)


def _file(name: str) -> Path:
    """A file of the repository, which an installed package has beside this one."""
    packaged = Path(__file__).parent / "files" / Path(name).name
    return packaged if packaged.exists() else Path(__file__).parents[2] / name


def _run_example(show: Show, vendors: dict[str, SimulatedVendor], count: Count) -> dict[str, Any]:
    """Run the README's example as it stands, and count what it prints."""
    _tell(vendors, {"openai": Reply(STORY, pace=_pace())})
    show.title("1 · Your first stream: examples/first_stream.py, as it stands")
    show.plan(LLMSwitch().explain(TaskRequest("Tell a short story about a lighthouse keeper.")))
    heard = _Tee(sys.stdout)
    with contextlib.redirect_stdout(heard):
        example = runpy.run_path(str(_file("examples/first_stream.py")), run_name="__main__")
    print()  # noqa: T201 - the example ends without a line end
    count.add(STORY, heard.getvalue(), sum(len(vendor.requests) for vendor in vendors.values()))
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
    story: Any = example["story"]
    tracker = ProgressTracker()
    coder = LLM(task_type=TaskType.CODE_GENERATION, progress_tracker=tracker)
    teller = LLM(cache=StreamingCache(), progress_tracker=tracker)
    topic = prompt or "a lighthouse keeper"
    pace = _pace()
    rest = Continuing(STORY, reply=Reply(pace=pace))

    def tell_story() -> LLMStream[str]:
        return story(topic)  # type: ignore[no-any-return]  # the example's own function

    def tell_once() -> LLMStream[str]:
        return teller(f"Tell a short story about {topic}.")

    def tell_again() -> LLMStream[str]:
        return teller(f"tell a short story about {topic}" if prompt is None else f"Tell a short story about {topic}.")

    def write_code() -> LLMStream[str]:
        return coder("Write a function for the n-th Fibonacci number.")

    def broken(fault: Any) -> Reply:
        return Reply(STORY, fault=fault, pace=pace)

    said = story.progress_tracker
    limited = Reply(fault=HttpError(429, retry_after=0.3))
    text = TaskType.TEXT_GENERATION
    code = TaskType.CODE_GENERATION
    for scene in (
        Scene("2 · Code goes elsewhere", code, {"anthropic": Reply(CODE, pace=pace)}, write_code, tracker, CODE),
        Scene(
            "3 · The speaker is cut off in mid-sentence, and another finishes it",
            text,
            {"openai": broken(Cut(after=24)), "anthropic": rest, "google": rest},
            tell_story,
            said,
            STORY,
        ),
        Scene(
            "4 · The speaker falls silent",
            text,
            {"openai": broken(Stall(after=40)), "anthropic": rest},
            tell_story,
            said,
            STORY,
        ),
        Scene(
            "5 · Too many requests: the vendor says when to come back",
            text,
            {"openai": [limited, Reply(STORY, pace=pace)]},
            tell_story,
            said,
            STORY,
        ),
        Scene("6 · With a cache: asked once", text, {"openai": Reply(STORY, pace=pace)}, tell_once, tracker, STORY),
        Scene("7 · Asked again, typed otherwise, and every vendor is down", text, {}, tell_again, tracker, STORY),
    ):
        await _play(show, vendors, scene, count)


async def _play(show: Show, vendors: dict[str, SimulatedVendor], scene: Scene, count: Count) -> None:
    _tell(vendors, scene.scripts)
    show.title(scene.title)
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
    count.add(scene.text, response.text, len(response.attempts))


def _tell(vendors: dict[str, SimulatedVendor], scripts: dict[str, Script]) -> None:
    """Give the vendors their scripts; one that has none in this scene is out of order."""
    for name, vendor in vendors.items():
        vendor.script = scripts.get(name, Reply(fault=HttpError(503)))


def _pace() -> float:
    """Slow enough to watch, where somebody does."""
    return 0.03 if sys.stdout.isatty() else 0.002
