"""The commands of a chat: lines that begin with a slash."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ..._hints import did_you_mean
from ...exceptions import InvalidRequestError
from ...tasks import Message, ReasoningPart, Target, TextPart, Tool, ToolCallPart, ToolResultPart
from ..inspect import configured_targets, plan_table
from ..printing import one_line
from ..request import media_source
from .conversation import Chat

_COMMAND: Final = re.compile(r"/([a-z]+)(?:\s+(.*?))?\s*", re.DOTALL | re.IGNORECASE)


class Quit(Exception):  # noqa: N818 - it ends the chat, and is no error
    """The chat is over."""


class Command(Struct, frozen=True):
    """A command. Its function gets the chat, and what was written after the name."""

    usage: str
    help: str
    run: Callable[[Chat, str], None]

    @property
    def name(self) -> str:
        return self.usage.split()[0].removeprefix("/")


def is_command(message: str) -> bool:
    """Whether a message is a command. A path such as /usr/bin is none, and neither is a message that begins with //."""
    return _COMMAND.fullmatch(message) is not None


def run_command(chat: Chat, message: str) -> None:
    """Run a command.

    Raises:
        InvalidRequestError: There is no such command, or it cannot be done.
        Quit: It ends the chat.
        LLMDispatcherError, OSError: What it does has failed.
    """
    written = _COMMAND.fullmatch(message)
    assert written is not None  # `is_command`
    name, argument = written[1].lower(), written[2] or ""
    command = BY_NAME.get(name)
    if command is None:
        hint = did_you_mean(f"/{name}", (f"/{each}" for each in BY_NAME))
        raise InvalidRequestError(
            f"there is no command /{name}{hint or '; /help lists them'} (a message that begins with / is typed as //)"
        )
    try:
        command.run(chat, argument)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(str(error)) from error


def completions(chat: Chat, line: str) -> list[str]:
    """The lines that the tab key may make of a line."""
    name, space, _ = line.partition(" ")
    if not space:
        return [f"/{each} " for each in BY_NAME if f"/{each}".startswith(line)] if line.startswith("/") else []
    match name:
        case "/model":
            words = ["auto", *map(str, configured_targets(chat.switch.policy))]
        case "/branch":
            words = list(chat.session.branches)
        case "/load" | "/save" | "/image":
            words = _paths(line.removeprefix(f"{name} "))
        case _:
            words = []
    return [full for each in words if (full := f"{name} {each}").startswith(line)]


def _paths(begun: str) -> list[str]:
    """The files and folders whose path begins so."""
    folder, _, _ = begun.rpartition("/")
    try:
        found = sorted(Path(folder or ("/" if begun.startswith("/") else ".")).expanduser().iterdir())
    except OSError:
        return []
    prefix = begun[: begun.rfind("/") + 1]
    return [f"{prefix}{each.name}{'/' if each.is_dir() else ''}" for each in found]


# ── the commands ───────────────────────────────────────────────────────────────────────────────────────────────────


def _help(chat: Chat, _: str) -> None:
    chat.screen.table(("command", "what it does"), [(each.usage, each.help) for each in COMMANDS])
    chat.screen.lines('A line that ends with \\ goes on in the next one, and """ begins and ends several lines.')


def _model(chat: Chat, name: str) -> None:
    session = chat.session
    pinned = chat.settings.model
    targets = [str(each) for each in configured_targets(chat.switch.policy)]
    if not name:
        last = None if session.affinity is None else session.affinity.last
        names = targets if pinned is None or pinned in targets else [*targets, pinned]
        rows = [("*" if each == pinned else "", each, "answered last" if each == str(last) else "") for each in names]
        chat.screen.table(("", "model", ""), rows)
        chat.screen.remark(f"only {pinned} is asked" if pinned else "the models are routed")
    elif name == "auto":
        chat.set(replace(chat.settings, model=None))
        chat.screen.remark("the models are routed from now on")
    else:
        model = _target(name, targets, chat.switch.policy.providers)
        chat.set(replace(chat.settings, model=model))
        chat.screen.remark(f"only {model} is asked from now on; /model auto ends that")


def _target(name: str, targets: list[str], providers: object) -> str:
    """The model of this name: `provider/model`, or a model's name alone if only one provider has it."""
    if name in targets:
        return name
    same = [each for each in targets if each.partition("/")[2] == name]
    if len(same) == 1:
        return same[0]
    provider, slash, model = name.partition("/")
    if slash and model and isinstance(providers, dict) and provider in providers:
        return name  # a model that the configuration does not name has the defaults of its vendor
    hint = f"; write one of {', '.join(same)}" if same else did_you_mean(name, targets) or "; /model lists them"
    raise InvalidRequestError(f"there is no model {name!r}{hint}")


