"""The order book: which orders the shop has taken on."""

from __future__ import annotations

from sqlalchemy import text

from definitions.order_fulfilment.database import act, connection, look_up, recorded
from definitions.order_fulfilment.errors import DuplicateOrder, InvalidOrder, OrderClosed
from definitions.order_fulfilment.models import Line, Order, Quote, SalesOrder, Undone, total
from orchestrator import StepContext, activity

_KNOWN = text("""
    SELECT EXISTS (SELECT FROM shop.customer WHERE customer_id = :customer_id) AS customer,
           ARRAY(SELECT product_id FROM shop.product WHERE product_id = ANY(:products)) AS products
""")

_PLACE = recorded(
    "orders",
    "create",
    """
    INSERT INTO shop.sales_order (reference, order_id, customer_id, placed_at, place_key)
    VALUES (:reference, :order_id, :customer_id, clock_timestamp(), :key)
    ON CONFLICT DO NOTHING RETURNING reference
    """,
    more="""
    lines AS (
        INSERT INTO shop.order_line (reference, product_id, unit_price, quantity, discount)
        SELECT changed.reference, line.*
        FROM changed, unnest(
            CAST(:products AS integer[]), CAST(:prices AS numeric[]),
            CAST(:quantities AS integer[]), CAST(:discounts AS numeric[])
        ) AS line
    )
    """,
)

_CANCEL = recorded(
    "orders",
    "cancel",
    """
    INSERT INTO shop.sales_order AS o (reference, order_id, cancelled_at, cancel_key)
    VALUES (:reference, :order_id, clock_timestamp(), :key)
    ON CONFLICT (reference) DO UPDATE SET cancelled_at = excluded.cancelled_at, cancel_key = excluded.cancel_key
    WHERE o.cancelled_at IS NULL
    RETURNING reference
    """,
)

_ORDER = text("""
    SELECT place_key, cancelled_at IS NOT NULL AS closed FROM shop.sales_order WHERE reference = :reference
""")


@activity
def validate_order(order: Order) -> Quote:
    """Price the order; InvalidOrder if a product is listed twice, or the shop does not know product or customer."""
    products = {line.product_id for line in order.lines}
    if len(products) < len(order.lines):
        raise InvalidOrder(f"order {order.order_id} lists a product twice; add up its quantities")
    with connection() as own:
        known = own.execute(_KNOWN, {"customer_id": order.customer_id, "products": sorted(products)}).one()
    if not known.customer:
        raise InvalidOrder(f"order {order.order_id} is from customer {order.customer_id!r}, unknown to the shop")
    if unknown := products - set(known.products):
        raise InvalidOrder(f"order {order.order_id} lists product {min(unknown)}, unknown to the shop")
    units = sum(line.quantity for line in order.lines)
    return Quote(order_id=order.order_id, amount=total(order.lines), units=units)


@activity
def create_order(ctx: StepContext, order_id: int, customer_id: str, lines: list[Line]) -> SalesOrder:
    """Enter the order; OrderClosed if a cancellation came first, DuplicateOrder if its number is taken."""
    columns = {
        "products": [line.product_id for line in lines],
        "prices": [line.unit_price for line in lines],
        "quantities": [line.quantity for line in lines],
        "discounts": [line.discount for line in lines],
    }
    if not act(ctx, _PLACE, order_id=order_id, customer_id=customer_id, **columns):
        made = look_up(ctx, _ORDER)
        if made is None:
            raise DuplicateOrder
        if made.closed or made.place_key != ctx.idempotency_key:
            raise OrderClosed
    return SalesOrder(order_id=order_id, lines=len(lines))


@activity
def cancel_order(ctx: StepContext, order_id: int) -> Undone:
    """Cancel the order, and refuse to enter it later."""
    return Undone(changed=act(ctx, _CANCEL, order_id=order_id))
