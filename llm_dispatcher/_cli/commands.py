"""The commands and their options. The work of a command is in another file, which is loaded when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from msgspec import UNSET

from .exit_codes import CODES, Commands
from .options import (
    Config,
    Json,
    Model,
    RequestOptions,
    System,
    Task,
    Temperature,
    with_request_options,
)

app = typer.Typer(
    name="llm-dispatcher",
    cls=Commands,
    add_completion=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout is not None and sys.stdout.isatty() else None,  # plain text for a pipe
    epilog="\n\n".join(["Exit codes:", *(f"{code:>3}  {words}" for code, words in CODES.items())]),
)
config_app = typer.Typer(help="Check a configuration, show it, or print its schema.")
app.add_typer(config_app, name="config")
cache_app = typer.Typer(help="Show the contents of a cache, clear it, or compare two prompts.")
app.add_typer(cache_app, name="cache")


def _version(is_set: bool) -> None:
    if is_set:
        from .. import __version__
        from .printing import say

        say(f"llm-dispatcher {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks. May also stand after the command.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.", callback=_version)] = False,
) -> None:
    """Stream from the best healthy model for a task, and continue with another model when it fails."""


@app.command()
@with_request_options
def stream(
    options: RequestOptions,
    system: System = None,
    temperature: Temperature = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds for the whole answer.", metavar="SECONDS")] = None,
    config: Config = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write only the answer, and errors.")] = False,
    as_json: Json = False,
) -> None:
    """Send a request, and write the answer while it arrives.

    The text goes to standard output; progress and remarks go to standard error. With --json, each event is a line.
    """
    from .request import make_request
    from .stream import stream

    request = make_request(options, system=system, temperature=temperature)
    stream(request, options, config=config, timeout=timeout, quiet=quiet, as_json=as_json)


@app.command()
def chat(
    model: Model = None,
    system: System = None,
    session: Annotated[
        Path | None,
        typer.Option(
            "--session",
            help="Go on with the conversation in this file, and save it there after each turn.",
            metavar="FILE",
        ),
    ] = None,
    tool: Annotated[
        list[str] | None,
        typer.Option(
            "--tool", help="A tool: a function in a Python file, as in tools.py:weather. Repeatable.", metavar="TOOL"
        ),
    ] = None,
    ask_tool: Annotated[
        list[str] | None,
        typer.Option("--ask-tool", help="A tool that you are asked about before each run. Repeatable.", metavar="TOOL"),
    ] = None,
    config: Config = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write only the answers, and errors.")] = False,
    as_json: Json = False,
) -> None:
    """Talk with a model, which remembers what was said. /help lists the commands of the chat.

    If standard input is a pipe or a file, each line is a message.
    """
    from .chat.talk import chat

    code = chat(
        config=config,
        system=system,
        model=model,
        session=session,
        tools=tool or (),
        asked_tools=ask_tool or (),
        quiet=quiet,
        as_json=as_json,
    )
    raise typer.Exit(code)


@app.command()
@with_request_options
def explain(options: RequestOptions, config: Config = None, as_json: Json = False) -> None:
    """Show the targets of a request, in order, and the reasons against the others. Nothing is sent."""
    from .inspect import explain
    from .request import make_request

    raise typer.Exit(explain(make_request(options), options, config=config, as_json=as_json))


Timeout = Annotated[float, typer.Option(help="Seconds to wait for each provider.", metavar="SECONDS", min=0.1)]


@app.command()
def models(
    task: Task = None,
    config: Config = None,
    offered: Annotated[
        bool, typer.Option("--offered", help="Ask the providers for their lists of models, which is free.")
    ] = False,
    timeout: Timeout = 5.0,
    as_json: Json = False,
) -> None:
    """List the models with their capabilities and prices.

    With --task, list only the models of that task's route, in order. With --offered, list the models that the
    providers offer, and mark the configured ones.
    """
    from ..tasks import TaskType
    from .inspect import models

    if offered:
        from . import providers

        raise typer.Exit(providers.offered(config, timeout=timeout, as_json=as_json))
    raise typer.Exit(models(None if task is None else TaskType(task), config=config, as_json=as_json))


@app.command()
def providers(
    config: Config = None,
    ask: Annotated[bool, typer.Option("--ask/--no-ask", help="Ask for the list of models, which is free.")] = True,
    timeout: Timeout = 5.0,
    as_json: Json = False,
) -> None:
    """List the providers, and check their keys.

    Each provider gets a request for its list of models, which is free. Keys are not shown.
    """
    from .providers import providers

    raise typer.Exit(providers(config, ask=ask, timeout=timeout, as_json=as_json))


File = Annotated[Path | None, typer.Argument(help="By default the file of --config.", metavar="[FILE]")]


@config_app.command()
def check(file: File = None, config: Config = None, as_json: Json = False) -> None:
    """Check a configuration, and report all of its problems at once."""
    from .inspect import check

    raise typer.Exit(check(file or config, as_json=as_json))


@config_app.command()
def show(file: File = None, config: Config = None, as_json: Json = False) -> None:
    """Print the settings in force: file, environment and defaults together, without secrets."""
    from .inspect import show

    raise typer.Exit(show(file or config, as_json=as_json))


@config_app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference instead, as Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """Print the JSON schema of llm_dispatcher.yaml, for editors."""
    from .inspect import schema

    raise typer.Exit(schema(markdown=markdown and not as_json))


StoreFile = Annotated[
    Path | None, typer.Option("--store", help="The file of the cache; by default the configured one.", metavar="FILE")
]


@cache_app.command("stats")
def cache_stats(store: StoreFile = None, config: Config = None, as_json: Json = False) -> None:
    """Show the entries and the size of a cache's file, by namespace."""
    from .cache import stats

    raise typer.Exit(stats(store, config=config, as_json=as_json))


