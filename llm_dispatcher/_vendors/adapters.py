"""The adapters of this package: a folder under `_providers/` each.

See docs/decisions/0036.
"""

from __future__ import annotations

from typing import Final

from .vendor import Adapter

OPENAI: Final = Adapter(
    kind="openai",
    factory="openai.provider:OpenAIProvider",
    modules=("openai.resources.chat.completions", "openai.resources.responses", "aiohttp", "truststore"),
    requires={"openai": "openai[aiohttp]", "httpx2": "httpx2", "aiohttp": "aiohttp"},
    interfaces={"chat": "openai-chat", "responses": "openai-responses"},
    headers_variable="OPENAI_CUSTOM_HEADERS",
    ambient_headers=("OpenAI-Organization", "OpenAI-Project"),
)
ANTHROPIC: Final = Adapter(
    kind="anthropic",
    factory="anthropic.provider:AnthropicProvider",
    modules=("anthropic.resources.messages", "aiohttp", "truststore"),
    requires={"anthropic": "anthropic[aiohttp]", "httpx2": "httpx2", "aiohttp": "aiohttp"},
    interfaces={None: "anthropic"},
    headers_variable="ANTHROPIC_CUSTOM_HEADERS",
)
GOOGLE: Final = Adapter(
    kind="google",
    factory="google.provider:GoogleProvider",
    modules=("google.genai", "google.genai.errors", "google.auth.exceptions", "aiohttp", "truststore"),
    requires={"google.genai": "google-genai[aiohttp]", "httpx2": "httpx2", "aiohttp": "aiohttp"},
    interfaces={None: "google"},
)
OLLAMA: Final = Adapter(
    kind="ollama",
    factory="ollama.provider:OllamaProvider",
    modules=("aiohttp",),
    requires={"aiohttp": "aiohttp"},
    interfaces={None: "ollama"},
)
