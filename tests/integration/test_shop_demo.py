"""The demonstration on the shop: its figures, and checks that notice what they are there for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from purchase import NONE_UNDONE, ORDER, Purchase, failed, figures, forget_connections, in_stock
from sqlalchemy import Engine, create_engine

from definitions.order_fulfilment import demo
from definitions.order_fulfilment.checks import CLAIMS
from definitions.order_fulfilment.errors import CarrierRefused, OutOfStock
from definitions.order_fulfilment.models import Order


@pytest.fixture
def shop(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The shop newly opened; the engine stands for the ledger's."""
    monkeypatch.setenv("SHOP_DATABASE_URL", database_url)
    forget_connections()
    demo.prepare(database_url)
    engine = create_engine(database_url)
    yield engine
    engine.dispose()
    forget_connections()


def test_all_orders_one_after_another_leave_the_books_in_order(shop: Engine) -> None:
    for _, given in demo.inputs():
        purchase = Purchase(shop, Order.model_validate(given))
        purchase.authorise()
        try:
            purchase.reserve()
            purchase.create()
            purchase.capture()
            purchase.ship()
            purchase.notify()
        except (OutOfStock, CarrierRefused):
            purchase.undo()
    counted = figures(shop)
    ended = counted["fulfilled"], counted["rejected_for_stock"], counted["undone_after_capture"]
    assert ended == (90, 734, 6)  # as plain subtraction gives, order by order
    assert failed(shop) == set()


def test_preparing_again_opens_an_empty_shop(shop: Engine, database_url: str) -> None:
    full = in_stock(shop)
    Purchase(shop).fulfil()
    demo.prepare(database_url)
    assert in_stock(shop) == full
    assert figures(shop) == dict.fromkeys(figures(shop), 0)


#: What a check must notice: a change to the books of one fulfilled and one undone order.
DAMAGE = {
    "stock is never negative": (
        "ALTER TABLE shop.product DROP CONSTRAINT stock_is_never_negative;"
        "UPDATE shop.product SET units_in_stock = -1 WHERE product_id = 1"
    ),
    "stock is conserved": "UPDATE shop.product SET units_in_stock = units_in_stock - 1 WHERE product_id = 1",
    "stock is held for fulfilled orders, line by line, and for no others": (
        "UPDATE shop.reservation SET released_at = NULL"
    ),
    "captured minus refunded equals the fulfilled orders' totals": "UPDATE shop.payment SET refunded = 0",
    "no authorisation is left open": (
        "INSERT INTO shop.payment (reference, order_id, authorised, authorised_at) VALUES ('x', 1, 1, now())"
    ),
    "every fulfilled order has exactly one shipment, one capture and one notice": (
        "INSERT INTO shop.notice (reference, order_id, sent_at) VALUES ('x', 10248, now())"
    ),
    "no shipment is live for an order that is not fulfilled": ("UPDATE shop.shipment SET cancelled_at = NULL"),
    "no order is left open": "UPDATE shop.sales_order SET cancelled_at = NULL",
    NONE_UNDONE: "DELETE FROM shop.payment WHERE refunded > 0",
    "every idempotency key that had an effect had exactly one": (
        "INSERT INTO shop.call (service, action, idempotency_key, reference, effect) "
        "SELECT service, action, idempotency_key, reference, effect FROM shop.call LIMIT 1"
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_every_check_notices_what_it_is_there_for(shop: Engine, name: str) -> None:
    undone = Purchase(shop, ORDER.model_copy(update={"order_id": 1}))
    undone.fulfil()
    undone.undo()
    Purchase(shop).fulfil()
    assert failed(shop) == set()
    with shop.begin() as connection:
        connection.exec_driver_sql(DAMAGE[name])
    assert name in failed(shop)


def test_every_check_is_shown_to_notice() -> None:
    assert set(DAMAGE) == set(CLAIMS)
