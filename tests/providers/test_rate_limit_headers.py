"""What vendors' headers say of their rate limits."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher.provider import Allowance, Remaining
from llm_dispatcher.provider._rate_limit_headers import allowance, reset_after

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp
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
    assert allowance(OPENAI, NOW) == Allowance(Remaining(9999, 10000, 0.006), Remaining(0, 200000, 90))
    assert allowance(ANTHROPIC, NOW) == Allowance(Remaining(0, 50, 12), Remaining(39000, 40000, 0))
    assert allowance({"content-type": "text/event-stream"}, NOW) is None


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1d", 86400), ("1764", 1764), (str(int(NOW()) + 5), 5), (str(int(NOW() * 1000) + 5000), 5),
        ("1s", 1), ("6m0s", 360), ("1h2m3.5s", 3723.5), ("120ms", 0.12), ("59.5", 59.5), ("7m", 420),
        ("2026-11-21T13:00:00+00:00", 3600), ("soon", None), ("", None), ("2026-11-21T13:00:00", None), ("-5", None),
    ],
)  # fmt: skip
def test_a_time_is_read_in_each_of_its_forms_by_both_readers(written: str, seconds: float | None) -> None:
    headers = {**OPENAI, "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": written}
    limits = allowance(headers, NOW)
    assert limits is not None
    assert (limits.requests and limits.requests.full_in) == (seconds if seconds is None else pytest.approx(seconds))
    headers = {name: value for name, value in headers.items() if "tokens" not in name}
    assert reset_after(headers, NOW) == (seconds if seconds is None else pytest.approx(seconds))


@given(st.dictionaries(st.sampled_from([*OPENAI, *ANTHROPIC]), st.text(max_size=12)))
def test_no_header_however_odd_is_an_error(headers: dict[str, str]) -> None:
    said = allowance(headers, NOW)
    for left in () if said is None else (said.requests, said.tokens):
        assert left is None or (left.left >= 0 and left.limit >= 0 and left.full_in >= 0)
