"""How the command ends: exit codes, errors in one line, and a reader of the output that has closed the pipe."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import MutableMapping, Sequence
from typing import Any, Final, TextIO

from typer import Abort, Exit
from typer.core import TyperGroup

from ..exceptions import ConfigurationError, InvalidRequestError, LLMDispatcherError, StreamingError
from .printing import one_line

SUCCESS: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
MISCONFIGURED: Final = 3
BROKEN_OFF: Final = 4
BUG: Final = 70
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
TERMINATED: Final = 143

CODES: Final = {
    SUCCESS: "Success.",
    FAILED: "No vendor answered, or a check found a problem.",
    MISUSED: "The command line or the request is invalid.",
    MISCONFIGURED: "The configuration is missing or invalid.",
    BROKEN_OFF: "The stream broke: the output is only a part of the answer.",
    BUG: "A bug in llm-dispatcher; --debug shows the traceback.",
    INTERRUPTED: "Interrupted by Ctrl-C.",
    PIPE_CLOSED: "The reader of the output closed the pipe.",
    TERMINATED: "Terminated by SIGTERM.",
}


class Commands(TyperGroup):
    """The group of all commands, with the exit codes and the errors of this module.

    `--debug` may stand anywhere before a `--`. With `--json`, errors are JSON too.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        line = list(sys.argv[1:] if args is None else args)
        options = line[: line.index("--")] if "--" in line else line
        debug, as_json = "--debug" in options, "--json" in options
        words = [word for word in options if word != "--debug"] + line[len(options) :]
        try:
            code = super().main(words or ["--help"], prog_name, complete_var, False, windows_expand_args, **extra)
        except Exception as error:  # noqa: BLE001 - every error is reported in one line
            if debug:
                traceback.print_exc()
            code = exit_code(error)
            try:
                report(error, code, as_json=as_json)
            except BrokenPipeError:
                code = PIPE_CLOSED
        sys.exit(_flushed(code if isinstance(code, int) else SUCCESS))

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:  # typer's own context class, which it does not export
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError:
            raise Exit(PIPE_CLOSED) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise Exit(PIPE_CLOSED) from None


def exit_code(error: BaseException) -> int:
    """The exit code for an error."""
    match error:
        case ConfigurationError():
            return MISCONFIGURED
        case StreamingError():
            return BROKEN_OFF
        case InvalidRequestError():
            return MISUSED
        case LLMDispatcherError():
            return FAILED
        case Abort():
            return FAILED
        case ValueError() | OSError():
            return MISUSED
        case _:
            return int(getattr(error, "exit_code", BUG))


def report(error: Exception, code: int, *, as_json: bool) -> None:
    """Write an error to standard error: one line, or a line for each problem of a configuration."""
    from .._redaction import redacted
    from ..events import Failure

    if as_json:
        import msgspec

        failure: MutableMapping[str, object] = msgspec.to_builtins(Failure.of(error))
        failure["message"] = one_line(redacted(_message(error)))
        if isinstance(error, ConfigurationError):
            failure["problems"] = msgspec.to_builtins(error.problems)
        print(json.dumps({"error": failure, "exit_code": code}, ensure_ascii=False), file=sys.stderr)  # noqa: T201
        return
    lines = str(error).splitlines() if isinstance(error, ConfigurationError) else [_message(error)]
    for line in lines:
        print(f"llm-dispatcher: {redacted(one_line(line))}", file=sys.stderr)  # noqa: T201 - the command's error


def _message(error: Exception) -> str:
    """The message of an error. For an invalid command line, it ends with the command that shows the help."""
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "llm-dispatcher"
        return f"{format_message()} ({command} --help)"
    if exit_code(error) == BUG:
        return f"{type(error).__name__}: {error} (a bug in llm-dispatcher; --debug shows the traceback)"
    if isinstance(error, OSError) and error.filename is not None and not isinstance(error, LLMDispatcherError):
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _flushed(code: int) -> int:
    """Flush the output, and return the exit code. After this, Python finds no closed pipe when it exits."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            _redirect_to_devnull(stream)
            code = code or PIPE_CLOSED
    return code


def _redirect_to_devnull(stream: TextIO) -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
