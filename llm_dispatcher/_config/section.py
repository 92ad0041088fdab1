"""What the sections of the configuration share: how a section is read, and the types of single values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from . import text_types as texts

T = TypeVar("T")
S = TypeVar("S", bound="Section")


class Section(BaseModel):
    """A mapping with known keys. An empty section (`resilience:` and nothing below it) has its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return {} if value is None else value


def empty(section: type[S]) -> Callable[[], S]:
    """Makes the section of a file that does not have it."""
    return lambda: section.model_validate({})


def _none_is_empty(value: object) -> object:
    return {} if value is None else value


Bool: TypeAlias = Annotated[bool, Field(strict=True)]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=10**12)]
Dollars: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=1_000_000, allow_inf_nan=False)]
Share: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=1_000_000, allow_inf_nan=False)]
Text: TypeAlias = Annotated[str, Field(min_length=1)]
Name: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(texts.printable)]
Seconds: TypeAlias = Annotated[float, Field(strict=True, gt=0, le=86_400, allow_inf_nan=False)]
Wait: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=3_600, allow_inf_nan=False)]
OrEmpty: TypeAlias = Annotated[T, BeforeValidator(_none_is_empty)]
"""A mapping; a key without a value is an empty one."""
