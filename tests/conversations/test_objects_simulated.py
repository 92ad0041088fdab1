"""Objects in the simulated event loop: vendors that break, lie and disagree, and readers that leave, in any order."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from llm_dispatcher import LLM, _clock
from llm_dispatcher.exceptions import InvalidOutputError, LLMDispatcherError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import CleanEnd, Cut, ErrorFrame, HttpError, ReceivedRequest, Reply, Stall, Turn
from tests.conversations.test_objects_json import grows


class Line(BaseModel):
    name: str
    price: float


class Invoice(BaseModel):
    title: str
    lines: list[Line]
    paid: bool


ONE: dict[str, Any] = {
    "title": 'Lamps, "bright" {ones}',
    "lines": [{"name": "wick", "price": 1.25}, {"name": "oil, ☼", "price": 12}, {"name": "glass", "price": 130}],
    "paid": True,
}
ANOTHER: dict[str, Any] = {**ONE, "lines": [*ONE["lines"][:2], {"name": "cord", "price": 7}], "paid": False}
VALUES = [ONE, ANOTHER]
WHOLE = [Invoice.model_validate(value) for value in VALUES]
LIES = ["", "no JSON at all", json.dumps({**ONE, "paid": "perhaps"}), json.dumps(ONE)[:-9]]


def answer(request: ReceivedRequest | Turn) -> Reply:
    """One of the two objects, or a lie, which may break anywhere."""
    drawn = _clock.random()
    text = LIES[int(drawn * 100) % len(LIES)] if drawn < 0.2 else json.dumps(VALUES[int(drawn * 100) % 2])
    size = 1 + int(_clock.uniform(0, 9))
    at = int(_clock.uniform(0, len(text) // size))
    faults = [None, None, HttpError(503), Cut(at), CleanEnd(at), ErrorFrame(at), Stall(at)]
    fault: Any = faults[int(_clock.uniform(0, len(faults) if text else 3))]
    return Reply(text, chunk_size=size, pace=_clock.uniform(0, 0.05), fault=fault)


class Play:
    """Readers of objects, and what they have seen."""

    def __init__(self) -> None:
        self.llm = LLM(timeout=120).into(Invoice)
        self.ends: Counter[str] = Counter()

    async def read(self, how: str) -> None:
        stream = self.llm("Read the invoice.")
        try:
            await getattr(self, how)(stream)
        except InvalidOutputError as error:
            self.ends["invalid" if error.errors and error.text in LIES else "wrongly refused"] += 1
        except LLMDispatcherError:
            self.ends["failed"] += 1
        else:
            assert await stream.parsed() in WHOLE
            self.ends["whole"] += 1

    async def parsed(self, stream: Any) -> None:
        assert await stream.parsed() in WHOLE

    async def partials(self, stream: Any) -> None:
        last: Any = None
        async for partial in stream.partials():
            assert partial != last
            is_wrong = partial.get("paid") == "perhaps"  # a value of the wrong type: the whole answer is refused
            assert is_wrong or any(grows(partial, value) for value in VALUES)
            last = partial
        assert last in VALUES
        assert Invoice.model_validate(last) == await stream.parsed()

    async def items(self, stream: Any) -> None:
        items = [item async for item in stream.items()]
        assert items == (await stream.parsed()).lines

    async def leave(self, stream: Any) -> None:
        left = int(_clock.uniform(1, 6))
        async with stream:
            async for _ in stream.partials():
                left -= 1
                if not left:
                    break
        if not stream.response.finish_reason or stream.response.finish_reason == "cancelled":
            raise asyncio.CancelledError  # only what was read to its end has an object


@pytest.mark.simulated(seeds=80)
async def test_readers_of_objects_get_a_whole_one_or_an_error(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(openai=answer, anthropic=answer)
    play, before = Play(), asyncio.all_tasks()
    hows = ["parsed", "partials", "items", "leave"] * 2
    ends = await asyncio.gather(*map(play.read, hows), return_exceptions=True)
    assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends), ends
    assert asyncio.all_tasks() == before
    assert "wrongly refused" not in play.ends
    assert play.ends.total() + sum(end is not None for end in ends) == len(hows)
