"""A custom provider: `pip install ./examples/custom_provider`, and `kind: echo` is known in every policy.

It answers with the words of the prompt. The "vendor" is a list of JSON lines in memory; a real provider would make a
client in `open_client`, send the request with it in `send`, and pass the bytes of the response on.
"""

import json
from collections.abc import Iterable

from llm_dispatcher.events import Usage, UsageReport
from llm_dispatcher.provider import Ask, CheckResult, Finished, Piece
from llm_dispatcher.provider.kit import BaseProvider, Decoder, NDJSONDecoder, OpenResponse, tokens


class EchoDecoder:
    """Decodes one answer: each event of the vendor becomes pieces."""

    def __init__(self) -> None:
        self.ended = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        event = json.loads(data)
        if "text" in event:
            yield event["text"]
        if "usage" in event:
            usage = event["usage"]
            yield UsageReport(Usage(tokens(usage, "input"), tokens(usage, "output"), source="reported"))
        if event.get("done"):
            self.ended = True
            yield Finished("stop", "done")  # without this the stream would count as cut off


class EchoProvider(BaseProvider[None]):
    """A client would be the type in the brackets; this vendor needs none."""

    async def send(self, client: None, ask: Ask) -> OpenResponse:
        words = ask.request.conversation[-1].text.split()
        events: list[object] = [{"text": f" {word}" if number else word} for number, word in enumerate(words)]
        events.append({"usage": {"input": len(words), "output": len(words)}, "done": True})
        lines = [json.dumps(event).encode() + b"\n" for event in events]

        async def read() -> bytes:
            return lines.pop(0) if lines else b""

        return OpenResponse(read=read, splitter=NDJSONDecoder(), close=lines.clear)

    def decoder(self, ask: Ask) -> Decoder:
        return EchoDecoder()

    async def check(self) -> CheckResult:
        return CheckResult(ok=True, message="ok")

    async def models(self) -> list[str]:
        return ["words"]