@cache_app.command("clear")
def cache_clear(
    namespace: Annotated[str | None, typer.Option(help="Delete only this namespace.", metavar="NAME")] = None,
    store: StoreFile = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Delete the entries of a cache's file, also for programs that have it open."""
    from .cache import clear

    raise typer.Exit(clear(store, namespace=namespace, config=config, as_json=as_json))


@cache_app.command("explain")
def cache_explain(
    a: Annotated[str, typer.Argument(metavar="PROMPT", help="A prompt.")],
    b: Annotated[str, typer.Argument(metavar="OTHER", help="Another prompt.")],
    threshold: Annotated[float, typer.Option(help="The least similarity.", min=0, max=1, metavar="X")] = 0.95,
    as_json: Json = False,
) -> None:
    """Show whether the answer to one prompt would be served for another, and the rule that decides."""
    from .cache import explain

    raise typer.Exit(explain(a, b, threshold=threshold, as_json=as_json))


@app.command()
def demo(
    config: Annotated[Path | None, typer.Option(help="Your own policy, with real vendors or a local Ollama.")] = None,
    prompt: Annotated[str | None, typer.Option(help="The prompt.")] = None,
    as_json: Json = False,
) -> None:
    """Show streams that continue when vendors fail. Without --config, the vendors are simulated and nothing is sent."""
    if config is None:
        from .demo.scenes import simulated_demo

        raise typer.Exit(simulated_demo(prompt, as_json=as_json))
    from .demo.real import real_demo

    text = prompt or "Tell a short story about a lighthouse keeper."
    raise typer.Exit(real_demo(config, text, as_json=as_json))


@app.command()
def simulate(
    wire: Annotated[
        str, typer.Option(metavar="WIRE", help="openai-chat, openai-responses, anthropic, google or ollama.")
    ],
    text: Annotated[str, typer.Option(metavar="TEXT", help="The answer.")] = "Hello!",
    script: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file of replies as JSON, instead of --text.")
    ] = None,
    port: Annotated[int, typer.Option(metavar="PORT", help="The port; 0 takes a free one.")] = 0,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="The key that requests must have; none if empty. By default test-key, and none for ollama.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="A model that it has; by default all. Repeatable.")
    ] = None,
    refuses_prefill: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="A model that refuses prefill. Repeatable.")
    ] = None,
    remember: Annotated[
        int, typer.Option(metavar="N", help="The number of requests kept for /_simulated/requests.")
    ] = 1000,
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="End when standard input closes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve a simulated vendor until interrupted. The first line of output is JSON with its base_url."""
    from ..testing import Reply, SimulatedVendor, script_from_json
    from .simulate import serve

    del as_json  # Its output is JSON in any case.
    vendor = SimulatedVendor(
        wire,
        Reply(text) if script is None else script_from_json(script.read_bytes()),
        models=model or None,
        refuses_prefill=refuses_prefill or (),
        api_key=UNSET if api_key is None else api_key or None,
        port=port,
        remember=remember,
    )
    serve(vendor, until_stdin_closes=until_stdin_closes)


@app.command("help")
def help_(
    command: Annotated[list[str] | None, typer.Argument(help="A command, as in: help config check.")] = None,
    as_json: Json = False,
) -> None:
    """Show the commands, or the help of one command. The same as --help."""
    del as_json  # The help is text in any case.
    app([*(command or []), "--help"], prog_name="llm-dispatcher")


@app.command()
def version(as_json: Json = False) -> None:
    """Show the version. The same as --version."""
    if not as_json:
        _version(True)
    from .. import __version__
    from .printing import say_json

    say_json({"version": __version__})
