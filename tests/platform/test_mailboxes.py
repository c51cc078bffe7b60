"""A user's e-mail address is one plain address, because it becomes the header of a mail with a secret."""

from __future__ import annotations

import email
import email.policy
import json
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from auth.mailboxes import LONGEST, PATTERN, is_mailbox
from hub.services.registry import StoreRegistry
from hub.settings import Settings
from stores.protocol import Update
from tests.platform.answers import good, refused
from tests.support.engines import Database, opened
from tests.support.hub import Client, Hub, entity_of, eventually, running_hub, unique

PASSWORD = "open sesame 1"
GOOD = (
    "ann@example.com",
    "ann.lee+news=1@mail.example.co.uk",
    "o'hara@ex-ample.com",
    "ann@xn--mller-kva.example",
    "hub@localhost",
    "x" * (LONGEST - 6) + "@b.org",
)
BAD = (
    "",
    " ",
    "ann",
    "ann@",
    "@example.com",
    "ann@example.com, bob@example.com",
    "ann@example.com;bob@example.com",
    "ann@example.com bob@example.com",
    "Ann <ann@example.com>",
    "<ann@example.com>",
    '"ann lee"@example.com',
    "ann(home)@example.com",
    "friends:ann@example.com;",
    "ann@example.com\r\nBcc: bob@example.com",
    "ann@example.com\n",
    "ann@example.com\r",
    "ann@example.com\0",
    " ann@example.com",
    "ann@example.com ",
    "ann\t@example.com",
    "ann\u00a0@example.com",
    "ann\u200b@example.com",
    "ann\u2028@example.com",
    "ann@bob@example.com",
    "ann@example..com",
    "ann@example.com.",
    "ann@[192.0.2.1]",
    "jörg@example.com",
    "ann@müller.example",
    "=?utf-8?q?ann=40example.com=2Cbob?=@example.com",
    "x" * (LONGEST - 5) + "@b.org",
)


def test_an_address_is_judged_alike_by_the_hub_and_by_its_schema() -> None:
    schema = {"type": "string", "pattern": PATTERN, "maxLength": LONGEST}
    for text in GOOD:
        assert is_mailbox(text), text
        jsonschema.validate(text, schema)
    assert not [text for text in BAD if is_mailbox(text)]
    # Python's `$` also matches before a final line feed; that of JSON Schema does not.
    for text in set(BAD) - {"ann@example.com\n"}:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(text, schema)


@pytest.mark.generated(0.01)
@given(st.from_regex(PATTERN, fullmatch=True) | st.text(alphabet='a.@,;:<>()[]"\\ =?_-\r\nqé\u200b', max_size=20))
def test_what_is_taken_becomes_a_header_of_exactly_that_address(text: str) -> None:
    if not is_mailbox(text):
        return
    message = EmailMessage()
    message["To"] = text
    read = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert read.keys() == ["To"]
    for header in (message["To"], read["To"]):
        assert [address.addr_spec for address in header.addresses] == [text]


async def test_every_way_of_writing_a_user_takes_one_plain_address_alone(hub: Hub, admin: Client) -> None:
    user = await hub.as_user(PASSWORD)
    session = await hub.as_session(user.user["login"], PASSWORD)
    path, login = f"/users/{user.id}", user.user["login"]
    for text in BAD:
        refused(await admin.post("/users", {"login": unique("user"), "email": text}), 400, "email")
        refused(await admin.patch(path, {"email": text}), 400, "email")
        refused(await admin.put(path, {"login": login, "email": text}), 400, "email")
    own = {"email": BAD[5], "current_password": PASSWORD}
    refused(await session.patch(path, own), 400, "email")
    several = [{"login": unique("user"), "email": text} for text in (GOOD[0], BAD[5])]
    refused(await admin.post("/users", several), 400)
    assert not await admin.list("users", {"filter": json.dumps({"login": several[0]["login"]})})
    for text in GOOD:
        assert good(await admin.patch(path, {"email": text}))["email"] == text
    assert good(await admin.patch(path, {"email": None}))["email"] is None
    assert "email" not in (await admin.make("users", {"login": unique("user")}))


async def test_the_document_says_which_addresses_are_taken(admin: Client) -> None:
    """The pattern is in the request's schema only, because answers may contain older addresses."""
    schemas = good(await admin.get("/openapi.json"))["components"]["schemas"]
    for name in ("users.new", "users.changes", "users.replacement"):
        field = schemas[name]["properties"]["email"]
        assert (field["pattern"], field["maxLength"], field["type"]) == (PATTERN, LONGEST, ["string", "null"])
    assert "pattern" not in schemas["users.entity"]["properties"]["email"]


async def test_an_older_address_can_be_sent_back_and_gets_no_mail(database: Database, tmp_path: Path) -> None:
    """The address was written by an older version or another program. Mails to other users are still sent."""
    folder = tmp_path / "hub"
    async with running_hub(database, folder) as hub:
        old, new = await hub.as_user(email=GOOD[0]), await hub.as_user(email=GOOD[2])
    await write_email(database, old.id, BAD[5])
    async with running_hub(database, folder) as hub:
        shown = entity_of(await hub.admin.get(f"/users/{old.id}"))
        assert shown["email"] == BAD[5]
        assert entity_of(await hub.admin.patch(f"/users/{old.id}", shown | {"name": "New"}))["name"] == "New"
        assert entity_of(await hub.admin.put(f"/users/{old.id}", shown))["email"] == BAD[5]
        for user in (old, new):
            good(await hub.client().post("/auth/reset", {"login": user.user["login"]}))

        async def mails() -> list[Any]:
            files = [path.read_bytes() for path in (folder / "outbox").glob("*.eml")]
            return [email.message_from_bytes(each, policy=email.policy.default)["To"] for each in files if each]

        assert await eventually(mails) == [GOOD[2]]


async def write_email(database: Database, id: str, text: str) -> None:
    async with opened(database.engine()) as engine:
        await StoreRegistry(engine).open()
        await engine.commit([Update("users", id, {"email": text})], None)


@pytest.mark.parametrize(
    "sender", ["Hub <hub@example.com>", "hub@example.com, ann@example.com", "hub", "a@b\nBcc: c@d"]
)
def test_the_sender_is_one_plain_address_too(sender: str) -> None:
    with pytest.raises(ValidationError, match="one e-mail address"):
        Settings(mail_from=sender)
