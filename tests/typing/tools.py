"""Read by mypy and pyright in strict mode, never run: how tools and their policies are written."""

from __future__ import annotations

from functools import partial

from llm_dispatcher import LLM, Deny, RunContext, StreamingCallbacks, StreamMetadata, Tool, llm_stream
from llm_dispatcher.events import ToolCall, ToolResult


def weather(city: str, run: RunContext) -> str:
    return f"{city} {run.turn}"


async def book(seat: str, price: float = 3.0) -> dict[str, float]:
    return {seat: price}


class Shop:
    def order(self, name: str) -> None: ...


def always(call: ToolCall, context: RunContext) -> str:
    return "run" if call.arguments else "stop"


def sometimes(call: ToolCall, context: RunContext) -> str | Deny:
    return Deny("no") if context.turn > 2 else "run"


async def asks(call: ToolCall, context: RunContext) -> str | Deny:
    return always(call, context)


async def asks_and_runs(call: ToolCall, context: RunContext) -> str:
    return always(call, context)


def hear(result: ToolResult, metadata: StreamMetadata) -> None: ...


TOOLS = [weather, book, Shop().order, partial(book, price=2.0), Tool("rain", function=weather), {"name": "look"}]

for policy in (always, sometimes, asks, asks_and_runs):
    LLM(tools=TOOLS, tool_policy=policy, tool_timeout=3, tool_context=Shop())
LLM(tools=TOOLS, tool_policy="report", max_turns=3, max_tool_calls=9, callbacks=StreamingCallbacks(on_tool_result=hear))
LLM(tool_policy=lambda call, context: Deny("no") if call.name == "book" else "run")


@llm_stream(tools=[weather, book], tool_policy=asks)
async def agent(question: str) -> str:
    return question
