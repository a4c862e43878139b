"""The ready-made activity `notify`: a message to people, by e-mail, SMS or chat. The connector decides which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from orchestrator.activities import net
from orchestrator.activities.connectors.kinds import ChatConnector, SmsConnector, SmtpConnector, Web
from orchestrator.activities.context import StepContext
from orchestrator.activities.http_request import IDEMPOTENCY_KEY, Content, captured, encoded, key_header
from orchestrator.activities.mail import Mail, deliver
from orchestrator.activities.registry import activity
from orchestrator.errors import ConfigurationError, InvalidInput

#: Of a gateway's answer at most so many bytes are kept.
_MAX_ANSWER = 65_536
_PLACE = re.compile(r"\{(to|text|sender|key)\}")


@activity
def notify(
    ctx: StepContext,
    *,
    connector: str,
    text: str,
    to: str | list[str] | None = None,
    subject: str | None = None,
    html: str | None = None,
    cc: list[str] | None = None,
    bcc: list[str] | None = None,
    reply_to: str | None = None,
) -> dict[str, Any]:
    """Send a message through a connector of kind smtp, sms or chat.

    An e-mail's Message-ID is made from the step's idempotency key, so that two attempts send the same message; gateways
    get the key as `Idempotency-Key`.

    Args:
        connector: which service.
        text: the message.
        to: recipients of an e-mail, one number for SMS, a channel if the chat has several.
        subject: an e-mail's; above the text in a chat.
        html: the same message for mail programs that show it.
        cc, bcc, reply_to: of an e-mail only.

    Returns:
        By e-mail message_id, accepted, and refused with the server's reason by address; else status and body.

    Raises:
        BusinessError, TransientError: the service refused, or was not to be reached.
        InvalidInput, ConfigurationError: the step's input or the connector is wrong.
    """
    found = ctx.connector(connector)
    if isinstance(found, SmtpConnector):
        recipients = [to] if isinstance(to, str) else to or []
        mail = Mail(
            to=recipients, cc=cc or [], bcc=bcc or [], subject=subject or "", text=text, html=html, reply_to=reply_to
        )
        return deliver(found, mail, key=ctx.idempotency_key, name=connector)
    if html or cc or bcc or reply_to:
        raise InvalidInput(f'connector "{connector}" sends no e-mail: html, cc, bcc and reply_to mean nothing to it')
    whole = f"{subject}\n{text}" if subject else text
    if isinstance(found, ChatConnector):
        return _post(ctx, connector, found, found.url, encoded("json", _chat(connector, found, whole, to)))
    if isinstance(found, SmsConnector):
        if not isinstance(to, str):
            raise InvalidInput("an SMS has one recipient; give `to` one number, and others a step each")
        values = {"to": to, "text": whole, "sender": found.sender, "key": ctx.idempotency_key}
        return _post(
            ctx, connector, found, SecretStr(found.base_url), encoded(found.encoding, _filled(found.body, values))
        )
    raise ConfigurationError(f'connector "{connector}" is of kind {found.kind}; notify needs smtp, sms or chat')


def _chat(name: str, chat: ChatConnector, text: str, to: str | list[str] | None) -> dict[str, Any]:
    message = {**chat.fields, chat.text_field: text}
    if to is None:
        return message
    if chat.to_field is None or not isinstance(to, str):
        raise InvalidInput(
            f'connector "{name}" posts to its webhook\'s own channel; remove `to`, or set to_field and give one channel'
        )
    return {**message, chat.to_field: to}


def _filled(template: Any, values: Mapping[str, str]) -> Any:
    """A template with its places filled in one pass, so that a text which looks like a place stays as it is."""
    if isinstance(template, str):
        return _PLACE.sub(lambda found: values[found[1]], template)
    if isinstance(template, dict):
        return {key: _filled(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [_filled(value, values) for value in template]
    return template


def _post(ctx: StepContext, name: str, service: Web, url: SecretStr, content: Content) -> dict[str, Any]:
    # httpx takes an eighth of a second to import, and many processes never call it.
    import httpx  # noqa: PLC0415

    from orchestrator.activities import http_exchange  # noqa: PLC0415

    answer = http_exchange.send(
        http_exchange.Call(
            method="POST",
            url=httpx.URL(url.get_secret_value()),
            headers={IDEMPOTENCY_KEY: key_header(ctx.idempotency_key), "content-type": content.type},
            content=content.data,
            secret_headers=service.secret_headers(),
            networks=tuple(ctx.connectors.networks) if ctx.connectors else (),
            origin_networks=net.networks(service.allow_networks),
            timeout=service.timeout,
            max_bytes=_MAX_ANSWER,
            # Whoever answers for the webhook does not get to say who else reads the message.
            follow_redirects=False,
            ca_file=service.ca_file,
            label=f'connector "{name}"',
        )
    )
    body = captured(answer.content, answer.headers.get("content-type", ""), "auto")
    return {"status": answer.status, "body": body}
