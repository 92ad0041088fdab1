"""Anthropic's server-side fallback: the vendor itself continues a declined answer with another model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from llm_dispatcher._providers import make
from llm_dispatcher._providers.anthropic.fallbacks import Fallbacks
from llm_dispatcher._providers.anthropic.messages import Decoder
from llm_dispatcher.events import ProviderEvent, ReasoningDelta, ToolCall, ToolCallDelta, Usage, UsageReport
from llm_dispatcher.exceptions import InvalidRequestError, ModelNotFoundError
from llm_dispatcher.provider import (
    Ask,
    Finished,
    Handover,
    ModelSettings,
    Piece,
    ProviderSettings,
    Secret,
    ServedBy,
)
from llm_dispatcher.tasks import Target, TaskRequest
from llm_dispatcher.testing import Cut, Decline, Reply, Resplit, SaidToolCall, SaidUsage, SimulatedVendor

Start = Callable[..., SimulatedVendor]
TALE = "Once upon a time there was a fox."
BETA = "server-side-fallback-2026-07-01"
USED = SaidUsage(input=412, output=264)


async def pieces_of(
    vendor: SimulatedVendor,
    *fallbacks: str,
    betas: Any = (BETA,),
    headers: dict[str, str] | None = None,
    models: dict[str, ModelSettings] | None = None,
    **extra: Any,
) -> list[Piece]:
    settings = ProviderSettings(
        name="a", kind="anthropic", api_key=Secret("test-key"), base_url=vendor.base_url, headers=headers or {},
        models=models or {},
    )  # fmt: skip
    if fallbacks:
        extra["fallbacks"] = "default" if fallbacks == ("default",) else [{"model": name} for name in fallbacks]
    if betas:
        extra["betas"] = betas if isinstance(betas, str) else list(betas)
    provider = make(settings)
    try:
        request = TaskRequest("hi", extra=extra)
        return [piece async for piece in provider.stream(Ask(request, Target("a", "fable"), 5.0))]
    finally:
        await provider.aclose()


def text_of(pieces: Sequence[Piece]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def only(kind: type, pieces: Sequence[Piece]) -> Any:
    (found,) = [piece for piece in pieces if isinstance(piece, kind)]
    return found


def last_usage(pieces: Sequence[Piece]) -> tuple[int, int]:
    usage = [piece.usage for piece in pieces if isinstance(piece, UsageReport)][-1]
    return usage.input_tokens, usage.output_tokens


def tokens(served: ServedBy) -> list[tuple[int, int] | None]:
    return [(usage.input_tokens, usage.output_tokens) if usage else None for usage in served.earlier]


# ── a declined answer that goes on ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("resplit", [None, Resplit((1,)), Resplit((700, 3))])
@pytest.mark.parametrize("after", [1, 3, 6])
async def test_a_model_that_declines_in_mid_answer_hands_over(
    after: int, resplit: Any, simulated_vendor: Start
) -> None:
    reply = Reply(
        TALE, declines=(Decline(after, "cyber", SaidUsage(535, 40)),), usage=USED, resplit=resplit
    )  # fmt: skip
    got = await pieces_of(simulated_vendor("anthropic", reply), "opus")
    assert text_of(got) == TALE
    place = got.index(Handover("opus", "refusal", "cyber"))
    assert text_of(got[:place]) == "".join(Reply(TALE).pieces[:after])
    assert only(ServedBy, got).model == "opus"
    assert tokens(only(ServedBy, got)) == [(535, 40)]
    assert last_usage(got) == (412, 264), "the counts at the top are those of the last model"
    assert only(Finished, got) == Finished("stop", "end_turn")
    assert not [piece for piece in got if isinstance(piece, ProviderEvent)]


async def test_a_model_that_declines_before_it_wrote_anything_costs_nothing(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("anthropic", Reply(TALE, declines=(Decline(usage=SaidUsage(535, 0)),), usage=USED))
    got = await pieces_of(vendor, "opus")
    first = next(place for place, piece in enumerate(got) if isinstance(piece, (str, UsageReport)))
    assert got.index(Handover("opus", "refusal", None)) < first, "no usage is reported before it is known whose it is"
    (usage,) = only(ServedBy, got).earlier
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (0, 0, "reported")
    assert usage.raw["input_tokens"] == 535
    assert (text_of(got), last_usage(got)) == (TALE, (412, 264))


async def test_several_models_may_decline(simulated_vendor: Start) -> None:
    declines = (Decline(2, "bio", SaidUsage(10, 2)), Decline(2), Decline(5, usage=SaidUsage(20, 3)))
    vendor = simulated_vendor("anthropic", Reply(TALE, declines=declines, usage=USED))
    got = await pieces_of(vendor, "opus", "sonnet", "haiku")
    assert [piece.to_model for piece in got if isinstance(piece, Handover)] == ["opus", "sonnet", "haiku"]
    assert (text_of(got), only(ServedBy, got).model) == (TALE, "haiku")
    assert tokens(only(ServedBy, got)) == [(10, 2), (0, 0), (20, 3)]


async def test_if_every_model_declines_the_answer_is_a_refusal(simulated_vendor: Start) -> None:
    declines = (Decline(2, usage=SaidUsage(10, 2)), Decline(4, "cyber", SaidUsage(12, 2)))
    got = await pieces_of(simulated_vendor("anthropic", Reply(TALE, declines=declines)), "opus")
    assert text_of(got) == "Once upon a time"
    assert only(Finished, got) == Finished("refusal", "refusal")
    event = only(ProviderEvent, got)
    assert (event.kind, event.data["category"], event.data["text"][:21]) == (
        "refusal",
        "cyber",
        "This request was decl",
    )
    assert (tokens(only(ServedBy, got)), last_usage(got)) == ([(10, 2)], (12, 2))


@pytest.mark.parametrize("declines", [(Decline(3),), (Decline(3), Decline(4))])
async def test_without_fallbacks_a_declined_answer_is_a_refusal(
    declines: tuple[Decline, ...], simulated_vendor: Start
) -> None:
    got = await pieces_of(simulated_vendor("anthropic", Reply(TALE, declines=declines)))
    assert (text_of(got), only(Finished, got).finish_reason) == ("Once upon a", "refusal")
    assert not [piece for piece in got if isinstance(piece, (Handover, ServedBy))]
    assert last_usage(got) == (9, 3)


def test_the_name_of_another_model_is_fit_for_a_log() -> None:
    """The vendor has written it, and may have written anything."""
    fallbacks = Fallbacks(str)
    model = "m\nWARNING " + "x" * 1_000
    handover = fallbacks.handover({"model": model}, None)
    served = fallbacks.served_by({"iterations": [{"type": "fallback_message", "model": model}]}, lambda counts: Usage())
    assert handover is not None and served is not None
    assert handover.to_model == served.model and len(served.model) <= 200
    assert served.model.startswith("m WARNING x")


async def test_the_models_have_the_names_of_the_configuration(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("anthropic", Reply(TALE, declines=(Decline(3),)))
    got = await pieces_of(vendor, "claude-opus-4-8", models={"opus": ModelSettings(alias="claude-opus-4-8")})
    assert (only(Handover, got).to_model, only(ServedBy, got).model) == ("opus", "opus")


async def test_calls_of_a_model_that_declined_are_never_whole(simulated_vendor: Start) -> None:
    """The vendor hands over the text only, so even a call that was complete is taken back."""
    calls = (SaidToolCall("look", '{"at": 1}', "call_1"), SaidToolCall("walk", '{"to": 2}', "call_2"))
    reply = Reply("Let me.", tool_calls=calls, declines=(Decline(5),))
    got = await pieces_of(simulated_vendor("anthropic", reply), "opus")
    place = got.index(only(Handover, got))
    before = {piece.id for piece in got[:place] if isinstance(piece, ToolCallDelta)}
    assert before == {"call_1", "call_2"}
    assert not [piece for piece in got[:place] if isinstance(piece, ToolCall)]
    whole = [(piece.id, piece.arguments) for piece in got[place:] if isinstance(piece, ToolCall)]
    assert whole == [("call_1", {"at": 1}), ("call_2", {"to": 2})]


async def test_an_unfinished_thought_is_begun_again(simulated_vendor: Start) -> None:
    reply = Reply(TALE, reasoning=("Let me ", "think."), declines=(Decline(1),))
    got = await pieces_of(simulated_vendor("anthropic", reply), "opus")
    thoughts = [piece.text for piece in got if isinstance(piece, ReasoningDelta) and piece.text]
    assert thoughts == ["Let me ", "Let me ", "think."]


async def test_a_cut_after_a_handover_is_a_cut(simulated_vendor: Start) -> None:
    reply = Reply(TALE, declines=(Decline(2),), fault=Cut(after=4))
    seen: list[Piece] = []
    settings = ProviderSettings(name="a", kind="anthropic", api_key=Secret("test-key"),
                                base_url=simulated_vendor("anthropic", reply).base_url)  # fmt: skip
    provider = make(settings)
    request = TaskRequest("hi", extra={"fallbacks": [{"model": "opus"}], "betas": [BETA]})
    with pytest.raises(Exception, match="broke"):
        async for piece in provider.stream(Ask(request, Target("a", "fable"), 5.0)):
            seen.append(piece)
    await provider.aclose()
    assert [piece for piece in seen if isinstance(piece, Handover)] == [Handover("opus", "refusal", None)]
    assert not [piece for piece in seen if isinstance(piece, (ServedBy, Finished))]


# ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_request_is_written_as_for_the_sdk(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("anthropic", Reply(TALE))
    await pieces_of(vendor, "opus", betas=[BETA, "files"], headers={"Anthropic-Beta": "files,skills"})
    (request,) = vendor.requests
    assert request.headers["anthropic-beta"] == f"files,skills,{BETA}"
    assert request.body["fallbacks"] == [{"model": "opus"}]
    assert "betas" not in request.body
    assert request.fallbacks == ("opus",)


async def test_the_header_may_be_in_the_configuration(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("anthropic", Reply(TALE, declines=(Decline(1),)))
    got = await pieces_of(vendor, "opus", betas=(), headers={"anthropic-beta": BETA})
    assert text_of(got) == TALE


@pytest.mark.parametrize(
    ("fallbacks", "betas", "says"),
    [
        ([{"model": "opus"}], None, "fallbacks: Extra inputs are not permitted"),
        ([{"model": "opus"}], "server-side-fallback-2025-01-01", "fallbacks: Extra inputs are not permitted"),
        ("default", "server-side-fallback-2026-06-01", "valid list"),
        ("best", BETA, "valid list"),
        ([], BETA, "1 to 3 items"),
        ([{"model": name} for name in "abcd"], BETA, "1 to 3 items"),
        (["opus"], BETA, "fallbacks.0.model"),
        ([{"model": "opus", "temperature": 1}], BETA, "fallbacks.0.temperature: Extra inputs"),
        ([{"model": "opus"}, {"model": "opus"}], BETA, "distinct"),
        ([{"model": "fable"}], BETA, "distinct"),
    ],
)
async def test_the_vendor_refuses_what_the_real_one_refuses(
    fallbacks: Any, betas: Any, says: str, simulated_vendor: Start
) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        await pieces_of(simulated_vendor("anthropic", Reply(TALE)), betas=betas, fallbacks=fallbacks)


async def test_each_fallback_has_to_exist(simulated_vendor: Start) -> None:
    with pytest.raises(ModelNotFoundError, match="opus"):
        await pieces_of(simulated_vendor("anthropic", Reply(TALE), models=["fable"]), "opus")


async def test_the_vendor_chooses_the_default_fallback(simulated_vendor: Start) -> None:
    got = await pieces_of(simulated_vendor("anthropic", Reply(TALE, declines=(Decline(1),))), "default")
    assert (text_of(got), only(ServedBy, got).model) == (TALE, "simulated-default-fallback")


async def test_betas_that_are_no_list_are_refused(simulated_vendor: Start) -> None:
    with pytest.raises(InvalidRequestError, match="betas"):
        vendor = simulated_vendor("anthropic", Reply(TALE))
        provider = make(
            ProviderSettings(name="a", kind="anthropic", api_key=Secret("test-key"), base_url=vendor.base_url)
        )
        async for _ in provider.stream(Ask(TaskRequest("hi", extra={"betas": 7}), Target("a", "m"), 5.0)):
            pass


# ── what real vendors may send ─────────────────────────────────────────────────────────────────────────────────────


def decoded(*events: dict[str, Any], may_hand_over: bool = True) -> list[Piece]:
    decoder = Decoder(Target("a", "fable"), may_hand_over=may_hand_over)
    return [piece for event in events for piece in decoder.pieces(json.dumps(event).encode())]


def block(**start: Any) -> list[dict[str, Any]]:
    return [{"type": "content_block_start", "index": 0, "content_block": start}, {"type": "content_block_stop"}]


def end(**usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}


def entry(kind: str, model: str | None, given: int, written: int) -> dict[str, Any]:
    return {"type": kind, "model": model, "input_tokens": given, "output_tokens": written}


def test_an_answer_that_stays_with_a_fallback_model_has_no_block() -> None:
    got = decoded(end(input_tokens=4, output_tokens=5, iterations=[entry("fallback_message", "opus", 4, 5)]))
    assert got[0] == ServedBy("opus", ())
    assert last_usage(got) == (4, 5)


def test_a_model_that_runs_the_vendors_tools_has_several_entries() -> None:
    iterations = [
        entry("message", "fable-2026", 10, 1),
        entry("message", "fable-2026", 11, 2),
        entry("compaction", None, 500, 500),
        entry("message", "opus", 20, 3),
        entry("fallback_message", "opus", 21, 4),
    ]
    fallback = block(type="fallback", to={"model": "opus"}, trigger={"type": "refusal", "category": None})
    got = decoded(*fallback, end(input_tokens=41, output_tokens=7, iterations=iterations))
    assert tokens(only(ServedBy, got)) == [(21, 3)]


def test_the_counts_of_the_first_model_are_not_those_of_the_next() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "cache_read_input_tokens": 90}}}
    fallback = block(type="fallback", to={"model": "opus"})
    got = decoded(start, *block(type="text", text="Once"), *fallback, end(input_tokens=5, output_tokens=6))
    assert last_usage(got) == (5, 6)
    assert only(ServedBy, got) == ServedBy("opus", (None,))


@pytest.mark.parametrize("to", [None, {}, {"model": None}, {"model": 5}, "opus", []])
def test_a_block_that_names_no_model_is_an_event(to: Any) -> None:
    got = decoded(*block(type="fallback", to=to), end(iterations="none"))
    assert only(ProviderEvent, got).kind == "fallback"


@pytest.mark.parametrize("iterations", [[], None, 5, [None], [{"type": "message"}], [{"type": 5, "model": []}]])
def test_iterations_that_say_nothing_say_nothing(iterations: Any) -> None:
    got = decoded(*block(type="fallback", to={"model": "opus"}), end(iterations=iterations))
    assert only(ServedBy, got) == ServedBy("opus", (None,))


def test_an_answer_without_fallbacks_is_read_as_before() -> None:
    call = block(type="tool_use", id="call_1", name="look", input={"at": 1})
    got = decoded(*call, end(input_tokens=1, output_tokens=2), may_hand_over=False)
    assert [type(piece).__name__ for piece in got] == ["ToolCallDelta", "ToolCall", "UsageReport"]
