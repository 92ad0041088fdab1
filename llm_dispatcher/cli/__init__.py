"""The command `llm-dispatcher`. Each command is a file here, and loads what it needs when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..exceptions import LLMDispatcherError

app = typer.Typer(
    name="llm-dispatcher", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help=__doc__
)


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Streams from whichever model is best and healthy for its task, that keep going when it is not."""
    context.obj = debug


@app.command()
def demo(
    config: Annotated[Path | None, typer.Option(help="Your own policy: real vendors, or a local Ollama.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What to ask.")] = None,
) -> None:
    """See a stream survive its vendors. Without --config the vendors are simulated, and nothing leaves the machine."""
    if config is None:
        from .demo import simulated_demo

        raise typer.Exit(simulated_demo(prompt))
    from .real_demo import real_demo

    raise typer.Exit(real_demo(config, prompt or "Tell a short story about a lighthouse keeper."))


@app.command()
def simulate(
    wire: Annotated[str, typer.Option(help="openai-chat, openai-responses, anthropic, google or ollama.")],
    text: Annotated[str, typer.Option(help="What to answer.")] = "Hello!",
    script: Annotated[Path | None, typer.Option(help="Replies as JSON, instead of a text.")] = None,
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 0,
    api_key: Annotated[str, typer.Option(help="The key that requests have to bring; none if empty.")] = "test-key",
    model: Annotated[list[str] | None, typer.Option(help="A model it knows; all, if not said.")] = None,
    refuses_prefill: Annotated[list[str] | None, typer.Option(help="A model that takes no open answer.")] = None,
    remember: Annotated[int, typer.Option(help="How many requests to keep for /_simulated/requests.")] = 1000,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", help="End with who started it.")] = False,
) -> None:
    """Serve a simulated vendor until interrupted. The first line of output is JSON with its base_url."""
    from ..testing import Reply, SimulatedVendor, script_from_json
    from .simulate import serve

    vendor = SimulatedVendor(
        wire,
        Reply(text) if script is None else script_from_json(script.read_bytes()),
        models=model or None,
        refuses_prefill=refuses_prefill or (),
        api_key=api_key or None,
        port=port,
        remember=remember,
    )
    serve(vendor, until_stdin_closes=until_stdin_closes)


def main() -> None:
    """Run the command; an error of ours is one line, unless --debug asks for the traceback."""
    try:
        app()
    except (LLMDispatcherError, ValueError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"llm-dispatcher: {error}", err=True)
        sys.exit(2)
