"""A conversation that goes from vendor to vendor, each as strict as the real one, and what its prompt caches cost."""

from __future__ import annotations

from typing import Any

import pytest

from llm_dispatcher import LLMSwitch
from llm_dispatcher._prices import cost
from llm_dispatcher._providers.openai import chat, responses
from llm_dispatcher._usage import Usage
from llm_dispatcher.events import ReasoningDelta
from llm_dispatcher.exceptions import InvalidRequestError
from llm_dispatcher.provider import Ask, ProviderSettings
from llm_dispatcher.tasks import (
    CachePoint,
    ImagePart,
    Message,
    ReasoningPart,
    Target,
    TaskRequest,
    ToolCallPart,
    ToolResultPart,
)
from llm_dispatcher.testing import (
    HttpError,
    ReceivedRequest,
    Reply,
    SaidToolCall,
    SaidUsage,
    SimulatedProvider,
    SimulatedVendor,
    Wire,
)
from llm_dispatcher.testing._wires.signatures import SIGNATURES
from tests.conftest import KINDS
from tests.conversations.wire_kit import calls_in, message_of, provider_over, results_of, text_in, turn_of, usage_in

PNG = b"\x89PNG\r\n\x1a\n and what follows"
TOOLS = [{"name": "look", "parameters": {"type": "object"}}]
VENDORS: list[tuple[Wire, dict[str, Any], str, str]] = [
    (Wire.OPENAI_CHAT, {}, "gpt-4o", "call_{}_abcdefghijklmnopqrstuvwxyz"),
    (Wire.ANTHROPIC, {}, "claude-sonnet-5-5", "toolu_{}"),
    (Wire.GOOGLE, {}, "gemini-3.8-flash", "{}"),
    (Wire.OPENAI_CHAT, {"kind": "mistral"}, "mistral-large-4", "abcdefg{:02}"),
    (Wire.OPENAI_RESPONSES, {}, "gpt-6.1-terra", "fc_{}" + "x" * 50),
    (Wire.OPENAI_CHAT, {"kind": "deepseek"}, "deepseek-v4", "0"),
    (Wire.OPENAI_CHAT, {"kind": "groq"}, "moonshotai/kimi-k3", "functions.look:{}"),
    (Wire.OLLAMA, {}, "qwen", ""),
]


def looks_and_tells(number: int, form: str) -> Any:
    """Calls two tools, with reasoning and signatures, and then tells how many results it has seen."""

    def script(request: ReceivedRequest) -> Reply:
        if request.results:
            return Reply(f"Seen {sum(len(turn.results) for turn in request.turns)}.", reasoning=("So.",))
        calls = [SaidToolCall("look", '{"at": 1}', form.format(2 * number + each)) for each in (0, 1)]
        if "{" not in form:
            calls = [SaidToolCall("look", '{"at": 1}', form), SaidToolCall("look", '{"at": 2}')]
        return Reply("Let me look.", reasoning=("Hm.",), tool_calls=tuple(calls), is_signed=True)

    return script


@pytest.mark.parametrize("first", range(len(VENDORS)))
async def test_a_conversation_goes_from_vendor_to_vendor(first: int) -> None:
    """Each vendor gets the calls, the results and the images of all before it, and takes them."""
    messages: list[Message] = []
    order = VENDORS[first:] + VENDORS[:first]
    for number, (wire, more, model, form) in enumerate(order):
        host = more.get("kind", "openai")
        async with (
            SimulatedVendor(wire, looks_and_tells(number, form), host=host) as vendor,
            provider_over(vendor, **more) as provider,
        ):
            media = [] if host in ("deepseek", "groq") or wire is Wire.OLLAMA else [ImagePart(PNG)]
            messages.append(Message("user", [*media, f"Question {number}"]))
            pieces = await turn_of(provider, TaskRequest(messages=messages, tools=TOOLS), model)
            assert len(calls_in(pieces)) == 2
            turn = message_of(pieces, f"{wire}{host}")
            messages += [turn, results_of(turn, look="a fox")]
            pieces = await turn_of(provider, TaskRequest(messages=messages, tools=TOOLS), model)
            assert text_in(pieces) == f"Seen {2 * (number + 1)}."
            messages.append(message_of(pieces, f"{wire}{host}"))
            if wire is not Wire.GOOGLE and wire is not Wire.OLLAMA:
                ids = [call.id for call in vendor.requests[-1].calls]
                assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("wire", [Wire.ANTHROPIC, Wire.GOOGLE, Wire.OPENAI_RESPONSES])
