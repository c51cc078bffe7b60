"""The output and effects of `hub key`, on a real hub."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from tests.cli.conftest import CommandLine


def test_a_key_is_made_for_a_user_shown_and_revoked(served_hub: CommandLine) -> None:
    hub = served_hub
    hub("user", "add", "kay", "--generate")
    [user] = [each for each in hub.json("user", "list", "--json") if each["login"] == "kay"]
    made = hub("key", "create", "CRM sync", "--kind", "listings", "--user", "kay", "--scope", "RW", "--expires", "30d")
    assert f"key CRM sync made for kay (user_id {user['number']}); its secret, shown this once:" in made.out
    secret = made.last
    assert re.fullmatch(r"RW_[A-Za-z0-9]{32}", secret)
    quiet = hub(
        "key", "create", "site", "--origin", "Example.com", "--origin", "www.example.com", "--quiet"
    ).out.strip()
    assert re.fullmatch(r"R_[A-Za-z0-9]{32}", quiet)
    keys = {key["name"]: key for key in hub.json("key", "list", "--json")}
    assert (keys["CRM sync"]["user"], keys["CRM sync"]["scope"]) == (user["_id"], "RW")
    assert keys["site"]["allowed_origins"] == ["example.com", "www.example.com"]
    listed = hub("key", "list").out
    assert secret not in listed
    assert quiet not in listed
    assert re.search(rf"CRM sync +listings +{secret[:9]} +RW +{user['_id']} +all ", listed)
    assert hub("key", "revoke", "CRM sync", "--yes").last == "key CRM sync revoked"
    hub("key", "revoke", keys["site"]["_id"], "--yes")
    assert hub.json("key", "list", "--json") == []


def account(hub: CommandLine, number: int, secret: str) -> httpx.Response:
    """Ask the listings API for the account of a user, with a key."""
    url = json.loads((hub.folder / "data" / "hub.json").read_text())["url"]
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.get(f"{url}/v1/{number}/account/", headers=headers, trust_env=False, verify=False)


@pytest.mark.parametrize("scope", ["R", "RW"])
def test_a_key_opens_the_listings_api_until_it_is_revoked(served_hub: CommandLine, scope: str) -> None:
    hub, login, name = served_hub, f"lee-{scope.lower()}", f"site with {scope}"
    hub("user", "add", login, "--generate")
    [user] = [each for each in hub.json("user", "list", "--json") if each["login"] == login]
    secret = hub("key", "create", name, "--user", login, "--scope", scope, "--quiet").last
    answer = account(hub, user["number"], secret)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["id"], shown["username"]) == (user["number"], login)
    assert shown["key"] == {"name": name, "scope": scope, "allowed_origins": []}
    hub("key", "revoke", name, "--yes")
    answer = account(hub, user["number"], secret)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid API key."})


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("create", "x", "--kind", "shop"), 1, "kind: "),
        (("create", "x", "--scope", "W"), 1, "scope: "),
        (("create", "x", "--origin", "https://example.com"), 1, "allowed_origins: Must be hostnames"),
        (("create", "x", "--user", "nobody"), 1, "no user with the login 'nobody'"),
        (("create", "x", "--expires", "soon"), 2, "--expires soon: give a duration such as 30d"),
        (("revoke", "nosuch"), 1, "no key with the name 'nosuch'"),
    ],
)
def test_what_cannot_be_done_is_said(served_hub: CommandLine, arguments: tuple[str, ...], code: int, said: str) -> None:
    assert said in served_hub("key", *arguments, code=code).err
