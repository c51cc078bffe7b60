"""The output and effects of `hub user`, `hub token` and `hub store`, on real hubs."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from stores.records import SYSTEM_FIELDS, Entity, now_ms
from tests.cli.conftest import CommandLine


def control(hub: CommandLine) -> dict[str, Any]:
    return dict(json.loads((hub.folder / "data" / "hub.json").read_text()))


def sign_in(hub: CommandLine, login: str, password: str) -> int:
    body = {"login": login, "password": password}
    return httpx.post(f"{control(hub)['url']}/api/v1/auth", json=body, trust_env=False).status_code


def get(hub: CommandLine, path: str, token: str) -> httpx.Response:
    return httpx.get(
        f"{control(hub)['url']}/api/v1{path}", headers={"Authorization": f"Bearer {token}"}, trust_env=False
    )


def user(hub: CommandLine, login: str) -> dict[str, Any]:
    [found] = [user for user in hub.json("user", "list", "--json") if user["login"] == login]
    return dict(found)


def test_a_user_comes_changes_and_goes(hub_of_each_engine: CommandLine) -> None:
    hub = hub_of_each_engine
    assert hub("user", "add", "ada", "--name", "Ada", "--password", "first-password").last == "user ada added"
    changed = hub("user", "password", "ada", "--password", "other-password")
    assert changed.last == "password of ada changed"
    assert "its tokens and keys too" in changed.err
    assert hub("user", "disable", "ada").last == "user ada disabled"
    assert user(hub, "ada")["disabled"] is True
    assert hub("user", "enable", "ada").last == "user ada enabled"
    with hub.serving():
        assert sign_in(hub, "ada", "first-password") == 401
        assert sign_in(hub, "ada", "other-password") == 200
        assert hub("user", "delete", "ada", "--yes").last == "user ada deleted"
        assert sign_in(hub, "ada", "other-password") == 401


def test_the_first_password_is_shown_once_and_works(empty_hub: CommandLine) -> None:
    server = empty_hub.start("serve", "--port", "0")
    try:
        empty_hub.wait_for_url(server)
        assert server.stdout is not None
        [password] = re.findall(r"sign in as 'admin' with the password (\S+)", server.stdout.readline().decode())
        assert sign_in(empty_hub, "admin", password) == 200
    finally:
        server.terminate()
        server.communicate()
    assert empty_hub("user", "list").err == ""


def test_a_user_has_a_group_and_roles(served_hub: CommandLine) -> None:
    served_hub("import", "groups", "-", input='{"name": "crew"}')
    served_hub("import", "roles", "-", input='{"name": "reader", "scopes": ["GET /*"]}')
    served_hub("user", "add", "eve", "--email", "e@x.org", "--group", "crew", "--role", "reader", "--generate")
    [group], [role] = served_hub.rows("groups"), [r for r in served_hub.rows("roles") if r["name"] == "reader"]
    assert user(served_hub, "eve")["group"] == group["_id"]
    assert user(served_hub, "eve")["roles"] == [role["_id"]]
    assert re.search(r"^eve +e@x\.org +crew +reader *$", served_hub("user", "list").out, re.MULTILINE)


def test_imported_users_keep_their_group(served_hub: CommandLine) -> None:
    served_hub("import", "groups", "-", input='{"name": "imported"}')
    [group] = [each["_id"] for each in served_hub.rows("groups") if each["name"] == "imported"]
    row = json.dumps({"_id": "0123456789abcdef01234567", "login": "ida", "group": group, "branch": [], "_rev": 7})
    assert served_hub("import", "users", "-", input=row).last == "1 imported, 0 refused"
    assert user(served_hub, "ida")["group"] == group


def test_a_generated_password_is_printed_and_works(served_hub: CommandLine) -> None:
    [password] = re.findall(r"^password: (\S+)$", served_hub("user", "add", "gus", "--generate").out, re.MULTILINE)
    assert sign_in(served_hub, "gus", password) == 200


def test_a_password_comes_from_standard_input(served_hub: CommandLine) -> None:
    served_hub("user", "add", "sam", "--password-stdin", input="from standard input\n")
    assert sign_in(served_hub, "sam", "from standard input") == 200


def test_a_token_opens_what_its_scopes_say_until_it_is_revoked(served_hub: CommandLine) -> None:
    served_hub("store", "create", "units")
    made = served_hub("token", "create", "dash", "--scope", "GET /units/*", "--expires", "30d")
    secret = made.last
    assert get(served_hub, "/units", secret).status_code == 200
    assert get(served_hub, "/users", secret).status_code == 403
    [token] = [t for t in served_hub.json("token", "list", "--json") if t["name"] == "dash"]
    assert 29 * 86_400_000 < token["expires"] - now_ms() <= 30 * 86_400_000
    assert secret not in served_hub("token", "list").out
    assert served_hub("token", "revoke", "dash", "--yes").last == "token dash revoked"
    assert get(served_hub, "/units", secret).status_code == 401


def test_a_token_may_act_as_somebody_else(served_hub: CommandLine) -> None:
    served_hub("user", "add", "tom", "--generate")
    secret = served_hub("token", "create", "toms", "--user", "tom", "--expires", "2099-01-31", "--quiet").out.strip()
    assert get(served_hub, "/auth", secret).json()["login"] == "tom"
    assert re.search(r"toms .* 2099-01-31 00:00", served_hub("token", "list").out)


def test_expired_tokens_are_told_from_others(served_hub: CommandLine) -> None:
    served_hub("token", "create", "lasting", "--expires", "2099-01-31")
    running = control(served_hub)
    body, headers = {"name": "brief", "expires": now_ms() + 3_000}, {"Authorization": f"Bearer {running['token']}"}
    url = f"{running['url']}/api/v1/tokens"
    httpx.post(url, json=body, headers=headers, trust_env=False, verify=False).raise_for_status()
    [brief] = [t for t in served_hub.json("token", "list", "--json") if t["name"] == "brief"]
    while now_ms() <= brief["expires"]:
        time.sleep(0.01)
    listed = served_hub("token", "list").out
    assert re.search(r"brief .*, expired", listed)
    assert not re.search(r"lasting .*, expired", listed)


def test_tokens_of_one_name_are_told_apart_by_id(served_hub: CommandLine) -> None:
    for _ in range(2):
        served_hub("token", "create", "twin")
    refused = served_hub("token", "revoke", "twin", "--yes", code=1).err
    ids = [t["_id"] for t in served_hub.json("token", "list", "--json") if t["name"] == "twin"]
    assert all(id in refused for id in ids)
    served_hub("token", "revoke", ids[0], "--yes")
    served_hub("token", "revoke", "twin", "--yes")
    assert "twin" not in served_hub("token", "list").out


def test_a_store_is_defined_shown_and_deleted(hub_of_each_engine: CommandLine) -> None:
    hub = hub_of_each_engine
    fields = ("--field", "name:Text:required,unique,search", "--field", "speed:Number:index")
    indexes = ("--index", "a.b", "--index", '["name","-speed"]', "--index", '{"fields":["x"],"where":{"y":1}}')
    assert hub("store", "create", "units", *fields, *indexes, "--open").last == "store units created"
    definition = hub.json("store", "show", "units", "--json")
    assert definition["fields"] == [
        {"id": "name", "type": "Text", "required": True, "unique": True, "search": True},
        {"id": "speed", "type": "Number", "index": True},
    ]
    assert definition["indexes"] == ["a.b", ["name", "-speed"], {"fields": ["x"], "where": {"y": 1}}]
    assert definition["open"] is True
    hub("import", "units", "-", input='{"name": "a", "other": 1}\n{"name": "b"}\n')
    shown = hub("store", "show", "units").out
    assert "units: 2 entities" in shown
    assert 'indexes: a.b, ["name","-speed"], {"fields":["x"],"where":{"y":1}}' in shown
    assert re.search(r"^name +Text +required, unique, search *$", shown, re.MULTILINE)
    assert re.search(r"^units +2 +2 *$", hub("store", "list").out, re.MULTILINE)
    assert "add --with-entities" in hub("store", "delete", "units", "--yes", code=1).err
    assert hub("store", "delete", "units", "--with-entities", "--yes").last == "store units deleted, 2 entities with it"
    assert "units" not in hub("store", "list").out


def test_fields_come_from_a_file(served_hub: CommandLine) -> None:
    fields: list[Entity] = [{"id": "n", "type": "Number"}, {"id": "t", "type": "Text"}]
    fields += [{"id": "grade", "type": "Select", "options": [{"id": 1, "name": "One"}]}]
    served_hub.file("array.json", json.dumps(fields))
    served_hub.file("whole.json", json.dumps({"name": "ignored", "fields": fields}))
    for name in ("array", "whole"):
        served_hub("store", "create", name, "--fields", f"{name}.json", "--unique", "n", "--search", "t")
        definition = served_hub.json("store", "show", name, "--json")
        assert (definition["fields"], definition["unique"], definition["search"]) == (fields, ["n"], ["t"])


def test_a_definition_that_was_shown_is_created_again(served_hub: CommandLine) -> None:
    """Without what the hub assigns, for the same name; options replace parts of it."""
    hub = served_hub
    parts = ("--index", "m", "--search", "s", "--open", "--field", "m:Number", "--field", "s:Text", "--field", "t:Text")
    hub(
        "store",
        "create",
        "again",
        "--fields",
        hub.file("f.json", '[{"id": "n", "type": "Serial", "start": 5}]'),
        *parts,
    )
    hub("store", "update", "again", "--label", "Again")
    shown = hub.json("store", "show", "again", "--json")
    hub("store", "delete", "again", "--yes")
    file = hub.file("again.json", json.dumps(shown))
    for source, options in (("again.json", ()), ("-", ("--search", "t", "--closed"))):
        assert hub("store", "create", "again", source, *options, input=json.dumps(shown)).last == "store again created"
        made = hub.json("store", "show", "again", "--json")
        changed = {"search": ["t"], "open": False} if options else {}
        expected = shown | changed
        assigned = SYSTEM_FIELDS
        assert {k: v for k, v in made.items() if k not in assigned} == {
            k: v for k, v in expected.items() if k not in assigned
        }
        hub("store", "delete", "again", "--yes")
    assert "this is the definition of again, not of other" in hub("store", "create", "other", file, code=1).err


def test_what_fields_lead_to_and_take_is_shown(served_hub: CommandLine) -> None:
    hub = served_hub
    fields = [
        {"id": "by", "type": "Reference", "store": "users", "by": "login", "on_delete": "cascade", "required": True},
        {"id": "to", "type": "Reference", "store": "users"},
        {"id": "grade", "type": "Select", "options": [{"id": 1, "name": "One"}, {"id": "b", "name": "Two"}]},
        {"id": "of", "type": "Object", "fields": [{"id": "n", "type": "Number", "min": 1, "default": 2}]},
    ]
    hub("store", "create", "settings", hub.file("s.json", json.dumps(fields)))
    shown = [re.split(r" {2,}", line.strip()) for line in hub("store", "show", "settings").out.splitlines()[1:]]
    assert shown == [
        ["FIELD", "TYPE", "FLAGS", "SETTINGS"],
        ["by", "Reference", "required", "to users by login, on_delete cascade"],
        ["to", "Reference", "to users, on_delete refuse"],
        ["grade", "Select", "options 1=One | b=Two"],
        ["of", "Object"],
        ["of.n", "Number", "default 2, min 1"],
    ]


def test_a_store_is_emptied_in_batches(served_hub: CommandLine) -> None:
    served_hub("import", "many", "-", "--create", input="".join(f'{{"n": {n}}}\n' for n in range(2_500)))
    served_hub("store", "delete", "many", "--with-entities", "--yes")
    assert "many" not in served_hub("store", "list").out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("user", "add", "admin", "--generate"), 1, "login: Another entity has this value."),
        (("user", "add", "x", "--password", "short"), 1, "password: Must be at least 8 characters long."),
        (("user", "add", "x", "--generate", "--group", "nosuch"), 1, "no group with the name 'nosuch'"),
        (("user", "add", "x", "--generate", "--role", "nosuch"), 1, "no role with the name 'nosuch'"),
        (("user", "add", "x", "--generate", "--password-stdin"), 2, "choose one of"),
        (("user", "add", "x"), 2, "nobody is there to type a password"),
        (("user", "add"), 2, "Missing argument 'login'"),
        (("user", "password", "nosuch", "--generate"), 1, "no user with the login 'nosuch'"),
        (("user", "delete", "admin"), 2, "nobody is there to be asked: add --yes"),
        (("user", "delete", "admin", "--yes"), 1, "last administrator"),
        (("token", "create", "x", "--scope", "FETCH /units"), 1, "'FETCH /units' is not a scope"),
        (("token", "create", "x", "--expires", "soon"), 2, "--expires soon: give a duration such as 30d"),
        (("token", "create", "x", "--expires", "2001-01-01"), 1, "expires: Must be a time to come."),
        (("token", "revoke", "nosuch"), 1, "no token with the name 'nosuch'"),
        (("store", "create", "users"), 1, "name: "),
        (("store", "create", "x", "--field", "name"), 2, "write NAME:TYPE[:FLAG,...]"),
        (("store", "create", "x", "--field", "name:Text:uniqe"), 2, "there is no flag uniqe"),
        (("store", "create", "x", "--index", "[a"), 2, "is not JSON"),
        (("store", "create", "x", "--field", "name:Txt"), 1, "Must be one of Boolean"),
        (("store", "create", "x", "--fields", "nosuch.json"), 1, "nosuch.json: No such file"),
        (("store", "show", "nosuch"), 1, "no store with the name 'nosuch'"),
        (("store", "list", "--url", "http://127.0.0.1:9"), 2, "--url needs a token"),
        (("store", "list", "--url", "http://127.0.0.1:9", "--token", "x"), 1, "no answer from http://127.0.0.1:9"),
        (("nosuch",), 2, "No such command 'nosuch'"),
    ],
)
def test_whatever_is_wrong_is_said_in_one_line(
    served_hub: CommandLine, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = served_hub(*arguments, code=code)
    assert message in done.err
    assert re.fullmatch(r"hub: [^\n]+\n", done.err)


def test_a_wrong_token_is_refused(served_hub: CommandLine) -> None:
    served = control(served_hub)["url"]
    assert served_hub("store", "list", "--url", served, "--token", "wrong", code=1).err == "hub: Unauthorized\n"
    api = f"{served}/api/v1/"
    assert served_hub("store", "list", "--url", api, "--token", "wrong", code=1).err == "hub: Unauthorized\n"


def test_a_wrong_setting_is_named(hub: CommandLine) -> None:
    hub.variables = {"HUB_PORT": "many"}
    assert re.fullmatch(r"hub: HUB_PORT: [^\n]+\n", hub("user", "list", code=1).err)


def test_a_database_that_cannot_be_opened_is_named(hub: CommandLine) -> None:
    (hub.folder / "data" / "hub.db").write_text("this is no database " * 100)
    assert re.fullmatch(r"hub: [^\n]*hub\.db[^\n]*\n", hub("user", "list", code=1).err)


def test_a_note_of_a_hub_that_crashed_is_not_believed(hub: CommandLine) -> None:
    hub("store", "create", "units")
    note = {"pid": 1, "url": "http://127.0.0.1:9", "token": "stale"}
    (hub.folder / "data" / "hub.json").write_text(json.dumps(note))
    assert "units" in hub("store", "list").out


def test_text_from_the_hub_cannot_steer_the_terminal(served_hub: CommandLine) -> None:
    served_hub("import", "groups", "-", input='{"name": "\\u001b[31mred[bold]"}')
    [group] = [g for g in served_hub.rows("groups") if "red" in g["name"]]
    served_hub("user", "add", "mallory", "--name", "\x1bmallory", "--generate", "--group", group["_id"])
    shown = served_hub("user", "list").out
    assert "\x1b" not in shown
    assert "\\x1bmallory" in shown
    assert "\\x1b[31mred[bold]" in shown


def test_a_command_without_a_rest_shows_its_help(empty_hub: CommandLine) -> None:
    assert "Commands" in empty_hub(code=2).out
    assert "password" in empty_hub("user", code=2).out
    assert empty_hub("user", "add", "--help").code == 0
    usage = " ".join(empty_hub("store", "create", "--help").out.replace("│", " ").split())
    assert "required, unique, index, search, hidden" in usage
    assert "or with a definition" in usage
    assert not (empty_hub.folder / "data").exists()


def test_another_data_folder_can_be_named(hub: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "other")
    hub("store", "create", "units", "--data-dir", str(tmp_path / "other"))
    assert "units" in hub("store", "list", "--data-dir", str(tmp_path / "other")).out
    assert not (tmp_path / "data").exists()
