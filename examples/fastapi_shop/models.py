"""The shop's one table."""

from __future__ import annotations

from sqlalchemy import Identity
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The shop's tables."""


class Order(Base):
    """An order; its workflow confirms it."""

    __tablename__ = "fastapi_order"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    customer: Mapped[str]
    amount: Mapped[int]
    status: Mapped[str] = mapped_column(default="new")
