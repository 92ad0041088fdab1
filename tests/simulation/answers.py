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
_TOOL_TURNS: Final = re.compile(r"Look up (\d+) parts of it in each of (\d+) turns")
_WORD: Final = re.compile(r"\S+\s*")
_QUESTION: Final = re.compile(rf"Describe the ({'|'.join(BIRDS)}) in (\d+) words")


def question(bird: int, words: int) -> str:
    """A question. Those about different birds, or with different numbers, have different answers."""
    return f"Describe the {BIRDS[bird % len(BIRDS)]} in {words} words."


def last_question(text: str) -> str:
    """The text from its last question on; "" if it has none."""
    at = max((match.start() for match in _QUESTION.finditer(text)), default=None)
    return "" if at is None else text[at:]


def turns_of_tools(turns: int, calls: int) -> str:
    """What a prompt says in which the model is to call the tool `calls` times in each of so many turns."""
    return f" Look up {calls} parts of it in each of {turns} turns."


def tool_turns_in(text: str) -> tuple[int, int]:
    """How many turns with how many calls a prompt asks for; (0, 0) if it asks for none."""
    match = _TOOL_TURNS.search(text)
    return (0, 0) if match is None else (int(match[2]), int(match[1]))


def part_of_answer(text: str, turn: int) -> str:
    """What an honest vendor says in one turn, counted from 0. All turns together are the whole answer, and each but the
    last ends in white space.
    """
    words = _WORD.findall(answer_to(text))
    turns = tool_turns_in(text)[0] + 1
    ends = [len(words) * number // turns for number in range(turns + 1)]
    return "".join(words[ends[turn] : ends[turn + 1]])


def looked_up(text: str, turn: int) -> list[str]:
    """The argument of each call that a vendor makes in one turn. No two calls of an answer are alike."""
    match = _QUESTION.search(text)
    turns, calls = tool_turns_in(text)
    if match is None or turn >= turns:
        return []
    return [f"{match[1]} {match[2]}, part {turn + 1}.{number + 1}" for number in range(calls)]


def found_out(name: str) -> str:
    """What the tool returns for an argument."""
    return f"The {name} is fine."


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
