"""The payment service: money is authorised, then captured; undone by a void before the capture, a refund after it."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import text

from definitions.order_fulfilment.database import act, look_up, recorded
from definitions.order_fulfilment.errors import PaymentClosed
from definitions.order_fulfilment.models import Payment, Undone
from orchestrator import StepContext, activity

_AUTHORISE = recorded(
    "payments",
    "authorise",
    """
    INSERT INTO shop.payment (reference, order_id, authorised, authorised_at, authorise_key)
    VALUES (:reference, :order_id, :amount, clock_timestamp(), :key)
    ON CONFLICT DO NOTHING RETURNING reference
    """,
)

_CAPTURE = recorded(
    "payments",
    "capture",
    """
    UPDATE shop.payment SET captured = :amount, captured_at = clock_timestamp(), capture_key = :key
    WHERE reference = :reference AND authorised_at IS NOT NULL AND authorised >= :amount
      AND captured_at IS NULL AND voided_at IS NULL AND refunded_at IS NULL
    RETURNING reference
    """,
)

_VOID = recorded(
    "payments",
    "void",
    """
    INSERT INTO shop.payment AS p (reference, order_id, voided_at, void_key)
    VALUES (:reference, :order_id, clock_timestamp(), :key)
    ON CONFLICT (reference) DO UPDATE SET voided_at = excluded.voided_at, void_key = excluded.void_key
    WHERE p.captured_at IS NULL AND p.voided_at IS NULL
    RETURNING reference
    """,
)

_REFUND = recorded(
    "payments",
    "refund",
    """
    INSERT INTO shop.payment AS p (reference, order_id, refunded_at, refund_key)
    VALUES (:reference, :order_id, clock_timestamp(), :key)
    ON CONFLICT (reference) DO UPDATE
    SET refunded = p.captured, refunded_at = excluded.refunded_at, refund_key = excluded.refund_key
    WHERE p.refunded_at IS NULL
    RETURNING reference
    """,
)

_PAYMENT = text("""
    SELECT authorised, captured, authorise_key, capture_key, voided_at IS NOT NULL OR refunded_at IS NOT NULL AS closed
    FROM shop.payment WHERE reference = :reference
""")


@activity
def authorise_payment(ctx: StepContext, order_id: int, amount: Decimal) -> Payment:
    """Have the amount set aside on the customer's account; PaymentClosed if a void came first."""
    if not act(ctx, _AUTHORISE, order_id=order_id, amount=amount):
        made = look_up(ctx, _PAYMENT)
        if made is None or made.closed or made.authorise_key != ctx.idempotency_key:
            raise PaymentClosed
    return Payment(order_id=order_id, amount=amount)


@activity
def capture_payment(ctx: StepContext, order_id: int, amount: Decimal) -> Payment:
    """Collect what was authorised; PaymentClosed if a void or a refund came first, or if less was authorised."""
    if not act(ctx, _CAPTURE, amount=amount):
        made = look_up(ctx, _PAYMENT)
        if made is None or made.closed or made.capture_key != ctx.idempotency_key:
            raise PaymentClosed
    return Payment(order_id=order_id, amount=amount)


@activity
def void_payment(ctx: StepContext, order_id: int) -> Undone:
    """Let go of what was authorised and not captured, and refuse to authorise it later."""
    return Undone(changed=act(ctx, _VOID, order_id=order_id))


@activity
def refund_payment(ctx: StepContext, order_id: int) -> Undone:
    """Give back what was captured, and refuse to capture it later."""
    return Undone(changed=act(ctx, _REFUND, order_id=order_id))
