"""The simulated vLLM and llama.cpp have token ids, and refuse what the real ones refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest

from llm_dispatcher.testing import Continuing, Reply, SimulatedVendor
from llm_dispatcher.testing._wires.token_ids import ids_of, text_of_ids

TEXT = "Once 🦊 upon a time."
MESSAGES = [{"role": "user", "content": "Tell me."}]

Start = Callable[..., SimulatedVendor]


@pytest.fixture
def serving(simulated_vendor: Start) -> Callable[..., Callable[..., tuple[int, Any]]]:
    """Starts a vendor, and returns a function that posts to it."""

    def start(script: Any, host: str = "vllm", **rest: Any) -> Callable[..., tuple[int, Any]]:
        vendor = simulated_vendor("openai-chat", script, host=host, api_key=None, **rest)

        def post(path: str, **body: Any) -> tuple[int, Any]:
            connection = HTTPConnection("127.0.0.1", int(vendor.base_url.rsplit(":", 1)[1].split("/")[0]))
            connection.request("POST", path, json.dumps({"model": "m", **body}))
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            if not text.startswith("data: "):
                return answer.status, json.loads(text)
            lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
            assert lines.pop() == "[DONE]"
            return answer.status, [json.loads(line) for line in lines]

        return post

    return start


def test_a_chat_tells_ids_if_it_is_asked_to(serving: Any) -> None:
    post = serving(Reply(TEXT))
    _, plain = post("/v1/chat/completions", messages=MESSAGES)
    assert not any("token_ids" in str(chunk) for chunk in plain)
    _, chunks = post("/v1/chat/completions", messages=MESSAGES, return_token_ids=True)
    assert text_of_ids(chunks[0]["prompt_token_ids"]) == (
        "<|im_start|>user\nTell me.<|im_end|>\n<|im_start|>assistant\n"
    )
    choices = [chunk["choices"][0] for chunk in chunks[1:] if chunk["choices"]]
    ids = [each for choice in choices for each in choice["token_ids"]]
    assert ids == [*ids_of(TEXT), 2]
    assert any(choice["token_ids"] and choice["delta"] == {"content": ""} for choice in choices[:-1]), "half an emoji"


def test_a_completion_goes_on_from_ids(serving: Any) -> None:
    post = serving(Continuing(TEXT))
    _, first = post("/v1/chat/completions", messages=MESSAGES, return_token_ids=True)
    prompt = [*first[0]["prompt_token_ids"], *ids_of("Once 🦊 u")]
    assert post("/v1/completions", prompt=text_of_ids(prompt), max_tokens=9)[0] == 200, "or from text"
    status, rest = post("/v1/completions", prompt=prompt, max_tokens=100, return_token_ids=True)
    choices = [chunk["choices"][0] for chunk in rest if chunk["choices"]]
    assert (status, "".join(choice["text"] for choice in choices)) == (200, "pon a time.")
    assert [each for choice in choices for each in choice["token_ids"]] == [*ids_of("pon a time."), 2]
    assert choices[-1]["finish_reason"] == "stop"


def test_vllm_writes_sixteen_tokens_without_a_limit(serving: Any) -> None:
    for host, count in (("vllm", 16), ("llamacpp", 40)):
        _, chunks = serving(Reply("x" * 40, chunk_size=3), host)("/v1/completions", prompt=[1040])
        text = "".join(chunk["choices"][0]["text"] for chunk in chunks if chunk["choices"])
        finish = next(chunk["choices"][0]["finish_reason"] for chunk in reversed(chunks) if chunk["choices"])
        assert (text, finish) == ("x" * count, "length" if host == "vllm" else "stop")


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"prompt": []}, None, "at least one prompt"),
        ({"prompt": ""}, None, "at least one prompt"),
        ({"prompt": [1, 99_999_999]}, None, "out of vocabulary"),
        ({"prompt": [1], "max_tokens": 4097}, "max_tokens", "cannot be greater than"),
        ({"prompt": [1000] * 4096}, "input_tokens", "maximum context length"),
    ],
)
def test_a_completion_that_vllm_refuses_is_refused(serving: Any, body: dict[str, Any], param: str, words: str) -> None:
    status, answer = serving("Hi.")("/v1/completions", **body)
    assert (status, answer["error"]["param"]) == (400, param) and words in answer["error"]["message"]


def test_both_ways_to_end_a_prompt_are_refused(serving: Any) -> None:
    post = serving("Hi.")
    for more, expected in (({}, 400), ({"add_generation_prompt": True}, 400), ({"add_generation_prompt": False}, 200)):
        status, _ = post("/v1/chat/completions", messages=MESSAGES, continue_final_message=True, **more)
        assert status == expected


def test_services_are_those_of_the_host(serving: Any) -> None:
    ids = ids_of("Hé🦊")
    vllm, llamacpp, other = serving("x"), serving("x", "llamacpp"), serving("x", "openai_compatible")
    assert vllm("/detokenize", tokens=[1, *ids, ids[-1]])[1] == {"prompt": "<|im_start|>Hé🦊\ufffd"}
    assert vllm("/tokenize", prompt="Hé🦊")[1] == {"count": 6, "max_model_len": 4096, "tokens": ids}
    assert llamacpp("/tokenize", content="<|im_end|>", parse_special=True)[1] == {"tokens": [2]}
    assert len(llamacpp("/tokenize", content="<|im_end|>")[1]["tokens"]) == 10
    rendered = llamacpp("/apply-template", messages=[*MESSAGES, {"role": "assistant", "content": "Once "}])[1]["prompt"]
    assert rendered.endswith("<|im_start|>assistant\nOnce ")
    assert llamacpp("/apply-template", messages=[])[0] == 400
    for post, path in ((vllm, "/apply-template"), (llamacpp, "/detokenize"), (other, "/tokenize")):
        assert post(path)[0] == 404
    assert other("/v1/completions", prompt=[1])[0] == 404
