"""The request of the next turn of a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from .. import _media as media
from .._llm import LLM, with_task_of_media
from .._serving.settings import check_request
from ..exceptions import InvalidRequestError
from ..tasks import Message, TaskRequest
from .history import History
from .turns import check_parts, check_results, repaired


def request_for(llm: LLM, asked: TaskRequest, history: History, cache_key: str) -> tuple[TaskRequest, Message | None]:
    """The request of the next turn, and the user's message in it.

    Args:
        llm: The `LLM` that is asked.
        asked: The prompt of the turn, with all options. It may have none: then the end of the history is answered.
        history: What was said before.
        cache_key: The `cache_key` of a request that names none.

    Raises:
        InvalidRequestError: The prompt is empty, or there is nothing to answer.
    """
    turn = asked.conversation[-1] if asked.conversation else None
    if turn is not None:
        check_request(asked)
    messages = repaired([*history.all_messages(), *(() if turn is None else (turn,))])
    if turn is None and (not messages or messages[-1].role not in ("user", "tool")):
        raise InvalidRequestError("there is nothing to answer: pass a prompt, or add a message of the user first")
    request = replace(
        asked,
        prompt=None,
        images=(),
        audio=(),
        messages=messages,
        cache_key=cache_key if asked.cache_key is None else asked.cache_key,
    )
    return with_task_of_media(llm, request), turn


def loaded(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages, with their images and sounds read. This blocks."""
    return media.load_media(TaskRequest(messages=messages)).messages


def said_before(messages: Sequence[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """The messages that a session begins with, checked. Their images and sounds are read, which blocks."""
    said = loaded(TaskRequest(messages=messages).messages)
    check_parts(said)
    check_results(said)
    return said
