"""Configuration: one frozen `Policy` from arguments, the environment and a YAML file.

    from_yaml · from_mapping · from_env · addresses    one `Layer` from each source
    layers · problems                                  the tree of a source, and its problems
    models · text_types · schema                       the settings: keys, types and bounds
    validation · checks · key_exposure                 all problems of all layers together
    api_keys · build                                   the policy
    loading                                            all of this, in order
    files                                              where the file is, and whether it has changed
    dump                                               a policy in the shape of the file
    function_tools · tool_docs                         functions as tools, by their annotations and docstrings
    answer_types                                       the types of answers: their schemas, and values of them

Other packages import what this file names. It is light: pydantic and YAML are loaded with the first configuration.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .._answer_schema import AnswerSchema
from .._policy import Policy
from ..tasks import Tool
from .dump import identity as identity
from .files import WatchedFile as WatchedFile

__all__ = [
    "WatchedFile",
    "answer_of",
    "config_dump",
    "config_schema",
    "identity",
    "line_of",
    "load",
    "tool_of",
]


def load(
    config: Mapping[str, Any] | str | os.PathLike[str] | Policy | None = None,
    *,
    keys: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    is_found: bool = False,
) -> Policy:
    """Load a policy from a mapping, a YAML file or the environment.

    Arguments win over `LLM_DISPATCHER_…` variables, variables over YAML, and YAML over the defaults. Every vendor whose
    key is in the environment is used if nothing is configured.

    Args:
        config: A mapping, the path of a YAML file, or a policy that is already built. By default the file that
            `LLM_DISPATCHER_CONFIG` names, else `llm_dispatcher.yaml` in the working folder, else in the user's config
            folder.
        keys: API keys by kind of vendor. They win over all other keys.
        environ: The environment; by default that of the process.
        is_found: Whether the file `config` was only found in the working folder when it was first read. Such a file
            must not send a key or a variable of the environment to its own address, unless
            `LLM_DISPATCHER_TRUST_CONFIG` names it.

    Raises:
        ConfigurationError: The configuration is wrong. The error lists all problems.
        TypeError: An argument has a wrong type.
    """
    from .loading import load_policy

    return load_policy(config, keys=keys or {}, environ=os.environ if environ is None else environ, is_found=is_found)


def line_of(file: str, key: str) -> int | None:
    """The line of a key in a configuration file, else of the nearest key above it."""
    from .from_yaml import line_of

    return line_of(file, key)


def config_schema() -> dict[str, Any]:
    """The JSON schema of `llm_dispatcher.yaml`, for editors."""
    from .schema import schema

    return schema()


def config_dump(policy: Policy) -> dict[str, object]:
    """All settings of a policy, in the shape of `llm_dispatcher.yaml`. Secrets are masked."""
    from .dump import dump

    return dump(policy)


def tool_of(function: object, context: type) -> Tool:
    """The tool that a function is. `context` is the type of the parameter that gets the context of a run.

    Raises:
        TypeError: The function cannot be a tool.
        ValueError: No vendor takes its name.
    """
    from .function_tools import tool_of

    return tool_of(function, context)


def answer_of(kind: Any) -> AnswerSchema:
    """The JSON schema of a type, which makes values of that type.

    Raises:
        TypeError: The type cannot be an answer.
    """
    from .answer_types import answer_of

    return answer_of(kind)
