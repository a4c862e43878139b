"""The shop's activities, called directly against a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from purchase import NONE_UNDONE, ORDER, Purchase, failed, figures, forget_connections, in_stock, value
from sqlalchemy import Engine, create_engine, make_url

from definitions.order_fulfilment import demo, orders
from definitions.order_fulfilment.errors import (
    CarrierRefused,
    DuplicateOrder,
    InvalidOrder,
    NoticeWithdrawn,
    OrderClosed,
    OutOfStock,
    PaymentClosed,
    ServiceUnavailable,
    ShipmentClosed,
)
from definitions.order_fulfilment.models import Line, Order

LINES = ORDER.lines


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


def test_a_fulfilled_order_leaves_the_books_in_order(shop: Engine) -> None:
    Purchase(shop).fulfil()
    assert failed(shop) == {NONE_UNDONE}
    counted = figures(shop)
    assert (counted["fulfilled"], counted["units_sold"], counted["undone_after_capture"]) == (1, 27, 0)
    assert value(shop, "SELECT total FROM shop.fulfilled") == Decimal("440.00")


def test_a_second_attempt_of_any_step_changes_nothing_and_answers_the_same(shop: Engine) -> None:
    purchase = Purchase(shop)
    purchase.reserve()
    for step in (purchase.authorise, purchase.create, purchase.capture, purchase.ship, purchase.notify):
        first = step()
        assert step() == first
    assert failed(shop) == {NONE_UNDONE}
    assert (figures(shop)["effects"], figures(shop)["repeated_calls"]) == (6, 5)


def test_undoing_a_fulfilled_order_restores_stock_and_money_and_does_so_once(shop: Engine) -> None:
    before = in_stock(shop)
    purchase = Purchase(shop)
    purchase.fulfil()
    assert purchase.undo() == [True, True, True, True, False, True]  # nothing to void once captured
    assert purchase.undo() == [False] * 6
    assert in_stock(shop) == before
    assert failed(shop) == set()
    assert figures(shop)["undone_after_capture"] == 1
    assert value(shop, "SELECT captured = refunded AND captured = 440 FROM shop.payment") is True


def test_undoing_an_order_that_was_only_authorised_voids_it_and_refunds_nothing(shop: Engine) -> None:
    purchase = Purchase(shop)
    purchase.reserve()
    purchase.authorise()
    assert purchase.void().changed
    assert purchase.release().changed
    assert (figures(shop)["voided"], figures(shop)["undone_after_capture"]) == (1, 0)
    assert failed(shop) == {NONE_UNDONE}


def test_undoing_tolerates_that_nothing_was_done(shop: Engine) -> None:
    purchase = Purchase(shop)
    purchase.undo()
    assert purchase.undo() == [False] * 6
    assert failed(shop) == {NONE_UNDONE}
    assert figures(shop)["voided"] == 0


def test_an_effect_that_arrives_after_its_undoing_is_refused(shop: Engine) -> None:
    purchase = Purchase(shop)
    purchase.undo()
    for step, refusal in (
        (purchase.authorise, PaymentClosed),
        (purchase.create, OrderClosed),
        (purchase.capture, PaymentClosed),
        (purchase.ship, ShipmentClosed),
        (purchase.notify, NoticeWithdrawn),
    ):
        with pytest.raises(refusal):
            step()
    assert figures(shop)["fulfilled"] == 0
    assert failed(shop) == {NONE_UNDONE}


def test_a_capture_that_arrives_after_the_refund_is_refused(shop: Engine) -> None:
    purchase = Purchase(shop)
    purchase.authorise()
    purchase.refund()
    with pytest.raises(PaymentClosed):
        purchase.capture()
    purchase.void()
    assert failed(shop) == {NONE_UNDONE}


def test_a_repeated_effect_is_refused_once_it_was_undone(shop: Engine) -> None:
    purchase = Purchase(shop)
    purchase.fulfil()
    purchase.undo()
    for step in (purchase.authorise, purchase.capture):
        with pytest.raises(PaymentClosed):
            step()
    with pytest.raises(ShipmentClosed):
        purchase.ship()
    assert failed(shop) == set()


def test_more_than_was_authorised_cannot_be_captured(shop: Engine) -> None:
    purchase = Purchase(shop)
    purchase.authorise()
    purchase.amount += Decimal("0.01")
    with pytest.raises(PaymentClosed):
        purchase.capture()


def test_all_lines_are_reserved_or_none_and_the_short_product_is_named(shop: Engine) -> None:
    before = in_stock(shop)
    lines = (*LINES, Line(product_id=77, unit_price=Decimal(1), quantity=before[77] + 1))
    purchase = Purchase(shop, ORDER.model_copy(update={"lines": lines}))
    with pytest.raises(OutOfStock, match="product 77 ") as refusal:
        purchase.reserve()
    assert (refusal.value.product_id, refusal.value.quantity) == (77, before[77] + 1)
    assert in_stock(shop) == before
    assert value(shop, "SELECT count(*) FROM shop.reservation") == 0
    assert figures(shop)["rejected_for_stock"] == 1
    purchase.void()
    assert failed(shop) == {NONE_UNDONE}


def test_the_last_unit_can_be_reserved_and_no_further_one(shop: Engine) -> None:
    units = in_stock(shop)[11]
    last = ORDER.model_copy(update={"lines": (Line(product_id=11, unit_price=Decimal(1), quantity=units),)})
    Purchase(shop, last).reserve()
    assert in_stock(shop)[11] == 0
    one = ORDER.model_copy(update={"lines": (Line(product_id=11, unit_price=Decimal(1), quantity=1),)})
    with pytest.raises(OutOfStock):
        Purchase(shop, one).reserve()


def test_orders_that_compete_for_the_same_products_neither_deadlock_nor_oversell(shop: Engine) -> None:
    units = {11: in_stock(shop)[11], 42: in_stock(shop)[42]}

    def buy(number: int) -> int:
        # Half of them list the products the other way round, and every third is given back.
        products = (11, 42) if number % 2 else (42, 11)
        lines = tuple(Line(product_id=product, unit_price=Decimal(1), quantity=1) for product in products)
        purchase = Purchase(shop, ORDER.model_copy(update={"lines": lines, "order_id": number + 1}))
        try:
            purchase.reserve()
        except OutOfStock:
            return 0
        return 0 if number % 3 == 0 and purchase.release().changed else 1

    with ThreadPoolExecutor(max_workers=5) as pool:  # as many as the ledger's engine has connections
        sold = sum(pool.map(buy, range(90)))
    left = in_stock(shop)
    assert units[11] - left[11] == units[42] - left[42] == sold
    assert 0 < sold <= min(units.values())
    assert "stock is conserved" not in failed(shop)


def test_a_released_order_makes_room_for_the_next(shop: Engine) -> None:
    units = in_stock(shop)[11]
    order = ORDER.model_copy(update={"lines": (Line(product_id=11, unit_price=Decimal(1), quantity=units),)})
    first = Purchase(shop, order)
    first.reserve()
    assert first.release().changed
    Purchase(shop, order).reserve()
    assert in_stock(shop)[11] == 0


@pytest.mark.parametrize("day", [None, date(1996, 8, 2)])
def test_the_carrier_refuses_what_it_cannot_deliver_in_time(shop: Engine, day: date | None) -> None:
    purchase = Purchase(shop, ORDER.model_copy(update={"shipped_date": day}))
    for step in (purchase.reserve, purchase.authorise, purchase.create, purchase.capture):
        step()
    with pytest.raises(CarrierRefused):
        purchase.ship()
    assert [purchase.unship().changed, purchase.refund().changed, purchase.cancel().changed] == [True, True, True]
    assert [purchase.void().changed, purchase.release().changed] == [False, True]
    assert failed(shop) == set()
    assert (figures(shop)["undone_after_capture"], figures(shop)["fulfilled"]) == (1, 0)


def test_the_carrier_takes_what_leaves_on_the_required_day(shop: Engine) -> None:
    order = ORDER.model_copy(update={"shipped_date": ORDER.required_date})
    assert Purchase(shop, order).ship().order_id == ORDER.order_id


def test_an_order_number_is_taken_until_its_order_is_cancelled(shop: Engine) -> None:
    first, second = Purchase(shop), Purchase(shop)
    first.create()
    with pytest.raises(DuplicateOrder):
        second.create()
    first.cancel()
    assert second.create().order_id == ORDER.order_id


def test_validation_prices_the_order(shop: Engine) -> None:
    quote = orders.validate_order(ORDER)
    assert (quote.order_id, quote.amount, quote.units) == (10248, Decimal("440.00"), 27)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"customer_id": "NOBOD"}, "customer 'NOBOD'"),
        ({"lines": (*LINES, Line(product_id=999, unit_price=Decimal(1), quantity=1))}, "product 999"),
        ({"lines": (*LINES, LINES[0])}, "twice"),
    ],
)
def test_validation_refuses_what_the_shop_does_not_know(shop: Engine, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOrder, match=message):
        orders.validate_order(ORDER.model_copy(update=change))


def test_the_order_book_adds_up_to_the_same_amounts_as_the_quotes(shop: Engine) -> None:
    for _, given in demo.inputs():
        purchase = Purchase(shop, Order.model_validate(given))
        purchase.create()
    book = "SELECT sum(round(unit_price * quantity * (1 - discount), 2)) FROM shop.order_line"
    assert value(shop, book) == Decimal("1265793.29")


def test_a_service_that_does_not_answer_is_worth_another_attempt(
    shop: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = Purchase(shop)
    nobody = make_url(database_url).set(port=1).render_as_string(hide_password=False)
    monkeypatch.setenv("SHOP_DATABASE_URL", nobody)
    forget_connections()
    with pytest.raises(ServiceUnavailable):
        purchase.authorise()
    monkeypatch.setenv("SHOP_DATABASE_URL", database_url)
    forget_connections()
    assert purchase.authorise().amount == Decimal("440.00")