async def test_a_vendor_gets_its_own_signature_back(wire: Wire) -> None:
    reply = Reply(reasoning=("Hm.",), tool_calls=(SaidToolCall("look"),), is_signed=True)
    async with SimulatedVendor(wire, [reply, "Done."]) as vendor, provider_over(vendor) as provider:
        messages = [Message("user", "Look.")]
        pieces = await turn_of(provider, TaskRequest(messages=messages, tools=TOOLS), "gemini-3-pro")
        signature = next(each.signature for each in pieces if isinstance(each, ReasoningDelta) and each.signature)
        turn = message_of(pieces)
        request = TaskRequest(messages=[*messages, turn, results_of(turn)], tools=TOOLS)
        assert text_in(await turn_of(provider, request, "gemini-3-pro")) == "Done."
        assert signature.rpartition(":")[2] in str(vendor.requests[1].body)


ELSEWHERE = (
    "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation. "
    'Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block".'
)
REFUSALS = [
    (Wire.ANTHROPIC, ELSEWHERE, "thinking"),
    (Wire.GOOGLE, "Corrupted thought signature.", SIGNATURES[Wire.GOOGLE]),
    (Wire.GOOGLE, "Unable to submit request because Thought signature is not valid.", SIGNATURES[Wire.GOOGLE]),
    (Wire.OPENAI_RESPONSES, "The encrypted content gAAA...DQ== could not be verified.", "reasoning"),
]


@pytest.mark.parametrize(("wire", "words", "mark"), REFUSALS)
@pytest.mark.parametrize("more", [{}, {"options": {"background": True}}], ids=["live", "kept"])
async def test_a_vendor_that_refuses_a_signature_is_asked_without_it(
    wire: Wire, words: str, mark: str, more: dict[str, Any]
) -> None:
    """A thought may be bound to what was said before it, or to an account. The conversation goes on without it."""

    def script(request: ReceivedRequest) -> Reply:
        return Reply(fault=HttpError(400, message=words)) if mark in str(request.body) else Reply("Done.")

    kept = more if wire is Wire.OPENAI_RESPONSES else {}
    reply = Reply(reasoning=("Hm.",), tool_calls=(SaidToolCall("look"),), is_signed=True)
    async with SimulatedVendor(wire, [reply, script]) as vendor, provider_over(vendor, **kept) as provider:
        turn = message_of(await turn_of(provider, TaskRequest("Look.", tools=TOOLS), "gemini-3-pro"))
        request = TaskRequest(messages=[Message("user", "Look."), turn, results_of(turn)], tools=TOOLS)
        assert text_in(await turn_of(provider, request, "gemini-3-pro")) == "Done."
        assert len(vendor.requests) == 3


@pytest.mark.parametrize(("wire", "words", "mark"), REFUSALS)
async def test_a_request_without_thoughts_is_not_sent_twice(wire: Wire, words: str, mark: str) -> None:
    async with (
        SimulatedVendor(wire, Reply(fault=HttpError(400, message=words))) as vendor,
        provider_over(vendor) as provider,
    ):
        with pytest.raises(InvalidRequestError):
            await turn_of(provider, TaskRequest(messages=[Message("assistant", "Hi."), Message("user", "x")]))
        assert len(vendor.requests) == 1


async def test_another_refusal_is_not_sent_twice() -> None:
    """Only what is said of the signatures: a call without its signature, say, would be refused again."""
    words = "Function call is missing a thought_signature in functionCall parts."
    async with (
        SimulatedVendor(Wire.GOOGLE, Reply(fault=HttpError(400, message=words))) as vendor,
        provider_over(vendor) as provider,
    ):
        thought = Message("assistant", [ReasoningPart("Hm.", SIGNATURES[Wire.GOOGLE]), "Hi."])
        with pytest.raises(InvalidRequestError):
            await turn_of(provider, TaskRequest("x", messages=[thought]))
        assert len(vendor.requests) == 1


@pytest.mark.parametrize("refusal", [None, ELSEWHERE])
async def test_a_budget_for_thoughts_is_no_reason_to_refuse_the_calls_of_others(refusal: str | None) -> None:
    """Anthropic wants a thought before the calls whose results are sent, and another model's are not its own."""

    def script(request: ReceivedRequest) -> Reply:
        return Reply(fault=HttpError(400, message=ELSEWHERE)) if "signature" in str(request.body) else Reply("Done.")

    thinking = {"type": "enabled", "budget_tokens": 1024}
    thought = [ReasoningPart("Hm.", SIGNATURES[Wire.ANTHROPIC])] if refusal else []
    turn = Message("assistant", [*thought, ToolCallPart("c", "look", "{}")])
    request = TaskRequest(
        messages=[Message("user", "Look."), turn, results_of(turn)], tools=TOOLS, extra={"thinking": thinking}
    )
    async with SimulatedVendor(Wire.ANTHROPIC, script) as vendor, provider_over(vendor) as provider:
        assert text_in(await turn_of(provider, request)) == "Done."
        assert text_in(await turn_of(provider, TaskRequest("x", extra={"thinking": thinking}))) == "Done."
    sent = [request.body["thinking"] for request in vendor.requests]
    assert sent == [*([thinking] if refusal else []), {"type": "disabled"}, thinking]


