"""`Chat`: one conversation, from its first message to the end of the input.

The event loop runs only while an answer streams. Everything else happens between two runs of it, in the same thread:
reading a message, the commands, and writing the file. So Ctrl-C at the prompt raises a `KeyboardInterrupt` there, and
Ctrl-C in an answer cancels the task that reads it. The session has kept what was said when that task ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from ..._llm import LLM
from ..._serving.current import use_switch
from ..._serving.switch import LLMSwitch
from ..._serving.warming import load_in_background
from ..._sessions import Session
from ..._stream import LLMStream
from ...exceptions import InvalidRequestError, LLMDispatcherError
from ...tasks import ImagePart, MediaSource, TaskType
from ..early_end import ending_early
from ..printing import harmless
from .keyboard import PROMPT, Keyboard
from .screen import Screen
from .slash import Quit, completions, is_command, run_command
from .tools import Approval, load_tools


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

    Raises:
        LLMDispatcherError: The configuration, the file of the session or a tool is wrong.
    """
    screen, keyboard = Screen(quiet=quiet, as_json=as_json), Keyboard()
    loaded = load_tools([*tools, *asked_tools])
    switch = LLMSwitch(config)
    # Text that is written cannot be taken back, so only the events of --json can restart.
    restarts = switch.policy.resilience_of(TaskType.TEXT_GENERATION, None).on_break == "restart" and not as_json
    policy = Approval(loaded[len(tools) :], keyboard, screen)
    try:
        llm = LLM(tool_policy=policy, on_break="continue" if restarts else None)
        settings = Settings(model=model, system=system, tools=loaded)
        with use_switch(switch), asyncio.Runner() as runner:
            try:
                Chat(llm, settings, switch, runner, screen, keyboard).run(session)
            finally:
                runner.run(switch.aclose())
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(str(error)) from error
    return 0 if keyboard.is_terminal else screen.code


class Settings(Struct, frozen=True):
    """The options of the requests of a chat."""

    model: str | None = None
    system: str | None = None
    tools: tuple[Any, ...] = ()


class Chat:
    """A session, and how it is shown and typed. Commands change it."""

    def __init__(
        self,
        llm: LLM,
        settings: Settings,
        switch: LLMSwitch,
        runner: asyncio.Runner,
        screen: Screen,
        keyboard: Keyboard,
    ) -> None:
        self.switch: Final = switch
        self.screen: Final = screen
        self.session = Session(llm)
        self.settings = settings
        self.images: list[MediaSource] = []
        self.file: Path | None = None
        self._failed: tuple[str, list[MediaSource]] | None = None
        self._keyboard: Final = keyboard
        self._runner: Final = runner
        self.set(settings)

    def set(self, settings: Settings) -> None:
        """Use these settings from now on."""
        self.session.llm = self.session.llm.with_options(
            model=settings.model, system=settings.system, tools=settings.tools
        )
        self.settings = settings

    def run(self, file: Path | None = None) -> None:
        """Read messages and commands until the input ends, in the session of this file if there is one."""
        if file is not None and file.exists():
            self.load(file)
        elif file is not None and not file.parent.is_dir():
            raise InvalidRequestError(f"{file}: there is no folder {file.parent}")
        self.file = file
        if self._keyboard.is_terminal:
            load_in_background(each.kind for each in self.switch.policy.providers.values() if each.enabled)
            self._keyboard.complete(lambda line: completions(self, line))
            self.screen.remark("/help lists the commands, Ctrl-C stops an answer, Ctrl-D ends the chat")
        while (message := self._next_message()) is not None:
            try:
                self._react(message)
            except Quit:
                break
            except (LLMDispatcherError, OSError) as error:
                self.screen.error(error)

    def _next_message(self) -> str | None:
        """What the user types next; `None` at the end of the input. Two Ctrl-C in a row end the command."""
        interrupted = False
        while True:
            try:
                return self._keyboard.message(self._prompt)
            except InvalidRequestError as error:
                self.screen.error(error)
            except EOFError:
                if self._keyboard.is_terminal:
                    self.screen.new_line()
                return None
            except KeyboardInterrupt:
                if not self._keyboard.is_terminal:
                    raise
                self.screen.new_line()
                if interrupted:
                    raise
                interrupted = True
                self.screen.remark("Ctrl-C again ends the chat")

    @property
    def _prompt(self) -> str:
        branch = self.session.current_branch
        return PROMPT if branch == "main" else f"{harmless(branch)}{PROMPT}"

    def _react(self, message: str) -> None:
        if is_command(message):
            run_command(self, message)
        elif message.strip():
            self.say(message.removeprefix("/") if message.startswith("//") else message)

    # ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────

    def say(self, words: str) -> None:
        """Send a message with the images that wait for one, and show the answer."""
        images, self.images = self.images, []
        self._say(words, images)

    def retry(self) -> None:
        """Ask the last message again. Its answer is taken back."""
        if self._failed is None:
            try:
                (turn, *_) = self.session.rewind(1)
            except ValueError:
                raise InvalidRequestError("there is no message to send again") from None
            asked = turn.messages[0]
            self._failed = asked.text, [part.source for part in asked.parts if isinstance(part, ImagePart)]
        self._say(*self._failed)

    def _say(self, words: str, images: list[MediaSource]) -> None:
        before = len(self.session.turns)
        try:
            self._runner.run(self._answer(self.session.stream(words, images=images)))
        except KeyboardInterrupt:
            if not self._keyboard.is_terminal:
                raise
            is_kept = len(self.session.turns) > before
            self.screen.remark("stopped; " + ("the answer so far is kept" if is_kept else "nothing of it is kept"))
        finally:
            self._failed = None if len(self.session.turns) > before else (words, images)
            try:
                self.save()
            except (LLMDispatcherError, OSError) as error:
                self.screen.error(error)

    async def _answer(self, stream: LLMStream[str]) -> None:
        self.screen.wait()
        try:
            with ending_early():
                async with aclosing(stream.events()) as events:
                    async for event in events:
                        self.screen.event(event)
        finally:
            self.screen.end(stream.response)
        if stream.response.error is not None:
            raise stream.response.error

    # ── the file ───────────────────────────────────────────────────────────────────────────────────────────────────

    def save(self) -> None:
        """Write the session to its file, if it has one."""
        if self.file is not None:
            self.session.save(self.file)

    def load(self, file: Path) -> None:
        """Go on with the session in a file. From now on, it is saved there."""
        self.session = Session.load(file, self.session.llm)
        self.file, self._failed = file, None
        asked = [turn.messages[0].text for turn in self.session.turns if turn.begins]
        self._keyboard.recall(asked)
        branch = self.session.current_branch
        self.screen.remark(f"{len(self.session)} messages from {file}, on the branch {branch}")
