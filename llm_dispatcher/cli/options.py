"""Options that several commands have, and what a shell completes them with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ..tasks import TaskType


def _policy_names(begun: str, *, targets: bool) -> list[str]:
    """Names in the configuration that the environment leads to; none where it does not load."""
    from ..config import load
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


def _a_task(written: str) -> str:
    """A task as it may be typed: in any case, and with hyphens."""
    task, tasks = written.lower().replace("-", "_"), [str(each) for each in TaskType]
    if task not in tasks:
        from difflib import get_close_matches

        near = get_close_matches(task, tasks, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it is one of {', '.join(tasks)}"
        raise typer.BadParameter(f"there is no task {written!r}{hint}")
    return task


Prompt: TypeAlias = Annotated[str | None, typer.Argument(help="What to ask; - reads it from standard input.")]
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
System: TypeAlias = Annotated[str | None, typer.Option("--system", "-s", help="The system prompt.", metavar="TEXT")]
MaxTokens: TypeAlias = Annotated[
    int | None, typer.Option("--max-tokens", help="The answer's length at most.", metavar="N")
]
Temperature: TypeAlias = Annotated[
    float | None, typer.Option("--temperature", help="0 is the most predictable.", metavar="X")
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
