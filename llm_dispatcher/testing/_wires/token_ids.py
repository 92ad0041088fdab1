"""Token ids as vLLM and llama.cpp have them: told with an answer, taken by `/v1/completions`, made of text.

The vocabulary is a function, so that ids can be read without a table: four marks, one id for each byte of an emoji (so
that a character may be in several tokens), and one id for every other character. The chat template writes a turn as
`<|im_start|>role`, a line break, the text and `<|im_end|>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, Final

import msgspec

from .._received import ReceivedRequest, Turn
from .frames import Frame, Rejection, dumps
from .turns import chat_turns

MARKS: Final = {"<|im_start|>": 1, "<|im_end|>": 2, "</think>": 3}
TURN, END, END_OF_THOUGHT = MARKS.values()
_BYTES: Final = 16
_CHARACTERS: Final = 1000
VOCABULARY: Final = _CHARACTERS + 0x10000
WINDOW: Final = 4096
"""The window of every model, in tokens."""
WITHOUT_A_LIMIT: Final = 16
"""The tokens that vLLM's completions interface writes if a request has no `max_tokens`."""

HOSTS: Final = frozenset({"vllm", "llamacpp"})


def ids_of(text: str) -> list[int]:
    """The ids of a text without marks."""
    return [each for character in text for each in _ids_of_character(character)]


def text_of_ids(ids: Iterable[int]) -> str:
    """The text of ids, with the marks. Bytes that are no character are one replacement character."""
    names = {number: mark for mark, number in MARKS.items()}
    parts: list[str] = []
    for are_bytes, group in groupby(ids, lambda number: _BYTES <= number < _BYTES + 256):
        if are_bytes:
            parts.append(bytes(number - _BYTES for number in group).decode(errors="replace"))
        else:
            parts += [
                names.get(number) or chr(number - _CHARACTERS)
                for number in group
                if number >= _CHARACTERS or number in names
            ]
    return "".join(parts)


def prompt_ids(request: ReceivedRequest) -> list[int]:
    """The ids of a chat request, as the chat template writes it."""
    system = [Turn("system", request.system)] if request.system is not None else []
    ids = [each for turn in (*system, *request.turns) for each in _ids_of_turn(turn)]
    is_open = request.turns[-1].role == "assistant"
    if is_open and (request.host == "llamacpp" or request.body.get("continue_final_message") is True):
        return ids[:-2]  # without the end of the turn
    return [*ids, TURN, *ids_of("assistant\n")]


def rejection(request: ReceivedRequest) -> Rejection | None:
    """The reason why vLLM refuses to continue the last turn of a chat, or `None`."""
    if request.host != "vllm" or request.body.get("continue_final_message") is not True:
        return None
    if request.body.get("add_generation_prompt") is False:
        return None
    return Rejection(400, "continue_final_message and add_generation_prompt are not compatible.")


def read_completion(request: ReceivedRequest) -> Rejection | None:
    """Fill in the turns of a request with a prompt of ids. Returns the reason if the host would refuse it."""
    body = request.body
    prompt, limit = body.get("prompt"), body.get("max_tokens")
    if isinstance(prompt, str):
        prompt = _ids_with_marks(prompt)
    if not isinstance(prompt, list) or not prompt:
        return Rejection(400, "You must pass at least one prompt")
    if any(type(each) is not int or not 0 <= each < VOCABULARY for each in prompt):
        return Rejection(400, "Token id is out of vocabulary")
    request.model = str(body.get("model") or "")
    if request.host == "vllm" and isinstance(limit, int) and limit > WINDOW:
        message = f"max_tokens={limit} cannot be greater than max_model_len={WINDOW}."
        return Rejection(400, message, "BadRequestError", "max_tokens")
    if len(prompt) >= WINDOW:
        message = f"This model's maximum context length is {WINDOW} tokens."
        return Rejection(400, message, "BadRequestError", "input_tokens")
    request.turns = _turns(prompt)
    if request.turns[0].role == "system":
        request.system = request.turns.pop(0).text
    return None if request.turns else Rejection(400, "You must pass at least one prompt")


def service(request: ReceivedRequest, path: str) -> dict[str, Any] | Rejection | None:
    """The answer of an address of the host beside `/v1`; `None` if it has no such address."""
    body = request.body
    match request.host, path:
        case "vllm", "/detokenize":
            # Tokenizers of the SentencePiece kind drop a blank before the first token.
            return {"prompt": text_of_ids(body.get("tokens") or ()).removeprefix(" ")}
        case "vllm", "/tokenize":
            ids = ids_of(str(body.get("prompt")))
            return {"count": len(ids), "max_model_len": WINDOW, "tokens": ids}
        case "llamacpp", "/tokenize":
            text = str(body.get("content"))
            return {"tokens": _ids_with_marks(text) if body.get("parse_special") else ids_of(text)}
        case "llamacpp", "/apply-template":
            request.turns = chat_turns(body.get("messages"))
            if not request.turns:
                return Rejection(400, "'messages' must not be empty")
            return {"prompt": text_of_ids(prompt_ids(request))}
        case _:
            return None


# ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_ids(request: ReceivedRequest, event: Callable[[bytes], bytes]) -> Callable[[list[Frame]], list[Frame]]:
    """Adds to the frames of a chat answer what vLLM adds for `return_token_ids`."""

    def add(frames: list[Frame]) -> list[Frame]:
        return [Frame(event(dumps(chunk)), content) for chunk, content in _chat(_chunks(frames), prompt_ids(request))]

    return add


def with_usage(request: ReceivedRequest, event: Callable[[bytes], bytes]) -> Callable[[list[Frame]], list[Frame]]:
    """Adds to the frames of a chat answer what vLLM adds for `continuous_usage_stats`: the tokens so far."""

    def add(frames: list[Frame]) -> list[Frame]:
        prompt, written, changed = len(prompt_ids(request)), 0, []
        for chunk, content in _chunks(frames):
            if (choice := _choice(chunk)) is not None and choice["finish_reason"] is None:
                delta = choice["delta"]
                written += len(ids_of(delta.get("content") or delta.get("reasoning_content") or ""))
                counts = {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
                chunk["usage"] = counts
            changed.append(Frame(event(dumps(chunk)), content))
        return changed

    return add


def as_completion(request: ReceivedRequest, event: Callable[[bytes], bytes]) -> Callable[[list[Frame]], list[Frame]]:
    """Makes the frames of a completion of those of a chat answer."""
    has_ids = request.host == "vllm" and request.body.get("return_token_ids") is True
    most = WITHOUT_A_LIMIT if request.host == "vllm" and request.body.get("max_tokens") is None else WINDOW

    def convert(frames: list[Frame]) -> list[Frame]:
        chunks = _completion(_chunks(frames), most, has_ids=has_ids)
        return [Frame(event(dumps(chunk)), content) for chunk, content in chunks]

    return convert


_Chunks = Iterator[tuple[Any, bool]]


def _chunks(frames: list[Frame]) -> _Chunks:
    """The chunks of frames as JSON; `[DONE]` as it is."""
    for frame in frames:
        data = frame.data.removeprefix(b"data: ").strip()
        yield (msgspec.Raw(data) if data == b"[DONE]" else msgspec.json.decode(data)), frame.content


def _chat(chunks: _Chunks, prompt: list[int]) -> _Chunks:
    was_thought = False
    for place, (chunk, content) in enumerate(chunks):
        choice = _choice(chunk)
        delta = {} if choice is None else choice["delta"]
        if place == 0:
            chunk["prompt_token_ids"] = prompt
        elif choice is not None:
            text = delta.get("content") or delta.get("reasoning_content") or ""
            if was_thought and delta.get("content"):
                yield {**chunk, "choices": [{**choice, "delta": {}, "token_ids": [END_OF_THOUGHT]}]}, False
            was_thought = "reasoning_content" in delta
            *early, last = _split(text) if text else [[END]]
            for ids in early:
                yield {**chunk, "choices": [{**choice, "delta": {"content": ""}, "token_ids": ids}]}, False
            choice["token_ids"] = last
        yield chunk, content


def _completion(chunks: _Chunks, left: int, *, has_ids: bool) -> _Chunks:
    """Chunks of at most so many tokens that are left."""
    next(chunks)  # the role
    for chunk, content in chunks:
        if (choice := _choice(chunk)) is None:
            yield chunk, content
        elif left > 0:
            text = choice["delta"].get("content") or choice["delta"].get("reasoning_content") or ""
            ids = ids_of(text) if text else [END]
            finish = choice["finish_reason"] if len(ids) <= left else "length"
            told = {"token_ids": ids[:left]} if has_ids else {}
            one = {"index": 0, "text": text[:left], "logprobs": None, "finish_reason": finish, **told}
            yield {**chunk, "object": "text_completion", "choices": [one]}, content
            left = 0 if finish is not None else left - len(ids)


def _choice(chunk: Any) -> dict[str, Any] | None:
    choices = chunk.get("choices") if isinstance(chunk, dict) else None
    return choices[0] if choices else None


# ── the vocabulary ─────────────────────────────────────────────────────────────────────────────────────────────────


def _ids_of_character(character: str) -> list[int]:
    if ord(character) < 0x10000:
        return [_CHARACTERS + ord(character)]
    return [_BYTES + byte for byte in character.encode()]


def _split(text: str) -> list[list[int]]:
    """The ids of a piece as vLLM tells them: those of a character in several tokens come alone, before its text."""
    if all(ord(each) < 0x10000 for each in text):
        return [ids_of(text)]
    ids = ids_of(text)
    return [*([each] for each in ids[:-1]), ids[-1:]]


def _ids_of_turn(turn: Turn) -> list[int]:
    return [TURN, *ids_of(f"{turn.role}\n{turn.text}"), END, *ids_of("\n")]


def _ids_with_marks(text: str) -> list[int]:
    for mark, number in MARKS.items():
        before, found, after = text.partition(mark)
        if found:
            return [*_ids_with_marks(before), number, *_ids_with_marks(after)]
    return ids_of(text)


def _turns(ids: list[int]) -> list[Turn]:
    """The turns that ids were made of. What the model has thought is not in the text of its turn."""
    turns = []
    for written in text_of_ids(ids).split("<|im_start|>"):
        role, _, text = written.removesuffix("<|im_end|>\n").partition("\n")
        if role:
            turns.append(Turn(role, text.rpartition("</think>")[2]))
    return turns or [Turn("user", text_of_ids(ids))]
