"""Anthropic's server-side fallback: a model declines, and another one continues in the same stream.

`take` reads the `fallbacks` of a request, and refuses them as the service does. `frames` writes a reply that has
`declines`. Only text is handed over: the next model begins tool calls and unfinished thoughts again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from .._received import ReceivedRequest
from .._script import Decline, Reply, SaidUsage
from .anthropic_frames import Block, block_frames, blocks, event, stop_reason, usage_counts
from .frames import Frame, Rejection

BETAS: Final = ("server-side-fallback-2026-06-01", "server-side-fallback-2026-07-01")
"""The beta features that have `fallbacks`. Only the newer one has `default`."""

DEFAULT: Final = ("simulated-default-fallback",)
"""The models of `default`, which the service chooses."""

_MOST: Final = 3
_KEYS: Final = frozenset({"model", "max_tokens", "thinking", "output_config", "speed"})


def take(request: ReceivedRequest) -> Rejection | None:
    """Read `fallbacks`. Returns the reason if the service would refuse them."""
    fallbacks = request.body.get("fallbacks")
    if fallbacks is None:
        return None
    betas = [name.strip() for name in request.headers.get("anthropic-beta", "").split(",")]
    if not any(name in BETAS for name in betas):
        return Rejection(400, "fallbacks: Extra inputs are not permitted")
    if fallbacks == "default":
        if BETAS[1] not in betas:
            return Rejection(400, "fallbacks: Input should be a valid list")
        request.fallbacks = DEFAULT
        return None
    if not isinstance(fallbacks, list):
        return Rejection(400, "fallbacks: Input should be a valid list")
    if not 1 <= len(fallbacks) <= _MOST:
        return Rejection(400, f"fallbacks: List should have 1 to {_MOST} items")
    for place, entry in enumerate(fallbacks):
        if not isinstance(entry, dict) or not isinstance(entry.get("model"), str):
            return Rejection(400, f"fallbacks.{place}.model: Field required")
        if unknown := sorted(set(entry) - _KEYS):
            return Rejection(400, f"fallbacks.{place}.{unknown[0]}: Extra inputs are not permitted")
    names = tuple(entry["model"] for entry in fallbacks)
    if len({request.model, *names}) <= len(names):
        return Rejection(400, "fallbacks: entries must be distinct from each other and from the requested model")
    request.fallbacks = names
    return None


def frames(reply: Reply, model: str, fallbacks: Sequence[str]) -> list[Frame]:
    """All events of the whole answer to a request that names these fallbacks."""
    chain = [model, *fallbacks][: len(reply.declines) + 1]
    is_refused = len(reply.declines) >= len(chain)
    declines = reply.declines[: len(chain)]
    parts = _parts(reply, declines)[: len(chain)]
    usages = [_usage(*each) for each in zip(declines, parts, strict=False)]
    if not is_refused:
        usages.append(reply.usage or SaidUsage(0, 0))
    first = next((place for place, part in enumerate(parts) if part), len(chain) - 1)
    events = [
        event("message_start", message=_message(chain[first], usages[first])),
        event("ping"),
    ]
    index = 0
    written = [Frame(each) for each in events]
    for place, part in enumerate(parts):
        if place:
            written += block_frames(index, Block(_seam(chain[place - 1], chain[place], declines[place - 1])))
            index += 1
        for block in part:
            written += block_frames(index, block)
            index += 1
    counts = usage_counts(usages[-1], usages[-1].output)
    if fallbacks:
        counts["iterations"] = [
            {"type": "message", "model": name, **usage_counts(usage, usage.output)}
            for name, usage in zip(chain, usages, strict=True)
        ]
        if len(chain) > 1:
            counts["iterations"][-1]["type"] = "fallback_message"
    end: dict[str, Any] = {"stop_reason": stop_reason(reply), "stop_sequence": None, "stop_details": None}
    if is_refused:
        end |= {"stop_reason": "refusal", "stop_details": _details(declines[-1])}
    written.append(Frame(event("message_delta", delta=end, usage=counts)))
    written.append(Frame(event("message_stop")))
    return written


def _message(model: str, usage: SaidUsage) -> dict[str, Any]:
    return {
        "id": "msg_sim",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_counts(usage, 1),
    }


def _seam(before: str, after: str, decline: Decline) -> dict[str, Any]:
    trigger = {"type": "refusal", "category": decline.category}
    return {"type": "fallback", "from": {"model": before}, "to": {"model": after}, "trigger": trigger}


def _details(decline: Decline) -> dict[str, Any]:
    explanation = "This request was declined (simulated)."
    return {"type": "refusal", "category": decline.category, "explanation": explanation, "recommended_model": None}


def _usage(decline: Decline, part: Sequence[Block]) -> SaidUsage:
    return decline.usage or SaidUsage(output=sum(len(block.deltas) for block in part))


def _parts(reply: Reply, declines: Sequence[Decline]) -> list[list[Block]]:
    """The blocks that each model writes. The last model writes what the declines have left."""
    parts, rest, sent = [], blocks(reply), 0
    for decline in declines:
        part, rest = _split(rest, decline.after - sent)
        sent = decline.after
        parts.append(part)
    return [*parts, rest]


def _split(whole: Sequence[Block], pieces: int) -> tuple[list[Block], list[Block]]:
    """The blocks with the first pieces of content, and what the next model writes."""
    written: list[Block] = []
    again: list[Block] = []
    for place, block in enumerate(whole):
        if not pieces:
            return written, [*again, *whole[place:]]
        here, pieces = min(pieces, len(block.deltas)), max(0, pieces - len(block.deltas))
        is_whole = here == len(block.deltas)
        written.append(block if is_whole else replace(block, deltas=block.deltas[:here], closing=()))
        if block.start["type"] == "text":
            again += [] if is_whole else [replace(block, deltas=block.deltas[here:])]
        elif block.start["type"] == "tool_use" or not is_whole:
            again.append(block)
    return written, again
