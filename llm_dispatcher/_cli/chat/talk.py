"""The chat from its first message to the end of the input."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..._llm import LLM
from ..._serving.current import use_switch
from ..._serving.switch import LLMSwitch
from ..._serving.warming import load_in_background
from ...exceptions import InvalidRequestError, LLMDispatcherError
from ...tasks import TaskType
from ..printing import harmless
from .conversation import Chat, Settings
from .keyboard import PROMPT, Keyboard
from .screen import Screen
from .slash import Quit, completions, is_command, run_command
from .tools import Approval, load_tools

A_DAY: Final = 86_400.0


def chat(
    *,
    config: Path | None,
    system: str | None,
    model: str | None,
    session: Path | None,
    tools: Sequence[str],
    asked_tools: Sequence[str],
    quiet: bool,
    as_json: bool,
) -> int:
    """Talk until the input ends. Returns the exit code.

    Args:
        config: The configuration; `None` for the usual one.
        system: The system prompt.
        model: The only model to ask.
        session: The file of the conversation, which need not be there yet.
        tools: References of tools, as in `tools.py:weather`.
        asked_tools: The same for tools that the user is asked about.
        quiet: Whether nothing but answers and errors is written.
        as_json: Whether events are written as JSON.

    Raises:
        LLMDispatcherError: The configuration, the file of the session or a tool is wrong.
    """
    screen = Screen(quiet=quiet, as_json=as_json)
    keyboard = Keyboard(edits=screen.is_terminal)
    loaded = load_tools([*tools, *asked_tools])
    switch = LLMSwitch(config)
    # Text that is written cannot be taken back, so only the events of --json can restart.
    restarts = switch.policy.resilience_of(TaskType.TEXT_GENERATION, None).on_break == "restart" and not as_json
    policy = Approval(loaded[len(tools) :], keyboard, screen)
    # A person who is asked may need longer than a route lets an answer take. The other clocks do not run meanwhile.
    timeout = A_DAY if asked_tools and keyboard.is_terminal else None
    llm = LLM(tool_policy=policy, on_break="continue" if restarts else None, timeout=timeout)
    with use_switch(switch), asyncio.Runner() as runner:
        try:
            try:
                talk = Chat(llm, Settings(model, system, loaded), switch, runner, screen, keyboard)
            except (TypeError, ValueError) as error:
                raise InvalidRequestError(str(error)) from error
            _begin(talk, session)
            _talk(talk)
        finally:
            runner.run(switch.aclose())
    return 0 if keyboard.is_terminal else screen.code


def _begin(chat: Chat, file: Path | None) -> None:
    """Go on with the session of a file, if there is one."""
    if file is not None and file.exists():
        chat.load(file)
    elif file is not None and not file.parent.is_dir():
        raise InvalidRequestError(f"{file}: there is no folder {file.parent}")
    chat.file = file
    if chat.keyboard.is_terminal:
        load_in_background(each.kind for each in chat.switch.policy.providers.values() if each.enabled)
        chat.keyboard.complete(lambda line: completions(chat, line))
        chat.screen.remark("/help lists the commands, Ctrl-C stops an answer, Ctrl-D ends the chat")


def _talk(chat: Chat) -> None:
    while (message := _next_message(chat)) is not None:
        try:
            if is_command(message):
                run_command(chat, message)
            elif message.strip():
                chat.say(message.removeprefix("/") if message.startswith("//") else message)
        except Quit:
            break
        except (LLMDispatcherError, OSError) as error:
            chat.screen.error(error)


def _next_message(chat: Chat) -> str | None:
    """What the user types next; `None` at the end of the input. Two Ctrl-C in a row end the command."""
    branch = chat.session.current_branch
    prompt = PROMPT if branch == "main" else f"{harmless(branch)}{PROMPT}"
    interrupted = False
    while True:
        try:
            return chat.keyboard.message(prompt)
        except InvalidRequestError as error:
            chat.screen.error(error)
        except EOFError:
            if chat.keyboard.is_terminal:
                chat.screen.new_line()
            return None
        except KeyboardInterrupt:
            if not chat.keyboard.is_terminal:
                raise
            chat.screen.new_line()
            if interrupted:
                raise
            interrupted = True
            chat.screen.remark("Ctrl-C again ends the chat")
