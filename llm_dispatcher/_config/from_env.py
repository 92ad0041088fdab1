"""The layer of the `LLM_DISPATCHER_…` variables, and `${VAR}` in the texts of other layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from .._hints import did_you_mean, nearest_or_all
from .._policy import is_offline
from .layers import Layer, Tree, deep_merge, leaves, with_leaves
from .models import Settings
from .problems import KeyPath, Problem
from .schema import types_at

PREFIX: Final = "LLM_DISPATCHER_"
_DELIMITER: Final = "__"
_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^}\n]*)\}?")
_INSIDE_BRACES: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class _Variables(Settings, BaseSettings):
    """The settings with the names that they have in the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=_DELIMITER)


class _OneVariable(EnvSettingsSource):
    """A source of settings that holds one variable (docs/decisions/0032).

    Sources are read one variable at a time, so that each value and each mistake can be traced to its variable.
    """

    def __init__(self, name: str, value: str) -> None:
        self._variable = {name.lower(): value}
        super().__init__(_Variables)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variable


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """The variables that are settings, such as `LLM_DISPATCHER_RESILIENCE__MAX_RETRIES`.

    Lists and mappings are written as JSON. Unknown names and invalid JSON are problems of the layer.
    """
    tree: Tree = {}
    variables: dict[KeyPath, str] = {}
    problems: list[Problem] = []
    for variable, value in environ.items():
        if not value or not _is_setting(variable):
            continue
        try:
            setting: Tree = _OneVariable(variable, value)()
        except SettingsError:
            problems.append(Problem((), "must be JSON: it holds a list or a mapping", variable=variable))
            continue
        if not setting:
            problems.append(_unknown(variable))
        tree = deep_merge(setting, tree)
        variables |= {path: variable for path, _ in leaves(setting)}
    typed = with_leaves(tree, lambda value, path: coerce(value, path) if isinstance(value, str) else value)
    return Layer(tree=typed, variables=variables, problems=problems)


def interpolated(layer: Layer, environ: Mapping[str, str]) -> Layer:
    """The layer with `${VAR}` and `${VAR:-default}` replaced by values, and `$${` by `${`.

    The result takes the type of its key, so that `max_retries: ${RETRIES:-3}` is a number.
    """
    problems: list[Problem] = []

    def interpolate(value: object, path: KeyPath) -> object:
        if not isinstance(value, str) or "${" not in value:
            return value
        mistakes: list[str] = []
        is_unused = path[-1:] == ("base_url",) and is_offline(environ)
        text = _REFERENCE.sub(lambda match: _value(match, environ, mistakes, is_unused=is_unused), value)
        if mistakes:
            problems.append(layer.located(Problem(path, "; ".join(dict.fromkeys(mistakes)))))
        return None if mistakes else coerce(text, path)

    tree = with_leaves(layer.tree, interpolate)
    return replace(layer, tree=tree, unset=problems)


def coerce(text: str, path: KeyPath) -> object:
    """Text as the type of its key. Text that cannot be converted stays text, and the validation refuses it later."""
    types = types_at(path)
    if not types or "string" in types:
        return text
    word = text.strip().lower()
    if "null" in types and word in ("null", "none", "~"):
        return None
    if "boolean" in types and word in ("true", "false", "yes", "no", "on", "off", "1", "0"):
        return word in ("true", "yes", "on", "1")
    for type_name, convert in (("integer", int), ("number", float)):
        if type_name in types:
            try:
                return convert(word)
            except ValueError:
                pass
    return text


def _is_setting(variable: str) -> bool:
    """Whether a variable is meant as a setting: it has the delimiter, or begins with a section's name."""
    name = variable.upper()
    if not name.startswith(PREFIX):
        return False
    rest = name.removeprefix(PREFIX)
    return _DELIMITER in rest or rest.startswith(tuple(section.upper() for section in Settings.model_fields))


def _unknown(variable: str) -> Problem:
    """The problem of a variable whose section does not exist, or whose delimiter is one underscore instead of two."""
    sections = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    section, _, rest = variable.upper().partition(_DELIMITER)
    for name in sections:
        if not rest and section.startswith(f"{name}_"):
            whole = f"{name}{_DELIMITER}{section.removeprefix(f'{name}_')}"
            return Problem((), f"unknown setting; did you mean {whole!r}?", variable=variable)
    return Problem((), f"unknown setting{nearest_or_all(section, sections)}", variable=variable)


def _value(reference: re.Match[str], environ: Mapping[str, str], mistakes: list[str], *, is_unused: bool) -> str:
    """The text that replaces a reference. `is_unused`: no request is sent, so an unset address may be a placeholder."""
    if reference[0] == "$${":
        return "${"
    inside = _INSIDE_BRACES.fullmatch(reference[1])
    if inside is None or not reference[0].endswith("}"):
        mistakes.append("a variable is written ${NAME} or ${NAME:-default}; $${ stands for a plain ${")
        return ""
    name, default = inside.groups()
    value = environ.get(name)
    if default is not None:
        return value or default
    if value is None and is_unused:
        return "offline.invalid" if reference.start() else "http://offline.invalid"
    if value is None:
        # The likeness is high, because the variables of two vendors resemble each other.
        hint = did_you_mean(name, environ, likeness=0.9) or f" (${{{name}:-…}} gives it a default)"
        mistakes.append(f"the environment variable {name} is not set{hint}")
        return ""
    return value
