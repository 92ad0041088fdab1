"""Before a release: the tag, the version, the changelog and the project's addresses agree.

python scripts/release_check.py v0.1.0 https://github.com/owner/repository
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def problems(tag: str, repository: str) -> list[str]:
    """The disagreements, one sentence each."""
    source = (ROOT / "llm_dispatcher" / "__init__.py").read_text(encoding="utf-8")
    version = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)[0]
    headings = re.findall(r"^## (\S+) ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    sentences = []
    if tag != f"v{version}":
        sentences.append(
            f"the tag is {tag}, and llm_dispatcher/__init__.py says {version}: tag v{version}, or change the version"
        )
    if version not in headings:
        sentences.append(
            f"CHANGELOG.md has no heading '## {version} (date)': move the entries under Unreleased below it"
        )
    sentences += [
        f"project.urls.{name} is {url}, which is not in {repository}: mend pyproject.toml"
        for name, url in urls.items()
        if not f"{url}/".startswith(f"{repository}/")
    ]
    return sentences


if __name__ == "__main__":
    sentences = problems(*sys.argv[1:3])
    sys.exit("\n".join(sentences) or 0)
