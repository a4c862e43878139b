"""An order taken through the shop's activities by hand, and questions to the shop's books."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast
from uuid import uuid4

from sqlalchemy import Connection, Engine, text

from definitions.order_fulfilment import carrier, demo, notices, orders, payments, stock
from definitions.order_fulfilment.database import engine_of
from definitions.order_fulfilment.models import (
    Notice,
    Order,
    Payment,
    Reservation,
    SalesOrder,
    Shipment,
    Undone,
    total,
)
from orchestrator import StepContext

R = TypeVar("R")

#: Leaves on its day; its three lines are in stock.
ORDER = Order.model_validate(demo.inputs()[0][1])


class Step:
    """What an activity reads of its context."""

    def __init__(self, execution_id: str, name: str, connection: Connection | None = None) -> None:
        self.execution_id = execution_id
        self.idempotency_key = f"{execution_id}:{name}"
        self.connection = connection


class Purchase:
    """One order on its way through the shop; every call of a step has the same idempotency key, as attempts have."""

    def __init__(self, ledger: Engine, order: Order = ORDER) -> None:
        self.ledger, self.order, self.execution_id = ledger, order, str(uuid4())
        self.order_id, self.amount = order.order_id, total(order.lines)

    def ctx(self, name: str, connection: Connection | None = None) -> StepContext:
        return cast("StepContext", Step(self.execution_id, name, connection))

    def within(self, name: str, call: Callable[[StepContext], R]) -> R:
        """Call a transactional activity as the ledger does: committed if it returns, rolled back if it raises."""
        with self.ledger.begin() as connection:
            return call(self.ctx(name, connection))

    def reserve(self) -> Reservation:
        lines = list(self.order.lines)
        return self.within("reserve", lambda ctx: stock.reserve_stock(ctx, self.order_id, lines))

    def release(self) -> Undone:
        return self.within("release", stock.release_stock)

    def authorise(self) -> Payment:
        return payments.authorise_payment(self.ctx("authorise"), self.order_id, self.amount)

    def capture(self) -> Payment:
        return payments.capture_payment(self.ctx("capture"), self.order_id, self.amount)

    def void(self) -> Undone:
        return payments.void_payment(self.ctx("void"), self.order_id)

    def refund(self) -> Undone:
        return payments.refund_payment(self.ctx("refund"), self.order_id)

    def create(self) -> SalesOrder:
        lines = list(self.order.lines)
        return orders.create_order(self.ctx("create"), self.order_id, self.order.customer_id, lines)

    def cancel(self) -> Undone:
        return orders.cancel_order(self.ctx("cancel"), self.order_id)

    def ship(self) -> Shipment:
        days = self.order.required_date, self.order.shipped_date
        return carrier.book_shipment(self.ctx("ship"), self.order_id, self.order.ship_via, *days)

    def unship(self) -> Undone:
        return carrier.cancel_shipment(self.ctx("unship"), self.order_id)

    def notify(self) -> Notice:
        return notices.send_notice(self.ctx("notify"), self.order_id, self.order.customer_id)

    def withdraw(self) -> Undone:
        return notices.withdraw_notice(self.ctx("withdraw"), self.order_id)

    def fulfil(self) -> None:
        for step in (self.reserve, self.authorise, self.create, self.capture, self.ship, self.notify):
            step()

    def undo(self) -> list[bool]:
        """Every compensation, in the order of a rollback; which of them changed something."""
        steps = (self.withdraw, self.unship, self.refund, self.cancel, self.void, self.release)
        return [step().changed for step in steps]


NONE_UNDONE = "at least one order was undone after its capture"


def url(shop: Engine) -> str:
    return shop.url.render_as_string(hide_password=False)


def value(shop: Engine, statement: str) -> Any:
    with shop.connect() as connection:
        return connection.execute(text(statement)).scalar_one()


def in_stock(shop: Engine) -> dict[int, int]:
    with shop.connect() as connection:
        rows = connection.execute(text("SELECT product_id, units_in_stock FROM shop.product"))
        return {row.product_id: row.units_in_stock for row in rows}


def failed(shop: Engine) -> set[str]:
    """Names of the checks that do not hold."""
    return {check.name for check in demo.checks(url(shop)) if not check.ok}


def figures(shop: Engine) -> dict[str, int]:
    return demo.figures(url(shop))


def forget_connections() -> None:
    """Let the services read their settings anew: they do so once a process."""
    if engine_of.cache_info().currsize:
        engine_of(os.getpid()).dispose()
    engine_of.cache_clear()
