"""The options of a call: their names, types and meaning, defined once for every way to make a call.

`llm_stream`, `LLM` and `LLMSwitch.stream_request` take these options, and `documented` puts their descriptions into the
docstrings and signatures of all three.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypedDict, TypeVar

from .._hints import did_you_mean
from .._policy import Strategy
from .._resilience import OnBreak
from ..events import Event, ToolCall
from ..streaming import ProgressTracker, StreamingCallbacks
from ..tasks import ReasoningEffort, ResponseFormat, Target, TaskRequest, TaskType

if TYPE_CHECKING:
    from .._tools import Deny, RunContext  # decorating a function must stay light

ToolPolicy: TypeAlias = (
    'Literal["run", "report"] | Callable[[ToolCall, RunContext], str | Deny | Awaitable[str | Deny]]'
)
"""What happens to tool calls: they run, they are only reported, or a function `(call, context)` decides each of them.

The function returns `"run"`, `"stop"` or `Deny(words)`, or a coroutine for one of them.
"""


class RequestCache(Protocol):
    """A cache, as a call sees it. `StreamingCache` is one."""

    def stream(
        self,
        request: TaskRequest,
        targets: Iterable[Target],
        upstream: Callable[[], AsyncGenerator[Event, None]],
        apart: Hashable = (),
    ) -> AsyncGenerator[Event, None]:
        """The events of the answer: recorded events, or the events of `upstream`, which asks the targets.

        A recording is used if it answers this request, or a request so similar that the answer is the same. Requests
        with different values of `apart` do not share a stream. The switch passes an `Upstream`, which also knows which
        model each target really is, and the deadline of the call.
        """
        ...


class RouteOptions(TypedDict, total=False):
    """Options for where a request goes.

    Attributes:
        optimization_strategy: In which order targets are asked: `"ordered"`, `"cost"`, `"speed"`, `"quality"`,
            `"balanced"` or `"weighted"`.
        max_cost: The most that the call may cost, in US dollars, all attempts together.
        max_latency: The most seconds until the first token. Targets that are usually slower are asked last.
    """

    optimization_strategy: Strategy | None
    max_cost: float | None
    max_latency: float | None


class CallOptions(RouteOptions, total=False):
    """Options for one call, which every way to make a call takes. An option that is left out, or `None`, is decided by
    the configuration.

    Attributes:
        callbacks: Functions that are called when something happens in the stream.
        progress_tracker: The tracker that shows the progress of the stream.
        cache: The cache to ask, or `False` for none.
        timeout: The most seconds that the whole call may take.
        on_break: The reaction to a stream that breaks after text was delivered: `"continue"`, `"restart"` or `"raise"`.
        max_retries: How often one target is tried again after a failure that may pass.
        fallback_enabled: Whether other targets are asked when the first one fails.
        buffer_size: The least number of the vendor's pieces that are joined into one chunk.
        min_chunk_size: The least number of characters in a chunk.
        raw: Whether events carry the vendor's own events. The cache is not asked then.
        tool_policy: What happens to the model's tool calls: `"run"`, `"report"`, or a function that decides each call.
        tool_timeout: The most seconds that one run of a tool may take.
        max_turns: How often the model may be asked in one stream that runs tools.
        max_tool_calls: How many tool calls may run in one stream.
        tool_context: An object of the application's, which tools find in `RunContext.context`.
        max_repairs: How often an answer that does not follow its schema is asked for again.
    """

    callbacks: StreamingCallbacks | None
    progress_tracker: ProgressTracker | None
    cache: RequestCache | Literal[False] | None
    timeout: float | None
    on_break: OnBreak | None
    max_retries: int | None
    fallback_enabled: bool | None
    buffer_size: int | None
    min_chunk_size: int | None
    raw: bool
    tool_policy: ToolPolicy | None
    tool_timeout: float | None
    max_turns: int | None
    max_tool_calls: int | None
    tool_context: object
    max_repairs: int | None


class RequestOptions(TypedDict, total=False):
    """Options of the request itself, beside its words.

    Attributes:
        task_type: The kind of task. Routing picks the targets by it.
        providers: The providers that may be asked, by their names in the configuration.
        model: The model to ask, as `"provider/model"`. Routing picks one if it is left out.
        system: The system prompt.
        temperature: The sampling temperature.
        top_p: The share of probability that tokens are sampled from.
        max_tokens: The most tokens that the answer may have.
        stop: Texts that end the answer.
        seed: A seed for sampling, if the vendor takes one.
        reasoning_effort: How much a reasoning model should think.
        tools: Tools that the model may call: functions, which run in the stream, `Tool`s, or dicts with a schema.
        tool_choice: Whether the model may, must or must not call a tool, or which one.
        response_format: The type that the answer has to follow: a pydantic model, a dataclass, a `TypedDict`, a
            msgspec `Struct`, a list of one of them, or a JSON schema.
        namespace: The name of a tenant or feature. Budgets and the cache keep namespaces apart.
        sticky: Requests with the same value go to the same target while it is healthy.
        cache_key: Requests with the same value share a vendor's prompt cache, if its wire has a name for that.
        metadata: Labels that are sent to the vendor, if it takes them.
        extra: Vendor-specific options, by provider.
    """

    task_type: TaskType | str | None
    providers: str | Sequence[str] | None
    model: str | None
    system: str | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    seed: int | None
    reasoning_effort: ReasoningEffort | None
    tools: Sequence[Any] | None
    tool_choice: str | Mapping[str, Any] | None
    response_format: ResponseFormat | None
    namespace: str | None
    sticky: str | None
    cache_key: str | None
    metadata: Mapping[str, Any] | None
    extra: Mapping[str, Any] | None


class StreamOptions(RequestOptions, CallOptions, total=False):
    """Everything that a decorator, an `LLM` and a call of an `LLM` take."""


REQUEST_OPTIONS: Final = frozenset(RequestOptions.__annotations__)
CALL_OPTIONS: Final = frozenset(CallOptions.__annotations__)
STREAM_OPTIONS: Final = REQUEST_OPTIONS | CALL_OPTIONS
_OF_A_CALL: Final = ("messages", "images", "audio")
"""Arguments of a call of an `LLM` that are not options."""


_OF_THE_POLICY: Final = {
    **dict.fromkeys(("on_refusal", "affinity"), "routing"),
    **dict.fromkeys(("on_unproven", "durability"), "resilience"),
    **dict.fromkeys(("connect", "first_token", "idle", "flow"), "resilience.timeouts"),
    **dict.fromkeys(("background", "token_ids"), "the options of its provider"),
}
"""Settings of the policy that look like options, and their sections."""


def check_names(options: Mapping[str, Any], names: frozenset[str]) -> None:
    """Raise a `TypeError` if an option has another name than these."""
    for name in options:
        if name not in names:
            raise TypeError(f"there is no setting {name!r}{_instead_of(name, names)}")


def _instead_of(name: str, names: frozenset[str]) -> str:
    """What to write instead of an option with this name."""
    if name in REQUEST_OPTIONS:
        return f" here, because it belongs to the request; write TaskRequest(prompt, {name}=…)"
    if name in _OF_A_CALL:
        return f"; pass {name} in the call: llm(prompt, {name}=…)"
    if name in _OF_THE_POLICY:
        return f" here; write it in the policy, under {_OF_THE_POLICY[name]}"
    return did_you_mean(name, (*names, *_OF_A_CALL)) or f" (known: {', '.join(sorted(names))})"


Function = TypeVar("Function", bound=Callable[..., Any])


def documented(*options: type) -> Callable[[Function], Function]:
    """Add the options of these `TypedDict`s to the docstring and the signature of a function that takes `**options`.

    `help()` and editors then show each option with its type and its description.
    """

    def document(function: Function) -> Function:
        signature = inspect.signature(function)
        others = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        kinds = {name: kind for each in options for name, kind in each.__annotations__.items()}
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if kind.__forward_arg__ == "bool" else None,
                annotation=kind.__forward_arg__,
            )
            for name, kind in kinds.items()
        ]
        function.__signature__ = signature.replace(parameters=[*others, *added])  # type: ignore[attr-defined]
        described = "\n".join(map(_described, options))
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nOptions:\n{described}"
        return function

    return document


def _described(options: type) -> str:
    """The descriptions of the options that one class defines, from its docstring."""
    return inspect.cleandoc(options.__doc__ or "").partition("Attributes:\n")[2].rstrip()
