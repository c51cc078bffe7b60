"""Everything that callers and operators can use or encounter is documented."""

from __future__ import annotations

import re
from http import HTTPStatus

import pytest

from auth.system_stores import SYSTEM_STORES
from hub.dialects.platform.openapi import OPERATIONS
from hub.dialects.platform.parameters import OPERATORS, RESERVED
from hub.http.errors import STATUS, status_text, tags_of
from hub.metrics import Metrics
from hub.settings import Settings
from stores.definitions import SETTINGS
from stores.fields import FIELD_TYPES
from stores.operators import Operator
from stores.parse import OPERATORS as FILTER_OPERATORS
from stores.records import SYSTEM_FIELDS
from stores.rule_texts import RULES
from tests.docs.pages import first_cells, page, rows, section

API = page("platform-api.md")
METRICS = first_cells(section(page("deploying.md"), "Metrics"))


class NoConnections:
    """Figures of live connections, of which there are none."""

    lagging = 0

    def connections_by_kind(self) -> dict[tuple[str, str], int]:
        return {}

    def channels(self) -> int:
        return 0

    def deliveries(self) -> int:
        return 0


STATUSES = sorted({*STATUS.values(), HTTPStatus.INTERNAL_SERVER_ERROR})


def settings_rows() -> dict[str, list[str]]:
    return {cells[0].strip("`"): cells for cells in rows(page("settings.md")) if len(cells) == 4}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    cells = settings_rows().get(f"HUB_{name.upper()}")
    assert cells, f"HUB_{name.upper()} is not in docs/settings.md"
    default = Settings.model_fields[name].default
    shown = str(default.get_secret_value() if hasattr(default, "get_secret_value") else default or "")
    shown = shown.lower() if isinstance(default, bool) else shown
    assert cells[1] == (f"`{shown}`" if shown else "empty")


def test_no_setting_is_documented_that_is_not_there() -> None:
    documented = {name for name in settings_rows() if name.startswith("HUB_")}
    assert documented == {f"HUB_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("status", STATUSES, ids=lambda status: str(status.value))
def test_every_status_is_documented_with_its_text_and_tags(status: HTTPStatus) -> None:
    found = [cells for cells in rows(page("errors.md")) if cells[0] == f"{status.value} {status_text(status)}"]
    assert len(found) == 1
    assert found[0][1] == ", ".join(f"`{tag}`" for tag in tags_of(status))


async def test_every_metric_is_documented() -> None:
    metrics = Metrics()
    metrics.watch(NoConnections())
    metrics.watch_consumers(tuple)
    kinds = {family.name: family.type for family in metrics.registry.collect() if family.name.startswith("hub_")}
    assert len(kinds) > 10
    names = {name + "_total" * (kind == "counter") for name, kind in kinds.items()}
    assert names == {name for name in METRICS if re.fullmatch("hub_[a-z_]+", name)}


@pytest.mark.parametrize("rule", RULES)
def test_every_validation_rule_is_documented_with_its_text(rule: str) -> None:
    found = [cells for cells in rows(page("errors.md")) if cells[0] == f"`{rule}`"]
    assert [cells[1] for cells in found] == [RULES[rule]]


@pytest.mark.parametrize("call", [f"{o.method} {o.path}" for o in OPERATIONS])
def test_every_call_is_documented(call: str) -> None:
    assert call in first_cells(section(API, "All calls"))


@pytest.mark.parametrize("name", RESERVED)
def test_every_list_parameter_is_documented(name: str) -> None:
    documented = {code.partition("=")[0] for code in first_cells(section(API, "List parameters"))}
    assert name in documented


@pytest.mark.parametrize("name", [*(f"[{name}]" for name in OPERATORS), *FILTER_OPERATORS, "$and", "$or", "$nor"])
def test_every_operator_is_documented(name: str) -> None:
    table = " ".join(" ".join(cells[:2]) for cells in rows(section(API, "Filters")))
    assert f"`{name}" in table


@pytest.mark.parametrize("name", Operator)
def test_every_operator_of_a_change_is_documented(name: str) -> None:
    table = " ".join(cells[0] for cells in rows(section(API, "Changing in place")))
    assert f"`{name}`" in table


@pytest.mark.parametrize("name", FIELD_TYPES)
def test_every_field_type_is_documented(name: str) -> None:
    assert name in first_cells(section(API, "Field types"))
    assert name in section(API, "Filters") or name in ("Checkbox", "MultiSelect", "Radio", "Select", "JSON")


@pytest.mark.parametrize("name", SYSTEM_FIELDS)
def test_every_system_field_is_documented(name: str) -> None:
    assert name in first_cells(section(API, "Entities"))


@pytest.mark.parametrize("name", SYSTEM_STORES)
def test_every_system_store_is_documented_with_its_fields(name: str) -> None:
    [fields] = [cells[1] for cells in rows(section(API, "System stores")) if cells[0] == f"`{name}`"]
    missing = [f.id for f in SYSTEM_STORES[name].fields if f"`{f.id}`" not in fields and f.id != "digest"]
    assert not missing


@pytest.mark.parametrize("name", SETTINGS)
def test_every_part_of_a_definition_is_documented(name: str) -> None:
    assert name in first_cells(section(API, "Defining a store"))


@pytest.mark.parametrize(
    "name", ["max_body_bytes", "max_bulk_body_bytes", "max_items", "max_matches", "max_depth", "delta_changes"]
)
def test_the_limits_name_the_settings(name: str) -> None:
    assert f"`HUB_{name.upper()}`" in section(API, "Limits")
