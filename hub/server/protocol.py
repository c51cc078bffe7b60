"""uvicorn's HTTP protocol with limits: on the size and time of a request's head, on pipelined input, on the time that a
client takes to read an answer, and on connections. Requests refused before the application runs get JSON answers,
too."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from websockets.http11 import MAX_LINE_LENGTH

from hub.http.connections import CROWD
from hub.http.errors import BadRequest, HeadTooLarge, HubError, Overloaded, WrongWebSocketVersion
from hub.http.scope import BODY, CHARGE, PEER, RELEASE, WHOLE_ANSWER
from hub.server.connection import UNWANTED_SECONDS, ClientConnection
from hub.server.cycle import HubCycle
from hub.server.heads import WEBSOCKET_VERSION, decoded, fault, is_handshake, target_of, values, without_offer
from realtime.engineio.uvicorn_protocol import HubProtocol

EXTENSIONS: Final[dict[str, dict[object, object]]] = {WHOLE_ANSWER: {}}
LARGEST_AT_HAND: Final = 65_536
LAST_ANSWER: Final = HubError("the connection ends with the answer before")
BREAKS: Final = (b"\r", b"\n")
HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ?([0-9]{1,4})\r\n", re.IGNORECASE)
LEAST_HEAD: Final = 14
"""Length of the shortest possible head without `HEAD_END`."""
LEAST_PIECE: Final = 512
"""Bytes of a body that are parsed at once, even if a request may begin among them."""
LARGEST_PIECE: Final = 4_096
"""Largest number of bytes parsed at once: a chunk of a body may be six bytes, and costs as much as one of megabytes."""
AT_ONCE: Final = 1_024
"""Bytes. Input up to this size is parsed on arrival: answering a request takes longer than parsing it."""


class HubHttpProtocol(ClientConnection):
    """Offers whole answers to the application, and passes WebSocket handshakes for `websocket_path` to `HubProtocol`.

    uvicorn parses all its input at once, however many requests that is. It drops its timeout of an idle connection at
    the first byte, and waits indefinitely for a head or for a client that does not read. Here, the parser gets one
    request at a time. Input behind it is buffered, and reading pauses, until the answer has been sent. Whenever the
    application has nothing to do, the client has `limits.seconds` to send a complete head.
    """

    def __init__(self, *args: Any, websocket_path: bytes, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._websocket_path = websocket_path
        self._live_path = websocket_path.decode()
        self._is_in_break = False
        """Whether the input so far ends with the CR of an empty line before a request."""

        # The current head and body.
        self._begins = False
        """Whether a head began in the current piece."""
        self._size = 0
        self._hosts = 0
        self._host = self._expect = self._coding = b""
        self._offers = False
        self._brought = False
        """Whether the current piece contained a part of a body."""
        self._fruitless = 0
        """Bytes since the last part of a body: trailers, or the size of a chunk."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.pipeline.clear()
        super().connection_lost(exc)
        if self.scope is not None:
            # Breaks a reference cycle between scope and connection, which only the garbage collector would free, later.
            self.scope.pop(CHARGE, None)  # type: ignore[misc]
            self.scope.pop(RELEASE, None)  # type: ignore[misc]

    # Reading.

    def data_received(self, data: bytes) -> None:
        if self._refusing is not None:
            if not self._is_answered:
                self.url = target_of(data)
                self._refuse(self._refusing)
            return
        self._unset_keepalive_if_required()
        if self._must_wait():
            self._buffer(data)
        elif self._buffered:
            self._buffer(data, share=1.0)
        elif self._all.unstarted >= CROWD:
            self._buffer(data, share=1.0)
            self._all.in_turn(self._peer, self._take_up)
        elif len(data) > AT_ONCE and self._all.turns.is_over():
            self._buffer(data, share=1.0)
            self._go_on_later()
        else:
            self._feed(data)

    def _must_wait(self) -> bool:
        """Return whether the next request must stay unparsed for now."""
        cycle = self.cycle
        return self.flow.write_paused or (cycle is not None and not cycle.response_complete and not cycle.more_body)

    def _feed(self, data: bytes) -> None:
        if (self._is_in_break or data.startswith(BREAKS)) and self._is_before_a_head():
            data = self._without_empty_lines(data)
            if self._refusing is not None:
                return
        end = data.find(HEAD_END, 0, LARGEST_PIECE) + len(HEAD_END)
        if len(data) <= AT_ONCE and (
            end in (len(HEAD_END) - 1, len(data)) or (self._is_before_a_head() and _is_one_request(data, end))
        ):
            self._parse(data)
        else:
            self._parse_apart(data, end)
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self._waiting is None and self in self.connections:  # not passed to a WebSocket protocol
            self._wait(self._all.patience(self._limits.seconds))

    def _without_empty_lines(self, data: bytes) -> bytes:
        """Return the data without the empty lines before a request (RFC 9112, 2.2). The parser skips them too, but one
        by one, and a CR without LF as well, which is refused here: others may read it in another way."""
        rest = data.lstrip(b"\r\n")
        breaks = b"\r" * self._is_in_break + data[: len(data) - len(rest)]
        self._is_in_break = not rest and breaks.endswith(b"\r")
        if breaks.count(b"\r") != breaks.count(b"\r\n") + self._is_in_break:
            self._refuse(BadRequest("request", "A line ends with CR and LF."))
        return rest

    def _parse_apart(self, data: bytes, end: int) -> None:
        """Parse in pieces, each up to a possible end of a head or body, until a request is complete or this turn
        ends."""
        view, begin, turns = memoryview(data), 0, self._all.turns
        if end < len(HEAD_END):
            end = min(len(data), LARGEST_PIECE)
        while True:
            self._parse(view[begin:end])
            begin = end
            if begin == len(data) or self._refusing is not None or self not in self.connections:
                return
            if self._must_wait():
                self._buffer(data[begin:])
                return
            if len(data) > AT_ONCE and turns.is_over():
                self._buffer(data[begin:], share=1.0)
                self._go_on_later()
                return
            if data.endswith(HEAD_END, 0, begin):
                least = LEAST_HEAD if self._is_between() else LEAST_PIECE
            else:
                least = 1 - len(HEAD_END)
            most = min(len(data), begin + LARGEST_PIECE)
            found = data.find(HEAD_END, begin + least, most)
            end = most if found < 0 else found + len(HEAD_END)

    def _go_on_later(self) -> None:
        """Take up the buffered input in a later turn. Each iteration of the loop starts only some requests, since
        answering takes longer than parsing."""
        if self._is_between():
            self._all.in_turn(self._peer, self._take_up)
        else:
            self._all.turns.later(self._peer.block if self._peer else "", self._take_up)

    def _is_before_a_head(self) -> bool:
        """Return whether the next bytes belong to no request, unless they begin one. After an early answer the rest of
        the body is still to come, and each of its bytes counts."""
        cycle = self.cycle
        return self._arriving is None and (cycle is None or (cycle.response_complete and not cycle.more_body))

    def _is_between(self) -> bool:
        """Return whether the parser is between two requests or inside a head."""
        return self._arriving is not None or self.cycle is None or not self.cycle.more_body

    def _parse(self, piece: bytes | memoryview) -> None:
        self._begins = self._brought = False
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as offer:
            self._offered(piece[offer.args[0] :])
            return
        except httptools.HttpParserError:
            message = "Invalid HTTP request received."
            if self._refusing is None:
                self.logger.warning(message)
            self._refuse(self._refusing or BadRequest("request", message))
            return
        if self._arriving is not None and not self._begins:
            self._arriving += len(piece)
            if self._arriving > self._limits.size:
                self._refuse(HeadTooLarge(self._limits.size).at("max_head_bytes"))
        elif not self._brought and self.cycle is not None and self.cycle.more_body:
            self._fruitless += len(piece)
            if self._fruitless > self._limits.size:
                self._refuse(HeadTooLarge(self._limits.size).at("max_head_bytes"))

    def _offered(self, rest: bytes | memoryview) -> None:
        """Handle an offer to upgrade the connection: the parser has stopped behind the request's head."""
        self._offers = False
        head = (self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers)
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and is_handshake(*head, self._websocket_path):
            self._stop_waiting()
            if values(self.headers, b"sec-websocket-version") != [WEBSOCKET_VERSION]:
                self._refuse(WrongWebSocketVersion("the version of the WebSocket protocol is not 13"))
                return
            self.handle_websocket_upgrade()
            return
        # Any other offer is ignored (RFC 9110, 7.8): parse the request again without it.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._parse(without_offer(*head))
        if len(rest) and self._refusing is None:
            self._parse(rest)

    def handle_websocket_upgrade(self) -> None:
        self.connections.discard(self)
        protocol = HubProtocol(self.config, self.server_state, self.app_state)
        protocol.connection_made(self.transport)
        lines = [b"GET %s HTTP/1.1" % self.url, *(b"%s: %s" % header for header in self.headers), b"", b""]
        protocol.data_received(b"\r\n".join(lines))
        if not protocol.handshake_initiated:  # its parser allows shorter lines than this one's
            self.connections.discard(protocol)
            self.connections.add(self)
            self._refuse(HeadTooLarge(MAX_LINE_LENGTH).at("MAX_LINE_LENGTH"))
            return
        assert self._peer is not None
        protocol.on_lost = partial(self._all.unregister, self._peer)
        protocol.turns = self._all.turns  # only from here on: the handshake itself is parsed at once
        protocol.owner = self._peer.block
        protocol.count_input = partial(self._all.take_input, self._peer)
        self._peer = self.parser = None  # type: ignore[assignment]
        self.transport.set_protocol(protocol)

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arriving = 0
        self._begins = True
        self._size = self._hosts = self._fruitless = 0
        self._expect = self._coding = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._arriving is None:
            return  # a trailer
        name = name.lower()
        self._size += len(name) + len(value)
        if name == b"host":
            self._hosts += 1
            self._host = value
        elif name == b"expect":
            self._expect = value
            self.expect_100_continue = value.lower() == b"100-continue"
        elif name == b"transfer-encoding":
            self._coding += value.strip().lower()
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._arriving = None
        parser = self.parser
        method, version = parser.get_method(), parser.get_http_version()
        if len(self.url) + self._size > self._limits.size:
            self._stop_at(HeadTooLarge(self._limits.size).at("max_head_bytes"))
        error = fault(method, version, self.headers, self._hosts, self._host, self._expect, self._coding)
        if error is not None:
            self._stop_at(error)
        self._offers = parser.should_upgrade()
        if not self._offers:
            self._stop_waiting()
            self._complete_scope(method, version)
            self._begin(
                HubCycle(
                    scope=self.scope,
                    transport=self.transport,
                    flow=self.flow,
                    logger=self.logger,
                    access_logger=self.access_logger,
                    access_log=False,
                    default_headers=self.server_state.default_headers,
                    message_event=asyncio.Event(),
                    expect_100_continue=self.expect_100_continue and version == "1.1",
                    keep_alive=version != "1.0" and parser.should_keep_alive(),
                    on_response=self.on_response_complete,
                )
            )

    def _stop_at(self, error: HubError) -> None:
        self._refusing = error
        raise error  # stops the parser

    def _complete_scope(self, method: bytes, version: str) -> None:
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        scope["method"] = method.decode("ascii")
        scope["http_version"] = version
        scope["path"] = self.root_path + (decoded(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = url.query or b""
        scope["extensions"] = EXTENSIONS
        scope[CHARGE] = self._charge
        scope[RELEASE] = self._give_back
        scope[PEER] = self._peer

    def _begin(self, cycle: HubCycle) -> None:
        before, self.cycle = self.cycle, cycle
        if before is None or before.response_complete:
            self._run(cycle)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _run(self, cycle: HubCycle) -> None:
        self._running = cycle
        self._all.unstarted += 1
        cycle.on_begun = self._all.begun
        task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_body(self, body: bytes) -> None:
        self._brought = True
        self._fruitless = 0
        cycle = self.cycle
        if cycle.response_complete:
            return
        try:
            self._charge(len(body))
        except Overloaded as error:
            self._stop_at(error)
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._offers:
            return
        cycle = self.cycle
        cycle.more_body = False
        if cycle.response_complete:
            return
        cycle.message_event.set()
        if len(cycle.body) <= LARGEST_AT_HAND:
            self.scope[BODY] = bytes(cycle.body)  # type: ignore[literal-required]

    # Between requests.

    def _is_answering(self) -> bool:
        """Return whether a request is being answered. A long poll does not count: its client may have disconnected."""
        running = self._running
        return running is not None and not running.more_body and running.scope["path"] != self._live_path

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        ended, self._running = self._running, None
        self._discharge()
        if self.transport.is_closing():
            self._watch_closing()
        elif ended is not None and ended.is_last:
            self._end_here()
        elif not self.flow.write_paused:
            self._go_on()

    def _end_here(self) -> None:
        """Take no further request after an answer that ends the connection. What the client is still sending is read
        and dropped for a while."""
        self._refusing, self._is_answered = LAST_ANSWER, True
        self.pipeline.clear()
        self._take_buffered()
        self._resume_reading()
        self._linger(UNWANTED_SECONDS)

    def _go_on(self) -> None:
        """Start the next request, once the client has read the previous answer."""
        if self.pipeline:
            cycle, _ = self.pipeline.pop()
            self._run(cast(HubCycle, cycle))
            return
        if self._buffered:
            self._all.in_turn(self._peer, self._take_up)
        else:
            self._resume_reading()
            self._rest()

    def _go_on_reading(self) -> None:
        if self._buffered and not self._must_wait():
            self._go_on_later()

    def _resume_reading(self) -> None:
        if not self._is_ended:
            self.flow.resume_reading()

    def _take_up(self) -> None:
        if self.transport.is_closing() or not self._buffered or self._must_wait():
            return
        buffered = self._take_buffered()
        self._resume_reading()
        self._feed(buffered)
        if self._is_ended and not (self._buffered or self._is_answering()):
            self._rest()


def _is_one_request(data: bytes, end: int) -> bool:
    """Return whether the data, whose first head ends at `end`, ends with the body of that head's length: then nothing
    of a next request can be in it. To parse it in pieces takes longer."""
    length = _LENGTH.search(data, 0, end)
    return length is not None and end + int(length[1]) == len(data)
