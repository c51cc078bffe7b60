"""Real servers on loopback addresses that answer with raw bytes, lookups under control, a certificate authority."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub.fetch import Fetched, Fetcher
from hub.fetching.addresses import Address
from hub.fetching.rules import Exemption, FetchRules

Handle = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Answers a request, whose head it gets."""


@dataclass
class Server:
    """A running server. `heads` are those of the requests that it has got."""

    port: int
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    """The names that clients sent with their TLS handshakes."""

    @property
    def paths(self) -> list[str]:
        return [head.split()[1].decode() for head in self.heads]


@asynccontextmanager
async def serving(
    handle: Handle, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Serve one request on each connection."""
    server = Server(port)
    if tls is not None:
        tls.sni_callback = lambda connection, name, context: server.names.append(name)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            server.heads.append(head)
            await handle(head, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    listening = await asyncio.start_server(answer, host, port, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


def saying(raw: bytes) -> Handle:
    """Answer every request with these bytes."""

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return handle


def repeating(head: bytes, piece: bytes, pause: float = 0) -> Handle:
    """Answer with this head, and then with `piece` for ever."""

    async def handle(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return handle


def answer_of(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect_to(location: str, status: str = "302 Found") -> bytes:
    return answer_of(b"elsewhere", f"Location: {location}", status=status)


class Names:
    """A lookup with fixed answers; a name with several gives the next one each time, and the last one from then on."""

    def __init__(self, **answers: str | list[str]) -> None:
        self._answers = {name: [given] if isinstance(given, str) else given for name, given in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[Address]:
        self.asked.append(host)
        answers = self._answers.get(host.removesuffix(".test"), [""])
        text = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ip_address(each) for each in text.split()]


def fetcher(
    lookup: Callable[[str], Awaitable[list[Address]]],
    *exemptions: str,
    ports: Iterable[int] = (80, 443),
    seconds: float = 20,
    connect_seconds: float = 10,
    tls: ssl.SSLContext | None = None,
) -> Fetcher:
    allowed = tuple(map(Exemption.parse, exemptions))
    return Fetcher(FetchRules(allowed, frozenset(ports), connect_seconds, seconds), lookup, tls)


async def downloaded(from_: Fetcher, url: str, most_bytes: int = 1_000_000, *, strict: bool = True) -> bytes:
    """Return what is at a URL."""
    target = io.BytesIO()
    fetched: Fetched = await from_.download(url, target, most_bytes, strict=strict)
    assert fetched.size == len(target.getvalue())
    return target.getvalue()


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        built = self._builder(self._name, self._key.public_key(), 365).add_extension(constraints, critical=True)
        certificate = built.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=400))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def server(self, *names: str, days: int = 365) -> ssl.SSLContext:
        """Return the context of a server with a certificate for these names and addresses; `days` it is still valid."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        built = self._builder(subject, key.public_key(), days).add_extension(alternatives, critical=False)
        certificate = built.sign(self._key, hashes.SHA256())
        file = self._folder / f"{certificate.serial_number}.pem"
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        pem = serialization.Encoding.PEM
        file.write_bytes(key.private_bytes(pem, *form) + certificate.public_bytes(pem))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def client(self) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.file))


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
