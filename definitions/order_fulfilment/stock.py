"""Stock: reserved and released in the ledger's own transaction, so that it moves exactly once."""

from __future__ import annotations

from sqlalchemy import text

from definitions.order_fulfilment.database import connection, identity, recorded
from definitions.order_fulfilment.errors import OutOfStock
from definitions.order_fulfilment.models import Line, Reservation, Undone
from orchestrator import StepContext, activity

_TAKE = text("""
    WITH taken AS (
        UPDATE shop.product SET units_in_stock = units_in_stock - :quantity
        WHERE product_id = :product_id AND units_in_stock >= :quantity
        RETURNING product_id
    )
    INSERT INTO shop.reservation (reference, product_id, order_id, quantity, reserve_key)
    SELECT :reference, product_id, :order_id, :quantity, :key FROM taken
""")

_RECORD = recorded("stock", "reserve", "SELECT")

_NOTE_SHORTAGE = text("""
    INSERT INTO shop.shortage (reference, order_id, product_id, quantity)
    VALUES (:reference, :order_id, :product_id, :quantity) ON CONFLICT DO NOTHING
""")

# In the order in which reservations lock them: two that lock the other way round would wait for each other.
_LOCK_RESERVED = text("""
    SELECT product_id FROM shop.product
    WHERE product_id IN (
        SELECT product_id FROM shop.reservation WHERE reference = :reference AND released_at IS NULL
    )
    ORDER BY product_id FOR UPDATE
""")

_RELEASE = recorded(
    "stock",
    "release",
    """
    UPDATE shop.reservation SET released_at = clock_timestamp(), release_key = :key
    WHERE reference = :reference AND released_at IS NULL
    RETURNING product_id, quantity
    """,
    more="""
    returned AS (
        UPDATE shop.product p SET units_in_stock = p.units_in_stock + changed.quantity
        FROM changed WHERE p.product_id = changed.product_id
    )
    """,
)


@activity(transactional=True)
def reserve_stock(ctx: StepContext, order_id: int, lines: list[Line]) -> Reservation:
    """Take all lines out of stock, or none; OutOfStock names the first product that is short."""
    this = identity(ctx)
    for line in sorted(lines, key=lambda line: line.product_id):
        wanted = {"order_id": order_id, "product_id": line.product_id, "quantity": line.quantity}
        if ctx.connection.execute(_TAKE, this | wanted).rowcount == 0:
            # Raising rolls the lines before this one back; purchasing's note must outlive that.
            with connection() as own:
                own.execute(_NOTE_SHORTAGE, {"reference": this["reference"], **wanted})
            raise OutOfStock(line.product_id, line.quantity)
    ctx.connection.execute(_RECORD, this)
    return Reservation(order_id=order_id, units={line.product_id: line.quantity for line in lines})


@activity(transactional=True)
def release_stock(ctx: StepContext) -> Undone:
    """Put back what the purchase still holds."""
    this = identity(ctx)
    ctx.connection.execute(_LOCK_RESERVED, this)
    return Undone(changed=bool(ctx.connection.execute(_RELEASE, this).scalar_one()))
