"""`hub field`: the fields of a store's definition, changed together with the entities."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps as json_text
from typing import Annotated, Any

import typer

from hub.cli.client import Client, Refused, describe, path_of
from hub.cli.command import Yes, confirm, on_hub
from hub.cli.data_changes import change_definition, finish
from hub.cli.definition_changes import (
    PATHS,
    find_field,
    is_open,
    location_by_name,
    with_converted_field,
    with_field,
    with_renamed_field,
    without_field,
)
from hub.cli.output import Failure, Misuse, say
from hub.cli.plan import nearest
from hub.cli.stores import index_text, parse_option
from stores.fields import type_named
from stores.parse import scalar
from stores.records import Entity, Json

fields = typer.Typer(help="Fields of a store, changed together with its entities.", no_args_is_help=True)

Store = Annotated[str, typer.Argument(help="The name of the store.", show_default=False)]
FieldName = Annotated[str, typer.Argument(help="The name of the field.", show_default=False)]
TypeName = Annotated[str | None, typer.Option(help="The type, such as Text, Number or Reference.")]
Definition = Annotated[
    str | None, typer.Option("--json", help='Settings of the field as JSON, such as \'{"store": "customers"}\'.')
]


@fields.command("add")
@on_hub
async def add(
    client: Client,
    store: Store,
    name: FieldName,
    type: TypeName = None,
    required: Annotated[bool, typer.Option("--required", help="Every entity needs a value.")] = False,
    default: Annotated[str | None, typer.Option(help="The value of a new entity that has none.")] = None,
    unique: Annotated[bool, typer.Option("--unique", help="No two entities have the same value.")] = False,
    index: Annotated[bool, typer.Option("--index", help="Keep an index.")] = False,
    search: Annotated[bool, typer.Option("--search", help="search= looks into it.")] = False,
    hidden: Annotated[bool, typer.Option("--hidden", help="It can be written, but is never shown.")] = False,
    many: Annotated[bool, typer.Option("--many", help="It holds a list.")] = False,
    distinct: Annotated[bool, typer.Option("--distinct", help="The list holds no value twice.")] = False,
    options: Annotated[
        str | None, typer.Option(help="The values that it may have: ID[=NAME],..., or a JSON array.")
    ] = None,
    json: Definition = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Give the entities that exist the default, a serial number or a stamp.")
    ] = False,
) -> None:
    """Add a field to a store.

    Example: hub field add orders currency --type Text --required --default CAD --fill
    """
    flags = {
        "required": required,
        "unique": unique,
        "index": index,
        "search": search,
        "hidden": hidden,
        "many": many,
        "distinct": distinct,
    }
    field = {"id": name, "type": type} | {flag: True for flag, given in flags.items() if given} | parse_settings(json)
    check_type(field)
    if options is not None:
        field["options"] = parse_options(options, field)
    if default is not None:
        field["default"] = parse_default(default, field)
    definition = await client.require("stores", "name", store)
    if find_field(definition, name):
        raise Failure(f"{store} has a field {name} already")
    await change(client, definition, with_field(definition, field), {"fill": [name]} if fill else None)
    say(f"field {name} added to {store}")


@fields.command("rename")
@on_hub
async def rename(
    client: Client,
    store: Store,
    old: Annotated[str, typer.Argument(help="The name of the field.", show_default=False)],
    new: Annotated[str, typer.Argument(help="The new name.", show_default=False)],
) -> None:
    """Rename a field, also in the entities, in indexes, and in references of the store to itself.

    Example: hub field rename orders margin profit
    """
    definition = await client.require("stores", "name", store)
    await require_field(client, definition, old)
    if find_field(definition, old) and find_field(definition, new):
        raise Failure(f"{store} has a field {new} already")
    await change(client, definition, with_renamed_field(definition, old, new), {"rename": {old: new}})
    say(f"field {old} of {store} is now {new}")


@fields.command("drop")
@on_hub
async def drop(client: Client, store: Store, name: FieldName, yes: Yes = False) -> None:
    """Remove a field, its values in all entities, and the indexes over it.

    Example: hub field drop orders margin --yes
    """
    definition = await client.require("stores", "name", store)
    await require_field(client, definition, name)
    confirm(f"Remove the field {name} of {store} and its values?", yes)
    parts = without_field(definition, name)
    await change(client, definition, parts, {"drop": [name]})
    for part in PATHS:
        if part in parts:
            for gone in [each for each in definition[part] if each not in parts[part]]:
                say(f"{part}: {index_text(gone)} dropped")
    say(f"field {name} of {store} dropped")


@fields.command("convert")
@on_hub
async def convert(
    client: Client, store: Store, name: FieldName, type: TypeName = None, json: Definition = None
) -> None:
    """Give a field another type, and its values the form of that type. Settings that the type does not take go.

    Example: hub field convert orders amount --type Numeric
    """
    changes = ({"type": type} if type else {}) | parse_settings(json)
    check_type(changes)
    definition = await client.require("stores", "name", store)
    await require_field(client, definition, name)
    await change(client, definition, with_converted_field(definition, name, changes), {"convert": [name]})
    say(f"field {name} of {store} converted to {changes['type']}")


@fields.command("fill")
@on_hub
async def fill(client: Client, store: Store, name: FieldName) -> None:
    """Set the default of a field in the entities that have no value; a Serial or a Stamp gives its own.

    Example: hub field fill orders currency
    """
    await change(client, await client.require("stores", "name", store), {}, {"fill": [name]})
    say(f"field {name} of {store} filled")


@fields.command("resume")
@on_hub
async def resume(client: Client, store: Store) -> None:
    """Continue a change of a store that was interrupted. The store takes no other writes until then.

    Example: hub field resume orders
    """
    await finish(client, await client.require("stores", "name", store))
    say(f"the change of {store} is complete")


async def change(client: Client, store: Entity, parts: Entity, data: Any) -> None:
    """Change the definition of a store, and its entities. Raises Failure, which names fields as the user does, and not
    by their positions."""
    try:
        await change_definition(client, store, parts, data)
    except Refused as refusal:
        errors = {
            location_by_name(location, parts.get("fields") or ()): texts for location, texts in refusal.errors.items()
        }
        if errors == refusal.errors:
            raise
        raise Failure(describe(refusal.message, errors)) from refusal


async def require_field(client: Client, definition: Entity, name: str) -> None:
    """Raise Failure if the store has no such field. Entities of an open store may have fields of any name."""
    if find_field(definition, name) is not None or (is_open(definition) and await _is_in_use(client, definition, name)):
        return
    known = [each["id"] for each in definition.get("fields") or ()]
    nowhere = ", and no entity has it" if is_open(definition) else ""
    there = f"; there are: {', '.join(known)}" if known else ""
    raise Failure(f"{definition['name']} has no field {name}{nowhere}{nearest(name, known)}{there}")


async def _is_in_use(client: Client, definition: Entity, name: str) -> bool:
    """Return whether an entity has a field, also with null as its value. What the hub does not tell is left to the
    change itself."""
    params = {"filter": json_text({name: {"$exists": True}}), "only": "_id", "limit": "1"}
    try:
        return bool(await client.call("GET", path_of(definition["name"]), params=params))
    except Refused:
        return True


def parse_settings(text: str | None) -> dict[str, Any]:
    """Return the settings of a field in the JSON text of an option."""
    settings = {} if text is None else parse_option("--json", text)
    if not isinstance(settings, dict):
        raise Misuse(f"--json {text}: must be an object with settings of the field")
    return settings


def check_type(field: Mapping[str, Any]) -> None:
    """Raise Misuse for a field without a type. The hub checks which types there are."""
    if not (isinstance(field.get("type"), str) and field["type"]):
        raise Misuse("the field needs a type: add --type")


def parse_options(text: str, field: Mapping[str, Any]) -> Any:
    """Return the options in a text such as ``idle=At rest,busy``, or in a JSON array. The hub checks them."""
    if text.startswith("["):
        return parse_option("--options", text)
    is_text = type_named(field["type"]).text
    pairs = [item.partition("=") for item in text.split(",")]
    return [{"id": id if is_text else scalar(id), "name": name or id} for id, _, name in pairs]


def parse_default(text: str, field: Mapping[str, Any]) -> Json:
    """Return the default value in the text of an option. The hub checks it."""
    kind = type_named(field["type"])
    if text.startswith("[" if field.get("many") else "{") and (field.get("many") or field["type"] == "Object"):
        given: Json = parse_option("--default", text)
        return given
    try:
        value = kind.parse(text)
    except ValueError as error:
        raise Misuse(f"--default {text}: {field['type']} takes {error}") from error
    return [value] if field.get("many") else value
