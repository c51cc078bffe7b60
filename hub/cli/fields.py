"""`hub field`: changes the fields of a store, together with the values in its entities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import orjson
import typer

from hub.cli.client import Client
from hub.cli.command import Yes, confirm, on_hub
from hub.cli.data_changes import change_data, finish
from hub.cli.output import Misuse, say
from hub.cli.stores import Name, parse_field
from stores.records import Entity

fields = typer.Typer(help="Fields of a store, with the values in its entities.", no_args_is_help=True)

PATHS: Final = ("indexes", "unique", "search")

FieldName = Annotated[str, typer.Argument(help="The name of the field.", show_default=False)]
Settings = Annotated[
    str | None, typer.Option(help='Further settings of the field as JSON, such as \'{"max": 100, "label": "Price"}\'.')
]
Renamed = Callable[[str], str | None]
"""Returns the new form of a path; None for a path that goes."""


@fields.command("add")
@on_hub
async def add(
    client: Client,
    store: Name,
    field: Annotated[str, typer.Argument(help="The field as NAME:TYPE[:FLAG,...].", show_default=False)],
    default: Annotated[
        str | None, typer.Option(help="The value in entities without one, as JSON or as plain text.")
    ] = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Set the default in existing entities, or number them in a Serial.")
    ] = False,
    settings: Settings = None,
) -> None:
    """Add a field.

    Example: hub field add orders currency:Text:required --default CAD --fill
    """
    definition = await client.require("stores", "name", store)
    added = parse_field(field) | parsed_settings(settings)
    if default is not None:
        added["default"] = parsed_value(default)
    parts = {"fields": [*(definition.get("fields") or ()), added]}
    await change_data(client, definition, parts, {"fill": [added["id"]]} if fill else {})
    say(f"field {added['id']} added to {store}")


@fields.command("rename")
@on_hub
async def rename(
    client: Client,
    store: Name,
    old: FieldName,
    new: Annotated[str, typer.Argument(help="The new name.", show_default=False)],
) -> None:
    """Rename a field, in the definition, its indexes and all entities.

    Example: hub field rename orders margin profit
    """
    definition = await client.require("stores", "name", store)
    named = [field | ({"id": new} if field["id"] == old else {}) for field in definition.get("fields") or ()]

    def renamed(path: str) -> str:
        top, dot, rest = path.partition(".")
        return f"{new}{dot}{rest}" if top == old else path

    await change_data(client, definition, {"fields": named, **paths_of(definition, renamed)}, {"rename": {old: new}})
    say(f"field {old} of {store} is now {new}")


@fields.command("drop")
@on_hub
async def drop(client: Client, store: Name, name: FieldName, yes: Yes = False) -> None:
    """Remove a field, with its indexes and its values in all entities.

    Example: hub field drop orders old --yes
    """
    definition = await client.require("stores", "name", store)
    confirm(f"Remove the field {name} of {store}, and its values in all entities?", yes)
    left = [field for field in definition.get("fields") or () if field["id"] != name]

    def kept(path: str) -> str | None:
        return None if path.split(".")[0] == name else path

    await change_data(client, definition, {"fields": left, **paths_of(definition, kept)}, {"drop": [name]})
    say(f"field {name} of {store} dropped")


@fields.command("fill")
@on_hub
async def fill(client: Client, store: Name, name: FieldName) -> None:
    """Set the default of a field in the entities that have no value; a Serial field numbers them.

    Example: hub field fill orders currency
    """
    definition = await client.require("stores", "name", store)
    await change_data(client, definition, {}, {"fill": [name]})
    say(f"field {name} of {store} filled")


@fields.command("convert")
@on_hub
async def convert(
    client: Client,
    store: Name,
    name: FieldName,
    type: Annotated[str, typer.Option(help="The new type of the field.", show_default=False)],
    settings: Settings = None,
) -> None:
    """Give a field another type, and convert its values in all entities. Nothing changes if one cannot be converted.

    Example: hub field convert orders amount --type Numeric
    """
    definition = await client.require("stores", "name", store)
    known = definition.get("fields") or []
    former = next((field for field in known if field["id"] == name), None)
    converted = (former or {"id": name}) | {"type": type} | parsed_settings(settings)
    given = {key: value for key, value in converted.items() if value is not None}  # null takes a setting away
    made = [given if field["id"] == name else field for field in known]
    await change_data(client, definition, {"fields": made if former else [*known, given]}, {"convert": [name]})
    say(f"field {name} of {store} converted to {type}")


@fields.command("resume")
@on_hub
async def resume(client: Client, store: Name) -> None:
    """Continue a change of a store that was interrupted. The store takes no other writes until then.

    Example: hub field resume orders
    """
    await finish(client, await client.require("stores", "name", store))
    say(f"the change of {store} is complete")


def paths_of(definition: Entity, renamed: Renamed) -> dict[str, list[Any]]:
    """Return the indexes, unique and searched paths of a definition in their new form, those that it has."""
    return {
        name: [made for each in definition[name] if (made := _index(each, renamed)) is not None]
        for name in PATHS
        if definition.get(name)
    }


def _index(index: Any, renamed: Renamed) -> Any:
    """Return an index in its new form; None if one of its paths goes."""
    if isinstance(index, dict):
        terms = _index(index.get("fields"), renamed)
        where = {renamed(path): value for path, value in (index.get("where") or {}).items()}
        if terms is None or None in where:
            return None
        return index | {"fields": terms} | ({"where": where} if where else {})
    if isinstance(index, list):
        made = [_index(term, renamed) for term in index]
        return None if None in made else made
    path = renamed(index.removeprefix("-"))
    return path if path is None or not index.startswith("-") else f"-{path}"


def parsed_value(text: str) -> Any:
    """Return the JSON value in a text; other text stands for itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def parsed_settings(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        settings = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Misuse(f"--settings {text}: is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise Misuse(f"--settings {text}: must be an object")
    return settings
