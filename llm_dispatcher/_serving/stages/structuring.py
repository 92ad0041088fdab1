"""The stage that checks an answer that is read as an object, and has it written again if it does not follow its schema.

Nothing is checked for readers of text and of events: they get what the model writes. The check happens once, when the
vendor has said that the answer is complete. If the answer is wrong, its `StreamCompleted` is held back: readers get a
`StreamInterrupted` and a `StreamReset`, and the model gets its text with the errors, up to `max_repairs` times. Tools
that have run are not run again: only the last turn is taken back, and the conversation has the turns before it.

Only the task that reads the stream runs any of this, and closing it closes the events that are under way. Between two
requests it alone writes to the course.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from msgspec.structs import replace

from ..._answer_schema import AnswerSchema
from ..._dispatch import Course
from ..._upstream import Deadline
from ...events import Event, Failure, StreamCompleted, StreamInterrupted, StreamReset, TextDelta
from ...exceptions import (
    InvalidOutputError,
    InvalidRequestError,
    LLMDispatcherError,
    ProviderError,
    StreamingError,
)
from ...streaming._answer import Answer
from ...streaming._objects import ITEMS
from ...streaming._shape import Shape
from ...streaming._transcript import Transcript
from ...streaming._turns import turns_of
from ...tasks import Message, TaskRequest
from ..call import Call, Onward, following

MAX_REPAIRS: Final = 1

REPAIR_PROMPT: Final = (
    "Your answer does not follow the JSON schema:\n{errors}\n"
    "Answer again with the whole JSON, corrected, and without any other words."
)

_NOT_MENDED: Final = {
    "length": "it was cut off by max_tokens: allow more of them",
    "refusal": "the model refused to answer",
    "content_filter": "a filter of the vendor stopped it",
    "tool_calls": "it ends with tool calls, which were not run",
}
"""Ends of an answer after which the same model would not write a better one."""


class Structuring:
    """Checks the answer of a stream that is read as an object."""

    def wanted(self, call: Call) -> bool:
        return call.answer is not None

    async def open(self, call: Call, onward: Onward) -> AsyncGenerator[Event, None]:
        assert call.answer is not None
        return _repaired(call, call.answer, onward)


def answer_for(shape: Shape, request: TaskRequest) -> Answer | None:
    """The answer of a stream that is read in this shape, if it is read as an object.

    Raises:
        TypeError: The request has no schema, or no list where the items of one are asked for.
    """
    if not shape.wants_object:
        return None
    schema = request.response_format
    if not isinstance(schema, AnswerSchema):
        raise TypeError(
            "the stream has no type to read its answer as: write LLM(…).into(Invoice)(prompt), or pass "
            "response_format=Invoice where the stream is made"
        )
    if shape is ITEMS and schema.item_parse is None:
        raise TypeError(
            "items() gives the items of a list, and the answer has none, or more than one: write "
            "LLM(…).into(list[Invoice])(prompt), or read partials()"
        )
    return Answer(schema)


async def checked(events: AsyncGenerator[Event, None], answer: Answer) -> AsyncGenerator[Event, None]:
    """Events whose answer is checked, and not asked for again: the body of a decorated function has written it."""
    transcript = Transcript()
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TextDelta):
                transcript.add(event.text)
            elif isinstance(event, StreamCompleted):
                text = _last_text(transcript)
                if (errors := _take(answer, text)) is not None:
                    raise _invalid(event, text, errors)
            else:
                transcript.take(event)
            yield event


async def _repaired(call: Call, answer: Answer, onward: Onward) -> AsyncGenerator[Event, None]:
    """The events of an answer, and of those that replace it."""
    asked = call = _told_in_words(call, answer.schema)
    left = MAX_REPAIRS if call.settings.max_repairs is None else call.settings.max_repairs
    course, transcript = Course() if call.course is None else call.course, Transcript()
    failed: InvalidOutputError | None = None
    while True:
        ended: StreamCompleted | None = None
        try:
            async with aclosing(await onward(replace(call, course=course))) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        transcript.add(event.text)
                        yield _numbered(event, transcript.chunks - 1)
                    elif isinstance(event, StreamCompleted):
                        ended = event
                    else:
                        transcript.take(event)
                        yield event
        except LLMDispatcherError as error:
            if failed is None or not (isinstance(error, ProviderError) or type(error) is StreamingError):
                raise
            raise _not_mended(failed, error) from error
        if ended is None:
            return
        text = _last_text(transcript)
        errors = _take(answer, text)
        if errors is None:
            yield ended
            return
        failed = _invalid(ended, text, errors)
        if left == 0 or ended.finish_reason in _NOT_MENDED:
            raise failed
        left -= 1
        yield StreamInterrupted(Failure.of(failed), transcript.characters)
        yield StreamReset()
        call = replace(asked, request=_asked_again(asked.request, transcript, errors))
        course.transcript.reset()
        course = Course(course)
        transcript.reset()


def _told_in_words(call: Call, schema: AnswerSchema) -> Call:
    """The call whose schema may be told in words, because its answer is checked. All its requests have one deadline."""
    runtime = call.runtime
    schema = schema.with_words(runtime.without_schemas(call.request))
    deadline = call.deadline or Deadline(call.settings.total(runtime.policy, call.request.task_type))
    return replace(call, request=replace(call.request, response_format=schema), deadline=deadline)


def _numbered(delta: TextDelta, index: int) -> TextDelta:
    """The delta with its number in the stream: an answer from a cache counts from 0 anew."""
    return delta if delta.index == index else replace(delta, index=index)


def _last_text(transcript: Transcript) -> str:
    """The text of the last turn, which is the answer."""
    messages = turns_of(transcript)
    return messages[-1].text if messages and messages[-1].role == "assistant" else ""


def _take(answer: Answer, text: str) -> str | None:
    """Make the object of a text, or return what is wrong with it.

    Raises:
        InvalidRequestError: It is the schema that is wrong.
    """
    from ..._json.schema import SchemaError

    assert answer.schema.parse is not None  # `prepared` has resolved it
    try:
        answer.value, answer.text = answer.schema.parse(text), text
    except SchemaError as error:
        raise InvalidRequestError(f"the schema of response_format is wrong: {error}") from None
    except ValueError as error:
        return str(error)
    return None


def _invalid(ended: StreamCompleted, text: str, errors: str) -> InvalidOutputError:
    why = _NOT_MENDED.get(ended.finish_reason) or "; ".join(errors.splitlines())
    return InvalidOutputError(
        f"the answer does not follow its schema: {why}", partial=text, usage=ended.usage, errors=errors
    )


def _not_mended(failed: InvalidOutputError, error: LLMDispatcherError) -> InvalidOutputError:
    """The error of a stream whose answer was wrong, and that could not be asked for again."""
    return InvalidOutputError(
        f"{failed.message}; and it could not be asked for again: {error}",
        partial=failed.partial,
        usage=failed.usage,
        errors=failed.errors,
        failures=error.failures if isinstance(error, StreamingError) else [error],
    )


def _asked_again(request: TaskRequest, transcript: Transcript, errors: str) -> TaskRequest:
    """The request with everything that the stream has added to its conversation, and with the errors of the answer."""
    lines = "\n".join(f"- {error}" for error in errors.splitlines())
    added = (*turns_of(transcript), Message("user", REPAIR_PROMPT.format(errors=lines)))
    return following(request, added)
