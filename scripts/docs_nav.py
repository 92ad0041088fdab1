"""For mkdocs: every page under docs/decisions is in the navigation, and nothing that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Fill in the decisions, and leave out pages that this checkout has not."""
    docs = Path(config["docs_dir"])
    nav: list[dict[str, Any]] = []
    for entry in config["nav"]:
        ((title, target),) = entry.items()
        if (docs / target).is_dir():
            nav.append({title: [f"{target}/{page.name}" for page in sorted((docs / target).glob("*.md"))]})
        elif (docs / target).exists():
            nav.append(entry)
    config["nav"] = nav
    return config
