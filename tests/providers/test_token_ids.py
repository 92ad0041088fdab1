"""An answer of vLLM or llama.cpp goes on from exactly the tokens that were delivered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest
from msgspec.structs import replace

from llm_dispatcher._providers import make
from llm_dispatcher._providers.openai import chat_tokens, completions, token_prompt
from llm_dispatcher._providers.openai.provider import OpenAIProvider
from llm_dispatcher._providers.openai.token_prompt import TokenService
from llm_dispatcher._providers.openai.token_trail import Trail
from llm_dispatcher.events import ReasoningDelta, UsageReport
from llm_dispatcher.exceptions import (
    ConfigurationError,
    ContextLengthExceededError,
    ProviderError,
    UnprovenContinuationError,
)
from llm_dispatcher.provider import Ask, Finished, Piece, ProviderSettings, RawEvent, TokenTrail
from llm_dispatcher.tasks import Message, Target, TaskRequest
from llm_dispatcher.testing import Continuing, Cut, ReceivedRequest, Reply, SimulatedVendor
from tests.conftest import thinned

A = Target("a", "m")
TEXT = "Once 🦊 upon a time, a  fox 🦊🐇 met\n\n a rabbit.\n"
REQUEST = TaskRequest("Tell me.", system="Be brief.", max_tokens=400)
GIF = b"GIF89a and what follows"

Start = Callable[..., SimulatedVendor]


@pytest.fixture
def serving(simulated_vendor: Start) -> Start:
    return partial(simulated_vendor, "openai-chat", host="vllm", api_key=None)


def provider_of(vendor: SimulatedVendor, kind: str = "vllm", **options: Any) -> OpenAIProvider:
    provider = make(ProviderSettings(name="a", kind=kind, base_url=vendor.base_url, options=options))
    assert isinstance(provider, OpenAIProvider)
    return provider


async def read(provider: OpenAIProvider, ask: Ask) -> tuple[list[Piece], ProviderError | None]:
    """The pieces of an answer, and the error that ended it."""
    pieces: list[Piece] = []
    try:
        async for piece in provider.stream(ask):
            pieces.append(piece)
    except ProviderError as error:
        return pieces, error
    return pieces, None


def cut_again(request: ReceivedRequest) -> Reply:
    """The rest of the text, of which two pieces come."""
    return replace(Continuing(TEXT)(request), fault=Cut(after=2))


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def trail_of(pieces: list[Piece]) -> Trail:
    (place,) = [place for place, piece in enumerate(pieces) if isinstance(piece, TokenTrail)]
    assert not any(isinstance(piece, str) for piece in pieces[:place]), "it comes before the first text"
    trail = pieces[place]
    assert isinstance(trail, Trail)
    return trail


# ── vLLM ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("reasoning", [(), ("I think ", "of a fox.")], ids=["", "with reasoning"])
@pytest.mark.parametrize("limit", [400, None])
async def test_an_answer_that_breaks_anywhere_goes_on_from_its_tokens(
    serving: Start, reasoning: tuple[str, ...], limit: int | None
) -> None:
    """To the letter, whether the cut is after a blank, an emoji or a line break. The rest is counted in tokens."""
    whole = Reply(TEXT, chunk_size=3, reasoning=reasoning)
    request = replace(REQUEST, max_tokens=limit)
    for cut in thinned(range(1 + len(reasoning), whole.length)):
        vendor = serving([replace(whole, fault=Cut(after=cut)), Continuing(TEXT)])
        provider = provider_of(vendor)
        pieces, error = await read(provider, Ask(request, A))
        delivered, trail = text_of(pieces), trail_of(pieces)
        assert error is not None and delivered == TEXT[: 3 * (cut - len(reasoning))]
        assert provider.takes_tokens("m", trail)
        left = None if limit is None else limit - len(trail.output)
        rest, error = await read(provider, Ask(replace(request, max_tokens=left), A, tokens=trail))
        await provider.aclose()
        assert error is None and delivered + text_of(rest) == TEXT
        assert Finished("stop", "stop") in rest and any(isinstance(piece, UsageReport) for piece in rest)
        sent = vendor.requests[-1].body
        assert sent["prompt"] == [*(trail.prompt or ()), *trail.output]
        assert sent["max_tokens"] == (left or 4096), "without a limit it would write 16 tokens"
        assert trail_of(rest).text == [delivered, *(piece for piece in rest if isinstance(piece, str))]


async def test_a_continuation_that_breaks_is_continued_from_the_tokens_of_both(serving: Start) -> None:
    vendor = serving([Reply(TEXT, fault=Cut(after=2)), cut_again, Continuing(TEXT)])
    provider = provider_of(vendor)
    first, _ = await read(provider, Ask(REQUEST, A))
    second, error = await read(provider, Ask(REQUEST, A, tokens=trail_of(first)))
    assert error is not None and text_of(second)
    third, error = await read(provider, Ask(REQUEST, A, tokens=trail_of(second)))
    await provider.aclose()
    assert error is None and text_of(first) + text_of(second) + text_of(third) == TEXT
    assert len(trail_of(first).output) < len(trail_of(second).output) < len(trail_of(third).output)


async def test_an_answer_may_begin_with_a_blank(serving: Start) -> None:
    """Some servers drop it from the text of ids, unless others come before it."""
    vendor = serving([Reply(" Once upon a time.", fault=Cut(after=1)), Continuing(" Once upon a time.")])
    provider = provider_of(vendor)
    first, _ = await read(provider, Ask(REQUEST, A))
    rest, error = await read(provider, Ask(REQUEST, A, tokens=trail_of(first)))
    await provider.aclose()
    assert error is None and (text_of(first), text_of(rest)) == (" Once", " upon a time.")


async def test_an_open_turn_of_the_application_is_part_of_the_prompt(serving: Start) -> None:
    request = TaskRequest(messages=[Message("user", "Tell me."), Message("assistant", "Once ")], max_tokens=400)
    vendor = serving([cut_again, Continuing(TEXT)])
    provider = provider_of(vendor)
    first, _ = await read(provider, Ask(request, A))
    rest, error = await read(provider, Ask(request, A, tokens=trail_of(first)))
    await provider.aclose()
    assert error is None and "Once " + text_of(first) + text_of(rest) == TEXT


async def test_the_same_pieces_come_with_and_without_ids(serving: Start) -> None:
    """Apart from the trail. With `raw`, each event is there too. Without a limit, no usage is asked for on the way."""
    reply = Reply(TEXT, reasoning=("I think.",), chunk_size=2)
    answers = []
    for token_ids in (True, False):
        provider = provider_of(serving(reply), token_ids=token_ids)
        pieces, error = await read(provider, Ask(TaskRequest("Tell me."), A, raw=True))
        await provider.aclose()
        assert error is None and sum(isinstance(piece, RawEvent) for piece in pieces) > reply.length
        answers.append([piece for piece in pieces if not isinstance(piece, (RawEvent, TokenTrail))][1:])
    assert answers[0] == answers[1]


UNFIT: dict[str, TaskRequest] = {
    "tools": TaskRequest("x", tools=[{"name": "f"}]),
    "a schema": TaskRequest("x", response_format={"type": "object", "properties": {}}),
    "a stop sequence": TaskRequest("x", stop=["end"]),
    "an image": TaskRequest("x", images=[GIF]),
    "several answers": TaskRequest("x", extra={"n": 2}),
    "an unknown parameter": TaskRequest("x", extra={"structured_outputs": {"choice": ["a", "b"]}}),
}


@pytest.mark.parametrize("request_", UNFIT.values(), ids=UNFIT)
async def test_no_ids_are_asked_for_where_they_would_not_be_exact(request_: TaskRequest, serving: Start) -> None:
    vendor = serving("Hi.")
    provider = provider_of(vendor)
    pieces, error = await read(provider, Ask(request_, A))
    await provider.aclose()
    assert error is None and text_of(pieces) == "Hi."
    assert not any(isinstance(piece, TokenTrail) for piece in pieces)
    assert "return_token_ids" not in vendor.requests[0].body
    assert (provider.rung("m", request_), provider.rung("m", REQUEST)) == (None, "exact")


async def test_no_ids_are_asked_for_over_responses(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", "Hi.", host="vllm", api_key=None)
    provider = make(ProviderSettings(name="a", kind="vllm", base_url=vendor.base_url, api="responses"))
    assert isinstance(provider, OpenAIProvider)
    pieces, error = await read(provider, Ask(REQUEST, A))
    await provider.aclose()
    assert error is None and text_of(pieces) == "Hi." and "return_token_ids" not in vendor.requests[0].body


async def test_parameters_of_sampling_are_sent_again_and_those_of_the_template_are_not(serving: Start) -> None:
    extra = {"top_k": 5, "chat_template_kwargs": {"enable_thinking": False}}
    request = replace(REQUEST, extra=extra, temperature=0.5, seed=7, reasoning_effort="low")
    vendor = serving([Reply(TEXT, fault=Cut(after=2)), Continuing(TEXT)])
    provider = provider_of(vendor)
    first, _ = await read(provider, Ask(request, A))
    await read(provider, Ask(request, A, tokens=trail_of(first)))
    await provider.aclose()
    sent = {name: value for name, value in vendor.requests[-1].body.items() if name != "prompt"}
    assert sent == {
        "model": "m", "max_tokens": 400, "temperature": 0.5, "seed": 7, "top_k": 5, "stream": True,
        "stream_options": {"include_usage": True}, "return_token_ids": True,
    }  # fmt: skip


async def test_ids_that_do_not_make_the_delivered_text_are_not_gone_on_from(serving: Start) -> None:
    """A server of the same name may have another vocabulary, and a parser may have held text back."""
    vendor = serving(Reply(TEXT))
    provider = provider_of(vendor)
    pieces, _ = await read(provider, Ask(REQUEST, A))
    trail = trail_of(pieces)
    for ids, text in ((trail.output[:-1], TEXT), ([*trail.output, 1097], TEXT), ([7, 7, 7], TEXT)):
        other = Trail(trail.family, trail.prompt, ids, [text])
        _, error = await read(provider, Ask(REQUEST, A, tokens=other))
        assert isinstance(error, UnprovenContinuationError)
    await provider.aclose()
    assert [request.path for request in vendor.requests].count("/v1/completions") == 0


async def test_a_host_that_cannot_check_the_ids_does_not_go_on_from_them(simulated_vendor: Start) -> None:
    """Such as a gateway with the addresses below /v1 only."""
    provider = provider_of(simulated_vendor("openai-chat", "Hi.", api_key=None))
    pieces, error = await read(provider, Ask(REQUEST, A))
    assert text_of(pieces) == "Hi." and error is None
    assert not any(isinstance(piece, TokenTrail) for piece in pieces), "it tells no ids"
    _, error = await read(provider, Ask(REQUEST, A, tokens=Trail("vllm/m", [1], [1040], ["H"])))
    await provider.aclose()
    assert isinstance(error, UnprovenContinuationError) and "/detokenize" in error.message


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500, 501, 502, 504])
async def test_a_gateway_may_answer_as_it_likes_for_addresses_that_it_does_not_offer(status: int) -> None:
    async def post(url: str, **options: Any) -> Any:
        reply = httpx2.Response(status, request=httpx2.Request("POST", url))
        raise openai.APIStatusError("not here", response=reply, body=None)

    service = TokenService(SimpleNamespace(base_url="http://host/v1/", post=post), None, None)  # type: ignore[arg-type]
    with pytest.raises(UnprovenContinuationError, match="the host has no /detokenize"):
        await service.prompt_of_ids("m", Trail("vllm/m", [1], [1040], ["H"]), 10)


async def test_a_host_that_never_says_what_the_ids_make_does_not_go_on_from_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def post(url: str, **options: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(token_prompt, "PATIENCE", 0.001)
    service = TokenService(SimpleNamespace(base_url="http://host/v1/", post=post), None, None)  # type: ignore[arg-type]
    with pytest.raises(UnprovenContinuationError, match="did not answer /detokenize within"):
        await service.prompt_of_ids("m", Trail("vllm/m", [1], [1040], ["H"]), 10)


async def test_an_answer_that_is_not_json_tells_nothing_of_the_ids() -> None:
    async def post(url: str, **options: Any) -> Any:
        return json.loads("{bad")

    service = TokenService(SimpleNamespace(base_url="http://host/v1/", post=post), None, None)  # type: ignore[arg-type]
    with pytest.raises(UnprovenContinuationError, match="answer to /detokenize is not JSON"):
        await service.prompt_of_ids("m", Trail("vllm/m", [1], [1040], ["H"]), 10)


async def test_ids_that_may_end_inside_a_character_are_not_gone_on_from() -> None:
    """vLLM would write the whole prompt as text. Its check of the ids does not tell: it writes the same mark."""

    async def post(url: str, **options: Any) -> Any:
        return {"prompt": "A \ufffd"}

    service = TokenService(SimpleNamespace(base_url="http://host/v1/", post=post), None, None)  # type: ignore[arg-type]
    with pytest.raises(UnprovenContinuationError, match="in the middle of a character"):
        await service.prompt_of_ids("m", Trail("vllm/m", [1], [1, 2], ["A ", "\ufffd"]), 10)


@pytest.mark.parametrize("answer", [{}, "<html>", {"prompt": None}])
async def test_a_host_that_answers_something_else_does_not_go_on_from_ids(answer: object) -> None:
    async def post(url: str, **options: Any) -> Any:
        return answer if not url.endswith("/tokenize") else {"tokens": [1]}

    service = TokenService(SimpleNamespace(base_url="http://host/v1/", post=post), None, None)  # type: ignore[arg-type]
    with pytest.raises(UnprovenContinuationError):
        await service.prompt_of_ids("m", Trail("vllm/m", [1], [1040], ["None"]), 10)
    with pytest.raises(UnprovenContinuationError, match="did not render"):
        await service.prompt_of_text({"model": "m"}, Trail("llama_cpp/m", None, [], ["H"]), 10)


async def test_a_conversation_that_fills_the_window_is_too_long(serving: Start) -> None:
    provider = provider_of(serving("Hi."))
    ids = [1097] * 5000
    _, error = await read(provider, Ask(REQUEST, A, tokens=Trail("vllm/m", [1], ids, ["a" * 5000])))
    await provider.aclose()
    assert isinstance(error, ContextLengthExceededError)


# ── who takes them ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rung_is_offered_by_those_that_have_token_ids() -> None:
    def rung(kind: str, **fields: Any) -> object:
        provider = make(ProviderSettings(name="a", kind=kind, base_url="http://localhost:9/v1", **fields))
        assert isinstance(provider, OpenAIProvider)
        return provider.rung("m", REQUEST)

    assert rung("vllm") == "exact"
    assert rung("vllm", options={"token_ids": False}) is None
    assert rung("vllm", api="responses") is None
    assert rung("llamacpp") is None
    assert rung("llamacpp", options={"token_ids": True}) == "exact"
    assert rung("openai_compatible") is None
    with pytest.raises(ConfigurationError, match="is true or false"):
        rung("vllm", options={"token_ids": "yes"})
    with pytest.raises(ConfigurationError, match="over chat only"):
        rung("vllm", api="responses", options={"token_ids": True})
    with pytest.raises(ConfigurationError, match="is not an option"):
        rung("openai_compatible", options={"token_ids": True})


def test_tokens_are_taken_of_the_same_model_only() -> None:
    provider = make(ProviderSettings(name="b", kind="vllm", base_url="http://localhost:9/v1"))
    assert isinstance(provider, OpenAIProvider)
    full = partial(Trail, prompt=[1], output=[1072], text=["H"])
    assert provider.takes_tokens("m", full("vllm/m"))
    assert not provider.takes_tokens("other", full("vllm/m"))
    assert not provider.takes_tokens("m", full("llamacpp/m"))
    assert not provider.takes_tokens("m", Trail("vllm/m", [1])), "nothing was delivered"
    assert not provider.takes_tokens("m", TokenTrail("vllm/m", [1], [1072])), "its text cannot be checked"


# ── event by event ─────────────────────────────────────────────────────────────────────────────────────────────────


def events(*deltas: tuple[dict[str, Any], list[int] | None], first: list[int] | None) -> Iterator[bytes]:
    head = {} if first is None else {"prompt_token_ids": first}
    yield json.dumps({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], **head}).encode()
    for delta, ids in deltas:
        told = {} if ids is None else {"token_ids": ids}
        yield json.dumps({"choices": [{"index": 0, "delta": delta, **told}]}).encode()


def test_a_trail_has_the_ids_of_exactly_the_text_that_was_yielded() -> None:
    """Ids of half a character, of a hidden mark and of reasoning wait for the text that comes after them."""
    decoder = chat_tokens.Decoder(A, (), "vllm/m")
    states = []
    trail: TokenTrail | None = None
    for event in events(
        ({"reasoning": "Hm"}, [1]),
        ({}, [2]),
        ({"content": "So "}, [3]),
        ({"content": ""}, [4]),
        ({"content": ""}, [5]),
        ({"content": "🦊"}, [6]),
        ({"content": "?!"}, [7, 8]),
        ({"content": ""}, [9]),
        first=[0],
    ):
        for piece in decoder.pieces(event):
            if isinstance(piece, TokenTrail):
                trail = piece
            elif isinstance(piece, (str, ReasoningDelta)):
                assert trail is not None
                states.append((piece if isinstance(piece, str) else piece.text, list(trail.output)))
    assert states == [
        ("Hm", []), ("So ", [1, 2, 3]), ("🦊", [1, 2, 3, 4, 5, 6]), ("?!", [1, 2, 3, 4, 5, 6, 7, 8]),
    ]  # fmt: skip
    assert trail is not None and trail.output == [1, 2, 3, 4, 5, 6, 7, 8] and trail.prompt == [0]


@pytest.mark.parametrize("wire", ["chat", "completions"])
def test_text_in_a_chunk_that_is_an_error_is_not_in_the_trail(wire: str) -> None:
    """It is not yielded, so a continuation must not go on behind it."""
    before = Trail("vllm/m", [0], [1], ["H"])
    decoder = chat_tokens.Decoder(A, (), "vllm/m") if wire == "chat" else completions.Decoder(A, (), before)
    (first,) = events(first=[0])
    last = {"index": 0, "text": "i", "delta": {"content": "i"}, "token_ids": [2], "finish_reason": "error"}
    trail = next(piece for piece in decoder.pieces(first) if isinstance(piece, Trail))
    ids, text = list(trail.output), list(trail.text)
    with pytest.raises(ProviderError):
        list(decoder.pieces(json.dumps({"choices": [last]}).encode()))
    assert (trail.output, trail.text) == (ids, text)


def test_a_host_that_tells_no_ids_of_the_prompt_has_no_trail() -> None:
    """Those of a later chunk would be of something else."""
    decoder = chat_tokens.Decoder(A, (), "vllm/m")
    late = b'{"choices": [{"index": 0, "delta": {"content": "!"}}], "prompt_token_ids": [1]}'
    told = [piece for event in (b"", *events(({"content": "Hi"}, None), ({"content": "."}, [7]), first=None), late)
            for piece in decoder.pieces(event)]  # fmt: skip
    assert told == ["Hi", ".", "!"]


def test_an_error_in_a_completion_is_raised() -> None:
    decoder = completions.Decoder(A, (), Trail("vllm/m", [1], [1072], ["H"]))
    with pytest.raises(ProviderError, match="the engine died"):
        list(decoder.pieces(b'{"error": {"message": "the engine died", "code": 500}}'))


# ── llama.cpp ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("limit", [400, None])
async def test_llamacpp_makes_ids_of_what_was_delivered(serving: Start, limit: int | None) -> None:
    """It tells none. The loop counts its chunks, so the request says what is left of the limit."""
    whole = Reply(TEXT, chunk_size=3)
    request = replace(REQUEST, max_tokens=limit)
    for cut in (1, 2, 5, whole.length - 1):
        vendor = serving([replace(whole, fault=Cut(after=cut)), Continuing(TEXT)], host="llamacpp")
        provider = provider_of(vendor, "llamacpp", token_ids=True)
        pieces, _ = await read(provider, Ask(request, A))
        delivered, trail = text_of(pieces), trail_of(pieces)
        assert provider.takes_tokens("m", trail) and "return_token_ids" not in vendor.requests[0].body
        rest, error = await read(provider, Ask(request, A, tokens=trail))
        await provider.aclose()
        assert error is None and delivered + text_of(rest) == TEXT
        sent = vendor.requests[-1].body
        assert len(sent["prompt"]) > len("<system\nBe brief.>\n<user\nTell me.>\n<assistant\n")
        assert sent.get("max_tokens") == limit


async def test_llamacpp_is_not_asked_for_the_ids_of_a_line_break_at_the_end(serving: Start) -> None:
    """A model may have written two of them in one token or in two."""
    lines = "One:\n\nTwo."
    vendor = serving([Reply(lines, chunk_size=6, fault=Cut(after=1)), Continuing(lines)], host="llamacpp")
    provider = provider_of(vendor, "llamacpp", token_ids=True)
    pieces, _ = await read(provider, Ask(REQUEST, A))
    assert text_of(pieces) == "One:\n\n"
    _, error = await read(provider, Ask(REQUEST, A, tokens=trail_of(pieces)))
    await provider.aclose()
    assert isinstance(error, UnprovenContinuationError) and "line break" in error.message


async def test_an_answer_with_reasoning_has_no_trail_on_llamacpp(serving: Start) -> None:
    vendor = serving(Reply(TEXT, reasoning=("Hm.",)), host="llamacpp")
    provider = provider_of(vendor, "llamacpp", token_ids=True)
    pieces, error = await read(provider, Ask(REQUEST, A))
    await provider.aclose()
    assert error is None and not any(isinstance(piece, TokenTrail) for piece in pieces)
