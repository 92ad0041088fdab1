"""The catalog: a table, genai-prices, and over both what the configuration says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest, TaskType
from llm_dispatcher._catalog import Capabilities, Catalog, Traits, traits
from llm_dispatcher._policy import Correction
from llm_dispatcher.events import Usage
from llm_dispatcher.tasks import Target

MINI, MINE = Target("openai", "gpt-5-mini"), Target("mine", "m")


def catalog(corrections: dict[Target, Correction] | None = None) -> Catalog:
    kinds = {"openai": "openai", "mine": "openai_compatible", "home": "ollama"}
    return Catalog(lambda target: (kinds[target.provider], target.model), corrections)


def test_prices_and_windows_are_there_where_they_are_known() -> None:
    known = catalog().capabilities(MINI)
    assert known.known and known.context_window and known.input_price and known.output_price
    unknown = catalog().capabilities(MINE)
    assert (unknown.known, unknown.context_window, unknown.input_price) == (False, None, None)
    assert catalog().cost(MINE, Usage(1_000, 1_000)) is None


def test_local_models_cost_nothing() -> None:
    home = Target("home", "llama")
    assert catalog().capabilities(home).dollars(1_000, 1_000) == catalog().cost(home, Usage(1_000, 1_000)) == 0


@pytest.mark.parametrize(
    ("kind", "model", "known"),
    [
        ("azure", "gpt-5-mini", Traits(vision=True, tools=True, structured_output=True, reasoning=True)),
        ("openrouter", "anthropic/claude-3-5-sonnet", Traits(vision=True, tools=True, structured_output=True)),
        ("groq", "whisper-large-v3", Traits(text=False, transcription=True, continues="prefill")),
        (
            "groq",
            "openai/gpt-oss-120b",
            Traits(tools=True, structured_output=True, reasoning=True, continues="prefill"),
        ),
        ("mistral", "codestral-embed", Traits(text=False, continues="prefill")),
        ("xai", "grok-4.20-non-reasoning", Traits(vision=True, tools=True, structured_output=True)),
        ("perplexity", "sonar-pro", Traits()),
        ("groq", "our-own", Traits(tools=True, structured_output=True, continues="prefill", known=False)),
        ("openrouter", "someone/else", Traits(tools=True, structured_output=True, known=False)),
    ],
)
def test_a_model_is_known_by_its_name_and_continues_as_its_host_does(kind: str, model: str, known: Traits) -> None:
    assert traits(kind, model) == known


def test_the_configuration_has_the_last_word() -> None:
    correction = Correction(vision=True, context_window=4_096, input_price=2.0, output_price=4.0)
    corrected = catalog({MINE: correction})
    known = corrected.capabilities(MINE)
    assert known == Capabilities(
        vision=True,
        tools=True,
        structured_output=True,
        may_prefill=True,
        context_window=4_096,
        input_price=2.0,
        output_price=4.0,
    )
    assert corrected.cost(MINE, Usage(1_000_000, 500_000)) == 4.0
    assert catalog({MINI: Correction(vision=False)}).capabilities(MINI).input_price is not None, "the rest stays"


def test_a_correction_in_yaml_decides_who_can_serve() -> None:
    switch = LLMSwitch({
        "providers": {"mine": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "models": ["a", "b"]}},
        "catalog": {"mine/a": {"vision": False}, "mine/b": {"vision": True, "quality": {"math": 0.5}}},
    })  # fmt: skip
    decided = switch.explain(TaskRequest("what is it?", images=["a.png"]))
    assert [str(target) for target in decided.targets] == ["mine/b"]
    assert switch.capabilities("mine/b").quality == {TaskType.MATH: 0.5}


@pytest.mark.parametrize("strategy", ["ordered", "cost"])
def test_no_price_is_loaded_before_it_is_needed(strategy: str) -> None:
    code = f"""
import sys
from llm_dispatcher._catalog import Catalog, are_prices_loaded
from llm_dispatcher.tasks import Target
made = Catalog(lambda target: ("openai", target.model))
before = made.capabilities(Target("openai", "gpt-5-mini"), load={strategy == "cost"})
print(are_prices_loaded(), "genai_prices" in sys.modules, before.input_price is not None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(strategy == "cost")] * 3


def test_an_entry_says_whether_its_host_continues_open_turns() -> None:
    """The option `quirks` replaces the row's, and a correction of one model settles what is not known of its host."""
    config = {
        "providers": {
            name: {"kind": "openai_compatible", "base_url": "http://localhost:9", "models": ["m"], "options": options}
            for name, options in (("unknown", {}), ("known", {"quirks": ["prefill", "chunk_is_token"]}))
        },
        "catalog": {"unknown/settled": {"continues": "anchored"}},
    }
    switch = LLMSwitch(config)
    can = [switch.capabilities(name) for name in ("unknown/m", "known/m", "unknown/settled")]
    assert [each.continues for each in can] == ["anchored", "prefill", "anchored"]
    assert [each.may_prefill for each in can] == [True, False, False]
    assert [each.chunk_is_token for each in can] == [False, True, False]