async def test_a_simulated_provider_refuses_calls_and_results_that_do_not_pair() -> None:
    provider = SimulatedProvider(ProviderSettings(name="p", kind="openai"), "Hi.")
    call, result = ToolCallPart("c", "look", "{}"), ToolResultPart("c", "look", "1")
    for messages, words in (
        ([Message("assistant", call)], "No tool output found for function call c."),
        ([Message("tool", result)], "No tool call found for function call output with call_id c."),
        ([Message("assistant", call), Message("tool", [result, result])], "No tool call found for"),
    ):
        ask = Ask(TaskRequest("x", messages=messages), Target("p", "m"))
        with pytest.raises(InvalidRequestError, match=words):
            _ = [piece async for piece in provider.stream(ask)]


# ── what was cached ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", list(Wire))
async def test_cached_tokens_are_counted_on_each_wire(wire: Wire) -> None:
    said = SaidUsage(100, 5, cached=40, written=30, written_1h=10)
    async with SimulatedVendor(wire, Reply("Hi.", usage=said)) as vendor, provider_over(vendor) as provider:
        usage = usage_in(await turn_of(provider, TaskRequest("x"))).usage
    writes = {Wire.ANTHROPIC: (30, 10), Wire.OPENAI_CHAT: (30, 0), Wire.OPENAI_RESPONSES: (30, 0)}
    assert (usage.cache_write_tokens, usage.cache_write_1h_tokens) == writes.get(wire, (0, 0))
    assert usage.cache_read_tokens == (0 if wire is Wire.OLLAMA else 40)
    assert usage.input_tokens == 100


def test_hosts_of_openais_chat_count_cached_tokens_under_other_names() -> None:
    assert chat.usage({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}).cache_read_tokens == 4
    assert chat.usage({"prompt_tokens": 9, "cached_tokens": 4}).cache_read_tokens == 4
    counts = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5}}
    assert responses._usage(counts).cache_write_tokens == 5


def test_a_prompt_that_is_kept_for_an_hour_costs_more() -> None:
    """Anthropic's prices, a million tokens: 4 dollars of input, 5 for five minutes, 8 for an hour, 0.2 for a read."""

    def dollars(**counts: Any) -> float | None:
        return cost("anthropic", "claude-opus-5-5", Usage(input_tokens=1_000_000, **counts))

    assert dollars() == pytest.approx(4)
    assert dollars(cache_write_tokens=1_000_000) == pytest.approx(5)
    assert dollars(cache_write_tokens=1_000_000, cache_write_1h_tokens=1_000_000) == pytest.approx(8)
    assert dollars(cache_write_tokens=1_000_000, cache_write_1h_tokens=500_000) == pytest.approx(6.5)
    assert dollars(cache_read_tokens=1_000_000) == pytest.approx(0.2)
    assert dollars(cache_write_tokens=100, cache_write_1h_tokens=900) == dollars(
        cache_write_tokens=100, cache_write_1h_tokens=100
    ), "a count that does not add up"


def test_a_sum_of_usages_has_what_was_kept_for_an_hour() -> None:
    one = Usage(10, 1, cache_write_tokens=5, cache_write_1h_tokens=2, source="reported")
    assert Usage.sum([one, one]).cache_write_1h_tokens == 4


async def test_a_count_that_no_request_has_is_refused() -> None:
    """tests/dispatch has the other counts."""
    from llm_dispatcher._dispatch.row import _credible

    noted: list[Any] = []
    assert _credible(Usage(cache_write_1h_tokens=-1), Target("a", "m"), noted.append) is None
    assert len(noted) == 1


async def test_the_ledger_prices_what_a_vendor_kept() -> None:
    said = SaidUsage(1000, 0, written=1000, written_1h=1000)
    async with SimulatedVendor(Wire.ANTHROPIC, Reply("Hi.", usage=said)) as vendor:
        entry = {**KINDS["anthropic"], "api_key": "test-key", "base_url": vendor.base_url}
        policy = {"providers": {"a": {**entry, "models": ["claude-opus-5-5"]}}}
        async with LLMSwitch(policy) as switch:
            request = TaskRequest(messages=[Message("user", ["Long.", CachePoint("1h"), "Short."])])
            stream = switch.stream_request(request)
            await stream
            assert stream.response.cost == pytest.approx(0.008)
    content = vendor.requests[0].body["messages"][0]["content"]
    assert content[0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
