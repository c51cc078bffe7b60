"""A real SMTP server that keeps the mails it gets."""

from __future__ import annotations

import asyncio
import email.message
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiosmtpd.handlers import Message
from aiosmtpd.smtp import SMTP


class Inbox(Message):
    """An SMTP handler that keeps the received mails."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[email.message.Message] = []

    def handle_message(self, message: email.message.Message) -> None:
        self.messages.append(message)


@asynccontextmanager
async def smtp_server(inbox: Inbox, **options: object) -> AsyncIterator[int]:
    """Run a real SMTP server on a free loopback port; yield the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(inbox, **options), "127.0.0.1", 0)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
