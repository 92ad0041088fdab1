"""The cost of importing the library and decorating one function, compared with a bare `import asyncio`, in fresh
processes.

python benchmarks/import_time.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 15
BARE = "import asyncio"
OURS = """
from llm_dispatcher import llm_stream, TaskType
@llm_stream(task_type=TaskType.TEXT_GENERATION)
async def story(topic: str) -> str:
    return topic
"""
TIMED = "import time; start = time.process_time()\n{code}\nprint(time.process_time() - start)"


def milliseconds(code: str) -> float:
    done = subprocess.run([sys.executable, "-c", TIMED.format(code=code)], capture_output=True, text=True, check=True)
    return float(done.stdout) * 1e3


def main() -> None:
    milliseconds(OURS)  # writes the byte code, if the folder is writable
    bare, ours = [], []
    for _ in range(ROUNDS):  # in turn, since machines are noisy
        bare.append(milliseconds(BARE))
        ours.append(milliseconds(BARE + OURS))
    asyncio_alone, together = statistics.median(bare), statistics.median(ours)
    print(f"import asyncio {asyncio_alone:.0f} ms; with the library and one decoration {together:.0f} ms")
    print(f"over asyncio: {together - asyncio_alone:.0f} ms (to be 50 or less)")


if __name__ == "__main__":
    main()
