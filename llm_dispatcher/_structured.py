"""`ObjectStream`: a stream whose answer is an object of a known type."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast, overload

from ._stream import LLMStream, ObjectReading

T = TypeVar("T")
Item = TypeVar("Item")


class ObjectStream(LLMStream[str], Generic[T]):
    """An answer that is an object of the type `T`. It is read like any stream, or as the object:

    - `invoice = await stream.parsed()`: the object. `stream.parse()` is the same for a thread that may block.
    - `async for partial in stream.partials()`: the object as far as it is complete, as plain data.
    - `async for item in stream.items()`: the items of a list, each when it is complete.

    What the methods do and raise is described at `LLMStream`.
    """

    __slots__ = ()

    async def parsed(self) -> T:
        """The object in the answer, checked."""
        return cast(T, await super().parsed())

    def parse(self) -> T:
        """`parsed()` for a thread that may block."""
        return cast(T, super().parse())

    @overload
    def items(self: ObjectStream[list[Item]]) -> ObjectReading[Item]: ...
    @overload
    def items(self) -> ObjectReading[Any]: ...
    def items(self) -> ObjectReading[Any]:
        """The items of the list in the answer, each when it is complete."""
        return super().items()
