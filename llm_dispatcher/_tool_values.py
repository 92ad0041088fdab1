"""`Tool`: a function that a model may call, with its JSON schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import force_setattr

NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({"type": "object", "properties": {}})
"""The schema of a function without parameters."""

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What every vendor takes as the name of a tool."""


class _Positional(Struct, frozen=True):
    """The fields that may be passed by position."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = NO_PARAMETERS
    function: Callable[..., Any] | None = None


class Tool(_Positional, frozen=True, kw_only=True):
    """A function that a model may call. Most tools are plain functions: `LLM(tools=[weather])` makes their `Tool`s.

    Args:
        name: The name by which the model calls it.
        description: What it does and when to use it. The model reads this.
        parameters: A JSON schema of its arguments, which are an object.
        function: The function or coroutine function to call with the arguments. A plain function runs in a thread.
            Without a function, the calls are only reported.
        timeout: The most seconds that one run may take. Without one, the call's `tool_timeout` holds.
        strict: Whether the vendor has to guarantee that the arguments follow the schema.
        check: A function that checks the arguments and returns those that the function is called with. It raises a
            `ValueError` with a text for the model. Without one, the arguments are checked against `parameters`.
        takes_context: The name of the parameter that gets the `RunContext`. It is not in `parameters`.

    Raises:
        TypeError, ValueError: An argument is of the wrong type, or the schema is not that of an object.
    """

    timeout: float | None = None
    strict: bool | None = None
    check: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    takes_context: str | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            description: str = "",
            parameters: Mapping[str, Any] = NO_PARAMETERS,
            function: Callable[..., Any] | None = None,
            *,
            timeout: float | None = None,
            strict: bool | None = None,
            check: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
            takes_context: str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        name: object = self.name
        if callable(name):
            called = getattr(name, "__name__", "weather")
            raise TypeError(
                f"a Tool has a name first, got {called}(): a function is a tool by itself, as in tools=[{called}]; for "
                f"another name, write Tool('…', function={called})"
            )
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                "the name of a tool is 1 to 64 letters of ASCII, digits, _ and -, because vendors take no other, got "
                f"{name!r:.80}; write Tool(name, description, parameters, function)"
            )
        what = f"the tool {self.name!r}"
        described: object = self.description
        if not isinstance(described, str):
            raise TypeError(f"{what}: its description is a str, got {type(described).__name__}")
        if not isinstance(self.parameters, Mapping):
            raise TypeError(f"{what}: its parameters are a JSON schema as a dict, got {type(self.parameters).__name__}")
        if self.parameters.get("type", "object") != "object":
            raise ValueError(f"{what}: its parameters are the schema of an object, got {self.parameters['type']!r}")
        for name, function in (("function", self.function), ("check", self.check)):
            if function is not None and not callable(function):
                raise TypeError(f"{what}: its {name} is callable, got {type(function).__name__}")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"{what}: its timeout is more than 0 seconds, got {self.timeout}")
        force_setattr(self, "parameters", dict(self.parameters))

    @property
    def is_runnable(self) -> bool:
        """Whether it has a function, so that its calls run."""
        return self.function is not None

    def as_dict(self) -> dict[str, Any]:
        """The tool as vendors take it: a dict with its name, description and parameters."""
        described = {"description": self.description} if self.description else {}
        strict = {} if self.strict is None else {"strict": self.strict}
        return {"name": self.name, **described, "parameters": dict(self.parameters), **strict}


def name_of(tool: object) -> str | None:
    """The name of a tool; `None` for a vendor's own tool that has none."""
    if isinstance(tool, Tool):
        return tool.name
    if not isinstance(tool, Mapping):
        return None
    inner = tool.get("function", tool)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return name if isinstance(name, str) else None
