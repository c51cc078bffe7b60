"""Sends mail in the background: by SMTP, or to files in an outbox folder if no server is configured."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit

import aiosmtplib

from auth.mailboxes import is_mailbox
from stores.bounds import Limit
from stores.errors import CannotOpen

log = logging.getLogger(__name__)

MOST_MAILS: Final[Annotated[int, Limit("process", "mails", "the mail is dropped and logged")]] = 1_000
"""Mails queued for sending."""

MOST_FILES: Final[Annotated[int, Limit("outbox", "files", "the oldest goes")]] = 1_000
"""Mails in the outbox folder."""

SENDERS: Final = 4
"""Mails that are sent at once."""

TRIES: Final = 5
FIRST_PAUSE: Final = 1.0
SEND_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """A mail server. `encrypted` means TLS from the first byte. Otherwise STARTTLS is used if the server offers it; a
    login requires it."""

    host: str
    port: int
    login: str = ""
    password: str = ""
    encrypted: bool = False

    @classmethod
    def parse(cls, url: str) -> SmtpServer:
        """Parse ``smtp://login:password@host:587`` or ``smtps://…``. Raises CannotOpen, whose text does not contain the
        URL."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in ("smtp", "smtps") or not host:
            raise CannotOpen("HUB_SMTP_URL must look like smtp://login:password@host:587 or smtps://host")
        encrypted = parts.scheme == "smtps"
        default = 465 if encrypted else 587 if parts.username else 25
        return cls(host, port or default, unquote(parts.username or ""), unquote(parts.password or ""), encrypted)


@dataclass(slots=True)
class _Mail:
    """A mail, and how often it was tried."""

    message: EmailMessage
    tries: int = 0


def _code_of(error: aiosmtplib.SMTPResponseException | aiosmtplib.SMTPRecipientsRefused) -> int:
    """Return the code of the answer. A mail has one recipient."""
    return error.recipients[0].code if isinstance(error, aiosmtplib.SMTPRecipientsRefused) else error.code


class Mailer:
    """Queues and sends mails. If `server` is None, mails become files in `outbox`, readable by its owner only."""

    def __init__(self, server: SmtpServer | None, outbox: Path, sender: str) -> None:
        self._server = server
        self._target = f"{server.host}:{server.port}" if server else str(outbox)
        self._outbox = outbox
        self._sender = sender
        self._waiting: asyncio.Queue[_Mail] = asyncio.Queue()
        self._paused = 0
        """Mails that are to be tried again, and do not wait in the queue yet."""

    def send(self, to: str, subject: str, text: str) -> None:
        """Queue a mail and return at once."""
        if not is_mailbox(to):  # an older version or another program may have stored any text; a link is for one person
            log.warning("a mail has no usable address and is dropped")
            return
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, to, subject
        message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=self._sender.rpartition("@")[2])
        # Links must not be wrapped, so that they can be copied from the mail's source or from an outbox file.
        plain = "8bit" if self._server is None else "7bit" if text.isascii() else None
        message.set_content(text, cte=plain)
        if self._waiting.qsize() + self._paused < MOST_MAILS:
            self._waiting.put_nowait(_Mail(message))
        else:
            log.error("a mail is dropped: %s are waiting to be sent", MOST_MAILS)

    async def run(self) -> None:
        """Send the queued mails, until cancelled: some at once, so that a slow mailbox holds up no others."""
        async with asyncio.TaskGroup() as group:
            for _ in range(1 if self._server is None else SENDERS):
                group.create_task(self._send_all())

    async def _send_all(self) -> None:
        while True:
            mail = await self._waiting.get()
            if await self._is_settled(mail.message):
                continue
            mail.tries += 1
            if mail.tries < TRIES:
                self._paused += 1
                asyncio.get_running_loop().call_later(FIRST_PAUSE * 2 ** (mail.tries - 1), self._again, mail)
            else:
                log.error("a mail is given up after %s attempts", TRIES)

    def _again(self, mail: _Mail) -> None:
        self._paused -= 1
        self._waiting.put_nowait(mail)

    async def _is_settled(self, message: EmailMessage) -> bool:
        """Hand the mail over. Return False if that failed, and may succeed later."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._hand_over(message)
        except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused) as error:
            code = _code_of(error)
            if code >= 500:  # permanent failure
                log.error("a mail was refused by the mail server %s: %s", self._target, code)
                return True
            log.warning("a mail is not yet taken by the mail server %s: %s", self._target, code)
            return False
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            log.warning("a mail could not be sent by %s: %s", self._target, type(error).__name__)
            return False
        except Exception as error:  # whatever happens, the mails behind this one must be sent
            log.error("a mail cannot be sent and is dropped: %s", type(error).__name__)
        return True

    async def _hand_over(self, message: EmailMessage) -> None:
        server = self._server
        if server is None:
            log.info("a mail is in %s", await asyncio.to_thread(self._write, message))
            return
        await aiosmtplib.send(
            message,
            hostname=server.host,
            port=server.port,
            username=server.login or None,
            password=server.password or None,
            use_tls=server.encrypted,
            start_tls=None if server.encrypted or not server.login else True,
            timeout=SEND_SECONDS,
        )

    def _write(self, message: EmailMessage) -> Path:
        """Write a mail to the outbox, and remove the oldest ones beyond `MOST_FILES`; return its file."""
        self._outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns()}-{secrets.token_hex(4)}.eml"
        path = self._outbox / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(message.as_bytes())
        for old in sorted(self._outbox.glob("*.eml"))[:-MOST_FILES]:
            old.unlink(missing_ok=True)
        return path
