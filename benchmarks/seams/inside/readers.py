"""The peers, each as its own documentation says. Runs in `.seams/peers`, one process a peer.

python readers.py PEER FIRST_URL FIRST_MODEL SECOND_URL SECOND_MODEL SECOND_KIND

A line on standard input is a request, a line on standard output is what its reader got. FIRST is the server whose
stream is cut; SECOND is the fallback, if the peer has one.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

PATIENCE = 300.0
"""Seconds of every clock: the machine is busy, and no peer is to fail by that."""

Read = Callable[[str, int], AsyncIterator[str]]


def openai_sdk(first: str, model: str, second: str, second_model: str, kind: str) -> Read:
    import openai

    client = openai.AsyncOpenAI(api_key="none", base_url=first, timeout=PATIENCE)

    async def read(prompt: str, max_tokens: int) -> AsyncIterator[str]:
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True, temperature=0,
            max_tokens=max_tokens,
        )  # fmt: skip
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    return read


def pydantic_ai(first: str, model: str, second: str, second_model: str, kind: str) -> Read:
    from pydantic_ai import Agent
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    both = FallbackModel(
        OpenAIChatModel(model, provider=OpenAIProvider(base_url=first, api_key="none")),
        OpenAIChatModel(second_model, provider=OpenAIProvider(base_url=second, api_key="none")),
    )
    agent = Agent(both)

    async def read(prompt: str, max_tokens: int) -> AsyncIterator[str]:
        settings: Any = {"temperature": 0, "max_tokens": max_tokens, "timeout": PATIENCE}
        async with agent.run_stream(prompt, model_settings=settings) as result:
            async for piece in result.stream_text(delta=True, debounce_by=None):
                yield piece

    return read


def litellm_router(first: str, model: str, second: str, second_model: str, kind: str) -> Read:
    """LiteLLM's Router with its continuation in mid-stream switched on.

    The fallback is declared to continue an assistant's last turn, as both servers do. vLLM does so only if the request
    says so, hence `extra_body` of the fallback's deployment.
    """
    import litellm

    litellm.suppress_debug_info = True
    flags = {"extra_body": {"continue_final_message": True, "add_generation_prompt": False}} if kind == "vllm" else {}
    can = {"supports_assistant_prefill": True}
    common = {"api_key": "none", "timeout": PATIENCE}
    router = litellm.Router(
        model_list=[
            {
                "model_name": "first",
                "litellm_params": {"model": f"openai/{model}", "api_base": first, **common},
                "model_info": can,
            },
            {
                "model_name": "second",
                "litellm_params": {"model": f"openai/{second_model}", "api_base": second, **common, **flags},
                "model_info": can,
            },
        ],
        fallbacks=[{"first": ["second"]}],
        enable_mid_stream_fallback_continuation=True,
    )

    async def read(prompt: str, max_tokens: int) -> AsyncIterator[str]:
        messages: Any = [{"role": "user", "content": prompt}]
        stream: Any = await router.acompletion(
            "first", messages=messages, stream=True, temperature=0, max_tokens=max_tokens
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    return read


READERS = {"openai": openai_sdk, "pydantic-ai": pydantic_ai, "litellm": litellm_router}


async def main() -> None:
    read = READERS[sys.argv[1]](*sys.argv[2:])
    print(json.dumps("ready"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        text, outcome = "", "complete"
        try:
            async for piece in read(request["prompt"], request["max_tokens"]):
                text += piece
        except Exception as error:  # noqa: BLE001 - whatever the peer raises is its outcome
            outcome = type(error).__name__
        print(json.dumps({"text": text, "outcome": outcome}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
