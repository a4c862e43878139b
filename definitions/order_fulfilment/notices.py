"""Letters to the customer. One that was sent cannot be unsent: its compensation sends another that takes it back."""

from __future__ import annotations

from sqlalchemy import text

from definitions.order_fulfilment.database import act, look_up, recorded
from definitions.order_fulfilment.errors import NoticeWithdrawn
from definitions.order_fulfilment.models import Notice, Undone
from orchestrator import StepContext, activity

_SEND = recorded(
    "notices",
    "send",
    """
    INSERT INTO shop.notice (reference, order_id, customer_id, sent_at, send_key)
    VALUES (:reference, :order_id, :customer_id, clock_timestamp(), :key)
    ON CONFLICT DO NOTHING RETURNING reference
    """,
)

_WITHDRAW = recorded(
    "notices",
    "withdraw",
    """
    INSERT INTO shop.notice AS n (reference, order_id, withdrawn_at, withdraw_key)
    VALUES (:reference, :order_id, clock_timestamp(), :key)
    ON CONFLICT (reference) DO UPDATE SET withdrawn_at = excluded.withdrawn_at, withdraw_key = excluded.withdraw_key
    WHERE n.withdrawn_at IS NULL
    RETURNING reference
    """,
)

_NOTICE = text("""
    SELECT send_key, withdrawn_at IS NOT NULL AS closed FROM shop.notice WHERE reference = :reference
""")


@activity
def send_notice(ctx: StepContext, order_id: int, customer_id: str) -> Notice:
    """Tell the customer that the goods are on their way; NoticeWithdrawn if its withdrawal came first."""
    if not act(ctx, _SEND, order_id=order_id, customer_id=customer_id):
        made = look_up(ctx, _NOTICE)
        if made is None or made.closed or made.send_key != ctx.idempotency_key:
            raise NoticeWithdrawn
    return Notice(order_id=order_id, customer_id=customer_id)


@activity
def withdraw_notice(ctx: StepContext, order_id: int) -> Undone:
    """Tell the customer that the goods are not coming, if they were told otherwise, and refuse to tell them later."""
    return Undone(changed=act(ctx, _WITHDRAW, order_id=order_id))
