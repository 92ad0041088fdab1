"""The answers of the simulated vendors: one text for each scene."""

from __future__ import annotations

from typing import Final

LIGHTHOUSE: Final = (
    "Every evening the keeper climbed the ninety-nine steps, trimmed the wick, and read the sea its bedtime story. "
    "One night the lamp went dark in the middle of a sentence. Before the first wave could ask what came next, the "
    "lighthouse across the bay took up the line exactly where it had stopped."
)
CODE: Final = (
    "def fibonacci(n: int) -> int:\n"
    '    """The n-th number of the sequence."""\n'
    "    a, b = 0, 1\n"
    "    for _ in range(n):\n"
    "        a, b = b, a + b\n"
    "    return a\n"
)
FERRY: Final = (
    "The ferry left at six, with eleven cars, two nuns and a piano. Halfway across, the fog came down and the engine "
    "gave up without so much as a cough. A second ferry came alongside, the passengers stepped over, and the pianist, "
    "who had never stopped playing, reached the last bar as they reached the pier."
)
TRAIN: Final = (
    "The night train carried letters, cheese and one sleeping conductor. At the border it stopped, and for a while "
    "nobody could say whether it was waiting or had forgotten where it was going. The stationmaster counted to two, "
    "coupled another engine to the last carriage, and the cheese arrived for breakfast."
)
BAKERY: Final = (
    "On market days the queue at the bakery reached the fountain. “Come back at half past,” said the baker, and "
    "whoever came back at half past had warm bread. Whoever stood there knocking had the same bread, later, and cold."
)
OWL: Final = (
    "The owl of the library had read every book once and answered every question twice: slowly the first time, because "
    "it looked the answer up, and at once the second, because it remembered. “Why should I look again?” it said. “The "
    "book has not changed.”"
)
