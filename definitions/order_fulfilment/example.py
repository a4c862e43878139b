"""What the example does, checked on real workers by `orchestrator examples`; demo.py does so with all 830 orders."""

from __future__ import annotations

from typing import Any

from definitions.order_fulfilment import demo, northwind
from definitions.play import Play

WORKFLOW = "order-fulfilment"
#: Opens the shop, with Northwind's products and customers.
prepare = demo.prepare

SAMPLE: dict[str, Any] = {
    "order_id": 1,
    "customer_id": "VINET",
    "order_date": "2026-01-05",
    "required_date": "2026-01-20",
    "shipped_date": "2026-01-07",
    "ship_via": 3,
    "lines": [{"product_id": 11, "unit_price": "14.00", "quantity": 2, "discount": "0.15"}],
}
_UNDONE = [
    "undo book_shipment",
    "undo capture_payment",
    "undo create_order",
    "undo authorise_payment",
    "undo reserve_stock",
]


def _order(play: Play, **changes: Any) -> dict[str, Any]:
    return SAMPLE | {"order_id": int(play.tag, 16) % 2_000_000_000 + 1} | changes


def check_fulfilled(play: Play) -> None:
    """an order is reserved, paid, shipped and told to its customer"""
    output = play.output(play.start(WORKFLOW, _order(play)))
    play.same(output["amount"], "23.80", "the amount")
    play.true(output["tracking_number"].startswith("3-"), "the carrier's number")


def check_undone_after_capture(play: Play) -> None:
    """an order that cannot be shipped is undone backwards, its captured money refunded"""
    handle = play.start(WORKFLOW, _order(play, shipped_date=None))
    play.same(play.error(handle, "compensated")["name"], "CarrierRefused", "the error")
    undone = [name for name in play.begun(handle) if name.startswith("undo ")]
    play.same(undone[:3], _UNDONE[:3], "compensations")
    play.same(set(undone[3:]), set(_UNDONE[3:]), "compensations of the parallel steps")


def check_out_of_stock(play: Play) -> None:
    """more than is in stock is not sold"""
    most = max(product.units_in_stock for product in northwind.products())
    lines = [SAMPLE["lines"][0] | {"quantity": most + 1}]
    handle = play.start(WORKFLOW, _order(play, lines=lines))
    play.same(play.error(handle, "compensated")["name"], "OutOfStock", "the error")
