"""Each command and its options. A command's work is in a file of its own, which is loaded when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, cast

import typer
from msgspec import UNSET

from .._policy import Strategy
from .exit_codes import CODES, Commands
from .options import (
    Audio,
    Choice,
    Config,
    Image,
    Json,
    MaxCost,
    MaxLatency,
    MaxTokens,
    Model,
    Namespace,
    Prompt,
    Provider,
    Sticky,
    System,
    Task,
    Temperature,
)

app = typer.Typer(
    name="llm-dispatcher",
    cls=Commands,
    add_completion=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout is not None and sys.stdout.isatty() else None,  # a pipe gets plain text
    epilog="\n\n".join(["Exit codes:", *(f"{code:>3}  {words}" for code, words in CODES.items())]),
)
config_app = typer.Typer(help="Check a configuration, show it, or print its schema.")
app.add_typer(config_app, name="config")
cache_app = typer.Typer(help="Look into a cache, clear it, or compare two prompts.")
app.add_typer(cache_app, name="cache")


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__
        from .printing import say

        say(f"llm-dispatcher {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may also stand after the command.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.", callback=_version)] = False,
) -> None:
    """Streams from whichever model is best and healthy for its task, that keep going when it is not."""


@app.command()
def stream(
    prompt: Prompt = None,
    task: Task = None,
    image: Image = None,
    audio: Audio = None,
    model: Model = None,
    provider: Provider = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    namespace: Namespace = None,
    sticky: Sticky = None,
    strategy: Choice = None,
    max_cost: MaxCost = None,
    max_latency: MaxLatency = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds for the whole answer.", metavar="SECONDS")] = None,
    config: Config = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but the answer, and errors.")] = False,
    as_json: Json = False,
) -> None:
    """Ask, and read the answer while it comes.

    The text goes to standard output, progress and what happens to standard error. With --json, each event is a line.
    """
    from .ask import Wanted, ask
    from .request import request_of

    request = request_of(
        prompt, task=task, images=image, audio=audio, model=model, providers=provider or None, system=system,
        max_tokens=max_tokens, temperature=temperature, namespace=namespace, sticky=sticky,
    )  # fmt: skip
    wanted = Wanted(
        config=config, as_json=as_json, quiet=quiet, timeout=timeout,
        strategy=cast(Strategy | None, strategy), max_cost=max_cost, max_latency=max_latency,
    )  # fmt: skip
    ask(request, wanted)


@app.command()
def explain(
    prompt: Prompt = None,
    task: Task = None,
    image: Image = None,
    audio: Audio = None,
    model: Model = None,
    provider: Provider = None,
    max_tokens: MaxTokens = None,
    namespace: Namespace = None,
    sticky: Sticky = None,
    strategy: Choice = None,
    max_cost: MaxCost = None,
    max_latency: MaxLatency = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say where a request would go, and why not elsewhere. Nothing is sent."""
    from .inspect import explain
    from .request import request_of

    request = request_of(
        prompt, task=task, images=image, audio=audio, model=model, providers=provider or None, max_tokens=max_tokens,
        namespace=namespace, sticky=sticky,
    )  # fmt: skip
    code = explain(
        request, config=config, strategy=cast(Strategy | None, strategy), max_cost=max_cost, max_latency=max_latency,
        as_json=as_json,
    )  # fmt: skip
    raise typer.Exit(code)


@app.command()
def models(task: Task = None, config: Config = None, as_json: Json = False) -> None:
    """List the models, what they can do and what they cost.

    With --task, only those that a request for this task may go to, in order.
    """
    from ..tasks import TaskType
    from .inspect import models

    raise typer.Exit(models(None if task is None else TaskType(task), config=config, as_json=as_json))


@app.command()
def providers(
    config: Config = None,
    ask: Annotated[bool, typer.Option("--ask/--no-ask", help="Ask each of them for its models, which is free.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for each.", metavar="SECONDS", min=0.1)] = 5.0,
    as_json: Json = False,
) -> None:
    """List the providers, and say whether each takes its key.

    Each one is asked for its list of models, which is free. Keys are not shown.
    """
    from .providers import providers

    raise typer.Exit(providers(config, ask=ask, timeout=timeout, as_json=as_json))


