"""Tasks, errors and events: what may be said, and in which order."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import events, exceptions
from llm_dispatcher._redaction import redacted
from llm_dispatcher.events import (
    Event,
    Failure,
    ProviderEvent,
    ReasoningDelta,
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
    ToolResult,
    Usage,
    UsageReport,
    check_order,
    from_json,
    to_json,
)
from llm_dispatcher.exceptions import LLMDispatcherError, ProviderError, StreamTimeoutError
from llm_dispatcher.provider import Secret
from llm_dispatcher.tasks import ImagePart, Message, Target, TaskRequest, TaskType, TextPart

A, B = Target("a", "m"), Target("b", "x/y")
FAILURE = Failure("ProviderConnectionError", "broke", provider="a", model="m", retry_after=1.5)
USAGE = Usage(input_tokens=3, output_tokens=4, cost=0.1, source="reported", raw={"said": 7})

EVERY_EVENT: list[Event] = [
    StreamStarted(A, 1, cached=False),
    TextDelta("grüße", 0),
    TextDelta("x", 0, {"vendor": [1]}),
    ReasoningDelta("hm", "signed"),
    ToolCallDelta("1", "look", '{"a'),
    ToolCall("1", "look", {"a": 1}, '{"a": 1}'),
    ToolCall("1", "look", None, "{"),
    ToolCallDropped("1", "look"),
    ToolResult("1", "look", result="ok"),
    UsageReport(USAGE),
    ProviderEvent("search", {"q": "x"}),
    StreamInterrupted(FAILURE, 12),
    StreamSwitched(A, B, "ProviderConnectionError", "anchor", "again", "anchored"),
    StreamReset(),
    StreamCompleted("text", USAGE, "stop", "end_turn"),
    StreamFailed(FAILURE),
    StreamCancelled(),
]


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: type(event).__name__)
def test_every_event_survives_json(event: Event) -> None:
    assert from_json(to_json(event)) == event


def test_these_tests_cover_every_kind_of_event() -> None:
    assert {type(event) for event in EVERY_EVENT} == set(get_args(Event))


LETTERS: dict[str, Event] = {
    "S": StreamStarted(A, 1, cached=False),
    "t": ToolResult("1", "look", result="ok"),
    "i": StreamInterrupted(FAILURE, 0),
    "d": ToolCallDropped("1", "look"),
    "w": StreamSwitched(A, B, "x", "plain", ""),
    "r": StreamReset(),
    "C": StreamCompleted("", USAGE, "stop", None),
    "F": StreamFailed(FAILURE),
    "X": StreamCancelled(),
    "p": ReasoningDelta("hm"),
}


def spelt(letters: str) -> list[Event]:
    index = iter(range(len(letters)))
    return [TextDelta("x", next(index)) if letter == "c" else LETTERS[letter] for letter in letters]


@pytest.mark.parametrize(
    "letters",
    [
        "F",
        "X",
        "SC",
        "SccC",
        "ScpcC",
        "SciwScC",
        "SciScC",
        "SiwrScC",
        "SctScC",
        "ScttScF",
        "SctF",
        "ScttX",
        "SctSirScctX",
        "SciF",
        "ScX",
        "SciX",
        "SciwX",
        "ScirX",
        "SciwrF",
        "SciddwScC",
        "SpidScC",
        "ScidF",
        "ScF",
    ],
)
def test_legal_orders_of_events_pass(letters: str) -> None:
    check_order(spelt(letters))


@pytest.mark.parametrize(
    "letters",
    [
        "",
        "S",
        "C",
        "c",
        "cC",
        "SS",
        "SwSC",
        "ScwScC",
        "SciwC",
        "SciwcX",
        "ScirwX",
        "SciC",
        "ScCC",
        "ScCF",
        "tSC",
        "SctC",
        "SctiF",
        "tF",
        "SirwSC",
        "SciwdScC",
        "ScdC",
        "FX",
        "ScXC",
    ],
)
def test_illegal_orders_of_events_are_refused(letters: str) -> None:
    with pytest.raises(ValueError, match="these events are not a stream"):
        check_order(spelt(letters))


def test_text_deltas_are_numbered_without_a_gap() -> None:
    with pytest.raises(ValueError, match="without a gap"):
        check_order([LETTERS["S"], TextDelta("x", 0), TextDelta("x", 2), LETTERS["C"]])


def test_the_error_tree_in_the_docstring_is_the_error_tree() -> None:
    drawn = dict(re.findall(r"^ *[│ ├└─]*[├└]── (\w+)(?: \((\w+)\))?", exceptions.__doc__ or "", re.MULTILINE))
    real = {
        name: kind
        for name, kind in vars(exceptions).items()
        if inspect.isclass(kind) and issubclass(kind, LLMDispatcherError) and not name.startswith("_")
    }
    assert set(drawn) == set(real) - {"LLMDispatcherError"}
    for name, also in drawn.items():
        assert issubclass(real[name], LLMDispatcherError)
        if also:
            assert also in {base.__name__ for base in real[name].__mro__}


def every_error() -> list[LLMDispatcherError]:
    failure = exceptions.StreamTruncatedError("cut", provider="a", model="m", status=200, request_id="r")
    special: dict[str, LLMDispatcherError] = {
        "AllProvidersFailedError": exceptions.AllProvidersFailedError([failure]),
        "NoProviderAvailableError": exceptions.NoProviderAvailableError("none", reasons={A: "off"}),
        "StreamingError": exceptions.StreamingError("broke", partial="so far", usage=USAGE, failures=[failure]),
        "StreamTimeoutError": StreamTimeoutError("late", partial="so far", usage=USAGE, failures=[failure]),
        "StreamBudgetExceededError": exceptions.StreamBudgetExceededError("spent", partial="so far", usage=USAGE),
        "ToolLimitError": exceptions.ToolLimitError("again and again", partial="so far", usage=USAGE),
        "InvalidOutputError": exceptions.InvalidOutputError("no object", partial="{", usage=USAGE, errors="no }"),
        "ConfigurationError": exceptions.ConfigurationError("wrong", file="f", line=3, key="a.b"),
    }
    kinds = [
        kind for kind in vars(exceptions).values() if inspect.isclass(kind) and issubclass(kind, LLMDispatcherError)
    ]
    return [special.get(kind.__name__) or kind("it broke") for kind in kinds]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_errors_keep_their_fields_when_they_travel(error: LLMDispatcherError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert {name: repr(value) for name, value in vars(back).items()} == {
        name: repr(value) for name, value in vars(error).items()
    }


def test_the_class_of_an_error_says_whether_it_is_retried() -> None:
    retryable = {kind.__name__ for kind in vars(exceptions).values() if getattr(kind, "retryable", False) is True}
    assert retryable == {
        "ProviderConnectionError", "ProviderTimeoutError", "ProviderRateLimitError",
        "ProviderServiceUnavailableError", "ProviderProtocolError", "StreamTruncatedError", "LocalResourceError",
        "UnprovenContinuationError",
    }  # fmt: skip


def test_failures_that_say_the_same_in_a_row_are_said_once() -> None:
    def failed(name: str, request: int, message: str = "no") -> ProviderError:
        return ProviderError(message, provider=name, model="m", status=500, request_id=f"req_{request}")

    failures = [failed("a", 1), failed("a", 2), failed("a", 3, "down"), failed("b", 4), failed("a", 5), failed("a", 6)]
    error = exceptions.AllProvidersFailedError(failures)
    assert str(error) == (
        "all 6 attempts failed: a/m: no (HTTP 500, request req_2) (2 times); a/m: down (HTTP 500, request req_3); "
        "b/m: no (HTTP 500, request req_4); a/m: no (HTTP 500, request req_6) (2 times)"
    )
    assert error.failures == tuple(failures)


def test_a_total_timeout_is_what_asyncio_calls_one() -> None:
    assert issubclass(exceptions.RequestTimeoutError, TimeoutError)
    assert issubclass(StreamTimeoutError, exceptions.StreamingError)


def test_an_error_names_the_provider_and_the_reason() -> None:
    error = ProviderError("no", provider="openai", model="gpt", status=500, request_id="req_1")
    assert str(error) == "openai/gpt: no (HTTP 500, request req_1)"
    assert str(exceptions.AllProvidersFailedError([error])) == f"the only attempt failed: {error}"
    other = ProviderError("no", provider="other", model="gpt")
    assert str(exceptions.AllProvidersFailedError([error, other])) == f"all 2 attempts failed: {error}; {other}"
    assert str(exceptions.ConfigurationError("wrong", file="x.yaml", line=3, key="a.b")) == "x.yaml:3: a.b: wrong"


@pytest.mark.parametrize(
    "text",
    [
        "key sk-proj-abcdefghijklmnop1234 is bad",
        "Authorization: Bearer abc.def-ghi",
        "https://x/?key=AIzaSyAbcdefghijk&alt=sse",
    ],
)
def test_keys_are_removed_from_vendor_messages(text: str) -> None:
    hidden = redacted(text)
    assert "[redacted]" in hidden
    assert not re.search(r"abcdef|abc\.def|Abcdef", hidden)


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("test-key")
    assert "test-key" not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == "test-key"


def test_a_target_is_parsed_at_its_first_slash() -> None:
    assert Target.parse("openrouter/meta/llama") == Target("openrouter", "meta/llama")
    assert str(B) == "b/x/y"
    for wrong in ("", "openai", "openai/", "/gpt"):
        with pytest.raises(ValueError, match="provider/model"):
            Target.parse(wrong)


def test_a_request_normalises_its_fields() -> None:
    request = TaskRequest(
        "Go on.", task_type="math", messages=[{"role": "user", "content": "hi"}, Message("assistant", "hello")],
        stop="END", images=["a.png"], providers="openai",
    )  # fmt: skip
    assert request.task_type is TaskType.MATH
    assert request.stop == ("END",)
    assert request.providers == ("openai",)
    assert [turn.role for turn in request.conversation] == ["user", "assistant", "user"]
    assert request.conversation[-1].parts == (ImagePart("a.png"), TextPart("Go on."))


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"prompt": 3}, TypeError, "prompt is a str, got int"),
        ({"temperature": "hot"}, TypeError, "temperature is a number"),
        ({"temperature": -1}, ValueError, "temperature is 0 or more"),
        ({"temperature": float("nan")}, ValueError, "temperature is 0 or more"),
        ({"max_tokens": 0}, ValueError, "max_tokens is 1 or more"),
        ({"max_tokens": True}, TypeError, "max_tokens is an int"),
        ({"task_type": "poetry"}, ValueError, "task_type is one of text_generation"),
        ({"messages": "hi"}, TypeError, "messages is a list"),
        ({"messages": ["hi"]}, TypeError, "a message is a Message or a dict"),
        ({"messages": [{"role": "user"}]}, TypeError, '"role" and "content"'),
        ({"messages": [{"role": "boss", "content": "x"}]}, ValueError, "role is one of"),
        (
            {"messages": [Message("user", "x"), {"role": "user", "content": [{"type": "text"}]}]},
            TypeError,
            "messages[1].content[0]: 'text' is missing",
        ),
        ({"images": [3]}, TypeError, "each of images"),
        ({"reasoning_effort": "heroic"}, ValueError, "reasoning_effort is one of"),
        ({"extra": []}, TypeError, "extra is a dict"),
        ({"promt": "x"}, TypeError, "promt"),
    ],
)
def test_a_wrong_field_is_refused_when_the_request_is_made(
    wrong: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        TaskRequest(**wrong)


def test_none_stands_for_the_default() -> None:
    assert TaskRequest("x", stop=None, providers=None, extra=None) == TaskRequest("x")  # type: ignore[arg-type]


amounts = st.integers(0, 1000)
usages = st.builds(
    Usage, input_tokens=amounts, output_tokens=amounts, cost=st.none() | st.floats(0, 9),
    source=st.sampled_from(["reported", "estimated", "unknown"]),
)  # fmt: skip


@given(st.lists(usages, max_size=5))
def test_a_sum_of_usage_has_the_least_certain_source(parts: list[Usage]) -> None:
    total = Usage.sum(parts)
    known = [part for part in parts if part.source != "unknown"]
    assert total.total_tokens == sum(part.total_tokens for part in known)
    assert (total.source == "reported") == (bool(known) and all(part.source == "reported" for part in known))
    assert (total.cost is None) == (not known or any(part.cost is None for part in known))


def test_the_docstring_shows_the_grammar_and_the_page_shows_the_same() -> None:
    rules = re.findall(r"^ *((?:Stream|Turn|End) +:= .*)$", events.__doc__ or "", re.MULTILINE)
    assert [rule.split()[0] for rule in rules] == ["Stream", "Turn", "End"]
    page = Path(__file__).parents[1] / "docs/how-a-request-travels.md"
    assert "\n".join(rules) in page.read_text(encoding="utf-8")
