"""The events of Anthropic's answers, which are made of blocks."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .._script import Reply, SaidUsage, Wire
from .frames import Frame, dumps
from .signatures import SIGNATURES

_FINISH: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class Block(msgspec.Struct, frozen=True):
    """One block of content: how it starts, its pieces of content, and what follows them before its end."""

    start: dict[str, Any]
    deltas: tuple[dict[str, Any], ...] = ()
    closing: tuple[dict[str, Any], ...] = ()


def event(kind: str, **fields: Any) -> bytes:
    """The bytes of an event."""
    return b"event: " + kind.encode() + b"\ndata: " + dumps({"type": kind, **fields}) + b"\n\n"


def blocks(reply: Reply) -> list[Block]:
    """The blocks of a reply."""
    found = []
    if reply.reasoning:
        thoughts = tuple({"type": "thinking_delta", "thinking": thought} for thought in reply.reasoning)
        signature = {"type": "signature_delta", "signature": SIGNATURES[Wire.ANTHROPIC]}
        found.append(Block({"type": "thinking", "thinking": "", "signature": ""}, thoughts, (signature,)))
    if reply.pieces or not reply.tool_calls:
        found.append(
            Block({"type": "text", "text": ""}, tuple({"type": "text_delta", "text": piece} for piece in reply.pieces))
        )
    for call in reply.tool_calls:
        parts = tuple({"type": "input_json_delta", "partial_json": fragment} for fragment in call.fragments)
        found.append(Block({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, parts))
    return found


def block_frames(index: int, block: Block) -> list[Frame]:
    """The events of a block."""
    return [
        Frame(event("content_block_start", index=index, content_block=block.start)),
        *(Frame(event("content_block_delta", index=index, delta=delta), True) for delta in block.deltas),
        *(Frame(event("content_block_delta", index=index, delta=delta)) for delta in block.closing),
        Frame(event("content_block_stop", index=index)),
    ]


def stop_reason(reply: Reply) -> str:
    """The reply's finish reason in the service's words."""
    return reply.raw_finish_reason or _FINISH.get(reply.finish, reply.finish)


def usage_counts(usage: SaidUsage | None, output: int) -> dict[str, Any]:
    """The usage in the service's words, with the output tokens so far."""
    usage = usage or SaidUsage(0, 0)
    kept = {
        "ephemeral_5m_input_tokens": usage.written - usage.written_1h,
        "ephemeral_1h_input_tokens": usage.written_1h,
    }
    return {
        "input_tokens": usage.input - usage.cached - usage.written,
        "cache_creation_input_tokens": usage.written,
        "cache_read_input_tokens": usage.cached,
        **({"cache_creation": kept} if usage.written else {}),
        "output_tokens": output,
    }
