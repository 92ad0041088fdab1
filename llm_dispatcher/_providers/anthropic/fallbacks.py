"""Anthropic's server-side fallback: a model declines, and the vendor continues with another one in the same stream.

A request asks for it with `fallbacks` and a beta header. A content block of the type `fallback` marks each place where
one model hands over to the next. It has no deltas. `usage.iterations` at the end has an entry for each model that ran,
and one of the type `fallback_message` for the model that wrote the end of the answer. While a conversation stays with
a fallback model, its later answers have that entry and no block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..._redaction import loggable_id
from ..._usage import Usage
from ...provider import Handover, ServedBy

_ENTRIES: Final = ("message", "fallback_message")
"""The types of entries in which a model has tried to answer. Other entries, such as compactions, are skipped."""


class Fallbacks:
    """The models that one answer has gone through.

    Args:
        model_name: The name that the configuration has for a model of the vendor.
    """

    def __init__(self, model_name: Callable[[str], str]) -> None:
        self._model_name = model_name
        self._models: list[str] = []

    def handover(self, to: Any, trigger: Any) -> Handover | None:
        """The handover that a `fallback` block marks, or `None` if the block names no model."""
        model = _text(to, "model")
        if model is None:
            return None
        self._models.append(model)
        return Handover(self._name(model), _text(trigger, "type") or "refusal", _text(trigger, "category"))

    def served_by(self, counts: Mapping[str, Any] | None, usage: Callable[[dict[str, Any]], Usage]) -> ServedBy | None:
        """Which model has served the answer, and what each model before it has used; `None` if no fallback ran."""
        iterations = (counts or {}).get("iterations")
        entries = [
            entry
            for entry in (iterations if isinstance(iterations, list) else [])
            if isinstance(entry, dict) and entry.get("type") in _ENTRIES
        ]
        served = next((entry for entry in reversed(entries) if entry["type"] == "fallback_message"), None)
        if served is None and not self._models:
            return None
        model = _text(served, "model") or (self._models[-1] if self._models else None)
        if model is None:
            return None
        hops = self._by_hop(entries)[:-1] if entries else [[]] * len(self._models)
        return ServedBy(self._name(model), tuple(_of_hop(hop, usage) for hop in hops))

    def _name(self, model: str) -> str:
        """The configuration's name for a model; for another model, the vendor's, as a log line may have it."""
        return loggable_id(self._model_name(model)) or ""

    def _by_hop(self, entries: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """The entries of each model. A model that runs the vendor's tools has several entries."""
        hops: list[list[dict[str, Any]]] = [[] for _ in range(len(self._models) + 1)]
        if len(entries) == len(hops):
            return [[entry] for entry in entries]
        place = 0
        for entry in entries:
            if entry["type"] == "fallback_message":
                place = len(self._models)
            elif place < len(self._models) and entry.get("model") == self._models[place]:
                place += 1
            hops[place].append(entry)
        return hops


def _of_hop(entries: Sequence[dict[str, Any]], usage: Callable[[dict[str, Any]], Usage]) -> Usage | None:
    """What one model has used. The vendor bills nothing if it has declined before it wrote anything."""
    if not entries:
        return None
    used = Usage.sum(map(usage, entries))
    if used.source == "unknown":
        return None
    return used if used.output_tokens else Usage(source="reported", raw=entries[-1])


def _text(value: Any, name: str) -> str | None:
    text = value.get(name) if isinstance(value, dict) else None
    return text if isinstance(text, str) and text else None
