"""The last line of a body may have no line break. It is an event nevertheless."""

from __future__ import annotations

import msgspec

from llm_dispatcher.provider import Ask, Finished
from llm_dispatcher.tasks import Target, TaskRequest
from llm_dispatcher.testing import Wire
from tests.providers.raw_server import Came, raw_server
from tests.providers.test_connections import provider_at

ASK = Ask(TaskRequest("hi"), Target("a", "m"), 5.0)


async def test_the_last_line_is_read_without_its_line_break() -> None:
    text = {"model": "m", "message": {"role": "assistant", "content": "One."}, "done": False}
    end = {"model": "m", "message": {"content": ""}, "done": True, "done_reason": "stop"}
    body = b"\n".join(map(msgspec.json.encode, (text, end)))

    async def answer(came: Came) -> None:
        await came.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )

    async with raw_server(Wire.OLLAMA, answer) as server:
        provider = provider_at(Wire.OLLAMA, server.base_url)
        pieces = [piece async for piece in provider.stream(ASK)]
        await provider.aclose()
    assert [piece for piece in pieces if isinstance(piece, str)] == ["One."]
    assert any(isinstance(piece, Finished) for piece in pieces)
