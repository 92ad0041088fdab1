"""Answers for browsers: `uvicorn --app-dir examples fastapi_app:app`, then `curl -N localhost:8000/story?topic=foxes`.

When a reader closes the page, the vendor's connection is closed too, so you do not pay for text that nobody reads.
"""

from collections.abc import AsyncIterator

import msgspec
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from llm_dispatcher import llm_stream
from llm_dispatcher.events import Event

app = FastAPI()


@llm_stream(timeout=60)
def tell(topic: str) -> str:
    return f"Tell a short story about {topic}."


@app.get("/story")
async def story(topic: str) -> StreamingResponse:
    """The text, as it arrives."""
    return StreamingResponse(tell(topic), media_type="text/plain; charset=utf-8")


@app.get("/events")
async def events(topic: str) -> StreamingResponse:
    """All events of the stream, as server-sent events. If the stream fails, the failure is the last one."""
    return StreamingResponse(frames(tell(topic).events()), media_type="text/event-stream")


async def frames(stream: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    async for event in stream:
        yield b"data: " + msgspec.json.encode(event) + b"\n\n"
