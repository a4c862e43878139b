"""What must hold in the shop's books once every order has been dealt with: one SQL statement for each claim.

Each reads the shop's tables only and yields two columns, whether the claim holds and the figures behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, kw_only=True)
class Check:
    """A claim about the shop's books and what was found."""

    name: str
    ok: bool
    #: The figures that the verdict rests on.
    detail: str


#: Every idempotency key that left its mark on an effect.
_MARKS = """
    SELECT DISTINCT reserve_key AS key FROM shop.reservation
    UNION ALL SELECT DISTINCT release_key FROM shop.reservation
    UNION ALL SELECT authorise_key FROM shop.payment
    UNION ALL SELECT capture_key FROM shop.payment
    UNION ALL SELECT void_key FROM shop.payment
    UNION ALL SELECT refund_key FROM shop.payment
    UNION ALL SELECT place_key FROM shop.sales_order
    UNION ALL SELECT cancel_key FROM shop.sales_order
    UNION ALL SELECT book_key FROM shop.shipment
    UNION ALL SELECT cancel_key FROM shop.shipment
    UNION ALL SELECT send_key FROM shop.notice
    UNION ALL SELECT withdraw_key FROM shop.notice
"""

#: The claims by name.
CLAIMS = {
    "stock is never negative": """
        SELECT count(*) FILTER (WHERE units_in_stock < 0) = 0, format('least in stock: %s', min(units_in_stock))
        FROM shop.product
    """,
    "stock is conserved": """
        SELECT count(*) FILTER (WHERE initial_stock <> units_in_stock + held) = 0,
               format('%s units at first = %s in stock + %s reserved',
                      sum(initial_stock), sum(units_in_stock), sum(held))
        FROM shop.product CROSS JOIN LATERAL (
            SELECT coalesce(sum(quantity), 0) AS held FROM shop.reservation r
            WHERE r.product_id = product.product_id AND r.released_at IS NULL
        ) h
    """,
    "stock is held for fulfilled orders, line by line, and for no others": """
        SELECT count(*) FILTER (WHERE held.quantity IS DISTINCT FROM sold.quantity) = 0,
               format('%s lines held, %s lines sold', count(held.quantity), count(sold.quantity))
        FROM (SELECT reference, product_id, quantity FROM shop.reservation WHERE released_at IS NULL) held
        FULL JOIN (
            SELECT reference, product_id, quantity FROM shop.order_line JOIN shop.fulfilled USING (reference)
        ) sold USING (reference, product_id)
    """,
    "captured minus refunded equals the fulfilled orders' totals": """
        SELECT count(*) FILTER (WHERE coalesce(captured - refunded, 0) <> coalesce(total, 0)) = 0,
               format('%s captured - %s refunded = %s fulfilled',
                      coalesce(sum(captured), 0), coalesce(sum(refunded), 0), coalesce(sum(total), 0))
        FROM shop.payment FULL JOIN shop.fulfilled USING (reference)
    """,
    "no authorisation is left open": """
        SELECT count(*) FILTER (WHERE captured_at IS NULL AND voided_at IS NULL) = 0,
               format('%s authorised, %s captured, %s voided', count(*), count(captured_at), count(voided_at))
        FROM shop.payment WHERE authorised_at IS NOT NULL
    """,
    # Seen from the order's number, not from the purchase: an order that was carried out twice would show.
    "every fulfilled order has exactly one shipment, one capture and one notice": """
        SELECT count(*) FILTER (WHERE (orders, shipments, captures, notices) <> (1, 1, 1, 1)) = 0,
               format('%s fulfilled, %s shipments, %s captures, %s notices', count(*),
                      coalesce(sum(shipments), 0), coalesce(sum(captures), 0), coalesce(sum(notices), 0))
        FROM (
            SELECT order_id FROM shop.fulfilled
            UNION SELECT order_id FROM shop.notice WHERE sent_at IS NOT NULL AND withdrawn_at IS NULL
        ) told CROSS JOIN LATERAL (SELECT
            (SELECT count(*) FROM shop.fulfilled f WHERE f.order_id = told.order_id) AS orders,
            (SELECT count(*) FROM shop.shipment s
             WHERE s.order_id = told.order_id AND booked_at IS NOT NULL AND cancelled_at IS NULL) AS shipments,
            (SELECT count(*) FROM shop.payment p
             WHERE p.order_id = told.order_id AND captured_at IS NOT NULL AND refunded_at IS NULL) AS captures,
            (SELECT count(*) FROM shop.notice n
             WHERE n.order_id = told.order_id AND sent_at IS NOT NULL AND withdrawn_at IS NULL) AS notices
        ) counted
    """,
    "no shipment is live for an order that is not fulfilled": """
        SELECT count(*) FILTER (WHERE f.reference IS NULL) = 0,
               format('%s shipments live, %s of fulfilled orders', count(*), count(f.reference))
        FROM shop.shipment LEFT JOIN shop.fulfilled f USING (reference)
        WHERE booked_at IS NOT NULL AND cancelled_at IS NULL
    """,
    "no order is left open": """
        SELECT count(*) FILTER (WHERE f.reference IS NULL) = 0,
               format('%s orders live, %s of them fulfilled', count(*), count(f.reference))
        FROM shop.sales_order LEFT JOIN shop.fulfilled f USING (reference)
        WHERE placed_at IS NOT NULL AND cancelled_at IS NULL
    """,
    "at least one order was undone after its capture": """
        SELECT count(*) > 0, format('%s captures refunded', count(*))
        FROM shop.payment WHERE captured > 0 AND refunded = captured
    """,
    "every idempotency key that had an effect had exactly one": f"""
        SELECT count(*) FILTER (WHERE marks IS DISTINCT FROM 1 OR effects IS DISTINCT FROM 1) = 0,
               format('%s keys, %s effects', count(*), sum(effects))
        FROM (SELECT key, count(*) AS marks FROM ({_MARKS}) m WHERE key IS NOT NULL GROUP BY key) marked
        FULL JOIN (
            SELECT idempotency_key AS key, count(*) AS effects FROM shop.call WHERE effect GROUP BY idempotency_key
        ) witnessed USING (key)
    """,  # noqa: S608 - a constant of this module
}

_FIGURES = text("""
    SELECT
        (SELECT count(*) FROM shop.fulfilled) AS fulfilled,
        (SELECT count(*) FROM shop.shortage s
         WHERE NOT EXISTS (SELECT FROM shop.reservation r WHERE r.reference = s.reference)) AS rejected_for_stock,
        (SELECT count(*) FROM shop.payment WHERE captured > 0 AND refunded = captured) AS undone_after_capture,
        (SELECT count(*) FROM shop.payment WHERE authorised_at IS NOT NULL AND voided_at IS NOT NULL) AS voided,
        (SELECT coalesce(sum(initial_stock - units_in_stock), 0) FROM shop.product) AS units_sold,
        (SELECT count(*) FROM shop.call) AS calls,
        (SELECT count(*) FROM shop.call WHERE effect) AS effects,
        (SELECT count(*) - count(DISTINCT idempotency_key) FROM shop.call) AS repeated_calls
""")


def claims(connection: Connection) -> list[Check]:
    """Every claim, with what was found."""
    found = []
    for name, statement in CLAIMS.items():
        ok, detail = connection.execute(text(statement)).one()
        found.append(Check(name=name, ok=ok, detail=detail))
    return found


def counts(connection: Connection) -> dict[str, int]:
    """How the orders ended, and how often the services were called."""
    return {name: int(value) for name, value in connection.execute(_FIGURES).mappings().one().items()}
