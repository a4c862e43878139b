"""What goes into an order's fulfilment and what its activities hand back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

_CENT = Decimal("0.01")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Line(_Value):
    """One product of an order."""

    product_id: PositiveInt
    #: In the shop's one currency.
    unit_price: Decimal = Field(ge=0)
    quantity: PositiveInt
    #: Share of the price, 0 to 1.
    discount: Decimal = Field(default=Decimal(0), ge=0, le=1)

    @property
    def amount(self) -> Decimal:
        """Price after discount, to the cent; half a cent goes up, as PostgreSQL rounds."""
        return (self.unit_price * self.quantity * (1 - self.discount)).quantize(_CENT, ROUND_HALF_UP)


class Order(_Value):
    """What a customer orders: the workflow's input."""

    order_id: PositiveInt
    customer_id: str = Field(min_length=1)
    order_date: date
    #: The customer wants the goods by then.
    required_date: date
    #: The day on which the goods can leave; None if there is none.
    shipped_date: date | None
    #: The carrier, a shipper's id.
    ship_via: PositiveInt
    lines: tuple[Line, ...] = Field(min_length=1)


class Quote(_Value):
    """An order found valid, and what it costs."""

    order_id: int
    #: Sum of the lines, without freight.
    amount: Decimal
    units: int


class Reservation(_Value):
    """Stock set aside for an order."""

    order_id: int
    #: Units by product id.
    units: dict[int, int]


class Payment(_Value):
    """Money authorised or captured."""

    order_id: int
    amount: Decimal


class SalesOrder(_Value):
    """An order in the shop's books."""

    order_id: int
    lines: int


class Shipment(_Value):
    """Goods that a carrier will collect."""

    order_id: int
    tracking_number: str


class Notice(_Value):
    """A letter to the customer."""

    order_id: int
    customer_id: str


class Undone(_Value):
    """What a compensation did; False means that there was nothing to undo, or that it was undone before."""

    changed: bool


def total(lines: Iterable[Line]) -> Decimal:
    """Sum of the lines' amounts."""
    return sum((line.amount for line in lines), Decimal("0.00"))
