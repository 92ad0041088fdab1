"""Print what readers get, and how often a tool runs, when a stream that calls the tool breaks.

    python benchmarks/peers/tool_breaks.py

In each case the first of two vendors breaks once, and the second one is healthy. pydantic-ai has both in a
`FallbackModel` and is read with `run_stream_events`. "Ended early": the connection ends without an error, but before
the vendor has said that the answer is complete. docs/tools.md shows the table, and tests/application/test_documents.py
compares it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final, TypeAlias

from llm_dispatcher import LLM, LLMSwitch, set_global_switch
from llm_dispatcher.testing import CleanEnd, Continuing, Cut, ReceivedRequest, Reply, SaidToolCall, SimulatedVendor

SAID: Final = "I pay it back."
CALL: Final = SaidToolCall("refund", '{"percent": 5}', chunk_size=3)

Fault: TypeAlias = Cut | CleanEnd
Ask: TypeAlias = Callable[[str, str], Coroutine[object, object, str]]

CASES: Final = (
    ("in the text before the call", SAID, 1, 2),
    ("where the call begins", "", 1, 0),
    ("in the arguments of the call", SAID, 1, 6),
    ("in the answer, after the tool has run", SAID, 2, 2),
)
"""Where the stream breaks: in words, the text before the call, the turn, and the pieces of content before the break."""
FAULTS: Final[tuple[tuple[str, type[Fault]], ...]] = (("reset", Cut), ("ended early", CleanEnd))


class Refunds:
    """The tool. It counts its runs."""

    def __init__(self) -> None:
        self.percents: list[int] = []

    def refund(self, percent: int = 100) -> str:
        """Pay back a part of the price."""
        self.percents.append(percent)
        return f"{percent} percent"

    def __str__(self) -> str:
        if not self.percents:
            return "the tool did not run"
        times = {1: "once", 2: "twice"}.get(len(self.percents), f"{len(self.percents)} times")
        wrong = [percent for percent in self.percents if percent != 5]
        return f"the tool ran {times}" + (f" **with {wrong[0]} percent**" if wrong else "")


def script(said: str, fault: Fault | None = None, turn: int = 0) -> Callable[[ReceivedRequest], Reply]:
    """A vendor that calls the tool until it has run, and then answers. Its stream breaks in this turn."""

    def reply(request: ReceivedRequest) -> Reply:
        results = [result.result for message in request.turns for result in message.results]
        paid = next((result for result in results if result.endswith(" percent")), None)
        breaks = fault if turn == (1 if not results else 2) else None
        if paid is None:
            return Reply(Continuing(said)(request).text if said else "", tool_calls=(CALL,), fault=breaks)
        return Reply(Continuing(f"They get {paid} back.")(request).text, fault=breaks)

    return reply


def ours(refunds: Refunds) -> Ask:
    async def ask(first: str, second: str) -> str:
        providers = {
            name: {"kind": "openai", "api": "responses", "api_key": "test-key", "base_url": url, "models": ["m"]}
            for name, url in (("first", first), ("second", second))
        }
        resilience = {"max_retries": 0}
        async with LLMSwitch({"providers": providers, "resilience": resilience}) as switch:
            before = set_global_switch(switch)
            try:
                return await LLM(tools=[refunds.refund])("Pay 5 percent back.")
            finally:
                set_global_switch(before)

    return ask


def pydantic_ai(refunds: Refunds) -> Ask:
    async def ask(first: str, second: str) -> str:
        import openai
        from pydantic_ai import Agent, AgentRunResultEvent, FunctionToolResultEvent, PartDeltaEvent, PartStartEvent
        from pydantic_ai.messages import TextPart, TextPartDelta
        from pydantic_ai.models.fallback import FallbackModel
        from pydantic_ai.models.openai import OpenAIResponsesModel
        from pydantic_ai.providers.openai import OpenAIProvider

        def model(client: openai.AsyncOpenAI) -> OpenAIResponsesModel:
            return OpenAIResponsesModel("m", provider=OpenAIProvider(openai_client=client))

        text = ""
        async with (
            openai.AsyncOpenAI(base_url=first, api_key="test-key", max_retries=0) as one,
            openai.AsyncOpenAI(base_url=second, api_key="test-key", max_retries=0) as two,
        ):
            agent = Agent(FallbackModel(model(one), model(two)), tools=[refunds.refund])
            async with agent.run_stream_events("Pay 5 percent back.") as events:
                async for event in events:
                    match event:
                        case (
                            PartStartEvent(part=TextPart(content=piece))
                            | PartDeltaEvent(delta=TextPartDelta(content_delta=piece))
                        ):
                            text += piece
                        case FunctionToolResultEvent():
                            text += "\n\n"
                        case AgentRunResultEvent():
                            return text
                        case _:
                            pass
        return text

    return ask


def outcome(reader: Callable[[Refunds], Ask], said: str, turn: int, fault: Fault) -> str:
    """What this reader gets, in words."""
    refunds = Refunds()
    with (
        SimulatedVendor("openai-responses", script(said, fault, turn)) as first,
        SimulatedVendor("openai-responses", script(said)) as second,
    ):
        try:
            text = asyncio.run(reader(refunds)(first.base_url, second.base_url))
        except Exception as error:  # noqa: BLE001 - the error is the outcome
            got = f"`{type(error).__name__}`"
        else:
            is_whole = text.split("\n\n") == [*filter(None, [said]), "They get 5 percent back."]
            got = "the whole answer" if is_whole else f"“{' '.join(text.split())}”, reported as complete"
    return f"{got}; {refunds}"


def table() -> str:
    lines = ["| the stream breaks | the connection is | llm_dispatcher | pydantic-ai |", "|---|---|---|---|"]
    for place, said, turn, after in CASES:
        for words, fault in FAULTS:
            cells = (outcome(reader, said, turn, fault(after=after)) for reader in (ours, pydantic_ai))
            lines.append(f"| {place} | {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
