"""docs/configuration.md describes the settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher._config import config_schema
from llm_dispatcher._vendors.table import VENDORS
from llm_dispatcher.tasks import TaskType
from scripts.config_reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    """If not: `python scripts/config_reference.py > docs/configuration.md`."""
    assert PAGE.read_text() == reference()


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for section in [schema, *schema["$defs"].values()]:
        yield from section.get("properties", {}).items()


def test_every_key_has_a_row_with_its_description_and_default() -> None:
    page = reference()
    for key, value in properties(config_schema()):
        rows = [line for line in page.splitlines() if line.startswith(f"| `{key}` |")]
        assert rows, key
        if "description" in value:
            assert any(value["description"] in row for row in rows)
        default = value.get("default")
        if isinstance(default, (int, float)) and not isinstance(default, bool):
            default_text = f"{default:g}" if isinstance(default, float) else str(default)
            assert any(row.endswith(f"| `{default_text}` |") for row in rows), key


def rows_of(section: str) -> dict[str, list[str]]:
    """The cells of each key in the table of a section."""
    table = reference().partition(f"### {section}\n")[2].partition("\n### ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


def test_null_is_listed_where_it_means_more_than_no_key() -> None:
    """In a part, no key keeps the value of the level above, and `null` switches a clock off."""
    whole = rows_of("`resilience.timeouts`")
    part = rows_of("`routing.default.resilience.timeouts` and `routing.tasks.….resilience.timeouts`")
    assert [key for key, cells in whole.items() if "`null`" not in cells[1]] == ["flow"]
    assert list(part) == list(whole)
    assert all(cells[1].endswith("or `null`") and cells[2] == "–" for cells in part.values())
    assert "`null`" not in rows_of("`….resilience.breaker`")["window"][1]


def test_every_task_and_key_variable_is_listed() -> None:
    page = reference()
    assert all(f"`{task}`" in page for task in TaskType)
    assert all(f"`{variable}`" in page for vendor_row in VENDORS.values() for variable in vendor_row.key_variables)


@pytest.mark.found("N-C17")
def test_the_schema_completes_kinds_and_describes_every_section() -> None:
    schema = config_schema()
    kind = schema["$defs"]["ProviderSection"]["properties"]["kind"]
    assert {"enum": list(VENDORS)} in kind["anyOf"]
    assert {"type": "string", "minLength": 1} in kind["anyOf"], "packages may bring further kinds"
    assert [name for name, section in schema["properties"].items() if not section.get("description")] == []


def test_every_row_has_as_many_cells_as_its_table() -> None:
    tables = [line for line in reference().splitlines() if line.startswith("|")]
    assert tables
    assert {line.count("|") for line in tables} <= {3, 5}
