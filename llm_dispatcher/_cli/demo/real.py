"""The demo on real vendors: says what it will ask and what that may cost, and then does it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import redirect_stdout
from pathlib import Path

from ... import _catalog as catalog
from ..._llm import LLM
from ..._serving.current import set_global_switch
from ..._serving.switch import LLMSwitch
from ..._tokens import estimated_tokens
from ..._usage import Usage
from ...events import TaskResponse
from ...streaming import ProgressTracker
from ...tasks import Target, TaskRequest
from ..printing import say_json
from ..show import Show
from .screen import show_on

MAX_TOKENS = 500


def real_demo(config: Path, prompt: str, *, as_json: bool = False) -> int:
    """Ask one question by a policy; 0 if the answer came whole. As JSON it says so, and shows elsewhere."""
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        response = asyncio.run(_ask(config, prompt))
    read, attempts = len(response.text), len(response.attempts)
    if as_json:
        say_json({"read": read, "attempts": attempts, "cost": response.cost, "whole": response.error is None})
    else:
        print(f"characters read {read}, attempts {attempts}")  # noqa: T201 - its answer
    return 0 if response.error is None else 1


async def _ask(config: Path, prompt: str) -> TaskResponse:
    show = show_on(sys.stdout)
    tracker = ProgressTracker()
    async with LLMSwitch(config) as switch:
        set_global_switch(switch)
        show.title(f"Real vendors, by {config}")
        decided = switch.explain(TaskRequest(prompt, max_tokens=MAX_TOKENS))
        show.plan(decided)
        for target in decided.targets:
            show.note(_may_cost(switch, target, prompt))
        stream = LLM(progress_tracker=tracker, max_tokens=MAX_TOKENS)(prompt)
        show.open(tracker)
        try:
            async for event in stream.events():
                show.event(event)
        finally:
            show.close()
        response = stream.response
        _summary(show, response.cost)
        show.ledger(response.attempts)
    return response


def _may_cost(switch: LLMSwitch, target: Target, prompt: str) -> str:
    settings = switch.policy.providers.get(target.provider)
    usage = Usage(input_tokens=estimated_tokens(prompt), output_tokens=MAX_TOKENS)
    most = None if settings is None else catalog.cost(settings.kind, settings.vendor_model(target.model), usage)
    cost = "an unknown amount" if most is None else f"${most:.4f}"
    return f"{target} may cost up to {cost} an attempt ({MAX_TOKENS} tokens of answer at most)"


def _summary(show: Show, cost: float | None) -> None:
    show.note("its cost is not known" if cost is None else f"it cost ${cost:.6f}")
