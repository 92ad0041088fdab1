"""`AnswerSchema`: a JSON schema that knows the Python type that it describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self


class AnswerSchema(dict[str, Any]):
    """A JSON schema that knows the type that it describes, and how to make a value of that type.

    It is a plain dict for everything that sends or compares it. Until `llm_dispatcher._serving.preparing` has resolved
    it, before anything is planned, it cannot parse, and the schema of a type that is not a pydantic model is empty.
    """

    def __init__(
        self,
        schema: Mapping[str, Any],
        kind: Any = None,
        *,
        parse: Callable[[str], Any] | None = None,
        item_parse: Callable[[str], Any] | None = None,
        item_key: str | None = None,
        is_wrapped: bool = False,
        may_instruct: bool = False,
    ) -> None:
        """Remember a schema.

        Args:
            schema: The JSON schema that vendors get.
            kind: The type of the answer; `None` for a schema that was passed as a dict.
            parse: Makes a value of the whole JSON text; raises a `ValueError` that says what is wrong.
            item_parse: The same for one item of the list that `stream.items()` gives.
            item_key: The key of that list in the answer. `None` if the answer has no such list.
            is_wrapped: Whether the type is a list, which vendors get as an object with the one key `items`.
            may_instruct: Whether a target that cannot enforce a schema may be told it in words.
        """
        super().__init__(schema)
        self.kind = kind
        self.parse = parse
        self.item_parse = item_parse
        self.item_key = item_key
        self.is_wrapped = is_wrapped
        self.may_instruct = may_instruct

    @property
    def is_resolved(self) -> bool:
        """Whether the schema was made and its type can be parsed."""
        return self.parse is not None

    def with_words(self) -> Self:
        """A copy that may be told in words to a target that cannot enforce it."""
        return type(self)(
            self,
            self.kind,
            parse=self.parse,
            item_parse=self.item_parse,
            item_key=self.item_key,
            is_wrapped=self.is_wrapped,
            may_instruct=True,
        )
