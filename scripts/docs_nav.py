"""For mkdocs: the navigation has all decisions and no page that is not there, and links lead to pages."""

from __future__ import annotations

import re
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


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """A link into the repository is one where the repository is; among the pages it is only its words."""
    docs = Path(config["docs_dir"]).resolve()
    here = (docs / page.file.src_uri).parent

    def kept(link: re.Match[str]) -> str:
        there = (here / link["target"]).resolve()
        leads_out = "://" not in link["target"] and there.exists() and not there.is_relative_to(docs)
        return link["words"] if leads_out else link[0]

    return re.sub(r"\[(?P<words>[^\]]+)\]\((?P<target>[^)\s#]+)\)", kept, markdown)
