"""The reasons why Google refuses a conversation, in its own words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from .._received import ReceivedRequest
from .._script import Wire
from .frames import Rejection
from .signatures import UNCHECKED, is_base64, is_foreign
from .turns import inside, objects

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_WITHOUT_SIGNATURES: Final = re.compile(r"gemini-[12]|(?!gemini-)")

Part = dict[str, Any]


def objection(request: ReceivedRequest) -> Rejection | None:
    """The reason why the service refuses the functions or the contents, or `None`."""
    contents = [(content.get("role", "user"), list(objects(content.get("parts")))) for content in _contents(request)]
    reasons = (*_of_functions(request.body), *_of_parts(contents), *_of_pairs(contents))
    reason = next(iter(reasons), None)
    if reason is None and not _WITHOUT_SIGNATURES.match(request.model):
        reason = _of_signatures(contents)
    return None if reason is None else Rejection(400, reason)


def _contents(request: ReceivedRequest) -> Iterator[dict[str, Any]]:
    return objects(request.body.get("contents"))


def _of_functions(body: dict[str, Any]) -> Iterator[str]:
    names: list[str] = []
    for number, tool in enumerate(objects(body.get("tools"))):
        for place, function in enumerate(objects(tool.get("functionDeclarations"))):
            name = str(function.get("name"))
            if not _NAME.fullmatch(name):
                yield (
                    f"The GenerateContentRequest proto is invalid:\n  * tools[{number}].function_declarations[{place}]."
                    "name: [FIELD_INVALID] Invalid function name. Must start with a letter or an underscore. Must be "
                    "a-z, A-Z, 0-9, or contain underscores (_), dots (.), colons (:), or dashes (-), with a maximum "
                    "length of 64."
                )
            if name in names:
                yield f"Duplicate function declaration found: {name}"
            names.append(name)


def _of_parts(contents: list[tuple[str, list[Part]]]) -> Iterator[str]:
    for number, (_, parts) in enumerate(contents):
        if not parts:
            yield f"* GenerateContentRequest.contents[{number}].parts: contents.parts must not be empty."
        for place, part in enumerate(parts):
            where = f"contents[{number}].parts[{place}]"
            for kind in ("function_call", "function_response"):
                inner = inside(part, "functionCall" if kind == "function_call" else "functionResponse")
                if inner and not inner.get("name"):
                    yield f"* GenerateContentRequest.{where}.{kind}.name: Name cannot be empty."
            signature = part.get("thoughtSignature")
            if signature is None:
                continue
            if not is_base64(signature):
                yield (
                    f"Invalid value at '{where}.thought_signature' (TYPE_BYTES), Base64 decoding failed for "
                    f'"{signature}"'
                )
            elif signature != UNCHECKED and is_foreign(Wire.GOOGLE, signature):
                yield "Corrupted thought signature."


def _of_pairs(contents: list[tuple[str, list[Part]]]) -> Iterator[str]:
    calls, before = 0, ""
    for number, (role, parts) in enumerate([*contents, ("", [])]):
        responses = sum("functionResponse" in part for part in parts)
        if calls and responses != calls and (number < len(contents) or before == "model"):
            yield (
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        if responses and not calls:
            yield "Please ensure that function response turn comes immediately after a function call turn."
        calls = sum("functionCall" in part for part in parts)
        if calls and before != "user":
            yield (
                "Please ensure that function call turn comes immediately after a user turn or after a function "
                "response turn."
            )
        before = role


def _of_signatures(contents: list[tuple[str, list[Part]]]) -> str | None:
    """In the turn under way, the first call of each step has a signature."""
    began = max(
        (place for place, (role, parts) in enumerate(contents) if role == "user" and _is_said(parts)), default=0
    )
    for number, (_, parts) in enumerate(contents[began:], began):
        first = next((part for part in parts if "functionCall" in part), None)
        if first is not None and not first.get("thoughtSignature"):
            name = inside(first, "functionCall").get("name")
            return (
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
                f"data, function call `default_api:{name}` , position {number + 1}. Please refer to "
                "https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            )
    return None


def _is_said(parts: list[Part]) -> bool:
    return any("functionResponse" not in part for part in parts)
