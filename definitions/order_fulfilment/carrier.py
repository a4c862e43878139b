"""The carriers: they collect the goods, unless they cannot deliver in time."""

from __future__ import annotations

from datetime import date

from sqlalchemy import text

from definitions.order_fulfilment.database import act, look_up, recorded
from definitions.order_fulfilment.errors import CarrierRefused, ShipmentClosed
from definitions.order_fulfilment.models import Shipment, Undone
from orchestrator import StepContext, activity

_BOOK = recorded(
    "carrier",
    "book",
    """
    INSERT INTO shop.shipment (reference, order_id, shipper_id, tracking_number, booked_at, book_key)
    VALUES (:reference, :order_id, :shipper_id, :tracking_number, clock_timestamp(), :key)
    ON CONFLICT DO NOTHING RETURNING reference
    """,
)

_CANCEL = recorded(
    "carrier",
    "cancel",
    """
    INSERT INTO shop.shipment AS s (reference, order_id, cancelled_at, cancel_key)
    VALUES (:reference, :order_id, clock_timestamp(), :key)
    ON CONFLICT (reference) DO UPDATE SET cancelled_at = excluded.cancelled_at, cancel_key = excluded.cancel_key
    WHERE s.cancelled_at IS NULL
    RETURNING reference
    """,
)

_SHIPMENT = text("""
    SELECT book_key, cancelled_at IS NOT NULL AS closed FROM shop.shipment WHERE reference = :reference
""")


@activity
def book_shipment(
    ctx: StepContext, order_id: int, shipper_id: int, required_date: date, shipped_date: date | None
) -> Shipment:
    """Book the carrier; CarrierRefused without a day to ship on, or with one after the day that the customer set.

    ShipmentClosed if a cancellation came first.
    """
    if shipped_date is None:
        raise CarrierRefused(f"order {order_id} has no day on which it can be shipped")
    if shipped_date > required_date:
        raise CarrierRefused(f"order {order_id} can be shipped on {shipped_date}, and is required by {required_date}")
    number = f"{shipper_id}-{order_id}-{shipped_date:%Y%m%d}"
    if not act(ctx, _BOOK, order_id=order_id, shipper_id=shipper_id, tracking_number=number):
        made = look_up(ctx, _SHIPMENT)
        if made is None or made.closed or made.book_key != ctx.idempotency_key:
            raise ShipmentClosed
    return Shipment(order_id=order_id, tracking_number=number)


@activity
def cancel_shipment(ctx: StepContext, order_id: int) -> Undone:
    """Cancel the shipment, and refuse to book it later."""
    return Undone(changed=act(ctx, _CANCEL, order_id=order_id))
