"""A real nginx for tests, with the configuration block of docs/deploying.md verbatim."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.ports import free_port
from tests.support.programs import found

PAGE: Final = Path(__file__).parents[2] / "docs" / "deploying.md"
MAIN: Final = """
{user}daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
access_log off;
client_body_temp_path {folder}/body;
proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi;
uwsgi_temp_path {folder}/uwsgi;
scgi_temp_path {folder}/scgi;
{block}
}}
"""
PATIENCE: Final = 30.0


@dataclass(frozen=True)
class Nginx:
    url: str
    port: int
    certificate: Path


def documented_block() -> str:
    [block] = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(block)


def fitted(block: str, changes: dict[str, str]) -> str:
    """Return the block with this machine's addresses and files. Each replaced text must occur exactly once."""
    for old, new in changes.items():
        assert block.count(old) == 1, old
        block = block.replace(old, new)
    return block


@contextmanager
def running(folder: Path, hub_port: int) -> Iterator[Nginx]:
    """Run nginx in front of the hub at `hub_port`, with TLS at a free port of 127.0.0.1."""
    command = found("nginx")
    assert command is not None
    certificate, key = make_certificate(folder)
    port = free_port()
    block = fitted(
        documented_block(),
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "/etc/ssl/hub.example.org.pem": str(certificate),
            "/etc/ssl/hub.example.org.key": str(key),
            "127.0.0.1:8000": f"127.0.0.1:{hub_port}",
        },
    )
    # By default its workers drop root's rights and could not read the test's folder.
    user = "user root;\n" if os.getuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(MAIN.format(user=user, folder=folder, block=block))
    with subprocess.Popen([command, "-c", str(configuration), "-e", str(folder / "error.log")]) as process:
        try:
            await_port(process, port)
            yield Nginx(f"https://127.0.0.1:{port}", port, certificate)
        finally:
            process.terminate()


def await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, "nginx has ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Create a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "hub.pem", folder / "hub.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding, shape = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(encoding, shape, serialization.NoEncryption()))
    return pem, private
