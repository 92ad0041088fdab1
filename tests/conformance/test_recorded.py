"""What vendors really sent, replayed over loopback: what we make of it is what the official SDKs make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from llm_dispatcher import LLMSwitch
from tests.conformance.judging import differences
from tests.conformance.replay import Pieces, at_fifty_places, in_sevens, replaying, whole

RECORDED: Final = Path(__file__).parents[3] / "shared" / "recorded"
KINDS: Final[dict[str, dict[str, Any]]] = {
    "openai-chat": {"kind": "openai", "api": "chat"},
    "groq-chat": {"kind": "groq"},
    "mistral-chat": {"kind": "mistral"},
    "openai-responses": {"kind": "openai", "api": "responses"},
    "anthropic-messages": {"kind": "anthropic"},
    "google-generate-content": {"kind": "google"},
    "ollama": {"kind": "ollama"},
}
"""The provider for each dialect; a folder that is a vendor's own goes before its dialect."""
NOT_SERVED: Final[dict[str, str]] = {
    "cohere-chat": "Cohere's own wire",
    "openai-completions": "legacy completions",
    "google-interactions": "Gemini's Interactions",
}
UNLIKE: Final[dict[str, str]] = {}
"""Cases in which the SDK's answer is wrong, each with the reason."""

needs_recordings = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recordings (../shared/recorded) are not beside this project"
)


def cases(folder: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The name, the provider and the content of each case that we serve."""
    for path in sorted((RECORDED / folder).glob("*.json")):
        case = json.loads(path.read_text())
        dialect = str(case["wire_dialect"])
        # (`aux:` are endpoints that answer in one piece, such as embeddings, and `/api/generate` is such a one, too.)
        aside = dialect.startswith("aux:") or str(case["request"]["path"]).endswith("/api/generate")
        if dialect not in NOT_SERVED and not aside and path.stem not in UNLIKE:
            yield path.stem, folder if folder in KINDS else dialect, case


async def judge(folder: str, pieces: Pieces) -> int:
    """How many cases there were, each of them as the SDK has it."""
    wrong: dict[str, list[str]] = {}
    switches: dict[str, LLMSwitch] = {}
    compared = 0
    async with AsyncExitStack() as stack:
        replay = await stack.enter_async_context(replaying())
        replay.pieces = pieces
        for name, kind, replay.case in cases(folder):
            if kind not in switches:
                entry = {**KINDS[kind], "api_key": "test-key", "base_url": replay.base_url, "models": ["m"]}
                policy = {"providers": {"vendor": entry}, "resilience": {"max_retries": 0}}
                switches[kind] = await stack.enter_async_context(LLMSwitch(policy))
            compared += 1
            if found := await differences(switches[kind], replay.case):
                wrong[name] = found
    assert wrong == {}
    return compared


FOLDERS = sorted(path.name for path in RECORDED.iterdir() if path.is_dir()) if RECORDED.is_dir() else ["none"]


@needs_recordings
@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(
    "pieces", [whole, pytest.param(at_fifty_places, marks=pytest.mark.slow)], ids=["whole", "split at 50 places"]
)
async def test_recordings_are_read_as_the_official_sdks_read_them(folder: str, pieces: Pieces) -> None:
    assert await judge(folder, pieces) > 0


@needs_recordings
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("folder", FOLDERS)
async def test_recordings_in_pieces_of_seven_bytes_are_read_the_same(folder: str) -> None:
    assert await judge(folder, in_sevens) > 0


@needs_recordings
def test_every_skipped_recording_is_listed() -> None:
    dialects = {json.loads(path.read_text())["wire_dialect"] for path in RECORDED.glob("*/*.json")}
    assert {each for each in dialects if not each.startswith("aux:")} <= {*KINDS, *NOT_SERVED}
