"""Converts MongoDB's extended JSON (`{"$oid": …}`, `{"$date": …}`, as from `mongoexport`) to plain values."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from stores.fields import type_named

MARK: Final = b'"$'


def plain(value: Any, types: Mapping[str, str] | None = None) -> Any:
    """Return `value` with all wrapped ids, times and numbers unwrapped. `types` are the types of fields by their paths,
    which determine the form of times. Raises ValueError for an invalid wrapper."""
    return _plain(value, types or {}, "")


def _plain(value: Any, types: Mapping[str, str], path: str) -> Any:
    if isinstance(value, dict):
        if any(str(name).startswith("$") for name in value):
            return timed(unwrapped(value), types.get(path, ""))
        above = f"{path}." if path else ""
        return {name: _plain(item, types, f"{above}{name}") for name, item in value.items()}
    return [_plain(item, types, path) for item in value] if isinstance(value, list) else value


def unwrapped(document: dict[str, Any]) -> Any:
    """Return the value in a wrapper; any other document is returned unchanged."""
    from bson import json_util

    inner = {name: plain(item) if isinstance(item, dict | list) else item for name, item in document.items()}
    try:
        found = json_util.object_hook(inner, json_util.JSONOptions(tz_aware=True, tzinfo=UTC))
    except (TypeError, ValueError, ArithmeticError, OverflowError) as error:
        raise ValueError(f"not valid extended JSON: {error}") from error
    return found if isinstance(found, dict | datetime) else simple(found)


def simple(found: Any) -> Any:
    """Return a BSON value as a JSON value; text if JSON has no such value."""
    from bson import Decimal128, ObjectId, Regex

    if found is None or isinstance(found, bool | str):
        return found
    if isinstance(found, int):
        return int(found)
    if isinstance(found, float):
        return found if Decimal(found).is_finite() else str(found)
    if isinstance(found, Decimal128):
        exact = found.to_decimal()
        return float(exact) if exact.is_finite() and Decimal(repr(float(exact))) == exact else str(exact)
    if isinstance(found, Regex):
        return f"/{found.pattern}/"
    if isinstance(found, bytes):
        return base64.b64encode(found).decode()
    if isinstance(found, ObjectId | UUID):
        return str(found)
    raise ValueError(f"not valid extended JSON: a {type(found).__name__} has no value in JSON")


def timed(value: Any, type: str) -> Any:
    """Return a time in the form of its field's type, or as ISO 8601 in UTC. Other values are returned unchanged."""
    if not isinstance(value, datetime):
        return value
    utc = value.astimezone(UTC)
    typed = type_named(type).from_time(utc)
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z") if typed is None else typed
