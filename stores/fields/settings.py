"""The settings that many types share: `min`, `max`, `options`, and lists. They add to the check and the schema of a
type, so a type need not know them."""

from __future__ import annotations

from typing import Any, Final

from stores.fields.base import Checker, FieldSettings, Measure, Rejected, Schema
from stores.fields.lists import DEFAULT_MAX_ITEMS, list_checker
from stores.fields.spans import Span, one_value
from stores.records import Json

NULL: Final[Schema] = {"type": "null"}
_ANYTHING: Final[Schema] = {"$ref": "#/components/schemas/Value"}


def checker_of(field: FieldSettings) -> Checker:
    """Return the check of the field's values, null excepted."""
    check = item_checker(field)
    return list_checker(check, most_items(field), distinct=field.distinct) if field.many else check


def item_checker(field: FieldSettings) -> Checker:
    """Return the check of one value: of each value of a list, if the field has `many`."""
    check = field.kind.checker(field)
    if field.min is not None or field.max is not None:
        within = _within_values if field.kind.measure is Measure.VALUE else _within_lengths
        check = within(check, field.min, field.max)
    return _one_of(check, field.option_ids) if has_own_options(field) else check


def spans_of(field: FieldSettings) -> tuple[Span, ...] | None:
    """Return the spans of the field's scalars, within `min`, `max` and `options`; None if nothing is known of them."""
    if has_own_options(field):
        return tuple(map(one_value, field.option_ids))
    spans = field.kind.spans(field)
    if spans is None or field.kind.measure is not Measure.VALUE:
        return spans
    return tuple(span.within(field.min, field.max) for span in spans)


def has_own_options(field: FieldSettings) -> bool:
    """Return whether options limit the values of a type that needs none."""
    return bool(field.options) and "options" in field.kind.takes - field.kind.needs


def most_items(field: FieldSettings) -> int:
    """Return how many values a list in this field may have."""
    return field.max_items or DEFAULT_MAX_ITEMS


def _one_of(check: Checker, ids: frozenset[Any]) -> Checker:
    def check_option(value: Any) -> Json:
        canonical = check(value)
        if canonical not in ids:
            raise Rejected("option")
        return canonical

    return check_option


def _within_values(check: Checker, least: Any, most: Any) -> Checker:
    def check_value(value: Any) -> Json:
        canonical: Any = check(value)
        if least is not None and canonical < least:
            raise Rejected("too_low", str(least))
        if most is not None and canonical > most:
            raise Rejected("too_high", str(most))
        return canonical  # type: ignore[no-any-return]

    return check_value


def _within_lengths(check: Checker, least: Any, most: Any) -> Checker:
    def check_length(value: Any) -> Json:
        canonical: Any = check(value)
        if least is not None and len(canonical) < least:
            raise Rejected("too_short", str(least))
        if most is not None and len(canonical) > most:
            raise Rejected("too_long", str(most))
        return canonical  # type: ignore[no-any-return]

    return check_length


# Schemas.


def shown_value(field: FieldSettings) -> Schema:
    """Return the schema of the field's canonical values, without null, with its label and default."""
    return _described(field, _listed(field, _item(field)))


def sent_value(field: FieldSettings) -> Schema:
    """Return the schema of what a write may send; null clears a field that is not required."""
    item = _item(field)
    if not has_own_options(field):
        item = field.kind.sent_schema(field, item)
    return sent(field, _described(field, _listed(field, item)))


def sent(field: FieldSettings, schema: Schema) -> Schema:
    """Return the schema of a sent value, with or without null and the empty text."""
    if not field.required:
        return nullable(schema)
    return schema | {"minLength": max(1, schema.get("minLength", 1))} if schema.get("type") == "string" else schema


def _item(field: FieldSettings) -> Schema:
    schema = field.kind.schema(field)
    if has_own_options(field):
        names = ", ".join(f"{id}: {name}" for id, name in field.options)
        return {"enum": [id for id, _ in field.options], "description": names}
    if field.min is None and field.max is None:
        return schema
    if field.kind.measure is Measure.LENGTH:
        return schema | _given({"minLength": field.min, "maxLength": field.max})
    if schema.get("type") == "string":  # JSON Schema has no order of dates
        bounds = _given({"from": field.min, "to": field.max})
        return schema | {"description": " ".join(f"{word} {bound}" for word, bound in bounds.items())}
    return schema | _given({"minimum": field.min, "maximum": field.max})


def _given(members: Schema) -> Schema:
    return {name: value for name, value in members.items() if value is not None}


def _listed(field: FieldSettings, item: Schema) -> Schema:
    if not field.many:
        return item
    distinct = {"uniqueItems": True} if field.distinct else {}
    return {"type": "array", "items": item, "maxItems": most_items(field)} | distinct


def _described(field: FieldSettings, schema: Schema) -> Schema:
    named = {"title": field.label} if field.label else {}
    return schema | named | ({} if field.default is None else {"default": field.default})


def nullable(schema: Schema) -> Schema:
    """Return the schema of the same values and null."""
    kinds = schema.get("type")
    if kinds is not None:
        return schema | {"type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}
    if "enum" in schema:
        return schema | {"enum": [*schema["enum"], None]}
    if schema == _ANYTHING:
        return schema  # null is a Value
    outer = {name: schema[name] for name in ("title", "default", "writeOnly") if name in schema}
    return {"anyOf": [{n: v for n, v in schema.items() if n not in outer}, NULL]} | outer
