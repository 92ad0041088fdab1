"""The rows of the table: who reads, whose stream is cut, and who is there to go on."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from .servers import LLAMA_A, LLAMA_B, LLAMA_GEMMA, VLLM, Server

PATIENCE: Final = 300
"""Seconds of every clock: the machine is busy, and no row is to fail by that."""


class Row(Struct, frozen=True, kw_only=True):
    """A row. `first` is cut. If `second` is `None`, `first` is the only one to ask, and is there again after the cut.

    `rung` is how the answer is to go on; `peer` is the peer that reads, if it is not this library.
    """

    name: str
    first: Server
    second: Server | None = None
    rung: str = ""
    peer: str = ""

    @property
    def is_first_dead(self) -> bool:
        """Whether the first server is gone after the cut. Neither is it there for a peer that asks nobody again."""
        return self.second != self.first if self.second is not None else bool(self.peer)

    @property
    def is_one_model(self) -> bool:
        """Whether the uninterrupted text is what is to come: one model, at temperature 0."""
        return self.second is None or self.second.model == self.first.model

    @property
    def from_to(self) -> str:
        if self.second is None or self.second == self.first:
            return f"{self.first.title}, the same server"
        return f"{self.first.title} → {self.second.title}"

    def config(self, first_url: str, second_url: str) -> dict[str, Any]:
        """The library's configuration for this row."""
        providers: dict[str, Any] = {"first": self._provider(self.first, first_url)}
        routes = [f"first/{self.first.model}"]
        config: dict[str, Any] = {
            "providers": providers,
            "routing": {"default": routes},
            "resilience": {
                "max_retries": 1 if self.second is None else 0,
                "timeouts": {"connect": 30, "first_token": PATIENCE, "idle": PATIENCE, "total": 3 * PATIENCE},
                # Every stream here breaks. Elsewhere that is an outage, in which a server is asked again only so often.
                "breaker": {"failures": None},
                "retry_budget": {"share": None},
            },
        }
        if self.second is not None:
            providers["second"] = self._provider(self.second, second_url)
            routes.append(f"second/{self.second.model}")
        style = "anchored" if self.rung == "anchored" else "prefill"
        config["catalog"] = {route: {"continues": style} for route in routes}
        return config

    def _provider(self, server: Server, url: str) -> dict[str, Any]:
        options = {"token_ids": self.rung == "exact"}
        return {"kind": server.kind, "base_url": url, "api_key": "none", "models": [server.model], "options": options}


ROWS: Final = (
    Row(name="exact-vllm", first=VLLM, rung="exact"),
    Row(name="prefill-vllm", first=VLLM, rung="prefill"),
    Row(name="exact-llama", first=LLAMA_A, rung="exact"),
    Row(name="prefill-llama", first=LLAMA_A, rung="prefill"),
    Row(name="prefill-other", first=LLAMA_A, second=LLAMA_B, rung="prefill"),
    Row(name="prefill-gemma", first=LLAMA_A, second=LLAMA_GEMMA, rung="prefill"),
    Row(name="prefill-back", first=LLAMA_GEMMA, second=LLAMA_A, rung="prefill"),
    Row(name="anchored-other", first=LLAMA_A, second=LLAMA_B, rung="anchored"),
    Row(name="anchored-gemma", first=LLAMA_A, second=LLAMA_GEMMA, rung="anchored"),
    Row(name="openai-llama", first=LLAMA_A, peer="openai"),
    Row(name="pydantic-ai-llama", first=LLAMA_A, second=LLAMA_B, peer="pydantic-ai"),
    Row(name="litellm-vllm", first=VLLM, second=VLLM, peer="litellm"),
    Row(name="litellm-llama", first=LLAMA_A, second=LLAMA_A, peer="litellm"),
    Row(name="litellm-other", first=LLAMA_A, second=LLAMA_B, peer="litellm"),
    Row(name="litellm-gemma", first=LLAMA_A, second=LLAMA_GEMMA, peer="litellm"),
)
