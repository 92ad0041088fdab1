"""The table of vendors: everything that is known of a vendor or a host without asking it.

A new host that speaks a wire of this package is a row here, and nothing else: the configuration's kinds and keys, its
address, prices, the command, the simulated vendors and the documentation read the row. A new vendor with a wire of its
own is a folder under `_providers/`, an adapter in `adapters.py` and a row here. See docs/decisions/0006.
"""

from __future__ import annotations

from typing import Final

from ..tasks import TaskType
from . import adapters, traits
from .quirks import Quirk
from .vendor import Size, Vendor


def _quirks(*names: Quirk) -> frozenset[Quirk]:
    return frozenset(names)


VENDORS: Final[dict[str, Vendor]] = {
    "openai": Vendor(
        title="OpenAI",
        adapter=adapters.OPENAI,
        base_url="https://api.openai.com/v1",
        address_variable="OPENAI_BASE_URL",
        key_variables=("OPENAI_API_KEY",),
        quirks=_quirks("max_completion_tokens", "few_media", "stored_metadata", "short_ids", "prompt_cache"),
        interface="responses",
        keeps_runs=True,
        models={
            "general": "gpt-6.1-terra",
            "strong": "gpt-6.1-sol",
            "small": "gpt-6-luna",
            "audio": "gpt-audio-mini",
        },
        price_list="openai",
        patterns=traits.OPENAI,
        defaults=traits.UNKNOWN_VISION,
        author_names=("openai",),
        colour="green",
    ),
    "anthropic": Vendor(
        title="Anthropic",
        adapter=adapters.ANTHROPIC,
        base_url="https://api.anthropic.com",
        address_variable="ANTHROPIC_BASE_URL",
        key_variables=("ANTHROPIC_API_KEY",),
        key_header="x-api-key",
        models_path="/v1/models?limit=1000",
        models_headers={"anthropic-version": "2023-06-01"},
        quirks_elsewhere=_quirks("may_prefill"),
        models={"general": "claude-sonnet-5-5", "strong": "claude-opus-5-5", "small": "claude-haiku-5-5"},
        price_list="anthropic",
        patterns=traits.ANTHROPIC,
        defaults=traits.UNKNOWN_VISION,
        author_names=("anthropic",),
        colour="yellow",
    ),
    "google": Vendor(
        title="Google",
        adapter=adapters.GOOGLE,
        base_url="https://generativelanguage.googleapis.com",
        address_variable="GOOGLE_GEMINI_BASE_URL",
        key_variables=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        key_header="x-goog-api-key",
        models_path="/v1beta/models?pageSize=1000",
        instead_of_key="vertex",
        models={"general": "gemini-3.8-flash", "strong": "gemini-4-argon", "small": "gemini-3.5-flash-lite"},
        price_list="google",
        patterns=traits.GOOGLE,
        defaults=traits.UNKNOWN_MULTIMODAL,
        author_names=("google",),
        colour="blue",
    ),
    "ollama": Vendor(
        title="Ollama",
        adapter=adapters.OLLAMA,
        base_url="http://localhost:11434",
        address_variable="OLLAMA_HOST",
        models_path="/api/tags",
        is_local=True,
    ),
    "azure": Vendor(
        title="Azure OpenAI",
        adapter=adapters.OPENAI,
        address_variable="AZURE_OPENAI_ENDPOINT",
        key_variables=("AZURE_OPENAI_API_KEY",),
        key_header="api-key",
        quirks=_quirks("azure", "max_completion_tokens", "few_media", "stored_metadata", "short_ids", "prompt_cache"),
        keeps_runs=True,
        price_list="azure",
        patterns=traits.OPENAI,
    ),
    "groq": Vendor(
        title="Groq",
        adapter=adapters.OPENAI,
        base_url="https://api.groq.com/openai/v1",
        key_variables=("GROQ_API_KEY",),
        quirks=_quirks("max_completion_tokens", "no_metadata", "prefill"),
        price_list="groq",
    ),
    "mistral": Vendor(
        title="Mistral",
        adapter=adapters.OPENAI,
        base_url="https://api.mistral.ai/v1",
        key_variables=("MISTRAL_API_KEY",),
        quirks=_quirks(
            "no_stream_options", "random_seed", "plain_audio", "prefix", "nine_character_ids", "assistant_after_tools"
        ),
        price_list="mistral",
        patterns=traits.MISTRAL,
        author_names=("mistralai",),
    ),
    "xai": Vendor(
        title="xAI",
        adapter=adapters.OPENAI,
        base_url="https://api.x.ai/v1",
        key_variables=("XAI_API_KEY",),
        quirks=_quirks("max_completion_tokens", "no_metadata"),
        price_list="x-ai",
        patterns=traits.XAI,
        author_names=("x-ai", "xai"),
    ),
    "deepseek": Vendor(
        title="DeepSeek",
        adapter=adapters.OPENAI,
        base_url="https://api.deepseek.com/v1",
        key_variables=("DEEPSEEK_API_KEY",),
        quirks=_quirks("no_json_schema", "no_metadata", "no_seed", "reasoning_content"),
        price_list="deepseek",
        patterns=traits.DEEPSEEK,
        author_names=("deepseek",),
    ),
    "openrouter": Vendor(
        title="OpenRouter",
        adapter=adapters.OPENAI,
        base_url="https://openrouter.ai/api/v1",
        key_variables=("OPENROUTER_API_KEY",),
        quirks=_quirks("short_ids"),
        price_list="openrouter",
    ),
    "together": Vendor(
        title="Together",
        adapter=adapters.OPENAI,
        base_url="https://api.together.xyz/v1",
        key_variables=("TOGETHER_API_KEY",),
        quirks=_quirks("no_metadata"),
        price_list="together",
    ),
    "fireworks": Vendor(
        title="Fireworks",
        adapter=adapters.OPENAI,
        base_url="https://api.fireworks.ai/inference/v1",
        key_variables=("FIREWORKS_API_KEY",),
        price_list="fireworks",
    ),
    "perplexity": Vendor(
        title="Perplexity",
        adapter=adapters.OPENAI,
        base_url="https://api.perplexity.ai",
        key_variables=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
        quirks=_quirks("no_stream_options", "no_json_object", "no_metadata", "no_seed", "no_tools"),
        price_list="perplexity",
        patterns=traits.PERPLEXITY,
    ),
    "huggingface": Vendor(
        title="Hugging Face",
        adapter=adapters.OPENAI,
        base_url="https://router.huggingface.co/v1",
        key_variables=("HF_TOKEN", "HUGGINGFACE_API_KEY"),
        quirks=_quirks("no_metadata"),
    ),
    "cerebras": Vendor(
        title="Cerebras",
        adapter=adapters.OPENAI,
        base_url="https://api.cerebras.ai/v1",
        key_variables=("CEREBRAS_API_KEY",),
        quirks=_quirks("max_completion_tokens", "no_metadata"),
        price_list="cerebras",
    ),
    "lmstudio": Vendor(
        title="LM Studio",
        adapter=adapters.OPENAI,
        base_url="http://localhost:1234/v1",
        quirks=_quirks("no_image_urls", "no_metadata"),
        is_local=True,
    ),
    "vllm": Vendor(
        title="vLLM",
        adapter=adapters.OPENAI,
        base_url="http://localhost:8000/v1",
        quirks=_quirks("continue_final_message", "chunk_is_token", "usage_in_each_chunk", "no_metadata"),
        id_source="answer",
        is_local=True,
    ),
    "llamacpp": Vendor(
        title="llama.cpp",
        adapter=adapters.OPENAI,
        base_url="http://localhost:8080/v1",
        quirks=_quirks("no_metadata", "media_by_500", "partial_responses", "continue_final_message", "chunk_is_token"),
        id_source="tokenizer",
        is_local=True,
    ),
    "snowflake": Vendor(
        title="Snowflake Cortex",
        adapter=adapters.OPENAI,
        key_variables=("SNOWFLAKE_PAT",),
        quirks=_quirks("max_completion_tokens", "no_metadata", "done_after_usage"),
    ),
    "openai_compatible": Vendor(title="any other", adapter=adapters.OPENAI, quirks=_quirks("may_prefill")),
}

