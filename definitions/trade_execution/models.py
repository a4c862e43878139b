"""What goes into a trade and what its activities hand back."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trade(_Value):
    """What a customer wants: the workflow's input."""

    account: str = Field(min_length=1, examples=["ann"])
    symbol: str = Field(examples=["ACME"])
    side: Literal["buy", "sell"]
    quantity: PositiveInt
    #: The worst price that is taken, in cents: the highest when buying, the lowest when selling.
    limit: PositiveInt = Field(examples=[1300])


class Quote(_Value):
    """A trade found valid."""

    #: In cents, of one piece.
    price: int
    #: In cents, with the signs of the account: negative leaves it.
    cash: int
    pieces: int


class Receipt(_Value):
    """How far an order has come."""

    confirmations: int
    #: In cents, of one piece; what was really paid.
    price: int


class Position(_Value):
    """An account after a trade."""

    #: In cents.
    cash: int
    pieces: int
