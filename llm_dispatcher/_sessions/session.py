"""`Session`: a conversation with memory.

Theory of operation
-------------------
- **State.** `_state` has the history, what stores it, and who may change it: the stream that is being read, and nobody
  else meanwhile. `add`, `branch`, `rewind` and the like are refused then.
- **Whole pairs.** The history changes in memory only at the end of a stream, in one step and without a wait. Requests
  are made of whole conversations, in which each call has its result.
- **Storing.** A stream stores what is new when it begins and when it ends; `flush` does so in between. What cannot be
  stored stays in memory and goes with the next write.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack, overload

from .. import _clock
from .. import _media as media
from .._llm import LLM, ask, followed, plan_for
from .._policy import Affinity
from .._serving.options import CallOptions, RequestOptions, RouteOptions, StreamOptions, documented
from .._stream import LLMStream
from ..tasks import MediaSource, Message, Part, Role, TaskRequest
from .checks import check_words, count, name_of
from .files import read_file, write_file
from .objects import ObjectSession
from .opening import SessionOpening
from .options import SessionOptions
from .reading import read_session
from .requests import loaded, request_for, said_before
from .state import State
from .stores import SessionStore, check_store
from .trimming import Summarize, check_summarize, trim, trim_to_maximum
from .turns import SessionTurn, check_parts, check_results, split

if TYPE_CHECKING:
    from .._routing import Plan

T = TypeVar("T")
AnyStream = TypeVar("AnyStream", bound="LLMStream[str]")


class Session:
    """A conversation. `session.stream(prompt)` answers with everything that was said before in mind.

    A turn joins the history when its stream ends. A session may be used from any thread and any event loop, by one
    reader at a time. `len(session)` is the number of its messages.
    """

    def __init__(
        self,
        llm: LLM | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the word for it
        messages: Sequence[Message | Mapping[str, Any]] = (),
        store: SessionStore | None = None,
        keep_partial: bool = True,
        max_history_tokens: int | None = None,
        max_history_turns: int | None = None,
        summarize: Summarize | None = None,
    ) -> None:
        """Begin a session.

        Args:
            llm: The `LLM` that answers. It may be replaced between two turns: `session.llm = …`.
            id: The name of the session in its store; a new one by default. Vendors never get it.
            messages: What was said before, as `Message`s or as OpenAI's dicts. Files are read at once.
            store: Where the session is stored; `None` for the memory only.
            keep_partial: Whether the turn of an answer that broke, or that its reader left, is kept. Otherwise the
                user's message is dropped with it.
            max_history_tokens: Before a request, old turns are trimmed until about so many tokens are left.
            max_history_turns: The same in turns of the user.
            summarize: A function, or a coroutine function, that gets the messages that are trimmed, and returns a
                text for their place. With it, an automatic trim keeps half of the maximum, so that it runs seldom.

        Raises:
            TypeError, ValueError: An argument has a wrong type or value.
            InvalidRequestError: An image or a sound cannot be read.
        """
        if llm is not None and not isinstance(llm, LLM):
            raise TypeError(f"a session needs an LLM, got {type(llm).__name__}; write Session(LLM(…))")
        check_store(store)
        self.llm: LLM = LLM() if llm is None else llm
        self.keep_partial: bool = keep_partial
        self.max_history_tokens: int | None = count("max_history_tokens", max_history_tokens)
        self.max_history_turns: int | None = count("max_history_turns", max_history_turns)
        self.summarize: Summarize | None = check_summarize(summarize)
        self._state: Final = State(_clock.hex_id(16) if id is None else name_of("the id of a session", id), store)
        for group in split(said_before(messages)):
            self._state.history.add(group, "added")

    # ── knowledge ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def id(self) -> str:
        """The name of the session in its store."""
        return self._state.id

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation of the current branch, ready for a request: each call in it has its result."""
        self._state.claims.take_in_left()
        return self._state.history.messages

    @property
    def turns(self) -> tuple[SessionTurn, ...]:
        """The turns of the current branch, with their states."""
        self._state.claims.take_in_left()
        return self._state.history.turns

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of all branches. A session begins with `main`."""
        return tuple(self._state.history.branches)

    @property
    def current_branch(self) -> str:
        """The name of the branch that the next turn joins."""
        return self._state.history.branch

    @property
    def affinity(self) -> Affinity | None:
        """Where the conversation has been: the target that answered last, and what vendors have cached of it."""
        return self._state.affinity

    def __len__(self) -> int:
        return len(self.messages)

    def __bool__(self) -> bool:
        return True  # a session without messages is a session

    def __repr__(self) -> str:
        stored = "" if self._state.store is None else f", in {self._state.store!r}"
        return f"<Session {self._state.id!r}, {len(self)} messages on the branch {self.current_branch!r}{stored}>"

    def __reduce__(self) -> Any:
        raise TypeError("a Session cannot be copied or pickled: write it with save(path), and read it with load(path)")

    # ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @documented(RequestOptions, RouteOptions, CallOptions)
    def stream(
        self,
        prompt: str | None = None,
        /,
        *,
        images: MediaSource | Sequence[MediaSource] = (),
        audio: MediaSource | Sequence[MediaSource] = (),
        **options: Unpack[StreamOptions],
    ) -> LLMStream[str]:
        """The next turn: a stream of the answer. Nothing is sent before it is read.

        The request is made of the history at the moment in which the stream is read. When it ends, the turn joins the
        history, and is stored. A turn without any answer is dropped, so that the prompt can be sent again.

        Args:
            prompt: What the user says. Without a prompt, the model answers what was added, such as a tool's result.
            images: Images to send with the prompt: paths, bytes, data URIs, addresses or PIL images.
            audio: Sounds to send with the prompt.
            **options: Options for this turn alone; the same as those of `LLM`.

        Raises:
            TypeError, ValueError: An argument or an option has a wrong name, type or value.

        The stream itself may also raise:
            SessionBusyError: Another stream of this session is being read.
            SessionConflictError: Another process or object has stored the session meanwhile.
            SessionStoreError: The session could not be stored. The history in memory has the turn.
        """
        return self._begin(LLMStream, prompt, images, audio, options)

    @overload
    def into(self, kind: type[T], /) -> ObjectSession[T]: ...
    @overload  # an annotation such as `Literal["yes", "no"]` or `Invoice | None` is no `type[T]` to a type checker
    def into(self, kind: object, /) -> ObjectSession[Any]: ...
    def into(self, kind: Any, /) -> ObjectSession[Any]:
        """The same for objects: `invoice = await session.into(Invoice).stream("…").parsed()`. See `LLM.into`."""
        self.llm.into(kind)  # a wrong type is refused here
        return ObjectSession(self._begin, kind)

    def _begin(
        self, make: Callable[[SessionOpening], AnyStream], prompt: str | None, images: Any, audio: Any, options: Any
    ) -> AnyStream:
        check_words(prompt, options)
        llm = self.llm.with_options(**options) if options else self.llm
        request = partial(self._next_request, llm, ask(llm, prompt, images, audio))
        opening = SessionOpening(self, self._state, llm, request, keep_partial=self.keep_partial)
        opening.stream = stream = make(opening)
        return followed(llm, stream, opening.account)

    @documented(RequestOptions, RouteOptions, CallOptions)
    def explain(
        self,
        prompt: str | None = None,
        /,
        *,
        images: MediaSource | Sequence[MediaSource] = (),
        audio: MediaSource | Sequence[MediaSource] = (),
        **options: Unpack[StreamOptions],
    ) -> Plan:
        """Where `stream` with the same arguments would go, and why. Nothing is sent.

        Args:
            prompt: What the user says.
            images: Images of the prompt.
            audio: Sounds of the prompt.
            **options: Options for this turn.

        Raises:
            NoProviderAvailableError: No target can serve the request.
            EventLoopRunningError: An event loop runs here, and prices were not loaded: await `switch.warm()` once.
        """
        llm = self.llm.with_options(**options) if options else self.llm
        request, _ = request_for(llm, ask(llm, prompt, images, audio), self._state.history, self._state.cache_key)
        return plan_for(llm, request, self.affinity)

    async def _next_request(self, llm: LLM, asked: TaskRequest) -> tuple[TaskRequest, Message | None]:
        """The request of the next turn, and the user's message in it."""
        await self.flush()
        await trim_to_maximum(self._state.history, self.max_history_tokens, self.max_history_turns, self.summarize)
        if media.has_media(asked):
            asked = await asyncio.to_thread(media.load_media, asked)
        return request_for(llm, asked, self._state.history, self._state.cache_key)

    # ── changing the history ─────────────────────────────────────────────────────────────────────────────────────────

    def add(self, role: Role, content: str | Part | Iterable[str | Part], /) -> None:
        """Add a message that was said elsewhere. It is stored with the next turn, or by `flush`.

        Args:
            role: "system", "user", "assistant" or "tool".
            content: A text, a part, or several. The result of a tool is a `ToolResultPart`.

        Raises:
            TypeError, ValueError: The role or the content is wrong, or a result has no open call.
            InvalidRequestError: An image or a sound cannot be read.
            SessionBusyError: A stream of the session is being read.
        """
        self._state.claims.check("add")
        message = loaded((Message(role, content),))[0]
        check_parts((message,))
        check_results((*self._state.history.open_messages(), message))
        self._state.history.add((message,), "added")

    def branch(self, name: str, /) -> None:
        """Begin a new branch here, and go on there. The branch that was current stays as it is.

        Raises:
            ValueError: There is a branch of this name.
            SessionBusyError: A stream of the session is being read.
        """
        self._state.claims.check("branch")
        if name_of("the name of a branch", name) in self._state.history.branches:
            raise ValueError(f"there is a branch {name!r} already: go there with switch_to(), or choose another name")
        self._state.history.fork(name)

    def switch_to(self, name: str, /) -> None:
        """Go on in another branch.

        Raises:
            ValueError: There is no branch of this name.
            SessionBusyError: A stream of the session is being read.
        """
        self._state.claims.check("switch_to")
        self._check_branch(name)
        self._state.history.branch = name

    def delete_branch(self, name: str, /) -> None:
        """Remove a branch, and the turns that no other branch has.

        Raises:
            ValueError: There is no branch of this name, or it is the current one.
            SessionBusyError: A stream of the session is being read.
        """
        self._state.claims.check("delete_branch")
        self._check_branch(name)
        if name == self._state.history.branch:
            raise ValueError(f"{name!r} is the current branch: go to another one first, with switch_to()")
        self._state.history.drop(name)

    def rewind(self, turns: int = 1, /) -> tuple[SessionTurn, ...]:
        """Take back the last turns of the user in the current branch, with all that followed them, and return them.

        Raises:
            ValueError: There are not so many.
            SessionBusyError: A stream of the session is being read.
        """
        self._state.claims.check("rewind")
        count("the number of turns to rewind", turns)
        begins = [place for place, turn in enumerate(self._state.history.turns) if turn.begins]
        if turns > len(begins):
            raise ValueError(f"the branch {self.current_branch!r} has {len(begins)} turns of the user, got {turns}")
        return self._state.history.cut(begins[-turns], len(self._state.history.turns))

    async def trim(self, *, tokens: int | None = None, turns: int | None = None) -> tuple[SessionTurn, ...]:
        """Take old turns out of the current branch, and return them.

        A leading system message and the last turn are kept, and a call is never parted from its result. If the session
        has a `summarize`, its text takes the place of the trimmed turns.

        Args:
            tokens: About how many tokens may be left: one for four bytes of text, 1000 for an image or a sound.
            turns: How many turns of the user may be left.

        Raises:
            TypeError, ValueError: Neither is set, or a number is wrong.
            SessionBusyError: A stream of the session is being read.
        """
        if tokens is None and turns is None:
            raise TypeError("trim needs tokens= or turns=")
        count("tokens", tokens)
        count("turns", turns)
        async with self._state.claims.held("trim"):
            return await trim(self._state.history, tokens, turns, self.summarize)

    # ── saving ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, path: str | os.PathLike[str], /) -> None:
        """Write the session to a file, as JSON with a version. The file is replaced as a whole.

        Raises:
            OSError: The file cannot be written.
        """
        self._state.claims.take_in_left()
        write_file(path, self._state.history.file(self._state.id))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        llm: LLM | None = None,
        *,
        store: SessionStore | None = None,
        **options: Unpack[SessionOptions],
    ) -> Self:
        """Read a session from a file that `save` has written.

        Args:
            path: The file.
            llm: The `LLM` that answers.
            store: Where the session is stored from now on. It must not have a session of the same id.
            **options: Options of the session: `keep_partial`, `max_history_tokens`, `max_history_turns`, `summarize`.

        Raises:
            SessionFormatError: The file is damaged, is no session, or has another version.
            OSError: It cannot be read.
        """
        file = read_file(path)
        session = cls(llm, id=file.session.id, store=store, **options)
        session._state.adopt(file.session, file.turns, f"the file {str(path)!r}", keep_partial=session.keep_partial)
        return session

    @classmethod
    async def open(
        cls,
        id: str,  # noqa: A002 - the word for it
        llm: LLM | None = None,
        store: SessionStore | None = None,
        **options: Unpack[SessionOptions],
    ) -> Self:
        """Go on with a stored session. Without one of this id, it is a new session.

        Args:
            id: The id of the session.
            llm: The `LLM` that answers.
            store: The store.
            **options: Options of the session: `keep_partial`, `max_history_tokens`, `max_history_turns`, `summarize`.

        Raises:
            TypeError: There is no store.
            SessionStoreError: The store could not be read.
            SessionFormatError: The session is damaged, or has another version.
        """
        if store is None:
            raise TypeError("Session.open needs the store of the session: Session.open(id, llm, store)")
        session = cls(llm, id=id, store=store, **options)
        where = f"the session {id!r}"
        if (found := await read_session(store, id, where)) is not None:
            session._state.adopt(found.head, found.turns, where, found.revision, keep_partial=session.keep_partial)
        return session

    async def flush(self) -> None:
        """Store what is not stored yet, such as what `add`, `branch` and `rewind` have changed.

        A stream does this when it begins and when it ends. It waits for a write that is under way. A write that has
        begun goes on if the caller is cancelled.

        Raises:
            SessionStoreError: The store failed; its own exception is the cause.
        """
        self._state.claims.take_in_left()
        await self._state.flush()

    def _check_branch(self, name: str) -> None:
        if name not in self._state.history.branches:
            raise ValueError(f"there is no branch {name!r}; there are {', '.join(self._state.history.branches)}")