File = Annotated[Path | None, typer.Argument(help="By default the one that --config would have.", metavar="[FILE]")]


@config_app.command()
def check(file: File = None, config: Config = None, as_json: Json = False) -> None:
    """Read a configuration and tell everything that is wrong with it, in one go."""
    from .inspect import check

    raise typer.Exit(check(file or config, as_json=as_json))


@config_app.command()
def show(file: File = None, config: Config = None, as_json: Json = False) -> None:
    """Print what is in force: file, environment and defaults together, without secrets."""
    from .inspect import show

    raise typer.Exit(show(file or config, as_json=as_json))


@config_app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="The reference, for readers.")] = False,
    as_json: Json = False,
) -> None:
    """Print the JSON schema of llm_dispatcher.yaml, for editors."""
    from .inspect import schema

    raise typer.Exit(schema(markdown=markdown and not as_json))


Kept = Annotated[
    Path | None, typer.Option("--store", help="The cache's file; by default the configured one.", metavar="FILE")
]


@cache_app.command("stats")
def cache_stats(store: Kept = None, config: Config = None, as_json: Json = False) -> None:
    """Say what a cache's file holds."""
    from .cache import stats

    raise typer.Exit(stats(store, config=config, as_json=as_json))


@cache_app.command("clear")
def cache_clear(
    namespace: Annotated[str | None, typer.Option(help="Only its entries.", metavar="NAME")] = None,
    store: Kept = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Forget what a cache's file holds. Programs that have it open find the answers gone."""
    from .cache import clear

    raise typer.Exit(clear(store, namespace=namespace, config=config, as_json=as_json))


@cache_app.command("explain")
def cache_explain(
    a: Annotated[str, typer.Argument(help="A prompt.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    threshold: Annotated[float, typer.Option(help="The least likeness.", min=0, max=1, metavar="X")] = 0.95,
    as_json: Json = False,
) -> None:
    """Say whether the answer to one prompt would be served for another, and by which rule."""
    from .cache import explain

    raise typer.Exit(explain(a, b, threshold=threshold, as_json=as_json))


@app.command()
def demo(
    config: Annotated[Path | None, typer.Option(help="Your own policy: real vendors, or a local Ollama.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What to ask.")] = None,
    as_json: Json = False,
) -> None:
    """See a stream survive its vendors. Without --config the vendors are simulated, and nothing leaves the machine."""
    if config is None:
        from .demo.scenes import simulated_demo

        raise typer.Exit(simulated_demo(prompt, as_json=as_json))
    from .demo.real import real_demo

    asked = prompt or "Tell a short story about a lighthouse keeper."
    raise typer.Exit(real_demo(config, asked, as_json=as_json))


@app.command()
def simulate(
    wire: Annotated[str, typer.Option(help="openai-chat, openai-responses, anthropic, google or ollama.")],
    text: Annotated[str, typer.Option(help="What to answer.")] = "Hello!",
    script: Annotated[Path | None, typer.Option(help="Replies as JSON, instead of a text.")] = None,
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 0,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="The key that requests have to bring; none if empty. By default test-key, and none for ollama."
        ),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model it knows; all, if not said.")] = None,
    refuses_prefill: Annotated[list[str] | None, typer.Option(help="A model that takes no open answer.")] = None,
    remember: Annotated[int, typer.Option(help="How many requests to keep for /_simulated/requests.")] = 1000,
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="End when standard input closes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve a simulated vendor until interrupted. The first line of output is JSON with its base_url."""
    from ..testing import Reply, SimulatedVendor, script_from_json
    from .simulate import serve

    del as_json  # what it says is JSON in any case
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
    """Show this list, or what a command does: the same as --help."""
    del as_json  # there is only text
    app([*(command or []), "--help"], prog_name="llm-dispatcher")


@app.command()
def version(as_json: Json = False) -> None:
    """Show the version: the same as --version."""
    if not as_json:
        _version(True)
    from .. import __version__
    from .printing import say_json

    say_json({"version": __version__})
