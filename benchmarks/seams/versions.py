"""What is measured: the state of the library's source, and the versions of servers and peers."""

from __future__ import annotations

import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path

from .environment import HOME, ROOT, VLLM_VERSION
from .rows import Row

PACKAGES = {"openai": "openai", "pydantic-ai": "pydantic_ai_slim", "litellm": "litellm"}


def source_of(row: Row) -> str:
    """A digest of the library's source, or a peer's version."""
    if row.peer:
        return f"{row.peer} {peer_version(row.peer)}"
    digest = hashlib.sha256()
    for path in sorted((ROOT / "llm_dispatcher").rglob("*.py")):
        digest.update(path.read_bytes())
    return f"library {digest.hexdigest()[:16]}"


def _installed(environment: str, package: str) -> str:
    [folder] = (HOME / environment / "lib").glob(f"python*/site-packages/{package}-*.dist-info")
    return _version(folder)


def _version(folder: Path) -> str:
    return folder.name.removesuffix(".dist-info").split("-", 1)[1]


def peer_version(peer: str) -> str:
    return _installed("peers", PACKAGES[peer])


def versions() -> str:
    """All of it, for the page."""
    peers = ", ".join(f"{name} {peer_version(name)}" for name in ("openai", "pydantic-ai", "litellm"))
    commit = subprocess.run(
        ["git", "log", "-1", "--format=%h", "--", "llm_dispatcher"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return (
        f"llm_dispatcher {version('llm-stream-dispatcher')} ({commit or 'no commit'}); "
        f"vLLM {VLLM_VERSION} (CPU, float32); llama.cpp build "
        f"{_installed('llama', 'xllamacpp').split('.')[-1]}; {peers}"
    )
