"""Every fault that was found in the first wave has a test that keeps it from coming back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent

FOUND: Final = {
    *(f"N-A{number}" for number in range(1, 8)),
    *(f"N-B{number}" for number in range(9, 17)),
    "N-C17",
    *(f"S-D{number}" for number in (1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 15)),
    *(f"H-{number}" for number in range(1, 8)),
    *(f"R-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 12)),
    *(f"B-{number:02}" for number in range(1, 26) if number != 22),
}
"""Not here: R-9 to R-11, S-D7, S-D13, S-D14, S-D16, N-A8 and B-22. They wait for parts that are not built yet."""


def numbers_in(path: Path) -> Iterator[str]:
    """The numbers that tests of a file are marked with."""
    for numbers in re.findall(r"\bmark\.found\(([^)]*)\)", path.read_text()):
        yield from re.findall(r'"([^"]+)"', numbers)


def test_every_found_fault_is_named_by_a_test() -> None:
    named = {number for path in TESTS.rglob("test_*.py") for number in numbers_in(path)}
    assert named == FOUND
