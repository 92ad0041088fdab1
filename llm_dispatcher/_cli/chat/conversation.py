"""`Chat`: a session that is talked with, and the file that it is saved in.

The event loop runs only while an answer streams. Everything else happens between two runs of it, in the same thread:
reading a message, the commands, and writing the file. So Ctrl-C at the prompt raises a `KeyboardInterrupt` there, and
Ctrl-C in an answer cancels the task that reads it. The session has kept what was said when that task ends.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from ..._llm import LLM
from ..._serving.switch import LLMSwitch
from ..._sessions import Session
from ..._stream import LLMStream
from ...exceptions import InvalidRequestError, LLMDispatcherError
from ...tasks import AudioPart, ImagePart, MediaSource, Message
from ..early_end import ending_early
from .keyboard import Keyboard
from .screen import Screen


class Settings(Struct, frozen=True):
    """The options of the requests of a chat."""

    model: str | None = None
    system: str | None = None
    tools: tuple[Any, ...] = ()


class Asked(Struct, frozen=True):
    """A message of the user."""

    words: str
    images: tuple[MediaSource, ...] = ()
    audio: tuple[MediaSource, ...] = ()

    @classmethod
    def of(cls, message: Message) -> Asked:
        """The message of a turn, so that it can be sent again."""
        images = tuple(part.source for part in message.parts if isinstance(part, ImagePart))
        audio = tuple(part.source for part in message.parts if isinstance(part, AudioPart))
        return cls(message.text, images, audio)


class Chat:
    """A session, with how it is shown and where it is saved. `images` are sent with the next message."""

    def __init__(
        self,
        llm: LLM,
        settings: Settings,
        switch: LLMSwitch,
        runner: asyncio.Runner,
        screen: Screen,
        keyboard: Keyboard,
    ) -> None:
        """Begin a session.

        Args:
            llm: What answers.
            settings: Its options that commands change.
            switch: The switch that it uses.
            runner: The event loop of all answers.
            screen: Where they are shown.
            keyboard: Where messages come from.
        """
        self.switch: Final = switch
        self.screen: Final = screen
        self.keyboard: Final = keyboard
        self.session = Session(llm)
        self.settings = settings
        self.images: list[MediaSource] = []
        self.file: Path | None = None
        self._failed: Asked | None = None
        self._runner: Final = runner
        self.set(settings)

    def set(self, settings: Settings) -> None:
        """Use these settings from now on."""
        self.session.llm = self.session.llm.with_options(
            model=settings.model, system=settings.system, tools=settings.tools
        )
        self.settings = settings

    # ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────

    def say(self, words: str) -> None:
        """Send a message with the images that wait for one, and show the answer.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed, and the input is no terminal.
            LLMDispatcherError: The message cannot be sent, or there is no complete answer.
        """
        images, self.images = self.images, []
        self._say(Asked(words, tuple(images)))

    def retry(self) -> None:
        """Send the last message again, and take its answer back if there is one. See `say`."""
        if self._failed is not None:
            return self._say(self._failed)
        try:
            (turn, *_) = self.session.rewind(1)
        except ValueError:
            raise InvalidRequestError("there is no message to send again") from None
        return self._say(Asked.of(turn.messages[0]))

    def _say(self, asked: Asked) -> None:
        before = len(self.session.turns)
        self._failed = asked  # until its turn has joined the session
        try:
            try:
                stream = self.session.stream(asked.words, images=asked.images, audio=asked.audio)
            except (TypeError, ValueError) as error:
                raise InvalidRequestError(str(error)) from error
            self._runner.run(self._answer(stream))
        except KeyboardInterrupt:
            if not self.keyboard.is_terminal:
                raise
            is_kept = len(self.session.turns) > before
            self.screen.remark("stopped; " + ("the answer so far is kept" if is_kept else "nothing of it is kept"))
        finally:
            if len(self.session.turns) > before:
                self._failed = None
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

    # ── the history and its file ───────────────────────────────────────────────────────────────────────────────────

    def history_changed(self) -> None:
        """Save the session after a command that went elsewhere in it. A message that had failed is forgotten."""
        self._failed = None
        self.save()

    def save(self) -> None:
        """Write the session to its file, if it has one."""
        if self.file is not None:
            self.session.save(self.file)

    def load(self, file: Path) -> None:
        """Go on with the session in a file. From now on, it is saved there.

        Raises:
            SessionFormatError, OSError: It cannot be read. The chat goes on as it was.
        """
        self.session = Session.load(file, self.session.llm)
        self.file, self._failed = file, None
        self.keyboard.recall(turn.messages[0].text for turn in self.session.turns if turn.begins)
        branch = self.session.current_branch
        self.screen.remark(f"{len(self.session)} messages from {file}, on the branch {branch}")
