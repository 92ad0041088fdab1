"""The token ids of an answer: which requests have them, and what is kept of them while the answer is read."""

from __future__ import annotations

from typing import Final

from ...provider import TokenTrail
from ...tasks import TaskRequest
from ..base.encoding import has_media

SAMPLING: Final = frozenset(
    {
        "top_k",
        "min_p",
        "repetition_penalty",
        "logit_bias",
        "stop_token_ids",
        "ignore_eos",
        "priority",
        "cache_salt",
        "user",
    }
)
"""Extra parameters that the hosts' two interfaces take alike, so that a continuation is asked with them again."""

TEMPLATE: Final = frozenset({"chat_template", "chat_template_kwargs"})
"""Extra parameters that change the prompt alone. The ids of the prompt have their effect."""


class Trail(TokenTrail):
    """The ids of an answer, and the text that was yielded with them.

    `prompt` and `output` are of no use alone: before a host goes on from them, it is asked whether they make this text.
    """

    __slots__ = ("_waiting", "text")

    def __init__(
        self, family: str, prompt: list[int] | None, output: list[int] | None = None, text: list[str] | None = None
    ) -> None:
        super().__init__(family, prompt, output)
        self.text: Final[list[str]] = [] if text is None else text
        self._waiting: list[int] = []

    def add(self, ids: list[int], text: str) -> None:
        """Add what a chunk has, before its text is yielded. Ids without a text wait for the next text."""
        if not text:
            self._waiting += ids
            return
        if self._waiting:
            self.output.extend(self._waiting)
            self._waiting.clear()
        self.output.extend(ids)
        self.text.append(text)

    def branch(self) -> Trail:
        """A trail for an answer that goes on from this one."""
        prompt = None if self.prompt is None else list(self.prompt)
        return Trail(self.family, prompt, list(self.output), ["".join(self.text)])


def may_have_trail(request: TaskRequest) -> bool:
    """Whether an answer to a request can go on from its token ids.

    Media are not in the ids. Tool calls and schemas are the work of the chat interface, which a continuation by ids
    does not use. A host holds text back while it may be part of a stop sequence. An extra parameter may do anything.
    """
    return not (
        request.tools
        or request.response_format is not None
        or request.stop
        or not request.extra.keys() <= SAMPLING | TEMPLATE
        or has_media(request)
    )
