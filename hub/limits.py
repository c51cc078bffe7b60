"""Collects all declared limits for docs/limits.md: `python -m hub.limits > docs/limits.md`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Final, get_args, get_origin, get_type_hints

import auth
import hub
import realtime
import stores
from hub.settings import Settings
from stores.bounds import Limit

PACKAGES: Final[tuple[ModuleType, ...]] = (stores, auth, realtime, hub)

HEAD: Final = """# Limits

Every buffer, queue, cache and wait that a client can feed has a limit. A limit is a setting (`HUB_…`, see
[settings](settings.md)), or a constant of the program where no value other than the given one makes sense. A refusal at
a limit names it, and `hub_limit_reached_total{limit="…"}` at `/metrics` counts it under the name in the first column,
that of a setting in lower case and without `HUB_`: `max_body_bytes`. 0 switches a limit off where
[settings](settings.md) says so. The program prints this page: `.venv/bin/python -m hub.limits`.

| limit | value | unit | for each | a client meets |
| --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Declared:
    """A declared limit. `name` is its name in the metric, `shown` its name in the page."""

    name: str
    shown: str
    value: object
    limit: Limit


def limits_of_settings() -> Iterator[Declared]:
    for name, field in Settings.model_fields.items():
        for limit in (note for note in field.metadata if isinstance(note, Limit)):
            yield Declared(name, f"HUB_{name.upper()}", field.default, limit)


def modules() -> Iterator[ModuleType]:
    """Yield every module of the hub's packages, except `__main__` modules."""
    for package in PACKAGES:
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not info.name.endswith("__main__"):
                yield importlib.import_module(info.name)


def limits_of_constants() -> Iterator[Declared]:
    for module in modules():
        declared = {name: text for name, text in vars(module).get("__annotations__", {}).items() if "Limit(" in text}
        holder = type("Holder", (), {"__annotations__": declared})  # `get_type_hints` refuses `Final` in a module
        for name, hint in get_type_hints(holder, vars(module), include_extras=True).items():
            inner = get_args(hint)[0] if get_origin(hint) is Final else hint
            for limit in (note for note in getattr(inner, "__metadata__", ()) if isinstance(note, Limit)):
                yield Declared(name, name, getattr(module, name), limit)


def page() -> str:
    """Return the text of docs/limits.md."""
    lines = []
    for each in [*limits_of_settings(), *limits_of_constants()]:
        limit = each.limit
        lines.append(f"| `{each.shown}` | {each.value:,} | {limit.unit} | {limit.per} | {limit.answer} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
