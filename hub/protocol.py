"""uvicorn's HTTP protocol, with one word of ours: what it refuses by itself is refused in JSON as well."""

from __future__ import annotations

import secrets

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.dialects.platform.render import error_answer
from hub.errors import BadRequest


class HubHttpProtocol(HttpToolsProtocol):
    """Answers what is no HTTP request, or one with a line beyond 64 KiB, in the platform's envelope."""

    def send_400_response(self, msg: str) -> None:
        answer = error_answer(BadRequest("request", msg))
        assert isinstance(answer.body, bytes)
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(answer.body)}\r\n"
            f"x-request-id: {secrets.token_hex(8)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + answer.body)
        self.transport.close()
