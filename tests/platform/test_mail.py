"""Mails go to a real SMTP server or into the outbox, in the background, through a bounded queue."""

from __future__ import annotations

import asyncio
import email
import email.policy
import logging
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiosmtpd.smtp import AuthResult, Envelope

from hub.mail import MOST_FILES, MOST_MAILS, Mailer, SmtpServer
from stores.errors import CannotOpen
from tests.support.hub import eventually
from tests.support.ports import free_port
from tests.support.smtp import Inbox, smtp_server
from tests.support.tasks import end


@asynccontextmanager
async def running(mailer: Mailer) -> AsyncIterator[Mailer]:
    task = asyncio.create_task(mailer.run())
    try:
        yield mailer
    finally:
        await end(task)


async def test_a_mail_reaches_an_smtp_server(tmp_path: Path) -> None:
    inbox = Inbox()
    async with smtp_server(inbox) as port:
        server = SmtpServer.parse(f"smtp://127.0.0.1:{port}")
        async with running(Mailer(server, tmp_path, "hub@example.com")) as mailer:
            mailer.send("ann@example.com", "Grüße", "Guten Tag\n")
            await eventually(lambda: _arrived(inbox))
    [message] = inbox.messages
    assert (message["from"], message["to"]) == ("hub@example.com", "ann@example.com")
    assert "Guten Tag" in str(message.get_payload())
    assert message["message-id"].endswith("@example.com>")


async def _arrived(inbox: Inbox) -> bool:
    return bool(inbox.messages)


async def test_without_a_server_mails_are_files_for_the_owner_alone(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    async with running(Mailer(None, outbox, "hub@example.com")) as mailer:
        mailer.send("ann@example.com", "Hello", "Guten Tag\n")

        async def written() -> list[Path]:
            return [path for path in outbox.glob("*.eml") if path.stat().st_size] if outbox.exists() else []

        [path] = await eventually(written)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(outbox.stat().st_mode) == 0o700
    message = email.message_from_bytes(await asyncio.to_thread(path.read_bytes), policy=email.policy.default)
    assert message["to"] == "ann@example.com"
    assert message.get_content() == "Guten Tag\n"


async def test_without_a_server_the_log_says_in_which_file_a_mail_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hub.mail")
    outbox, addresses = tmp_path / "outbox", ("ann@example.com", "bob@example.com")
    async with running(Mailer(None, outbox, "hub@example.com")) as mailer:
        for address in addresses:
            mailer.send(address, "Hello", f"Guten Tag, {address}\n")

        async def logged() -> list[str]:
            said = [record.getMessage() for record in caplog.records if record.name == "hub.mail"]
            return said if len(said) == len(addresses) else []

        said = await eventually(logged)
    for address, text in zip(addresses, said, strict=True):
        path = Path(text.removeprefix("a mail is in "))
        assert text == f"a mail is in {outbox / path.name}"
        message = email.message_from_bytes(await asyncio.to_thread(path.read_bytes), policy=email.policy.default)
        assert (message["to"], message.get_content()) == (address, f"Guten Tag, {address}\n")


@pytest.mark.parametrize(
    "several",
    [
        "ann@example.com, bob@example.com",
        "Friends: ann@example.com, bob@example.com;",
        "=?utf-8?q?ann=40example.com=2Cbob?=@example.com",
        "ann@",
        "ann@[",
        '"',
        ",.<\\>'b",
    ],
)
async def test_a_mail_goes_to_one_address(tmp_path: Path, several: str) -> None:
    """A link to reset a password goes to one person, even if the user's field has several addresses or breaks the
    parser of addresses."""
    outbox = tmp_path / "outbox"
    async with running(Mailer(None, outbox, "hub@example.com")) as mailer:
        mailer.send(several, "Hello", "Guten Tag\n")
        mailer.send("ann@example.com", "Hello", "Guten Tag\n")

        async def written() -> list[Path]:
            return [path for path in outbox.glob("*.eml") if path.stat().st_size] if outbox.exists() else []

        [path] = await eventually(written)
    message = email.message_from_bytes(await asyncio.to_thread(path.read_bytes), policy=email.policy.default)
    assert message["to"] == "ann@example.com"


LINK = "http://127.0.0.1:8000/api/v1/auth/reset/confirm#token=" + "a1" * 80


@pytest.mark.parametrize("name", ["ann", "Zoë"])
async def test_a_link_can_be_copied_from_a_file_of_the_outbox(tmp_path: Path, name: str) -> None:
    outbox = tmp_path / "outbox"
    async with running(Mailer(None, outbox, "hub@example.com")) as mailer:
        mailer.send("ann@example.com", "Hello", f"For {name}:\n{LINK}\n")

        async def written() -> list[str]:
            return [path.read_text("utf-8") for path in outbox.glob("*.eml") if path.stat().st_size]

        [text] = await eventually(written)
    assert f"For {name}:\n{LINK}\n" in text


async def test_a_link_in_a_mail_is_one_line_of_it(tmp_path: Path) -> None:
    inbox = Inbox()
    async with smtp_server(inbox) as port:
        server = SmtpServer.parse(f"smtp://127.0.0.1:{port}")
        async with running(Mailer(server, tmp_path, "hub@example.com")) as mailer:
            mailer.send("ann@example.com", "Hello", f"Here:\n{LINK}\n")
            await eventually(lambda: _arrived(inbox))
    assert LINK in inbox.messages[0].as_string().splitlines()


async def test_the_outbox_keeps_the_newest_mails(tmp_path: Path) -> None:
    for number in range(MOST_FILES + 5):
        (tmp_path / f"{number:08}.eml").touch()
    async with running(Mailer(None, tmp_path, "hub@example.com")) as mailer:
        mailer.send("ann@example.com", "Hello", "Hello\n")

        await eventually(lambda: asyncio.to_thread(lambda: len(list(tmp_path.glob("*.eml"))) == MOST_FILES))
    assert not (tmp_path / "00000000.eml").exists()


async def test_mails_beyond_the_queue_are_dropped_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mailer = Mailer(None, tmp_path, "hub@example.com")
    for _ in range(MOST_MAILS + 1):
        mailer.send("ann@example.com", "Hello", "Hello\n")
    ours = [record for record in caplog.records if record.name.startswith("hub.")]
    assert [record.levelname for record in ours] == ["ERROR"]


@pytest.mark.parametrize("address", ["ann@example.com\nBcc: all@example.com", "ann@example.com\r\n\r\nbody"])
async def test_an_address_cannot_add_headers(address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Mailer(None, tmp_path, "hub@example.com").send(address, "Hello", "Hello\n")
    assert "no usable address" in caplog.text


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.example.com", SmtpServer("mail.example.com", 25)),
        ("smtp://mail.example.com:2525", SmtpServer("mail.example.com", 2525)),
        ("smtp://ann:p%40ss@mail.example.com", SmtpServer("mail.example.com", 587, "ann", "p@ss")),
        ("smtps://ann:p@mail.example.com", SmtpServer("mail.example.com", 465, "ann", "p", encrypted=True)),
    ],
)
def test_the_url_of_a_server(url: str, server: SmtpServer) -> None:
    assert SmtpServer.parse(url) == server