def _system(chat: Chat, text: str) -> None:
    if text:
        chat.set(replace(chat.settings, system=text))
        chat.screen.remark("the system prompt is another one from now on")
    else:
        chat.screen.lines(chat.settings.system or "There is no system prompt.")


def _tools(chat: Chat, _: str) -> None:
    tools = [tool for tool in chat.settings.tools if isinstance(tool, Tool)]
    if not tools:
        chat.screen.lines("There are no tools: start the chat with --tool FILE:FUNCTION.")
    else:
        chat.screen.table(("tool", "what it does"), [(tool.name, tool.description) for tool in tools])


def _image(chat: Chat, path: str) -> None:
    if not path:
        raise InvalidRequestError("write /image FILE, and then the message that it belongs to")
    chat.images.append(media_source(path))
    chat.screen.remark(f"{path} is sent with the next message")


def _branch(chat: Chat, name: str) -> None:
    session = chat.session
    if not name:
        chat.screen.table(
            ("", "branch"), [("*" if each == session.current_branch else "", each) for each in session.branches]
        )
    elif name in session.branches:
        session.switch_to(name)
        chat.history_changed()
        chat.screen.remark(f"back on the branch {name}, which has {len(session)} messages")
    else:
        session.branch(name)
        chat.history_changed()
        chat.screen.remark(f"a new branch {name} begins here")


def _rewind(chat: Chat, number: str) -> None:
    if number and not number.isdecimal():
        raise InvalidRequestError(f"write /rewind N with a number of messages of yours, got {number!r}")
    gone = chat.session.rewind(int(number or 1))
    chat.history_changed()
    asked = next((turn.messages[0].text for turn in gone if turn.begins), "")
    chat.screen.remark(f"taken back, from your message on: {asked}")


def _retry(chat: Chat, _: str) -> None:
    chat.retry()


def _history(chat: Chat, _: str) -> None:
    lines = [
        line for turn in chat.session.turns for message in turn.messages for line in _in_lines(message, turn.target)
    ]
    chat.screen.lines("\n".join(lines) if lines else "Nothing was said yet.")


def _in_lines(message: Message, target: Target | None) -> Iterator[str]:
    who = {"user": "you", "assistant": str(target or "model")}.get(message.role, message.role)
    for part in message.parts:
        match part:
            case TextPart():
                yield f"{who}: {part.text}"
            case ToolCallPart():
                yield f"{who}: [calls {part.name} with {one_line(part.arguments)}]"
            case ToolResultPart():
                yield f"{who}: [{part.name} {'failed' if part.error else 'returned'}: {one_line(part.result)}]"
            case ReasoningPart():
                pass
            case _:
                yield f"{who}: [{type(part).__name__.removesuffix('Part').lower()}]"


def _explain(chat: Chat, words: str) -> None:
    plan = chat.session.explain(words or "Hello.", images=chat.images)
    chat.screen.table(*plan_table(plan))


def _save(chat: Chat, path: str) -> None:
    if path:
        chat.session.save(Path(path).expanduser())
        chat.file = Path(path).expanduser()
    elif chat.file is None:
        raise InvalidRequestError("this conversation has no file yet: write /save FILE")
    else:
        chat.save()
    chat.screen.remark(f"saved in {chat.file}, and again after each turn")


def _load(chat: Chat, path: str) -> None:
    if not path:
        raise InvalidRequestError("write /load FILE with a conversation that /save has written")
    chat.load(Path(path).expanduser())


def _quit(_: Chat, __: str) -> None:
    raise Quit


COMMANDS: Final = (
    Command("/help", "List the commands.", _help),
    Command(
        "/model [MODEL]", "Ask only this model: provider/model. /model auto lets the routing choose again.", _model
    ),
    Command("/explain [MESSAGE]", "Show where the next message would go, and why.", _explain),
    Command("/system [TEXT]", "Show the system prompt, or set another one.", _system),
    Command("/tools", "List the tools that the model may call.", _tools),
    Command("/image FILE", "Send an image with the next message.", _image),
    Command("/history", "Show the conversation.", _history),
    Command("/retry", "Ask the last message again.", _retry),
    Command("/rewind [N]", "Take back your last message, or the last N, and what followed.", _rewind),
    Command("/branch [NAME]", "List the branches, go to one, or begin one here.", _branch),
    Command("/save [FILE]", "Save the conversation in a file, now and after each turn.", _save),
    Command("/load FILE", "Go on with the conversation in a file.", _load),
    Command("/quit", "End the chat, like Ctrl-D.", _quit),
)
BY_NAME: Final = {command.name: command for command in COMMANDS} | {"exit": COMMANDS[-1]}
