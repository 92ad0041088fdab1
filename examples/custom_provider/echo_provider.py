"""A provider of one's own: `pip install ./examples/custom_provider`, and `kind: echo` is known in every policy.

This one says what it was told, word by word. A real one would open a connection in `stream` and close it there.
"""

from collections.abc import AsyncGenerator

from llm_dispatcher.events import Usage, UsageReport
from llm_dispatcher.provider import Ask, Finished, Opened, Piece, ProviderSettings


class EchoProvider:
    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings

    async def prepare(self) -> None:
        """Called before each attempt, on no vendor's clock: the place to make a client."""

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        words = ask.request.conversation[-1].text.split()
        for number, word in enumerate(words):
            yield f" {word}" if number else word
        yield UsageReport(Usage(input_tokens=len(words), output_tokens=len(words), source="reported"))
        yield Finished("stop", None)  # without this word the stream would count as cut short

    async def aclose(self) -> None:
        """Close what `prepare` made."""
