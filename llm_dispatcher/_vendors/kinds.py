"""The kinds of providers: the rows of the table, and those that installed distributions add by an entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .table import VENDORS

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "llm_dispatcher.providers"
"""The group of the entry points. An entry point's name is a kind; its object makes a provider of `ProviderSettings`."""


def known_kinds() -> list[str]:
    """Every kind that an entry of the configuration may name."""
    from importlib.metadata import entry_points  # this import takes longer than the rest of the package

    return sorted({*VENDORS, *(point.name for point in entry_points(group=GROUP))})


def entry_point(kind: str) -> EntryPoint | None:
    """The entry point of a third party's kind, if a distribution that has it is installed."""
    from importlib.metadata import entry_points

    return next(iter(entry_points(group=GROUP, name=kind)), None)
