"""Writes docs/configuration.md from the settings: `python scripts/config_reference.py > docs/configuration.md`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any, Final

from llm_dispatcher._config.schema import alternatives, schema
from llm_dispatcher._vendors.table import FIRST_ROUTE, FIRST_TASK_ROUTES, VENDORS
from llm_dispatcher._vendors.vendor import Size
from llm_dispatcher.tasks import TaskType

INTRODUCTION: Final = """\
# Configuration

<!-- Written by `python scripts/config_reference.py`; a test compares this page with the settings. -->

With a vendor's key in the environment, no configuration is needed. Settings come from these places, the strongest
first:

1. arguments: `init({…})`, `LLMSwitch({…})`, `openai_api_key=…`;
2. the environment: `LLM_DISPATCHER_…` variables, and each vendor's own key variable;
3. one YAML file, the first of these: the file passed as an argument or with `--config`; the file that
   `LLM_DISPATCHER_CONFIG` names; `llm_dispatcher.yaml` in the working folder; the same name in the user's config folder
   (`$XDG_CONFIG_HOME/llm_dispatcher/` or `~/.config/llm_dispatcher/`; `%APPDATA%\\llm_dispatcher\\` on Windows);
4. the defaults below.

Mappings are merged key by key; lists and single values are replaced. The folder `config/` has policies to copy.

- `llm-dispatcher config check` reads the file and reports all problems at once: file, line, key, and the nearest valid
  name. In code, the problems are in a `ConfigurationError`; each entry of its `.problems` has `message`, `file`,
  `line`, `key` and `variable`.
- `llm-dispatcher config show` prints the settings in force, from all places together, without secrets.
- `llm-dispatcher config schema` prints a JSON schema. Save it beside the file as `llm_dispatcher.schema.json` and begin
  the file with `# yaml-language-server: $schema=llm_dispatcher.schema.json`: an editor with YAML support then completes
  and checks the file.

## In the file

- `${VAR}` is the value of an environment variable. It is an error if the variable is not set; `${VAR:-default}` has a
  default. `$${` is a literal `${`. The value takes the type of its key, and cannot add keys.
- Unknown keys, duplicate keys, values of a wrong type and numbers out of range are errors. So are aliases (`*name`),
  tags, a second document in the file, and a file of more than 1 MB.
- An empty section has its defaults.

## Settings of one provider, model or route

A provider, a model of a provider, and a route can have a `resilience` of their own. It holds only what is different
there. A key that is left out keeps the value of the level above; `null` is a value, and switches a clock off:

```yaml
providers:
  openai:
    models:
      gpt-x: {}
      gpt-x-thinking: {resilience: {timeouts: {first_token: 120, idle: 60}}}   # it thinks before it writes
  vllm:
    base_url: http://gpu-1:8000/v1
    models: [qwen]
    resilience: {max_retries: 0, timeouts: {connect: 1}, breaker: {failures: 2, cooldown: 5}}
routing:
  default: [openai/gpt-x, vllm/qwen]
  tasks:
    reasoning:
      targets: [openai/gpt-x-thinking, openai/gpt-x]
      resilience: {timeouts: {total: 900}}
resilience:
  timeouts: {flow: {characters: 40, seconds: 10}}
```

A model's settings win over its provider's, a provider's over those of the route, and a route's over the section
`resilience`. What a call sets (`timeout=`, `max_retries=`, `max_latency=`, `on_break=`, `fallback_enabled=`) wins over
all of them. Some settings belong to one level: `timeouts.total` and `fallback_enabled`, for example, are for a whole
request, so only a route can have its own. A key at the wrong level is an error that says where it goes.

## In the environment

The name of a variable is `LLM_DISPATCHER_` and the key's path in capitals, its parts joined by two underscores:
`LLM_DISPATCHER_RESILIENCE__TIMEOUTS__IDLE`. Lists and mappings are written as JSON:
`LLM_DISPATCHER_ROUTING__DEFAULT='["openai/gpt-6.1-terra"]'`. With `LLM_DISPATCHER_OFFLINE=1` no request is
sent to a vendor: each function's own body answers.

A vendor's key comes from its own variable. If a vendor has two, the first one that is set counts.
"""

KEYS: Final = """
The key in a variable is used by the provider that has the kind's name, and by other providers of that kind without
their own key. A key in the file beside a `base_url` stays, so that a vendor's key is not sent to another address by
surprise.

An entry without a `base_url` has the address in the variable of the vendor's SDK, or the vendor's own address if
that is not set. With `base_url: null` it has the vendor's own address, and the environment is ignored.
"""

TRUST: Final = """
Headers that an SDK takes from the environment (`OPENAI_CUSTOM_HEADERS`, `OPENAI_ORG_ID`, `OPENAI_PROJECT_ID`,
`ANTHROPIC_CUSTOM_HEADERS`) are sent to the vendor's own address and to the address in its variable, and to no other.

## A file that you did not name

The dispatcher uses `llm_dispatcher.yaml` in the working folder even if you did not name it, and the folder may be a
checkout of code that is not yours. So such a file may use your keys, or send requests to its own addresses, but not
both. It is refused with a `ConfigurationError`, before anything is sent, in two cases:

- **Your key would go to an address that the file names.** Your keys are the keys in the environment, the keys that you
  pass (`init(openai_api_key=…)`), and the machine's Google credentials. Two addresses are allowed: the vendor's own,
  and one that is a whole variable (`base_url: ${GATEWAY_URL}`). `localhost` is not allowed, because any program may
  listen there. A local server that needs no key works without further steps:
  `vllm: {base_url: "http://localhost:8000/v1"}`.
- **The value of a `${VAR}` would go to such an address**, or to a vendor together with a key that the file holds.
  This concerns the provider's entry, `routing` and `resilience.continuation`.

