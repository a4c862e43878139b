"""The Northwind data: a grocery wholesaler's products, customers and orders of 1996 to 1998."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from definitions.order_fulfilment.models import Line, Order

_DATA = Path(__file__).parents[1] / "data" / "northwind"


class Product(BaseModel):
    """What the shop sells."""

    model_config = ConfigDict(frozen=True)

    product_id: int
    product_name: str
    units_in_stock: int


class Customer(BaseModel):
    """Whom the shop sells to."""

    model_config = ConfigDict(frozen=True)

    customer_id: str
    company_name: str


def products() -> list[Product]:
    """All products."""
    return [Product.model_validate(row) for row in _rows("products.csv")]


def customers() -> list[Customer]:
    """All customers."""
    return [Customer.model_validate(row) for row in _rows("customers.csv")]


def orders() -> list[Order]:
    """All orders with their lines, by order id."""
    lines: dict[str, list[Line]] = defaultdict(list)
    for row in _rows("order_details.csv"):
        lines[row.pop("order_id")].append(Line.model_validate(row))
    read = [_order(row, lines[row["order_id"]]) for row in _rows("orders.csv")]
    return sorted(read, key=lambda order: order.order_id)


def _order(row: dict[str, str], lines: list[Line]) -> Order:
    fields = {name: row[name] or None for name in Order.model_fields if name in row}
    return Order.model_validate({**fields, "lines": lines})


def _rows(name: str) -> list[dict[str, str]]:
    with (_DATA / name).open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))
