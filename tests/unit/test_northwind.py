"""The Northwind data and the shop's arithmetic."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from definitions.order_fulfilment import demo, northwind
from definitions.order_fulfilment.models import Line, Order, total


def line(unit_price: str, quantity: int, discount: str) -> Line:
    return Line(product_id=1, unit_price=Decimal(unit_price), quantity=quantity, discount=Decimal(discount))


def test_more_is_ordered_than_is_in_stock() -> None:
    orders = northwind.orders()
    assert len(orders) == 830
    assert sum(len(order.lines) for order in orders) == 2155
    assert sum(line.quantity for order in orders for line in order.lines) == 51_317
    assert sum(product.units_in_stock for product in northwind.products()) == 3_119


def test_some_orders_cannot_be_delivered_in_time() -> None:
    orders = northwind.orders()
    assert sum(order.shipped_date is None for order in orders) == 21
    assert sum(order.shipped_date is not None and order.shipped_date > order.required_date for order in orders) == 37


def test_every_order_is_of_known_products_and_a_known_customer() -> None:
    products = {product.product_id for product in northwind.products()}
    customers = {customer.customer_id for customer in northwind.customers()}
    assert len(products) == 77
    assert len(customers) == 91
    for order in northwind.orders():
        listed = [line.product_id for line in order.lines]
        assert len(set(listed)) == len(listed)
        assert products.issuperset(listed)
        assert order.customer_id in customers


@pytest.mark.parametrize(
    ("unit_price", "quantity", "discount", "amount"),
    [
        ("14.00", 12, "0.00", "168.00"),
        ("16.80", 6, "0.05", "95.76"),
        ("7.70", 25, "0.15", "163.63"),  # 163.625
        ("0.01", 1, "0.50", "0.01"),  # 0.005
        ("9.99", 3, "1", "0.00"),
    ],
)
def test_a_line_costs_its_discounted_price_and_half_a_cent_goes_up(
    unit_price: str, quantity: int, discount: str, amount: str
) -> None:
    assert line(unit_price, quantity, discount).amount == Decimal(amount)


def test_an_order_costs_the_sum_of_its_rounded_lines() -> None:
    assert total([line("0.01", 1, "0.50")] * 3) == Decimal("0.03")
    first = northwind.orders()[0]
    assert (first.order_id, total(first.lines)) == (10248, Decimal("440.00"))


def test_all_orders_together_cost_what_the_data_says() -> None:
    assert sum((total(order.lines) for order in northwind.orders()), Decimal(0)) == Decimal("1265793.29")


def test_the_demonstration_starts_every_order_once_in_sequence() -> None:
    inputs = demo.inputs()
    assert [key for key, _ in inputs] == [f"northwind-{order.order_id}" for order in northwind.orders()]
    assert len({key for key, _ in inputs}) == 830
    assert [value["order_id"] for _, value in inputs] == sorted(value["order_id"] for _, value in inputs)


def test_an_order_keeps_its_value_on_its_way_through_json_and_fits_its_schema() -> None:
    schema = jsonschema.Draft202012Validator(Order.model_json_schema())
    for (_, value), order in zip(demo.inputs(), northwind.orders(), strict=True):
        schema.validate(value)
        assert Order.model_validate(value) == order


@pytest.mark.parametrize(
    "wrong", [{"lines": []}, {"customer_id": ""}, {"order_id": 0}, {"required_date": "soon"}, {"gift": True}]
)
def test_an_order_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    _, value = demo.inputs()[0]
    with pytest.raises(ValidationError):
        Order.model_validate(value | wrong)


@pytest.mark.parametrize("wrong", [{"quantity": 0}, {"discount": "1.01"}, {"unit_price": "-1"}, {"product_id": -1}])
def test_a_line_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    right = {"product_id": 1, "unit_price": "1", "quantity": 1, "discount": "0"}
    assert Line.model_validate(right).quantity == 1
    with pytest.raises(ValidationError):
        Line.model_validate(right | wrong)
