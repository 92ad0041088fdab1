"""Options that several commands have, and what a shell completes them with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias, get_args

import typer

from .._hints import did_you_mean
from .._policy import Strategy
from ..tasks import TaskType


def _policy_names(begun: str, *, targets: bool) -> list[str]:
    """Names in the configuration that the environment leads to; none where it does not load."""
    from .._config import load
    from ..exceptions import LLMDispatcherError

    try:
        policy = load()
    except (LLMDispatcherError, OSError):
        return []
    names: Iterable[str] = policy.providers
    if targets:
        names = (f"{name}/{model}" for name, settings in policy.providers.items() for model in settings.models)
    return [name for name in names if name.startswith(begun)]


def _targets(incomplete: str) -> list[str]:
    return _policy_names(incomplete, targets=True)


def _providers(incomplete: str) -> list[str]:
    return _policy_names(incomplete, targets=False)


def _tasks(incomplete: str) -> list[str]:
    return [str(task) for task in TaskType if task.startswith(incomplete)]


def _strategies(incomplete: str) -> list[str]:
    return [strategy for strategy in get_args(Strategy) if strategy.startswith(incomplete)]


def _a_task(written: str) -> str:
    """A task as it may be typed: in any case, and with hyphens."""
    return _one_of([str(task) for task in TaskType], "task", written.lower().replace("-", "_"))


def _a_strategy(written: str) -> str:
    return _one_of(list(get_args(Strategy)), "strategy", written.lower())


def _one_of(names: list[str], what: str, written: str) -> str:
    if written not in names:
        hint = did_you_mean(written, names) or f"; it is one of {', '.join(names)}"
        raise typer.BadParameter(f"there is no {what} {written!r}{hint}")
    return written


Prompt: TypeAlias = Annotated[str | None, typer.Argument(help="What to ask; what is piped in stands before it.")]
Task: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--task",
        "-t",
        help="What it is for, e.g. code_generation. By default the images and sounds tell, or it is text_generation.",
        parser=_a_task,
        metavar="TASK",
        autocompletion=_tasks,
    ),
]
Image: TypeAlias = Annotated[
    list[str] | None, typer.Option("--image", "-i", help="A file or an address; may be given again.", metavar="FILE")
]
Audio: TypeAlias = Annotated[
    list[str] | None, typer.Option("--audio", "-a", help="A file or an address; may be given again.", metavar="FILE")
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="Ask this one and no other: provider/model.", metavar="MODEL", autocompletion=_targets
    ),
]
Provider: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        "-p",
        help="Ask this one and no other; may be given again.",
        metavar="NAME",
        autocompletion=_providers,
    ),
]
Namespace: TypeAlias = Annotated[
    str | None,
    typer.Option("--namespace", help="Whose budget it counts for, and whose cached answers it gets.", metavar="NAME"),
]
Sticky: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--sticky",
        help="Where a route splits its requests, those with the same key go to the same target.",
        metavar="KEY",
    ),
]
System: TypeAlias = Annotated[str | None, typer.Option("--system", "-s", help="The system prompt.", metavar="TEXT")]
MaxTokens: TypeAlias = Annotated[
    int | None, typer.Option("--max-tokens", help="The answer's length at most.", metavar="N")
]
Temperature: TypeAlias = Annotated[
    float | None, typer.Option("--temperature", help="0 is the most predictable.", metavar="X")
]
Choice: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="How targets are put in order, e.g. cost or speed.",
        parser=_a_strategy,
        metavar="STRATEGY",
        autocompletion=_strategies,
    ),
]
MaxCost: TypeAlias = Annotated[
    float | None, typer.Option("--max-cost", help="What the request may cost, in US dollars.", metavar="DOLLARS", min=0)
]
MaxLatency: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--max-latency", help="Targets that take longer to their first word come last.", metavar="SECONDS", min=0
    ),
]
Config: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The policy. By default LLM_DISPATCHER_CONFIG, or llm_dispatcher.yaml here or in your config folder.",
        metavar="FILE",
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="JSON on standard output, errors too on standard error.")]
