"""The output and effects of `hub key`, on a real hub."""

from __future__ import annotations

import re

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
