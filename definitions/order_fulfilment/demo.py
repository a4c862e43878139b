"""The 830 Northwind orders as a demonstration: more is ordered than is in stock, and some cannot be delivered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, NullPool, create_engine, text

from definitions.order_fulfilment import northwind
from definitions.order_fulfilment.checks import Check, claims, counts

__all__ = ["WORKFLOW", "Check", "checks", "figures", "inputs", "prepare"]

#: The definition that the inputs are for.
WORKFLOW = "order-fulfilment"

_SCHEMA = Path(__file__).with_name("schema.sql")

_ADD_PRODUCT = text("""
    INSERT INTO shop.product (product_id, product_name, initial_stock, units_in_stock)
    VALUES (:product_id, :product_name, :units_in_stock, :units_in_stock)
""")

_ADD_CUSTOMER = text("INSERT INTO shop.customer (customer_id, company_name) VALUES (:customer_id, :company_name)")


def prepare(database_url: str) -> None:
    """Open the shop: its schema made anew, whatever was there, with all products and customers and no orders."""
    with _connection(database_url) as connection, connection.begin():
        connection.exec_driver_sql("DROP SCHEMA IF EXISTS shop CASCADE")
        connection.exec_driver_sql(_SCHEMA.read_text(encoding="utf-8"))
        connection.execute(_ADD_PRODUCT, [product.model_dump() for product in northwind.products()])
        connection.execute(_ADD_CUSTOMER, [customer.model_dump() for customer in northwind.customers()])


def inputs() -> list[tuple[str, dict[str, Any]]]:
    """Idempotency key and input of every order, by order id."""
    return [(f"northwind-{order.order_id}", order.model_dump(mode="json")) for order in northwind.orders()]


def figures(database_url: str) -> dict[str, int]:
    """How the orders ended, counted in the shop's books."""
    with _connection(database_url) as connection:
        return counts(connection)


def checks(database_url: str) -> list[Check]:
    """What must hold once every order has been dealt with, one SQL statement over the shop's books for each."""
    with _connection(database_url) as connection:
        return claims(connection)


@contextmanager
def _connection(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
