"""Options that several commands have, and the words that a shell completes them with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, TypeAlias, cast, get_args, get_type_hints

import typer
from msgspec import Struct
from msgspec.structs import fields

from .._hints import did_you_mean
from .._policy import Strategy
from ..tasks import TaskType

P = ParamSpec("P")


def _policy_names(incomplete: str, *, targets: bool) -> list[str]:
    """Targets or providers of the configuration in the environment; none if it cannot be loaded."""
    from .._config import load
    from ..exceptions import LLMDispatcherError

    try:
        policy = load()
    except (LLMDispatcherError, OSError):
        return []
    names: Iterable[str] = policy.providers
    if targets:
        names = (f"{name}/{model}" for name, settings in policy.providers.items() for model in settings.models)
    return [name for name in names if name.startswith(incomplete)]


def _targets(incomplete: str) -> list[str]:
    return _policy_names(incomplete, targets=True)


def _providers(incomplete: str) -> list[str]:
    return _policy_names(incomplete, targets=False)


def _tasks(incomplete: str) -> list[str]:
    return [str(task) for task in TaskType if task.startswith(incomplete)]


def _strategies(incomplete: str) -> list[str]:
    return [strategy for strategy in get_args(Strategy) if strategy.startswith(incomplete)]


def _parse_task(text: str) -> str:
    """A task, in any case and with hyphens or underscores."""
    return _one_of([str(task) for task in TaskType], "task", text.lower().replace("-", "_"))


def _parse_strategy(text: str) -> str:
    return _one_of(list(get_args(Strategy)), "strategy", text.lower())


def _one_of(names: list[str], what: str, text: str) -> str:
    if text not in names:
        hint = did_you_mean(text, names) or f"; use one of {', '.join(names)}"
        raise typer.BadParameter(f"unknown {what} {text!r}{hint}")
    return text


Prompt: TypeAlias = Annotated[str | None, typer.Argument(help="The prompt. Piped input is put before it.")]
Task: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--task",
        "-t",
        help="The task, e.g. code_generation. By default it follows from images and audio, or is text_generation.",
        parser=_parse_task,
        metavar="TASK",
        autocompletion=_tasks,
    ),
]
Image: TypeAlias = Annotated[
    list[str] | None, typer.Option("--image", "-i", help="An image: a file or a URL. Repeatable.", metavar="FILE")
]
Audio: TypeAlias = Annotated[
    list[str] | None, typer.Option("--audio", "-a", help="A recording: a file or a URL. Repeatable.", metavar="FILE")
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="Use only this model: provider/model.", metavar="MODEL", autocompletion=_targets
    ),
]
Provider: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        "-p",
        help="Use only this provider. Repeatable.",
        metavar="NAME",
        autocompletion=_providers,
    ),
]
Namespace: TypeAlias = Annotated[
    str | None,
    typer.Option("--namespace", help="The namespace whose budget and cached answers are used.", metavar="NAME"),
]
Sticky: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--sticky",
        help="If a route splits its requests, those with the same key go to the same target.",
        metavar="KEY",
    ),
]
System: TypeAlias = Annotated[str | None, typer.Option("--system", "-s", help="The system prompt.", metavar="TEXT")]
MaxTokens: TypeAlias = Annotated[
    int | None, typer.Option("--max-tokens", help="The maximum length of the answer, in tokens.", metavar="N")
]
Temperature: TypeAlias = Annotated[
    float | None, typer.Option("--temperature", help="The sampling temperature; 0 varies least.", metavar="X")
]
StrategyName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="The strategy that orders the targets, e.g. cost or speed.",
        parser=_parse_strategy,
        metavar="STRATEGY",
        autocompletion=_strategies,
    ),
]
MaxCost: TypeAlias = Annotated[
    float | None, typer.Option("--max-cost", help="The maximum cost, in US dollars.", metavar="DOLLARS", min=0)
]
MaxLatency: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--max-latency", help="Targets whose first token takes longer are tried last.", metavar="SECONDS", min=0
    ),
]
Config: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The configuration. By default LLM_DISPATCHER_CONFIG, or llm_dispatcher.yaml here or in your config "
        "folder.",
        metavar="FILE",
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Write JSON, also for errors (on standard error).")]


class RequestOptions(Struct, frozen=True, kw_only=True):
    """The options that `stream` and `explain` share: a request, and rules for its target."""

    prompt: Prompt = None
    task: Task = None
    image: Image = None
    audio: Audio = None
    model: Model = None
    provider: Provider = None
    max_tokens: MaxTokens = None
    namespace: Namespace = None
    sticky: Sticky = None
    strategy_name: StrategyName = None
    max_cost: MaxCost = None
    max_latency: MaxLatency = None

    @property
    def strategy(self) -> Strategy | None:
        """The strategy; its option accepts no other words."""
        return cast(Strategy | None, self.strategy_name)


def with_request_options(command: Callable[Concatenate[RequestOptions, P], None]) -> Callable[..., None]:
    """Let a command have all `RequestOptions`, which it gets as its first argument, and its own options after them."""
    hints = get_type_hints(RequestOptions, include_extras=True)
    shared = {field.name: hints[field.name] for field in fields(RequestOptions)}
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    def expanded(**values: Any) -> None:
        options = RequestOptions(**{name: values.pop(name) for name in shared})
        cast(Callable[..., None], command)(options, **values)

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in shared.items()
    ]
    parameters += [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    expanded.__annotations__ = {each.name: each.annotation for each in parameters}
    expanded.__name__, expanded.__doc__ = command.__name__, command.__doc__
    return expanded
