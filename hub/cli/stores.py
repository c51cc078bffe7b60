"""`hub store`: the stores of the hub, with their fields and indexes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from hub.cli.client import Client, load_settings, path_of
from hub.cli.command import AsJson, DataDir, Yes, confirm, on_hub
from hub.cli.data_changes import change_definition
from hub.cli.databases import opened_database
from hub.cli.output import Failure, Misuse, grouped, print_json, print_table, say
from stores.definitions import PENDING, PURPOSE
from stores.records import SYSTEM_FIELDS, Entity

stores = typer.Typer(help="Stores: what the hub serves.", no_args_is_help=True)

FLAGS: Final = ("required", "unique", "index", "search", "hidden", "many", "distinct")
SHOWN: Final = ("default", "min", "max", "digits", "places", "length", "max_items", "start")
"""Settings that `hub store show` prints with their names."""
MOST_OPTIONS: Final = 20
ASSIGNED: Final = frozenset({*SYSTEM_FIELDS, "success", "retired", PENDING, PURPOSE})
"""Members of a definition that the hub sets."""
BATCH: Final = 1_000

Name = Annotated[str, typer.Argument(help="The name of the store.", show_default=False)]
Paths = list[str] | None


@stores.command("create")
@on_hub
async def create(
    client: Client,
    name: Name,
    file: Annotated[
        str | None,
        typer.Argument(help="A JSON file with a definition, as store show --json prints it; - for standard input."),
    ] = None,
    fields: Annotated[
        Path | None, typer.Option(help="A JSON file with the array of fields, or with a definition.")
    ] = None,
    field: Annotated[
        Paths,
        typer.Option(help=f"A field as NAME:TYPE[:FLAG,...], flags {', '.join(FLAGS)}; may be repeated."),
    ] = None,
    index: Annotated[
        Paths, typer.Option(help="A path to keep indexed, or an index over several as JSON; may be repeated.")
    ] = None,
    unique: Annotated[Paths, typer.Option(help="A path whose values must differ; may be repeated.")] = None,
    search: Annotated[Paths, typer.Option(help="A path that search= searches; may be repeated.")] = None,
    open: Annotated[
        bool | None, typer.Option("--open/--closed", help="Accept fields beyond these, or refuse them.")
    ] = None,
) -> None:
    """Define a store. Without fields it accepts any entity; with fields it accepts only these, unless it is open.

    Example: hub store create readings --field station:Text:required,search --field celsius:Numeric:index
    """
    typed = [*(read_fields(fields) if fields else ()), *map(parse_field, field or ())]
    indexes = [*map(parse_index, index or ())]
    parts = {"fields": typed, "indexes": indexes, "unique": unique, "search": search}
    definition = read_definition(file, name) if file else {}
    definition |= {"name": name, **{key: value for key, value in parts.items() if value}}
    if open is not None:
        definition["open"] = open
    await client.call("POST", "/stores", definition)
    say(f"store {name} created")


@stores.command("update")
@on_hub
async def update(
    client: Client,
    name: Name,
    file: Annotated[
        str | None,
        typer.Argument(help="A JSON file with the parts to change; - for standard input.", show_default=False),
    ] = None,
    fields: Annotated[
        Path | None, typer.Option(help="A JSON file with the array of all fields, or with a definition.")
    ] = None,
    index: Annotated[
        Paths, typer.Option(help="A path to keep indexed, or an index over several as JSON; may be repeated.")
    ] = None,
    unique: Annotated[Paths, typer.Option(help="A path whose values must differ; may be repeated.")] = None,
    search: Annotated[Paths, typer.Option(help="A path that search= searches; may be repeated.")] = None,
    label: Annotated[str | None, typer.Option(help="A short name for people.")] = None,
    description: Annotated[str | None, typer.Option(help="A text for people.")] = None,
    open: Annotated[
        bool | None, typer.Option("--open/--closed", help="Accept fields beyond these, or refuse them.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="What becomes of the entities' fields, as JSON: rename, drop, fill, convert.")
    ] = None,
) -> None:
    """Change parts of a store's definition. Each part that is given replaces the former one as a whole; an empty text
    (--index ''), or null in the file, leaves none. To change values with a field, use hub field.

    Example: hub store update readings --index station --index '["state","-celsius"]'
    """
    paths = {"indexes": [*map(parse_index, index or ())] if index else None, "unique": unique, "search": search}
    parts: dict[str, Any] = {key: [*filter(None, value)] for key, value in paths.items() if value}
    others = {"fields": read_fields(fields) if fields else None, "label": label, "description": description}
    parts |= {key: value for key, value in {**others, "open": open}.items() if value is not None}
    parts = (read_parts(file) if file else {}) | parts
    changes = parts.pop("data", None) if data is None else parse_option("--data", data)
    if not parts and not changes:
        raise Misuse("nothing to change: give at least one option, or a file")
    store = await client.require("stores", "name", name)
    changed = await change_definition(client, store, parts, changes, alone=False)
    say(f"store {name} updated" if changed else f"store {name} is so already")


@stores.command("rename")
def rename(
    old: Annotated[str, typer.Argument(help="The name of the store.", show_default=False)],
    new: Annotated[str, typer.Argument(help="The new name.", show_default=False)],
    data_dir: DataDir = None,
) -> None:
    """Rename a store, with its entities and history. The hub must be stopped.

    Example: hub store rename signins old_signins
    """
    from hub.services.renaming import rename_store

    async def run() -> None:
        async with opened_database(load_settings(data_dir)) as engine:
            await rename_store(engine, old, new)

    asyncio.run(run())
    say(f"store {old} is now {new}")


@stores.command("list")
@on_hub
async def list_stores(client: Client, as_json: AsJson = False) -> None:
    """List the defined stores.

    Example: hub store list
    """
    found = await client.all("stores", sort="name")
    if as_json:
        print_json(found)
        return
    rows = [(store["name"], len(store.get("fields") or ()), await count(client, store["name"])) for store in found]
    print_table(("NAME", "FIELDS", "ENTITIES"), ((name, fields, grouped(total)) for name, fields, total in rows))


@stores.command("show")
@on_hub
async def show(client: Client, name: Name, as_json: AsJson = False) -> None:
    """Show a store's definition.

    Example: hub store show readings
    """
    store = await client.require("stores", "name", name)
    if as_json:
        print_json(store)
        return
    say(f"{name}: {grouped(await count(client, name))} entities")
    if pending := store.get("pending"):
        done, total = grouped(pending["done"]), grouped(pending["total"])
        say(f"being changed: {done} of {total} entities, and read-only until then; hub field resume {name}")
    for key in ("indexes", "unique", "search"):
        if store.get(key):
            say(f"{key}: {', '.join(map(index_text, store[key]))}")
    if store.get("fields"):
        print_table(("FIELD", "TYPE", "FLAGS", "SETTINGS"), rows_of(store["fields"]))


@stores.command("delete")
@on_hub
async def delete(
    client: Client,
    name: Name,
    with_entities: Annotated[bool, typer.Option("--with-entities", help="Delete its entities first.")] = False,
    yes: Yes = False,
) -> None:
    """Delete a store, which must be empty.

    Example: hub store delete readings --with-entities --yes
    """
    store = await client.require("stores", "name", name)
    total = await count(client, name)
    if total and not with_entities:
        raise Failure(f"the store {name} holds {grouped(total)} entities: add --with-entities to delete them as well")
    confirm(f"Delete the store {name} and its {grouped(total)} entities?", yes)
    await empty(client, name)
    await client.call("DELETE", f"/stores/{store['_id']}")
    say(f"store {name} deleted, {grouped(total)} entities with it" if total else f"store {name} deleted")


async def count(client: Client, name: str) -> int:
    return int((await client.call("GET", path_of(name), params={"meta": "true"}))["count"])


async def empty(client: Client, name: str) -> None:
    """Delete all entities in batches, since a bulk change has a limit."""
    params = {"only": "_id", "limit": str(BATCH)}
    while found := await client.call("GET", path_of(name), params=params):
        batch = {"_id": {"$in": [entity["_id"] for entity in found]}}
        await client.call("DELETE", path_of(name), params={"filter": json.dumps(batch)})


def rows_of(fields: Iterable[Entity], above: str = "") -> Iterator[tuple[object, ...]]:
    """Yield the cells for each field, and for those inside of objects."""
    for field in fields:
        flags = ", ".join(flag for flag in FLAGS if field.get(flag))
        yield f"{above}{field['id']}", field["type"], flags, ", ".join(settings_of(field))
        yield from rows_of(field.get("fields") or (), f"{above}{field['id']}.")


def settings_of(field: Entity) -> Iterator[str]:
    """Yield the settings of a field that are no flags: what a reference leads to, the options, and others."""
    if field.get("store"):
        yield f"to {field['store']}" + (f" by {field['by']}" if field.get("by") else "")
        yield f"on_delete {field.get('on_delete') or 'refuse'}"
    if options := field.get("options"):
        shown = [f"{each['id']}={each['name']}" if each.get("name") else str(each["id"]) for each in options]
        more = f" and {grouped(len(shown) - MOST_OPTIONS)} more" if len(shown) > MOST_OPTIONS else ""
        yield f"options {' | '.join(shown[:MOST_OPTIONS])}{more}"
    for name in SHOWN:
        if field.get(name) is not None:
            value = field[name]
            yield f"{name} {value if isinstance(value, str) else orjson.dumps(value).decode()}"


def read_fields(path: Path) -> list[Any]:
    """Return the fields in a JSON file, which holds an array or a whole definition."""
    try:
        document = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise Failure(f"{path}: not valid JSON: {error}") from error
    fields = document.get("fields") if isinstance(document, dict) else document
    if not isinstance(fields, list):
        raise Failure(f"{path}: holds no array of fields")
    return fields


def read_definition(file: str, name: str) -> dict[str, Any]:
    """Return the definition in a JSON file, or its fields if the file holds an array, without what the hub assigns.
    Raises Failure for the definition of a store with another name."""
    definition = read_parts(file)
    if definition.get("name", name) != name:
        raise Failure(f"{file}: this is the definition of {definition['name']}, not of {name}: change the name in one")
    return {key: value for key, value in definition.items() if key not in ASSIGNED}


def read_parts(file: str) -> dict[str, Any]:
    """Return the parts of a definition in a JSON file, or its fields if the file holds an array."""
    try:
        document = orjson.loads(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except orjson.JSONDecodeError as error:
        raise Failure(f"{file}: not valid JSON: {error}") from error
    if isinstance(document, list):
        return {"fields": document}
    if not isinstance(document, dict):
        raise Failure(f"{file}: holds no definition")
    return document


def parse_option(option: str, text: str) -> Any:
    """Return the value of an option that takes JSON. Raises Misuse."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Misuse(f"{option} {text}: is not JSON: {error}") from error


def parse_index(text: str) -> Any:
    """Return the path, or the index in a JSON text such as ``["status", "-price"]``. The hub checks it."""
    return parse_option("--index", text) if text.startswith(("[", "{")) else text


def index_text(index: Any) -> str:
    """Return an index of a definition as `--index` takes it."""
    return index if isinstance(index, str) else orjson.dumps(index).decode()


def parse_field(text: str) -> dict[str, Any]:
    """Return the field of a text such as ``name:Text:required,unique``. The hub checks its name and type."""
    name, _, rest = text.partition(":")
    type, _, flags = rest.partition(":")
    if not name or not type:
        raise Misuse(f"--field {text}: write NAME:TYPE[:FLAG,...], such as name:Text:required,unique")
    named = [flag for flag in flags.split(",") if flag]
    for flag in named:
        if flag not in FLAGS:
            raise Misuse(f"--field {text}: there is no flag {flag}; known are {', '.join(FLAGS)}")
    return {"id": name, "type": type, **dict.fromkeys(named, True)}
