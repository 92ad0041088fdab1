"""How fast a cache of 100,000 prompts is, and whether its index finds the same as a search through every entry.

python benchmarks/cache_speed.py [ENTRIES]
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable

from llm_dispatcher.cache._english.lexicon import lexicon
from llm_dispatcher.cache._english.likeness import LIKE, compare, read
from llm_dispatcher.cache._index import OVERHEAD, Index
from llm_dispatcher.cache._request_key import RequestKey, request_key
from llm_dispatcher.cache._store import Entry
from llm_dispatcher.tasks import Target, TaskRequest

TARGETS = (Target("openai", "m"), Target("anthropic", "m"))
RECORDING = 2000
QUERIES = 3000
SCANNED = 150


def words(text: str) -> list[str]:
    return text.split()


SUBJECTS = words(
    "garden kitchen river mountain market village library museum theatre hospital factory harbour airport "
    "school engine battery bridge tunnel forest desert island planet comet galaxy magnet mirror camera "
    "printer keyboard window carpet blanket teacher doctor farmer pilot sailor painter writer singer "
    "lawyer baker tailor plumber nurse dentist engineer"
)
ASPECTS = words(
    "history purpose price safety design colour future origin weight quality repair storage cleaning "
    "training health income growth energy balance culture climate behaviour training business insurance "
    "delivery packaging"
)
OPENINGS = (
    "What is the {0} of the {1} in a small {2}?",
    "How can I improve the {0} of my {1} before the next {2} season?",
    "Explain why the {0} matters for every {1} near a {2}.",
    "Give me three ideas about the {0} of a {1} and a {2}.",
    "Describe how the {1} changed the {0} of the {2} over time.",
)
TEMPLATES = (
    "Write a short story about a {1} who finds the {0} of a {2}",
    "Summarise chapter {3} of the book about the {1} in {4} sentences.",
    "You are a careful assistant. A customer of the {1} asks about {0}. Answer politely, ticket {3}.",
)


def prompt(draw: random.Random) -> str:
    words = (
        draw.choice(ASPECTS),
        draw.choice(SUBJECTS),
        draw.choice(SUBJECTS),
        draw.randrange(9000),
        draw.randrange(99),
    )
    kind = draw.random()
    if kind < 0.4:
        extra = (
            f" Keep in mind the {draw.choice(ASPECTS)} of the {draw.choice(SUBJECTS)} and its {draw.choice(ASPECTS)}."
        )
        return draw.choice(OPENINGS).format(*words) + (extra if draw.random() < 0.8 else "")
    if kind < 0.8:
        return draw.choice(TEMPLATES).format(*words)
    sentences = [
        f"The {draw.choice(SUBJECTS)} near the {draw.choice(SUBJECTS)} has a new {draw.choice(ASPECTS)} now."
        for _ in range(draw.randrange(4, 10))
    ]
    return "Summarise the following report in one paragraph. " + " ".join(sentences)


def slipped(text: str, draw: random.Random) -> str:
    """The text with two letters of one longer word swapped."""
    words = text.split(" ")
    places = [place for place, word in enumerate(words) if word.isalpha() and word.islower() and len(word) > 5]
    if not places:
        return text.lower()
    place = draw.choice(places)
    word = words[place]
    at = draw.randrange(2, len(word) - 2)
    words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def key_of(text: str) -> RequestKey:
    return request_key(TaskRequest(text, system="You are kind.", temperature=0.2), TARGETS, "", b"benchmark")


def entry_of(key: RequestKey) -> Entry:
    size = RECORDING + len(key.text.encode()) + OVERHEAD
    return Entry(key.key, key.bucket, key.text, "", size, float("inf"))


def timed(what: Callable[..., object], *arguments: object) -> float:
    start = time.thread_time_ns()  # the time of other programs is not counted
    what(*arguments)
    return (time.thread_time_ns() - start) / 1e3


def row(name: str, microseconds: list[float], limit: str = "") -> None:
    ordered = sorted(microseconds)
    middle, high = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    print(f"  {name:36}{middle:9.1f}{high:9.1f}   {limit}")


def filled(texts: list[str], max_bytes: int) -> tuple[Index, list[float]]:
    """An index of these prompts, and how long each took to add; it was read when it was looked up."""
    index = Index(len(texts), max_bytes, time.time)
    return index, [timed(index.add, entry_of(key_of(text)), read(text)) for text in texts]


def look_ups(index: Index, prompts: list[str], draw: random.Random) -> None:
    def exact(text: str) -> object:
        return index.get(key_of(text).key)

    def look(text: str) -> bool:
        what = key_of(text)
        return index.get(what.key) is not None or index.find(what.bucket, read(text), LIKE)[0] is not None

    row("exact, the key's making included", [timed(exact, text) for text in prompts], "≤ 20")
    kinds = {
        "another prompt": [f"{prompt(draw)} {draw.randrange(10**6)}" for _ in prompts],
        "small letters": [text.lower() for text in prompts],
        "a slip in one word": [slipped(text, draw) for text in prompts],
    }
    every: list[float] = []
    for name, queries in kinds.items():
        read.cache_clear()
        times = [timed(look, query) for query in queries]
        every += times
        row(f"look-up: {name}", times)
    row("look-up: all of these", every, "≤ 400 and ≤ 1000")


def recall(index: Index, texts: list[str], draw: random.Random) -> None:
    bucket = key_of(texts[0]).bucket
    readings = [read.__wrapped__(text) for text in texts]
    by_scan = by_index = 0
    for query in (slipped(text, draw) for text in draw.sample(texts, SCANNED)):
        reading = read(query)
        if any(compare(reading, other, LIKE).hit for other in readings):
            by_scan += 1
            by_index += index.find(bucket, reading, LIKE)[0] is not None
    share = by_index / max(by_scan, 1)
    print(f"  recall: {by_index} of the {by_scan} that a look at every entry finds ({share:.1%}; to be ≥ 97 %)")


def main() -> None:
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    draw = random.Random(7)
    print(f"the lexicon, once in a process: {timed(lexicon) / 1e3:.0f} ms")
    texts = list({prompt(draw): None for _ in range(int(entries * 1.3))})[:entries]
    index, adding = filled(texts, entries * 5000)
    print(f"{len(index):,} entries of {sum(map(len, texts)) / len(texts):.0f} characters on average")
    print(f"  {'µs of processor time':36}{'median':>9}{'p99':>9}   to be")
    row("adding", adding, "≤ 100")
    look_ups(index, draw.choices(texts, k=QUERIES), draw)
    recall(index, texts, draw)
    tight, _ = filled(texts[:5000], 2_000_000)
    print(f"  a bound of 2,000,000 bytes: {tight.size:,} in {len(tight):,} entries after 5,000 were added")


if __name__ == "__main__":
    main()
