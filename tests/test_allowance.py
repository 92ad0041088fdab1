"""What vendors' headers say of their rate limits."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher._providers.base.rate_limit_headers import Allowance, Left, allowance

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
OPENAI = {
    "x-ratelimit-limit-requests": "10000", "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-limit-tokens": "200000", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30s",
}  # fmt: skip
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "0",
    "anthropic-ratelimit-requests-reset": "2026-11-21T12:00:12Z", "anthropic-ratelimit-tokens-limit": "40000",
    "anthropic-ratelimit-tokens-remaining": "39000", "anthropic-ratelimit-tokens-reset": "2026-11-21T11:59:59Z",
}  # fmt: skip


def test_each_vendors_words_are_understood() -> None:
    assert allowance(OPENAI, NOW) == Allowance(Left(9999, 10000, 0.006), Left(0, 200000, 90))
    assert allowance(ANTHROPIC, NOW) == Allowance(Left(0, 50, 12), Left(39000, 40000, 0))
    assert allowance({"content-type": "text/event-stream"}, NOW) is None


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1s", 1), ("6m0s", 360), ("1h2m3.5s", 3723.5), ("120ms", 0.12), ("59.5", 59.5), ("7m", 420),
        ("2026-11-21T13:00:00+00:00", 3600), ("soon", None), ("", None), ("2026-11-21T13:00:00", None), ("-5", None),
    ],
)  # fmt: skip
def test_vendors_write_times_in_many_ways(written: str, seconds: float | None) -> None:
    said = allowance({**OPENAI, "x-ratelimit-reset-requests": written}, NOW)
    assert said is not None
    assert (said.requests and said.requests.full_in) == seconds


@given(st.dictionaries(st.sampled_from([*OPENAI, *ANTHROPIC]), st.text(max_size=12)))
def test_no_header_however_odd_is_an_error(headers: dict[str, str]) -> None:
    said = allowance(headers, NOW)
    for left in () if said is None else (said.requests, said.tokens):
        assert left is None or (left.left >= 0 and left.limit >= 0 and left.full_in >= 0)
