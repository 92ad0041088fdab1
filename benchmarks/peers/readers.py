"""Clients that read one stream, each as its own documentation says: this library, the raw SDKs, and its peers.

`benchmarks/fault_matrix.py` runs this file, one process a client, each in the environment that has the client. A line
on standard input is a prompt; a line on standard output is the result. If there is a fallback, it is asked at
the second address. Each client that has a clock between reads is given one of a second.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

CLOCK = 1.0
PATIENCE = 6.0
"""After this many seconds without a chunk, a stream counts as hanging."""

Read = Callable[[str], AsyncIterator[str]]


def ours(first: str, second: str, wire: str) -> Read:
    from llm_dispatcher import LLMSwitch, TaskRequest

    kinds: dict[str, dict[str, Any]] = {
        "openai-chat": {"kind": "openai", "api": "chat"},
        "openai-responses": {"kind": "openai", "api": "responses"},
        "anthropic": {"kind": "anthropic"},
        "google": {"kind": "google"},
        "ollama": {"kind": "ollama"},
    }
    providers = {
        name: {**kinds[wire], "base_url": url, "api_key": "test-key", "models": ["m"]}
        for name, url in (("a", first), ("b", second))
    }
    # One client meets every fault here, one after the other: its breaker would soon leave the first vendor alone.
    resilience = {
        "max_retries": 0,
        "timeouts": {"first_token": CLOCK, "idle": CLOCK, "total": 60},
        "breaker": {"failures": None},
    }
    switch = LLMSwitch({"providers": providers, "resilience": resilience})
    return lambda prompt: aiter(switch.stream_request(TaskRequest(prompt)))


def openai_chat(first: str, second: str, wire: str) -> Read:
    import openai

    client = openai.AsyncOpenAI(api_key="test-key", base_url=first, max_retries=0, timeout=CLOCK)

    async def read(prompt: str) -> AsyncIterator[str]:
        messages: Any = [{"role": "user", "content": prompt}]
        async for chunk in await client.chat.completions.create(model="m", messages=messages, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    return read


def openai_responses(first: str, second: str, wire: str) -> Read:
    import openai

    client = openai.AsyncOpenAI(api_key="test-key", base_url=first, max_retries=0, timeout=CLOCK)

    async def read(prompt: str) -> AsyncIterator[str]:
        async for event in await client.responses.create(model="m", input=prompt, stream=True):
            if event.type == "response.output_text.delta":
                yield event.delta

    return read


def anthropic(first: str, second: str, wire: str) -> Read:
    import anthropic as sdk

    client = sdk.AsyncAnthropic(api_key="test-key", base_url=first, max_retries=0, timeout=CLOCK)

    async def read(prompt: str) -> AsyncIterator[str]:
        messages: Any = [{"role": "user", "content": prompt}]
        async with client.messages.stream(model="m", max_tokens=500, messages=messages) as stream:
            async for text in stream.text_stream:
                yield text

    return read


def google(first: str, second: str, wire: str) -> Read:
    from google import genai
    from google.genai import types

    options = types.HttpOptions(
        base_url=first, timeout=int(CLOCK * 1000), retry_options=types.HttpRetryOptions(attempts=1)
    )
    client = genai.Client(api_key="test-key", http_options=options)

    async def read(prompt: str) -> AsyncIterator[str]:
        async for chunk in await client.aio.models.generate_content_stream(model="m", contents=prompt):
            if chunk.text:
                yield chunk.text

    return read


def litellm(first: str, second: str, wire: str) -> Read:
    import litellm as peer

    peer.suppress_debug_info = True

    def entry(name: str, url: str) -> Any:
        params = {"model": "openai/m", "api_base": url, "api_key": "test-key", "timeout": CLOCK}
        return {"model_name": name, "litellm_params": {**params, "stream_timeout": CLOCK}}

    # Otherwise the router would skip a deployment that failed for the faults that follow.
    router = peer.Router(
        model_list=[entry("a", first), entry("b", second)],
        fallbacks=[{"a": ["b"]}],
        num_retries=0,
        disable_cooldowns=True,
    )

    async def read(prompt: str) -> AsyncIterator[str]:
        messages: Any = [{"role": "user", "content": prompt}]
        async for chunk in await router.acompletion(model="a", messages=messages, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    return read


def pydantic_ai(first: str, second: str, wire: str) -> Read:
    import openai
    from pydantic_ai import Agent
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    def model(url: str) -> Any:
        client = openai.AsyncOpenAI(api_key="test-key", base_url=url, max_retries=0, timeout=CLOCK)
        return OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client))

    agent = Agent(FallbackModel(model(first), model(second)))

    async def read(prompt: str) -> AsyncIterator[str]:
        async with agent.run_stream(prompt) as run:
            async for text in run.stream_text(delta=True, debounce_by=None):
                yield text

    return read


def langchain(first: str, second: str, wire: str) -> Read:
    from langchain_openai import ChatOpenAI

    def model(url: str) -> Any:
        options: Any = {"model": "m", "api_key": "test-key", "base_url": url, "max_retries": 0, "timeout": CLOCK}
        return ChatOpenAI(**options)

    chain = model(first).with_fallbacks([model(second)])

    async def read(prompt: str) -> AsyncIterator[str]:
        async for chunk in chain.astream(prompt):
            if chunk.content:
                yield str(chunk.content)

    return read


CLIENTS: dict[str, Callable[[str, str, str], Read]] = {
    "ours": ours,
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
    "anthropic": anthropic,
    "google": google,
    "litellm": litellm,
    "pydantic-ai": pydantic_ai,
    "langchain": langchain,
}


async def outcome(read: Read, prompt: str) -> dict[str, Any]:
    """The delivered text, and the outcome that the reader saw."""
    came: list[str] = []

    async def whole() -> None:
        async for text in read(prompt):
            came.append(text)

    began = time.monotonic()
    task = asyncio.create_task(whole())
    done, _ = await asyncio.wait({task}, timeout=PATIENCE)
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=1)
        outcome = "hangs"
    else:
        error = task.exception()
        outcome = "complete" if error is None else f"error: {type(error).__name__}"
    return {"text": "".join(came), "outcome": outcome, "seconds": round(time.monotonic() - began, 2)}


async def main(client: str, first: str, second: str, wire: str, *, out: Any) -> None:
    read = CLIENTS[client](first, second, wire)
    loop = asyncio.get_running_loop()
    print(json.dumps({"ready": True}), file=out, flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await outcome(read, json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries may print
    asyncio.run(main(*sys.argv[1:5], out=answers))
    os._exit(0)  # without waiting for threads that hang
