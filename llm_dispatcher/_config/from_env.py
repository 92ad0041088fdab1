"""Settings from the environment: `LLM_DISPATCHER_…` variables as a layer, and `${VAR}` in a layer's texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from .._hints import did_you_mean, nearest_or_all
from .._policy import is_offline
from .layers import Layer
from .models import Settings
from .problems import Problem
from .schema import types_at
from .tree import KeyPath, Tree, leaves, over, with_leaves

PREFIX: Final = "LLM_DISPATCHER_"
_DELIMITER: Final = "__"
_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^}\n]*)\}?")
_WRITTEN: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class _Variables(Settings, BaseSettings):
    """The settings under the names that they have in the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=_DELIMITER)


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """The variables that are settings, e.g. `LLM_DISPATCHER_RESILIENCE__MAX_RETRIES`; lists and mappings are JSON.

    They are read one at a time, so that each value is known by its variable and each mistake is told.
    """
    tree: Tree = {}
    variables: dict[KeyPath, str] = {}
    problems: list[Problem] = []
    source = EnvSettingsSource(_Variables)
    for variable, value in environ.items():
        if not value or not _is_setting(variable):
            continue
        source.env_vars = {variable.lower(): value}
        try:
            read: Tree = source()
        except SettingsError:
            problems.append(Problem((), "must be JSON: it holds a list or a mapping", variable=variable))
            continue
        if not read:
            problems.append(_unknown(variable))
        tree = over(read, tree)
        variables |= {path: variable for path, _ in leaves(read)}
    typed = with_leaves(tree, lambda value, path: meant(value, path) if isinstance(value, str) else value)
    return Layer(tree=typed, variables=variables, problems=problems)


def interpolated(layer: Layer, environ: Mapping[str, str]) -> Layer:
    """The layer with `${VAR}` and `${VAR:-default}` replaced; `$${` stands for `${`.

    What comes out is text that takes the type of its key, so that `max_retries: ${RETRIES:-3}` is a number.
    """
    problems: list[Problem] = []

    def filled(value: object, path: KeyPath) -> object:
        if not isinstance(value, str) or "${" not in value:
            return value
        wrong: list[str] = []
        nowhere = path[-1:] == ("base_url",) and is_offline(environ)
        text = _REFERENCE.sub(lambda found: _value(found, environ, wrong, nowhere=nowhere), value)
        if wrong:
            problems.append(layer.located(Problem(path, "; ".join(dict.fromkeys(wrong)))))
        return None if wrong else meant(text, path)

    tree = with_leaves(layer.tree, filled)
    return replace(layer, tree=tree, unset=problems)


def meant(text: str, path: KeyPath) -> object:
    """Text as the type that its key takes; what cannot be read so stays text and is refused as such later."""
    types = types_at(path)
    if not types or "string" in types:
        return text
    word = text.strip().lower()
    if "null" in types and word in ("null", "none", "~"):
        return None
    if "boolean" in types and word in ("true", "false", "yes", "no", "on", "off", "1", "0"):
        return word in ("true", "yes", "on", "1")
    for type_name, read in (("integer", int), ("number", float)):
        if type_name in types:
            try:
                return read(word)
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
    sections = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    section, _, rest = variable.upper().partition(_DELIMITER)
    for name in sections:
        if not rest and section.startswith(f"{name}_"):
            whole = f"{name}{_DELIMITER}{section.removeprefix(f'{name}_')}"
            return Problem((), f"unknown setting; did you mean {whole!r}?", variable=variable)
    return Problem((), f"unknown setting{nearest_or_all(section, sections)}", variable=variable)


def _value(reference: re.Match[str], environ: Mapping[str, str], wrong: list[str], *, nowhere: bool) -> str:
    """What stands for a reference. Where nothing is sent, an address that is not known is one that leads `nowhere`."""
    if reference[0] == "$${":
        return "${"
    written = _WRITTEN.fullmatch(reference[1])
    if written is None or not reference[0].endswith("}"):
        wrong.append("a variable is written ${NAME} or ${NAME:-default}; $${ stands for a plain ${")
        return ""
    name, default = written.groups()
    value = environ.get(name)
    if default is not None:
        return value or default
    if value is None and nowhere:
        return "offline.invalid" if reference.start() else "http://offline.invalid"
    if value is None:
        # Only a slip of the finger is worth a hint: one vendor's variable is rather like another's.
        hint = did_you_mean(name, environ, likeness=0.9) or f" (${{{name}:-…}} gives it a default)"
        wrong.append(f"the environment variable {name} is not set{hint}")
        return ""
    return value
