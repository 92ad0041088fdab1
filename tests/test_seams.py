"""What `make seams` counts is right: its proxy knows what would have come, and its judge sees bad seams."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import pytest

from benchmarks.seams.judge import faults, vocabulary
from benchmarks.seams.proxy import proxy_before
from benchmarks.seams.rows import Row
from benchmarks.seams.servers import LLAMA_A, LLAMA_B
from benchmarks.seams.trials import reader_of
from llm_dispatcher.testing import Continuing, SimulatedVendor

WHOLE: Final = "The old keeper climbed the tower and lit the lamp. Then the ships came home, one by one."
DELIVERED: Final = "The old keeper climbed the tower and"
KNOWN: Final = vocabulary([WHOLE])


@pytest.mark.parametrize("row", [Row(name="same", first=LLAMA_A), Row(name="other", first=LLAMA_A, second=LLAMA_B)])
@pytest.mark.parametrize(("place", "rung"), [(0.0, ""), (0.4, "prefill"), (0.7, "prefill")])
async def test_a_cut_stream_goes_on_and_the_proxy_knows_the_whole(row: Row, place: float, rung: str) -> None:
    async with SimulatedVendor("openai-chat", Continuing(WHOLE), host="llamacpp", api_key=None) as vendor:
        port = urlsplit(vendor.base_url).port
        assert port is not None
        async with (
            proxy_before(port, {}) as proxy,
            reader_of(row, f"http://127.0.0.1:{proxy.port}/v1", vendor.base_url) as read,
        ):
            cut = proxy.arm(place, dead_after=row.is_first_dead)
            got = await read("Tell a story.")
    assert cut.whole == WHOLE
    assert WHOLE.startswith(cut.delivered)
    assert 0 < cut.passed_on < len(cut.body)
    assert (got.text, got.outcome) == (WHOLE, "complete")
    assert (got.delivered, got.rung) == (len(cut.delivered), rung)


@pytest.mark.parametrize(
    ("rest", "wrong"),
    [
        (WHOLE[len(DELIVERED) :], []),
        (" looked out over the water.", []),
        ("The old keeper climbed the tower. He", ["repeated", "glued"]),
        (" keeper climbed the tower and went home", ["repeated"]),
        (" tower and went home, since", []),
        ("> lit the lamp >>>", ["marks"]),
        (" exactly the words between the marks, and", ["our words"]),
        (" was interrupted. I will go on.", ["remark"]),
        ("rew sat down.", []),
        ("Here is the rest.", ["glued"]),
        ("", ["nothing new"]),
    ],
)
def test_the_judge_names_what_is_wrong_with_a_seam(rest: str, wrong: list[str]) -> None:
    assert faults(DELIVERED, rest, WHOLE, KNOWN) == wrong


def test_a_repetition_counts_unless_the_text_goes_in_circles() -> None:
    once = "He lit the old lamp,"
    assert faults(once, " he lit the old lamp, again", WHOLE, KNOWN) == ["repeated"]
    assert faults(f"{once} {once}", " he lit the old lamp, again", WHOLE, KNOWN) == []
    assert faults(f"Then {once} then", " he lit the old lamp, again", WHOLE, KNOWN) == []
