"""How fast a cache of 100,000 prompts is, and whether its index finds what a look at every entry finds.

python benchmarks/cache_speed.py [ENTRIES]
"""

from __future__ import annotations

from llm_dispatcher.tasks import Target

TARGETS = (Target("openai", "m"), Target("anthropic", "m"))
RECORDING = 2000
QUERIES = 3000
SCANNED = 150


def words(listed: str) -> list[str]:
    return listed.split()


SUBJECTS = words(
    "garden kitchen river mountain market village library museum theatre hospital factory harbour airport "
    "school engine battery bridge tunnel forest desert island planet comet galaxy magnet mirror camera printer "
    "keyboard window carpet blanket teacher doctor farmer pilot sailor painter writer singer lawyer baker "
    "tailor plumber nurse dentist engineer "
)
