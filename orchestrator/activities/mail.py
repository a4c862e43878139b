"""An e-mail by SMTP: one message, one connection, the server's answer as a value or an error."""

from __future__ import annotations

import hashlib
import smtplib
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.policy import SMTPUTF8 as SMTPUTF8_POLICY
from email.utils import formatdate, parseaddr
from typing import Any

from orchestrator.activities.connectors.kinds import SmtpConnector
from orchestrator.errors import BusinessError, ConfigurationError, InvalidInput, TransientError
from orchestrator.redaction import redact

MAX_RECIPIENTS = 100
_PERMANENT = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Mail:
    """What is sent, and to whom."""

    to: Sequence[str]
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    subject: str = ""
    text: str
    html: str | None = None
    reply_to: str | None = None


def deliver(server: SmtpConnector, mail: Mail, *, key: str, name: str) -> dict[str, Any]:
    """Hand a mail to the server.

    Args:
        key: makes the Message-ID: the same key, the same id.
        name: the connector's, for errors.

    Returns:
        message_id; accepted, the addresses taken; refused, the server's reason by address.

    Raises:
        BusinessError: MailRefused, by the server, for good or for every recipient.
        TransientError: MailNotSent: no connection, or the server says "later".
        ConfigurationError: it does not know our login, or has no encryption.
        InvalidInput: an address, or a header with a line's end.
    """
    message, addresses = _message(server, mail, key), _addresses(mail)
    with session(server, f'connector "{name}"') as smtp:
        refused = smtp.send_message(message, from_addr=parseaddr(server.sender)[1], to_addrs=addresses)
    reasons = {address: _reason(code, text) for address, (code, text) in refused.items()}
    return {
        "message_id": message["Message-ID"],
        "accepted": [address for address in addresses if address not in reasons],
        "refused": reasons,
    }


@contextmanager
def session(server: SmtpConnector, where: str) -> Iterator[smtplib.SMTP]:
    """A connection, encrypted and logged in as the connector says; errors as those of `deliver`, after `where`."""
    with _told(where, server):
        smtp = _connected(server)
        try:
            if server.username is not None and server.password is not None:
                smtp.login(server.username, server.password.get_secret_value())
            yield smtp
        finally:
            # No QUIT: a message is the server's by now, and an answer to that could only spoil the news.
            smtp.close()


def message_id(key: str, sender: str) -> str:
    """The Message-ID of whatever is sent under a key."""
    domain = parseaddr(sender)[1].rpartition("@")[2]
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}@{domain}>"


def _addresses(mail: Mail) -> list[str]:
    found = []
    for given in [*mail.to, *mail.cc, *mail.bcc]:
        address = parseaddr(given)[1]
        local, at, domain = address.rpartition("@")
        if not (local and at and domain) or not given.isprintable() or any(char in address for char in " <>,;"):
            raise InvalidInput(f"{given[:200]!r} is no e-mail address; correct it in the step's input")
        found.append(address)
    if not found:
        raise InvalidInput("the e-mail has no recipient; give `to`")
    if len(found) > MAX_RECIPIENTS:
        raise InvalidInput(f"the e-mail has more than {MAX_RECIPIENTS} recipients; give others a step each")
    return list(dict.fromkeys(found))


def _message(server: SmtpConnector, mail: Mail, key: str) -> EmailMessage:
    people = (server.sender, *mail.to, *mail.cc, mail.reply_to or "")
    message = EmailMessage(SMTP_POLICY if all(each.isascii() for each in people) else SMTPUTF8_POLICY)
    headers = {
        "From": server.sender,
        "To": ", ".join(mail.to),
        "Cc": ", ".join(mail.cc),
        "Reply-To": mail.reply_to or "",
        "Subject": mail.subject,
        "Date": formatdate(),
        "Message-ID": message_id(key, server.sender),
        # Out-of-office programs leave it alone.
        "Auto-Submitted": "auto-generated",
    }
    for name, value in headers.items():
        if not value:
            continue
        try:
            message[name] = value
        except (ValueError, IndexError) as error:
            raise InvalidInput(f"the e-mail's {name} cannot be sent: {error}; correct it in the step's input") from None
    message.set_content(mail.text)
    if mail.html is not None:
        message.add_alternative(mail.html, subtype="html")
    return message


def _connected(server: SmtpConnector) -> smtplib.SMTP:
    # The name that we greet with; smtplib's own default asks the name server, which may take many seconds.
    me = socket.gethostname() or "localhost"
    if server.tls == "tls":
        return smtplib.SMTP_SSL(
            server.host, server.server_port, me, timeout=server.timeout, context=_tls(server.ca_file)
        )
    smtp = smtplib.SMTP(server.host, server.server_port, me, timeout=server.timeout)
    if server.tls == "starttls":
        try:
            smtp.starttls(context=_tls(server.ca_file))
        except BaseException:
            smtp.close()
            raise
    return smtp


def _tls(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context


@contextmanager
def _told(where: str, server: SmtpConnector) -> Iterator[None]:
    """smtplib's errors as our own."""
    try:
        yield
    except smtplib.SMTPAuthenticationError as error:
        if error.smtp_code < _PERMANENT:
            raise TransientError(f"{where}: {_said(error)}", name="MailNotSent") from None
        raise ConfigurationError(
            f"{where}: the server does not accept the login: {_said(error)}; correct username and password"
        ) from None
    except smtplib.SMTPNotSupportedError as error:
        raise ConfigurationError(f"{where}: the server cannot do what tls or login need: {error}") from None
    except smtplib.SMTPRecipientsRefused as error:
        told = "; ".join(f"{address}: {_reason(*answer)}" for address, answer in error.recipients.items())
        if any(code < _PERMANENT for code, _ in error.recipients.values()):
            raise TransientError(f"{where}: no recipient is accepted now: {told}", name="MailNotSent") from None
        raise BusinessError(f"{where}: no recipient is accepted: {told}", name="MailRefused") from None
    except smtplib.SMTPResponseException as error:
        # smtplib gives -1 where the connection ended in place of an answer.
        if 0 < error.smtp_code < _PERMANENT or error.smtp_code < 0:
            raise TransientError(f"{where}: {_said(error)}", name="MailNotSent") from None
        raise BusinessError(f"{where}: {_said(error)}", name="MailRefused") from None
    except (OSError, smtplib.SMTPException) as error:
        raise TransientError(
            f"{where}: no connection with {server.host}:{server.server_port}: {redact(str(error))}", name="MailNotSent"
        ) from None


def _said(error: smtplib.SMTPResponseException) -> str:
    return _reason(error.smtp_code, error.smtp_error)


def _reason(code: int, text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return redact(f"{code} {' '.join(words.split())}")[:300]
