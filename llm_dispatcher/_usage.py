"""The tokens that an attempt or a stream used, and their cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from msgspec import Struct

UsageSource: TypeAlias = Literal["reported", "estimated", "unknown"]
"""Whether the vendor reported the figures, the library estimated them, or no reliable ones exist."""


class Usage(Struct, frozen=True):
    """Tokens and money, in one normal form for every vendor.

    `input_tokens` include tokens read from or written to a prompt cache, `output_tokens` include reasoning.
    `cache_write_tokens` include those that are kept for an hour, which cost more: `cache_write_1h_tokens`.
    `cost` is in US dollars, and `None` if no price is known. `raw` is the vendor's last report. The `source` of a
    report without input tokens is "unknown"; the ledger then estimates them.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cost: float | None = None
    source: UsageSource = "unknown"
    raw: dict[str, Any] | None = None

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @classmethod
    def sum(cls, usages: Iterable[Usage]) -> Usage:
        """The sum of the usages whose source is known.

        The sum is "estimated" if one of them is, and it has a `cost` only if each of them has one.
        """
        reports = [usage for usage in usages if usage.source != "unknown"]
        if not reports:
            return cls()
        costs = [usage.cost for usage in reports if usage.cost is not None]
        return cls(
            input_tokens=sum(usage.input_tokens for usage in reports),
            output_tokens=sum(usage.output_tokens for usage in reports),
            reasoning_tokens=sum(usage.reasoning_tokens for usage in reports),
            cache_read_tokens=sum(usage.cache_read_tokens for usage in reports),
            cache_write_tokens=sum(usage.cache_write_tokens for usage in reports),
            cache_write_1h_tokens=sum(usage.cache_write_1h_tokens for usage in reports),
            cost=sum(costs) if len(costs) == len(reports) else None,
            source="estimated" if any(usage.source == "estimated" for usage in reports) else "reported",
            raw=reports[0].raw if len(reports) == 1 else None,
        )
