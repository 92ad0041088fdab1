"""Questions and their answers. No two words of an answer are alike, so that a seam can be in one place only."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

BIRDS: Final = ("heron", "plover", "wigeon", "curlew", "dunnock", "gannet", "linnet", "osprey", "petrel", "siskin")

_WORDS: Final = re.findall(
    r"\w+",
    "alder birch cedar dogwood elder fir gorse hazel ivy juniper kapok larch maple neem oak pine quince rowan "
    "spruce teak umbrella viburnum willow xylosma yew zelkova acorn bark canopy drupe epiphyte frond grove "
    "heartwood inflorescence jungle knot leaf moss needle orchard petal quill root sapling thicket understory "
    "vine whorl xylem yield zone",
)
_QUESTION: Final = re.compile(rf"Describe the ({'|'.join(BIRDS)}) in (\d+) words")


def question(bird: int, words: int) -> str:
    """A question. Those about different birds, or with different numbers, have different answers."""
    return f"Describe the {BIRDS[bird % len(BIRDS)]} in {words} words."


@lru_cache(maxsize=1_000)
def answer_to(text: str) -> str:
    """The whole answer that every honest vendor gives to a prompt that has a question in it."""
    match = _QUESTION.search(text)
    if match is None:
        raise ValueError(f"there is no question in {text!r}")
    bird, count = match[1], int(match[2])
    start = BIRDS.index(bird) * 7
    words = [f"{bird.capitalize()}{count}"]
    for number in range(1, count):
        word = f"{_WORDS[(start + number) % len(_WORDS)]}{number}"
        ends = number % 9 == 0
        words.append(f"{word}.\n\n" if ends and number % 27 == 0 else f"{word}." if ends else word)
    whole = re.sub(r"(?<=\n) ", "", " ".join(words)).rstrip()
    return whole if whole.endswith(".") else f"{whole}."
