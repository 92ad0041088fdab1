"""How long the join takes for long repetitions: in all, and for its slowest piece.

Run it with `python benchmarks/joining.py`. No time may grow faster than the length of the text: each line is also given
for a tenth of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

from llm_dispatcher._dispatch.continuation import CONTINUE_PROMPT
from llm_dispatcher._join.join import Join, anchor_of

LENGTH = 200_000
PIECE = 4


def numbered(length: int) -> str:
    """A text without equal lines."""
    lines: list[str] = []
    while sum(map(len, lines[-1:])) + len(lines) * 28 < length:
        lines.append(f"Line {len(lines)} of a long text.\n")
    return "".join(lines)[:length].rstrip()


def cases(length: int) -> Iterator[tuple[str, str, str]]:
    """A name, the delivered text, and the continuing model's text."""
    text = numbered(length)
    yield "restart", text, text + " The end."
    yield "restart after a remark", text, "Here it is again:\n\n" + text + " The end."
    words = text.split(" ")
    for place in range(50, len(words), 50):
        words[place] = "otherwise"
    yield "restart with other words", text, " ".join(words) + " The end."
    yield "passage from the middle", text, text[length // 2 :] + " The end."
    yield "anchor", text, anchor_of(text) + " The end." * (length // 10)
    yield (
        "anchor, then our words",
        text,
        anchor_of(text) + " go on from there, and the end of it" * (length // 36),
    )
    yield "anchor, then our marks", text, f"<<<{anchor_of(text)}" + " <<< > >>> <<" * (length // 13)
    yield "exact rest", text, "Something else. " * (length // 20)
    refrain = ("la la la, la la. " * (length // 17 + 1))[:length]
    yield "refrain, restart", refrain, refrain + "The end."
    yield "refrain, passage", "x " + refrain, refrain[5:] + "The end."
    yield "one letter", "a" * length, "a" * length + "b"
    near = "ab" * (length // 4) + "c" + "ab" * (length // 4)
    yield "nearly a refrain", near, "ab" * (length // 4) + "d"
    yield "marks", "\u0301" * length, "e" + "\u0301" * length
    yield "dashes", "-" * length, "-" * length + "."
    vowelled = "كَتَّبَ الدَّرْسَ ثُمَّ قَرَأَهُ. " * (length // 40) + text[: length // 4]
    yield "vowelled, restart", vowelled, vowelled + " The end."


def measured(delivered: str, continuation: str, piece: int) -> tuple[float, float]:
    """Seconds of the processor: in all, and for the slowest piece."""
    times = [time.process_time()]
    join = Join(delivered, "anchored", prompt=CONTINUE_PROMPT)
    times.append(time.process_time())
    for start in range(0, len(continuation), piece):
        join.feed(continuation[start : start + piece])
        times.append(time.process_time())
    join.close()
    times.append(time.process_time())
    return times[-1] - times[0], max(after - before for before, after in pairwise(times))


def main() -> None:
    print(f"{'':28}{'a tenth: s':>12}{'all: s':>10}{'slowest piece: ms':>20}{'in one piece: s':>18}")
    for tenth, whole in zip(cases(LENGTH // 10), cases(LENGTH), strict=True):
        name, delivered, continuation = whole
        seconds, slowest = measured(delivered, continuation, PIECE)
        print(
            f"{name:28}{measured(*tenth[1:], PIECE)[0]:12.3f}{seconds:10.3f}{slowest * 1000:20.1f}"
            f"{measured(delivered, continuation, len(continuation))[0]:18.3f}"
        )


if __name__ == "__main__":
    main()
