"""The demo: streams that continue when vendors fail, on simulated or on real vendors."""

from __future__ import annotations

from typing import Final

CACHE: Final = "cache"
"""The name of the cache among the vendors, for its colour."""
