"""Print what readers of a growing object get when its stream breaks, or when the object does not follow its type.

    python benchmarks/peers/object_breaks.py

In each case the first of two vendors fails once, and the second one is healthy. pydantic-ai has both in a
`FallbackModel` and is read with `run_stream` and `stream_output`. A value counts as wrong if a partial object has it
and the whole object does not. docs/objects.md shows the table, and tests/application/test_documents.py compares it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

from llm_dispatcher import LLM, LLMSwitch, use_switch
from llm_dispatcher.testing import CleanEnd, Cut, ReceivedRequest, Reply, SimulatedVendor


class Line(BaseModel):
    name: str
    price: float = 0


class Invoice(BaseModel):
    customer: str
    lines: list[Line]
    paid: bool = True


VALUE: Final = {
    "customer": "Sun & Sons",
    "lines": [{"name": "lamp", "price": 120}, {"name": "oil", "price": 12.5}],
    "paid": False,
}
WHOLE: Final = Reply(json.dumps(VALUE), chunk_size=6)
WRONG: Final = Reply(json.dumps({**VALUE, "paid": "perhaps"}), chunk_size=6)

CASES: Final = (
    ("all goes well", WHOLE),
    ("the connection is reset in the object", Reply(WHOLE.text, chunk_size=6, fault=Cut(after=8))),
    ("the connection ends early in the object", Reply(WHOLE.text, chunk_size=6, fault=CleanEnd(after=8))),
    ("the object does not follow its type", WRONG),
)

Read: TypeAlias = Callable[[str, str], AsyncIterator[dict[str, Any]]]


async def ours(first: str, second: str) -> AsyncIterator[dict[str, Any]]:
    providers = {
        name: {"kind": "openai", "api": "responses", "api_key": "test-key", "base_url": url, "models": ["m"]}
        for name, url in (("first", first), ("second", second))
    }
    async with LLMSwitch({"providers": providers, "resilience": {"max_retries": 0}}) as switch:
        with use_switch(switch):
            async for partial in LLM().into(Invoice)("Read the invoice.").partials():
                yield partial


async def pydantic_ai(first: str, second: str) -> AsyncIterator[dict[str, Any]]:
    import openai
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    def model(client: openai.AsyncOpenAI) -> OpenAIResponsesModel:
        return OpenAIResponsesModel("m", provider=OpenAIProvider(openai_client=client))

    async with (
        openai.AsyncOpenAI(base_url=first, api_key="test-key", max_retries=0) as one,
        openai.AsyncOpenAI(base_url=second, api_key="test-key", max_retries=0) as two,
    ):
        agent = Agent(FallbackModel(model(one), model(two)), output_type=NativeOutput(Invoice))
        async with agent.run_stream("Read the invoice.") as run:
            async for invoice in run.stream_output(debounce_by=None):
                yield invoice.model_dump(mode="json")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """The values in an object that are no objects or lists, with their places."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, f"{path}.{key}")
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from leaves(each, f"{path}[{place}]")
    else:
        yield path, value


async def outcome(read: Read, reply: Reply) -> str:
    """What a reader gets, in words."""
    answers = [reply, WHOLE]

    def script(request: ReceivedRequest) -> Reply:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    right, wrong = set(leaves(VALUE)), set()
    last: dict[str, Any] | None = None
    got = "the whole object"
    with SimulatedVendor("openai-responses", script) as first, SimulatedVendor("openai-responses", WHOLE) as second:
        try:
            async for partial in read(first.base_url, second.base_url):
                wrong |= {leaf for leaf in leaves(partial) if leaf not in right}
                last = partial
        except Exception as error:  # noqa: BLE001 - the error is the outcome
            got = f"`{type(error).__name__}`"
        else:
            got = got if last == VALUE else f"{last}, reported as complete"
    return f"{got}; wrong values: {', '.join(f'`{path[1:]}={value!r}`' for path, value in sorted(wrong)) or 'none'}"


def table() -> str:
    lines = ["| | llm_dispatcher, `partials()` | pydantic-ai, `run_stream` |", "|---|---|---|"]
    for words, reply in CASES:
        cells = [asyncio.run(outcome(read, reply)) for read in (ours, pydantic_ai)]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
