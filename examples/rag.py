"""Retrieve, ask, and name the sources. The function's body reads the stream.

python examples/rag.py "What do foxes eat?"
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from llm_dispatcher import LLM, llm_stream

LIBRARY = {
    "foxes.md": "Foxes eat mice, berries, beetles and what people throw away.",
    "owls.md": "Owls hunt at night and swallow mice whole.",
    "lighthouses.md": "A lighthouse keeper once trimmed the wick every four hours.",
}


async def search(question: str) -> list[str]:
    """The names of the two documents that share most words with the question. Query your database here instead."""
    wanted = words(question)
    return sorted(LIBRARY, key=lambda name: len(wanted & words(LIBRARY[name])), reverse=True)[:2]


def words(text: str) -> set[str]:
    return {word.strip(".,?!").lower() for word in text.split()}


@llm_stream(task_type="question_answering", temperature=0.0)
async def answer(llm: LLM, question: str) -> AsyncIterator[str]:
    names = await search(question)
    passages = "\n".join(f"{name}: {LIBRARY[name]}" for name in names)
    async for chunk in llm(f"Answer from these passages only.\n\n{passages}\n\nQuestion: {question}"):
        yield chunk
    yield f"\n\nRead: {', '.join(names)}\n"


async def main(question: str) -> None:
    async for chunk in answer(question):
        print(chunk, end="", flush=True)


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "What do foxes eat?"))
