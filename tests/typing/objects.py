"""Read by mypy and pyright in strict mode, never run: what the types of objects are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict, assert_type

from msgspec import Struct
from pydantic import BaseModel

from llm_dispatcher import LLM, LLMStream, ObjectStream, Session, TaskRequest, llm_stream


class Invoice(BaseModel):
    total: float


class Row(TypedDict):
    name: str


@dataclass
class Point:
    x: int


class City(Struct):
    name: str


async def one() -> None:
    stream = LLM("openai/m", temperature=0.0).into(Invoice)("Read it.", max_tokens=100)
    assert_type(stream, ObjectStream[Invoice])
    assert_type(await stream.parsed(), Invoice)
    assert_type(stream.parse(), Invoice)
    assert_type(await LLM().into(Point)("x").parsed(), Point)
    assert_type(await LLM().into(City)("x").parsed(), City)
    assert_type(await LLM().into(Row)("x").parsed(), Row)
    async for partial in stream.partials():
        assert_type(partial, Any)
    async for chunk in stream:
        assert_type(chunk, str)
    plain: LLMStream[str] = stream
    assert_type(await plain, str)


async def other_annotations() -> None:
    assert_type(LLM().into(Literal["yes", "no"])("x"), ObjectStream[Any])
    assert_type(await LLM().into(Invoice | None)("x").parsed(), Any)
    assert_type(LLM().into(dict[str, int])("x").parse(), dict[str, int])
    assert_type(Session().into(Literal["yes", "no"]).stream("x"), ObjectStream[Any])


async def several() -> None:
    stream = LLM().into(list[Invoice]).stream(TaskRequest("x"))
    assert_type(stream, ObjectStream[list[Invoice]])
    assert_type(await stream.parsed(), list[Invoice])
    async for item in stream.items():
        assert_type(item, Invoice)
    for item in stream.items():
        assert_type(item, Invoice)
    async for row in LLM().into(list[Row])("x").items():
        assert_type(row["name"], str)


@llm_stream(response_format=Invoice)
async def read(scan: str) -> str:
    return f"Read {scan}."


async def plain() -> None:
    assert_type(await read("a").parsed(), Any)
    assert_type(LLM(response_format=list[Point])("x").parse(), Any)
    async for item in LLM(response_format={"type": "json_object"})("x").items():
        assert_type(item, Any)