If you trust the file, name it. There are five ways: `init("llm_dispatcher.yaml")`, `--config`, `LLM_DISPATCHER_CONFIG`,
moving it into the user's config folder, or its whole path in `LLM_DISPATCHER_TRUST_CONFIG` (several paths are separated
as in `PATH`). Whether a file is trusted is decided when it is found; `reload()` and `watch` do not change it. A file
that is not trusted can still send your *prompts* to its own address, so read it first (`llm-dispatcher config
show`).
"""


def reference() -> str:
    """The whole page, as Markdown."""
    return "\n".join([INTRODUCTION, _keys(), _first_routes(), "## Keys\n", *_sections()])


def _keys() -> str:
    rows = [(f"`{kind}`", _either(vendor.key_variables)) for kind, vendor in VENDORS.items() if vendor.key_variables]
    addresses = [
        (f"`{kind}`", f"`{vendor.address_variable}`") for kind, vendor in VENDORS.items() if vendor.address_variable
    ]
    return "\n".join(
        [*_table(("kind", "variable"), rows), KEYS, *_table(("kind", "variable of its address"), addresses), TRUST]
    )


def _first_routes() -> str:
    rows = [("all others", *_first_route(*FIRST_ROUTE))]
    rows += [(f"`{task}`", *_first_route(*route)) for task, route in FIRST_TASK_ROUTES.items()]
    return "\n".join(
        [
            "## Routes without a configuration\n",
            "If only keys are configured, each task has these models in this order, if there are keys for them.\n",
            *_table(("task", "first", "second", "third"), rows),
            "",
        ]
    )


def _first_route(size: Size, order: Iterable[str]) -> Iterable[str]:
    return [f"`{kind}/{VENDORS[kind].model(size)}`" for kind in order]


def _sections() -> Iterator[str]:
    """A table for each mapping with known keys. A mapping that occurs in two places has both in its title."""
    places: dict[str, Mapping[str, Any]] = {}
    paths: dict[str, list[str]] = {}
    for path, place in _mappings(schema(), ""):
        places[place["title"]] = place
        paths.setdefault(place["title"], []).append(path)
    for name, place in places.items():
        path = _places([each for each in paths[name] if each])
        title = f"### {path}\n" if path else "### Top level\n"
        words = place.get("description", "") if path else "Every section is optional."
        rows = [
            (f"`{key}`", _description(value, key in place.get("required", ())), _values(value), _default(value))
            for key, value in place["properties"].items()
        ]
        yield "\n".join([title, f"{words}\n", *_table(("key", "meaning", "values", "default"), rows), ""])
    yield "\n".join(["### Tasks\n", " · ".join(f"`{task}`" for task in TaskType) + ".\n"])


def _places(paths: list[str]) -> str:
    """The paths of a section. Where there are many, only what they have in common."""
    if len(paths) <= 2:
        return " and ".join(f"`{path}`" for path in paths)
    parts = zip(*(reversed(path.split(".")) for path in paths), strict=False)
    common = [part[0] for part in takewhile(lambda part: len(set(part)) == 1, parts)]
    return f"`….{'.'.join(reversed(common))}`"


def _mappings(place: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping with known keys at a place of the schema or below it, with its path as in a file."""
    for branch in alternatives(place):
        if "properties" in branch:
            yield path, branch
            for key, value in branch["properties"].items():
                yield from _mappings(value, f"{path}.{key}".removeprefix("."))
        elif isinstance(branch.get("additionalProperties"), dict):
            yield from _mappings(branch["additionalProperties"], f"{path}.…")


def _description(value: Mapping[str, Any], required: bool) -> str:
    words = value.get("description") or next((each.get("description", "") for each in alternatives(value)), "")
    return f"{words} Required.".strip() if required else words


def _values(value: Mapping[str, Any]) -> str:
    is_left_out = value.get("default", "none") is None  # then `null` is the same as no key
    branches = [branch for branch in alternatives(value) if branch.get("type") != "null" or not is_left_out]
    return " or ".join(dict.fromkeys(_value(branch) for branch in branches))


def _value(branch: Mapping[str, Any]) -> str:
    match branch:
        case {"enum": words}:
            return " ".join(f"`{word}`" for word in words)
        case {"type": "integer" | "number" as kind}:
            return ("a whole number" if kind == "integer" else "a number") + _bounds(branch)
        case {"type": "boolean"}:
            return "`true` `false`"
        case {"type": "null"}:
            return "`null`"
        case {"type": "array", "items": items}:
            return f"a list of {_values(items)}"
        case {"properties": _}:
            return "a mapping, below"
        case {"additionalProperties": dict(inner)}:
            return f"a mapping from {_key_names(branch)} to {_values(inner)}"
        case {"type": "object"}:
            return "a mapping"
        case {"type": "string"}:
            return "text"
        case _:
            return "anything"


def _key_names(mapping: Mapping[str, Any]) -> str:
    names = next(alternatives(mapping.get("propertyNames", {})), {})
    return "tasks" if "enum" in names else "names"


def _bounds(number: Mapping[str, Any]) -> str:
    words = [
        f"{word} {number[limit]:,g}"
        for limit, word in (("exclusiveMinimum", "more than"), ("minimum", "from"), ("maximum", "to"))
        if limit in number
    ]
    return f", {' '.join(words)}" if words else ""


def _default(value: Mapping[str, Any]) -> str:
    match value.get("default"):
        case None | dict():
            return "–"
        case bool() as default:
            return f"`{str(default).lower()}`"
        case float() as default:
            return f"`{default:g}`"
        case default:
            return f"`{default}`"


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|{'---|' * len(heading)}"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(reference(), end="")
