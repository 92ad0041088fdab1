"""`Answer`: what is known of the object in one stream's answer."""

from __future__ import annotations

from typing import Any

from .._answer_schema import AnswerSchema


class Answer:
    """The schema of an answer that is read as an object, and the object when the answer is complete.

    The stage that checks the answer writes to it before it lets `StreamCompleted` pass. Readers read it after that.
    """

    __slots__ = ("schema", "text", "value")

    def __init__(self, schema: AnswerSchema) -> None:
        self.schema: AnswerSchema = schema
        self.value: Any = None
        """The object that the schema's type makes of the text."""
        self.text: str = ""
        """The text of the last turn, which is the answer."""
