"""`Seed`: what a run is made of, as a text that can be copied from a report.

`1-48213` is the number 48213 for version 1 of the simulation. `1-48213:312!4,7-9` is a shrunk run of it: the choices
from number 312 on are plain, and so are those with the numbers 4 and 7 to 9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from .choices import Choices

VERSION: Final = 1
"""The version of the simulation. A change that gives the same seed another run raises it."""

_SEED: Final = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+)(?:!([\d,-]+))?)?")


class Seed(Struct, frozen=True):
    """A seed. `limit` and `without` belong to a shrunk run: see `Choices`."""

    number: int
    limit: int | None = None
    without: tuple[int, ...] = ()
    version: int = VERSION

    @classmethod
    def parse(cls, text: str, *, version: int = VERSION, what: str = "the simulation") -> Seed:
        """The seed that a text describes.

        Args:
            text: The text, such as `1-48213`. A number without a version is one of the present version.
            version: The present version.
            what: What has this version, for the message of the error.

        Raises:
            ValueError: The text is not a seed, or belongs to another version, which would make another run of it.
        """
        match = _SEED.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a seed; a seed looks like {version}-48213")
        belongs_to = version if match[1] is None else int(match[1])
        if belongs_to != version:
            raise ValueError(
                f"the seed {text} belongs to version {belongs_to} of {what}, and this is version {version}: it would "
                "be another run here. Check out the version that printed it, or look for the failure with new seeds"
            )
        return cls(
            number=int(match[2]),
            limit=None if match[3] is None else int(match[3]),
            without=tuple(_numbers(match[4] or "")),
            version=version,
        )

    @classmethod
    def of(cls, value: Seed | int | str) -> Seed:
        """The seed that is passed as such, as its number or as its text. Raises a `ValueError` if it is none."""
        return value if isinstance(value, Seed) else cls.parse(str(value))

    def __str__(self) -> str:
        text = f"{self.version}-{self.number}"
        if self.limit is not None:
            text += f":{self.limit}"
            if self.without:
                text += f"!{_ranges(self.without)}"
        return text

    @property
    def is_shrunk(self) -> bool:
        """Whether some choices of the run are plain although the seed draws others."""
        return self.limit is not None

    def choices(self) -> Choices:
        """New choices of this seed."""
        return Choices(self.number, limit=self.limit, without=self.without)


def _numbers(text: str) -> Iterator[int]:
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if not first:
            raise ValueError(f"{part!r} is not a range of choices; write 7-9")
        yield from range(int(first), int(last or first) + 1)


def _ranges(numbers: Iterable[int]) -> str:
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)
