"""Hooks of mkdocs: list all decisions in the navigation, and remove links that lead out of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """List the decisions, and leave out pages that are missing in this checkout."""
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


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace each link to a file of the repository by its text, because the built pages do not include that file."""
    docs = Path(config["docs_dir"]).resolve()
    here = (docs / page.file.src_uri).parent

    def link_or_text(link: re.Match[str]) -> str:
        there = (here / link["target"]).resolve()
        leads_out = "://" not in link["target"] and there.exists() and not there.is_relative_to(docs)
        return link["words"] if leads_out else link[0]

    return re.sub(r"\[(?P<words>[^\]]+)\]\((?P<target>[^)\s#]+)\)", link_or_text, markdown)
