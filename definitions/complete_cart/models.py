"""What goes into a cart's completion and what its activities hand back."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Item(_Value):
    """One product of a cart."""

    sku: str = Field(min_length=1, examples=["tea"])
    quantity: PositiveInt
    #: In cents, of one piece.
    price: int = Field(ge=0, examples=[500])


class Cart(_Value):
    """A cart as its shop front has it: the workflow's input."""

    cart_id: str = Field(min_length=1, examples=["cart-1"])
    customer: str = Field(min_length=1)
    items: tuple[Item, ...] = Field(min_length=1)
    #: The payment session: what the customer's bank lets through, in cents; None without a session.
    payment_limit: int | None = Field(default=None, examples=[10_000])
    promotion: str | None = None


class Payment(_Value):
    """Money authorised, in cents."""

    payment_id: str
    amount: int


class Completed(_Value):
    """The order that a cart has become."""

    order_id: str
    #: In cents.
    total: int