@pytest.mark.parametrize("url", ["mail.example.com", "http://x", "smtp://", "smtp://ann:secret@host:port"])
def test_a_wrong_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(CannotOpen, match="HUB_SMTP_URL") as refused:
        SmtpServer.parse(url)
    assert "secret" not in str(refused.value)


async def test_a_login_is_never_sent_in_clear(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the server offers a login only without TLS, the mail is not sent."""
    tried: list[object] = []

    def authenticate(*arguments: object) -> AuthResult:
        tried.append(arguments)
        return AuthResult(success=True)

    inbox = Inbox()
    options = {"authenticator": authenticate, "auth_require_tls": False}
    async with smtp_server(inbox, **options) as port:
        server = SmtpServer.parse(f"smtp://ann:secret@127.0.0.1:{port}")
        async with running(Mailer(server, tmp_path, "hub@example.com")) as mailer:
            mailer.send("ann@example.com", "Hello", "Hello\n")
            await eventually(lambda: _logged(caplog))
    assert not tried
    assert not inbox.messages


async def test_the_log_names_the_server_that_takes_no_mail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    server = SmtpServer.parse(f"smtp://ann:secret@127.0.0.1:{port}")
    async with running(Mailer(server, tmp_path, "hub@example.com")) as mailer:
        mailer.send("bob@example.com", "Hello", "Hello\n")
        await eventually(lambda: _logged(caplog))
    assert f"could not be sent by 127.0.0.1:{port}: SMTPConnectError" in caplog.text
    assert "secret" not in caplog.text


async def _logged(caplog: pytest.LogCaptureFixture) -> bool:
    return "could not be sent" in caplog.text


class Picky(Inbox):
    """A server that answers mailboxes by their names: `450@example.com` with 450."""

    async def handle_RCPT(  # noqa: N802
        self, server: object, session: object, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        name = address.partition("@")[0]
        if name.isdigit():
            return f"{name} not this one"
        envelope.rcpt_tos.append(address)
        return "250 OK"


async def test_mailboxes_that_are_refused_or_slow_hold_up_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal is for good, and is not repeated."""
    inbox = Picky()
    async with smtp_server(inbox) as port:
        server = SmtpServer.parse(f"smtp://127.0.0.1:{port}")
        async with running(Mailer(server, tmp_path, "hub@example.com")) as mailer:
            for address in [*["550@example.com"] * 10, *["450@example.com"] * 10, "ann@example.com"]:
                mailer.send(address, "Hello", "Guten Tag\n")
            await eventually(lambda: _arrived(inbox))
            refusals = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [mail["to"] for mail in inbox.messages] == ["ann@example.com"]
    assert [record.getMessage() for record in refusals] == [
        f"a mail was refused by the mail server 127.0.0.1:{port}: 550"
    ] * 10
