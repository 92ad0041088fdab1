"""The pytest plugin: `simulated_switch` replaces an application's vendors for one test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import LLM, LLMSwitch, get_global_switch, llm_stream, set_global_switch
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import Continuing, Cut, CutEach, Reply

TALE = "Once upon a time there was a fox who lived by the sea."
POLICY = """
providers:
  openai: {api_key: "${OPENAI_API_KEY}", models: [gpt-x]}
  anthropic: {api_key: "${OUR_OWN_VARIABLE}", models: [claude-x]}
  google: {models: [gemini-x]}
routing:
  default: [openai/gpt-x, anthropic/claude-x]
  tasks: {code_generation: [anthropic/claude-x]}
"""


@llm_stream
def story(topic: str) -> str:
    return f"A story about {topic}."


@pytest.fixture
def _its_own_switch() -> Iterator[None]:
    """An application has its own switch. It is back after each test."""
    own = LLMSwitch({"providers": {"openai": {"api_key": "test-key", "models": ["m"]}}})
    set_global_switch(own)
    yield
    assert get_global_switch() is own
    set_global_switch(None)


@pytest.mark.usefixtures("_its_own_switch")
class TestSimulatedSwitch:
    async def test_vendors_are_tried_in_the_order_of_the_arguments(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(openai=Reply(TALE, fault=Cut(after=3)), anthropic=Continuing(TALE))
        response = await story("foxes").collect()
        assert response.text == TALE
        assert [str(attempt.target) for attempt in response.attempts] == ["openai/simulated", "anthropic/simulated"]
        assert [len(vendor.requests) for vendor in vendors.values()] == [1, 1]
        assert vendors["openai"].requests[0].text == "A story about foxes."

    async def test_any_name_can_be_a_provider(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(
            ours=Reply("Ours."),
            google=Reply("Google's."),
            ollama=Reply("Local."),
            groq=Reply("Groq's."),
            azure=Reply("A"),
        )
        assert await LLM("ollama/any-model")("hi") == "Local."
        assert await LLM(providers="google")("hi") == "Google's."
        assert await LLM("ours/gpt-x")("hi") == "Ours."
        assert await LLM("groq/llama")("hi") == "Groq's."
        assert await LLM("azure/deployed")("hi") == "A"
        wires = [vendor.wire for vendor in vendors.values()]
        assert wires == ["openai-chat", "google", "ollama", "openai-chat", "openai-chat"]

    async def test_an_applications_own_policy_needs_no_key(
        self, simulated_switch: SimulatedSwitch, tmp_path: Path
    ) -> None:
        policy = tmp_path / "llm_dispatcher.yaml"
        policy.write_text(POLICY)
        vendors = simulated_switch(policy, anthropic=Reply("A function."))
        assert await story("foxes") == "Hello!"
        assert await LLM(task_type="code_generation")("hi") == "A function."
        assert vendors["openai"].wire == "openai-responses"
        assert vendors["anthropic"].requests[0].model == "claude-x"

    @pytest.mark.found("N-C17")
    async def test_variables_for_addresses_need_not_be_set(
        self, simulated_switch: SimulatedSwitch, tmp_path: Path
    ) -> None:
        policy = tmp_path / "llm_dispatcher.yaml"
        policy.write_text(
            "providers:\n"
            '  openai: {api_key: "${K}", base_url: "${GATEWAY_URL}", models: [gpt-x]}\n'
            '  ours: {kind: openai_compatible, api_key: "${K}", base_url: "https://${OUR_HOST}/v1", models: [m]}\n'
        )
        vendors = simulated_switch(policy, openai="From the gateway.", ours="From our own.")
        assert await LLM(providers="openai")("hi") == "From the gateway."
        assert await LLM(providers="ours")("hi") == "From our own."
        assert vendors["openai"].wire == "openai-chat", "as with an address: its default is not the official host's"

    async def test_the_options_of_a_policy_stay_in_force(self, simulated_switch: SimulatedSwitch) -> None:
        openai: dict[str, Any] = {"models": ["m"], "options": {"background": True}}
        vendors = simulated_switch(
            {"providers": {"openai": openai}, "resilience": {"backoff": 0}}, openai=Reply(TALE, fault=CutEach(events=5))
        )
        response = await story("foxes").collect()
        assert (response.text, response.attempts[-1].rung) == (TALE, "reattached")
        assert [run.status for run in vendors["openai"].runs] == ["completed"]
        anthropic: dict[str, Any] = {"models": ["m"], "options": {"max_tokens": 77}}
        google: dict[str, Any] = {"models": ["m"], "options": {"vertex": {"project": "p"}}}
        vendors = simulated_switch({"providers": {"anthropic": anthropic, "google": google}}, google="Hi.")
        assert await LLM("google/m")("hi") == "Hi."
        assert await story("foxes") == "Hello!"
        assert vendors["anthropic"].requests[0].body["max_tokens"] == 77

    @pytest.mark.parametrize(("option", "rung"), [({}, "exact"), ({"token_ids": False}, "prefill")])
    async def test_a_server_is_the_same_at_any_address(
        self, option: dict[str, Any], rung: str, simulated_switch: SimulatedSwitch
    ) -> None:
        entry = {"base_url": "http://gpu-1:8000/v1", "models": ["m"], "options": option}
        simulated_switch({"providers": {"vllm": entry}}, vllm=[Reply(TALE, fault=Cut(after=3)), Continuing(TALE)])
        response = await story("foxes").collect()
        assert (response.text, response.attempts[-1].rung) == (TALE, rung)

    @pytest.mark.found("N-C17")
    async def test_a_plain_text_is_a_script(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=["First.", "Second."])
        assert [await story("foxes") for _ in range(3)] == ["First.", "Second.", "Second."]

    def test_the_simulated_switch_can_be_made_again_and_works_in_every_thread(
        self, simulated_switch: SimulatedSwitch
    ) -> None:
        simulated_switch(openai=Reply("First."))
        assert "".join(story("foxes")) == "First."
        simulated_switch(openai=Reply("Second."))
        assert "".join(story("foxes")) == "Second."

    def test_wrong_arguments_are_refused(self, simulated_switch: SimulatedSwitch) -> None:
        with pytest.raises(TypeError, match="there is no script: pass one"):
            simulated_switch()
        with pytest.raises(ValueError, match="no provider is called 'opnai'; there are openai, google"):
            simulated_switch({"providers": {"openai": {"models": ["m"]}, "google": {}}}, opnai=Reply("Hm."))
