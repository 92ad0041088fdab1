"""Asking a vendor for its list of models: what `check` and `models` say about each kind of answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from llm_dispatcher._providers.base import model_list
from llm_dispatcher.exceptions import (
    ProviderAuthenticationError,
    ProviderError,
    ProviderProtocolError,
    ProviderRateLimitError,
)
from llm_dispatcher.provider import ProviderSettings, Secret
from llm_dispatcher.testing import Wire
from tests.providers.raw_server import Came, raw_server

VERTEX = ProviderSettings(name="a", kind="google", options={"vertex": {"project": "p"}})


def answers(body: bytes, status: int = 200) -> Callable[[Came], Awaitable[None]]:
    async def answer(came: Came) -> None:
        await came.send(b"HTTP/1.1 %d Words\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body)

    return answer


async def listed(base_url: str, key: str | None = "test-key") -> Any:
    settings = ProviderSettings(
        name="a", kind="openai", base_url=base_url, api_key=None if key is None else Secret(key)
    )
    return await model_list.models(settings, lambda: (OSError,))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (VERTEX, "its SDK makes its address"),
        (ProviderSettings(name="a", kind="acme"), "only the kind acme knows its address"),
    ],
)
async def test_a_vendor_whose_address_is_not_known_is_not_asked(settings: ProviderSettings, reason: str) -> None:
    checked = await model_list.check(settings)
    assert (checked.ok, checked.message) == (None, f"not asked: {reason}")
    assert await model_list.models(settings, lambda: (OSError,)) is None


@pytest.mark.parametrize(
    "content",
    [
        {"data": [{"id": "small"}, {"id": "large"}]},
        {"models": [{"name": "models/small"}, {"name": "large"}]},
        [{"id": "small"}, {"id": "large"}],
        ["small", "large", None, {"owner": "me"}],
    ],
)
async def test_a_list_is_read_in_each_form(content: Any) -> None:
    async with raw_server(Wire.OPENAI_CHAT, answers(msgspec.json.encode(content))) as server:
        assert await listed(server.base_url) == ["small", "large"]


@pytest.mark.parametrize("body", [b"<html>hello", b'"text"', b'{"data": 5}', b"{}"])
async def test_another_answer_is_not_a_list(body: bytes) -> None:
    async with raw_server(Wire.OPENAI_CHAT, answers(body)) as server:
        with pytest.raises(ProviderProtocolError, match="something else than a list of models"):
            await listed(server.base_url)


async def test_a_list_that_is_too_long_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_list, "LONGEST_LIST", 1000)
    content = ["a long name of a model"] * 200_000  # more than arrives at once
    async with raw_server(Wire.OPENAI_CHAT, answers(msgspec.json.encode(content))) as server:
        with pytest.raises(ProviderProtocolError, match="something else than a list of models"):
            await listed(server.base_url)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (429, b'{"error": {"message": "slow down"}}', ProviderRateLimitError, "slow down"),
        (500, b"<html>oh", ProviderError, "oh"),
        (503, b"", ProviderError, "HTTP 503 to a request for the list of models"),
    ],
)
async def test_a_refusal_is_the_error_of_its_status(
    status: int, body: bytes, kind: type[ProviderError], words: str
) -> None:
    async with raw_server(Wire.OPENAI_CHAT, answers(body, status)) as server:
        with pytest.raises(kind, match=words):
            await listed(server.base_url)


async def test_a_vendor_that_does_not_answer_in_time_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def time_out(settings: ProviderSettings) -> None:
        raise TimeoutError

    monkeypatch.setattr(model_list, "_get", time_out)
    checked = await model_list.check(ProviderSettings(name="a", kind="openai"))
    assert (checked.ok, checked.message) == (False, "unreachable: no answer in time")


async def test_without_a_key_none_is_shown(simulated_vendor: Callable[..., Any]) -> None:
    public, strict = (simulated_vendor("openai-chat", api_key=key, models=["small"]) for key in (None, "test-key"))
    assert await listed(public.base_url, key=None) == ["small"]
    assert await listed(strict.base_url) == ["small"]
    with pytest.raises(ProviderAuthenticationError):
        await listed(strict.base_url, key=None)