_THIRD_PARTY: Final = Vendor()

FIRST_ROUTE: Final[tuple[Size, tuple[str, ...]]] = ("general", ("openai", "anthropic", "google"))
"""The route if nothing but keys is configured: which size of model, and the vendors in order."""

FIRST_TASK_ROUTES: Final[dict[TaskType, tuple[Size, tuple[str, ...]]]] = {
    TaskType.CODE_GENERATION: ("strong", ("anthropic", "openai", "google")),
    TaskType.REASONING: ("strong", ("openai", "anthropic", "google")),
    TaskType.MATH: ("strong", ("openai", "google", "anthropic")),
    TaskType.CLASSIFICATION: ("small", ("openai", "anthropic", "google")),
    TaskType.SENTIMENT_ANALYSIS: ("small", ("openai", "anthropic", "google")),
    TaskType.VISION_ANALYSIS: ("general", ("google", "openai", "anthropic")),
    TaskType.AUDIO_TRANSCRIPTION: ("audio", ("google", "openai", "anthropic")),
    TaskType.AUDIO_ANALYSIS: ("audio", ("google", "openai", "anthropic")),
    TaskType.MULTIMODAL_ANALYSIS: ("general", ("google", "openai", "anthropic")),
}


def vendor(kind: str) -> Vendor:
    """The row of a kind; an empty row for a kind that a third party brings."""
    return VENDORS.get(kind, _THIRD_PARTY)


def hosts() -> dict[str, Vendor]:
    """The rows of the vendors that speak OpenAI's wires, OpenAI itself included."""
    return {kind: row for kind, row in VENDORS.items() if row.adapter is adapters.OPENAI}


def author(name: str) -> Vendor | None:
    """The vendor whose models other hosts name like this before a slash, as in `x-ai/grok-5`."""
    return next((row for row in VENDORS.values() if name in row.author_names), None)
