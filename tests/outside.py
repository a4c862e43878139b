"""Outside services within this process, on loopback: a web server and a mail server, with or without TLS."""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOOPBACK = ("127.0.0.0/8",)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    #: By lower-case name.
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What is answered."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running web server."""

    url: str
    port: int
    seen: list[Seen]
    #: What is answered, by path without query; 404 elsewhere.
    replies: dict[str, Callable[[Seen], Reply]]


@contextmanager
def site(certificate: ssl.SSLContext | None = None) -> Iterator[Site]:
    """A web server of this process."""
    seen: list[Seen] = []
    replies: dict[str, Callable[[Seen], Reply]] = {}

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            seen.append(Seen(method=self.command, path=self.path, headers=headers, body=body))
            make = replies.get(self.path.partition("?")[0])
            reply = make(seen[-1]) if make else Reply(status=404, body=b"nothing here")
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own name
            """Tests look at what was seen."""

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        setattr(Handler, f"do_{method}", Handler.answer)
    server = _QuietHTTP(("127.0.0.1", 0), Handler)
    if certificate is not None:
        server.socket = certificate.wrap_socket(server.socket, server_side=True)
    scheme = "http" if certificate is None else "https"
    with _served(server):
        yield Site(
            url=f"{scheme}://127.0.0.1:{server.server_port}", port=server.server_port, seen=seen, replies=replies
        )


class _QuietHTTP(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is a test's purpose."""


class _QuietTCP(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is a test's purpose."""


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A mail as it was taken in."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    encrypted: bool


@dataclass(frozen=True, kw_only=True)
class PostOffice:
    """A running mail server."""

    port: int
    letters: list[Letter]
    #: The answer to MAIL, RCPT of an address, or AUTH, in place of a good one.
    answers: dict[str, str]
    #: User name and password that AUTH gave.
    logins: list[tuple[str, str]]


@contextmanager
def post_office(certificate: ssl.SSLContext | None = None) -> Iterator[PostOffice]:
    """A mail server of this process; offers STARTTLS if it has a certificate."""
    letters: list[Letter] = []
    answers: dict[str, str] = {}
    logins: list[tuple[str, str]] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            encrypted, sender, recipients = False, "", list[str]()
            self.say("220 post office")
            while line := self.rfile.readline():
                words = line.decode().strip()
                verb = words.split(" ")[0].upper()
                if verb == "EHLO":
                    offered = ["STARTTLS"] if certificate is not None and not encrypted else []
                    self.say(*(f"250-{each}" for each in ["hello", *offered, "8BITMIME"]), "250 AUTH PLAIN")
                elif verb == "STARTTLS" and certificate is not None:
                    self.say("220 go on")
                    self.request = certificate.wrap_socket(self.request, server_side=True)
                    self.setup()
                    encrypted = True
                elif verb == "AUTH":
                    _, user, password = base64.b64decode(words.split(" ")[2]).decode().split("\0")
                    logins.append((user, password))
                    self.say(answers.get("AUTH", "235 welcome"))
                elif verb == "MAIL":
                    sender, recipients = words.partition("<")[2].partition(">")[0], []
                    self.say(answers.get("MAIL", "250 fine"))
                elif verb == "RCPT":
                    address = words.partition("<")[2].partition(">")[0]
                    answer = answers.get(address, "250 fine")
                    recipients += [address] if answer.startswith("250") else []
                    self.say(answer)
                elif verb == "DATA":
                    self.say("354 go on")
                    message = message_from_bytes(self.text(), policy=policy.default)
                    letters.append(Letter(sender=sender, recipients=recipients, message=message, encrypted=encrypted))
                    self.say("250 taken")
                else:
                    self.say("250 fine")

        def finish(self) -> None:
            super().finish()
            self.request.close()

        def text(self) -> bytes:
            lines = []
            while (line := self.rfile.readline()) != b".\r\n":
                lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
            return b"".join(lines)

        def say(self, *lines: str) -> None:
            self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())
            self.wfile.flush()

    server = _QuietTCP(("127.0.0.1", 0), Handler)
    with _served(server):
        yield PostOffice(port=server.server_address[1], letters=letters, answers=answers, logins=logins)


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate authority of this test session."""

    #: Its own certificate, for clients to trust.
    file: str
    #: Of a server on loopback: localhost, service.test, 127.0.0.1.
    server: ssl.SSLContext


def authority(folder: Path) -> Authority:
    """Make an authority and a server's certificate."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "service.test")])
    names = [x509.DNSName("localhost"), x509.DNSName("service.test"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    root = (
        _certificate(root_name, root_name, root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        _certificate(name, root_name, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    return Authority(file=str(folder / "ca.pem"), server=server)


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
