"""Configuration: from arguments, the environment and YAML to one frozen `Policy`.

This package is light: pydantic and YAML are loaded when the first configuration is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .._policy import Policy

__all__ = ["config_reference", "config_schema", "config_shown", "load"]


def load(
    config: Mapping[str, Any] | str | os.PathLike[str] | Policy | None = None,
    *,
    keys: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    is_found: bool = False,
) -> Policy:
    """The policy that a mapping, a YAML file or the environment describes.

    Arguments win over `LLM_DISPATCHER_…` variables, these over YAML, and YAML over the defaults. With no `config`, the
    file is the one that `LLM_DISPATCHER_CONFIG` names, else `llm_dispatcher.yaml` in the working folder, else in the
    user's config folder; with none of these, every vendor whose key is in the environment is used. `keys` are API keys
    by kind of vendor, and win over all others. A `ConfigurationError` tells every problem at once.

    A file that was merely found in the working folder sends no key and no variable of the environment to an address of
    its own, unless `LLM_DISPATCHER_TRUST_CONFIG` names it. With `is_found`, so is the file `config` treated: it is
    such a file, read again.
    """
    from .loading import load_policy

    return load_policy(config, keys=keys or {}, environ=os.environ if environ is None else environ, is_found=is_found)


def config_schema() -> dict[str, Any]:
    """The JSON schema of `llm_dispatcher.yaml`, for editors."""
    from .schema import schema

    return schema()


def config_reference() -> str:
    """The reference of `llm_dispatcher.yaml`, as Markdown."""
    from .reference import reference

    return reference()


def config_shown(policy: Policy) -> dict[str, object]:
    """A policy in the shape of `llm_dispatcher.yaml`, every setting that is in force and nothing that is secret."""
    from .dump import shown

    return shown(policy)
