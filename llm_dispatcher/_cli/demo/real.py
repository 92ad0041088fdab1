"""The demo on real vendors: shows the plan and its maximum cost, and then sends the request."""

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
from .screen import Screen, screen_on

MAX_TOKENS = 500


def real_demo(config: Path, prompt: str, *, as_json: bool = False) -> int:
    """Send one prompt with a policy. The exit code is 0 if the answer is complete.

    With `as_json`, the result is JSON on standard output, and the demo is shown on standard error.
    """
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        response = asyncio.run(_ask(config, prompt))
    read, attempts = len(response.text), len(response.attempts)
    if as_json:
        say_json({"read": read, "attempts": attempts, "cost": response.cost, "whole": response.error is None})
    else:
        print(f"characters read {read}, attempts {attempts}")  # noqa: T201 - the demo's answer
    return 0 if response.error is None else 1


async def _ask(config: Path, prompt: str) -> TaskResponse:
    screen = screen_on(sys.stdout)
    tracker = ProgressTracker()
    async with LLMSwitch(config) as switch:
        set_global_switch(switch)
        screen.title(f"Real vendors, with the policy {config}")
        plan = switch.explain(TaskRequest(prompt, max_tokens=MAX_TOKENS))
        screen.plan(plan)
        for target in plan.targets:
            screen.note(_maximum_cost(switch, target, prompt))
        stream = LLM(progress_tracker=tracker, max_tokens=MAX_TOKENS)(prompt)
        screen.open(tracker)
        try:
            async for event in stream.events():
                screen.event(event)
        finally:
            screen.close()
        response = stream.response
        _summary(screen, response.cost)
        screen.ledger(response.attempts)
    return response


def _maximum_cost(switch: LLMSwitch, target: Target, prompt: str) -> str:
    settings = switch.policy.providers.get(target.provider)
    usage = Usage(input_tokens=estimated_tokens(prompt), output_tokens=MAX_TOKENS)
    most = None if settings is None else catalog.cost(settings.kind, settings.vendor_model(target.model), usage)
    cost = "an unknown amount" if most is None else f"${most:.4f}"
    return f"{target} may cost up to {cost} an attempt ({MAX_TOKENS} tokens of answer at most)"


def _summary(screen: Screen, cost: float | None) -> None:
    screen.note("the cost is unknown" if cost is None else f"cost: ${cost:.6f}")
