"""How often the likeness rules are right on labelled pairs of prompts.

python benchmarks/cache_quality.py PAIRS.jsonl[.gz] …

A pair is a line of JSON: `a`, `b` and either `label` (`hit` or `miss`) with a `category`, or `same` (1 or 0).
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_dispatcher.cache import alike


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def report(path: Path, show: bool) -> None:
    total: Counter[tuple[str, str]] = Counter()
    hit: Counter[tuple[str, str]] = Counter()
    for row in rows(path):
        label = row.get("label") or ("hit" if row["same"] else "miss")
        kind = (label, row.get("category", "question"))
        judgement = alike(row["a"], row["b"])
        total[kind] += 1
        hit[kind] += judgement.hit
        if show and judgement.hit is (label == "miss") and kind != ("hit", "question"):
            print(f"    {label}, {judgement.rule}: {row['a']!r} / {row['b']!r}")
    print(path.name)
    for kind in sorted(total):
        print(f"  {kind[0]:5}{kind[1]:20}{hit[kind]:6} of {total[kind]:6}")
    wrong = sum(hit[kind] for kind in hit if kind[0] == "miss")
    hits = sum(hit.values())
    print(f"  wrong hits {wrong} of {sum(total[kind] for kind in total if kind[0] == 'miss')} misses", end="")
    print(f", {wrong / hits:.1%} of all {hits} hits" if hits else "")
    harmless = [kind for kind in total if kind[0] == "hit" and kind[1] not in ("paraphrase", "question")]
    if harmless:
        right, of = sum(hit[kind] for kind in harmless), sum(total[kind] for kind in harmless)
        print(f"  right hits {right} of {of} harmless rewrites ({right / of:.0%})")


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:] if name != "--show"]
    if not paths:
        sys.exit(__doc__)
    for path in paths:
        report(path, "--show" in sys.argv)


if __name__ == "__main__":
    main()
