"""What the saga's steps do. An order's number says what fails: with 1 the order, with 2 the payment, with 3 the
inventory; with the figure twice, taking that back fails as well."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from definitions import books
from orchestrator import BusinessError, StepContext, activity


class OrderRefused(BusinessError):
    """The order cannot be processed."""


class PaymentRefused(BusinessError):
    """The payment cannot be taken."""


class InventoryRefused(BusinessError):
    """The goods cannot be reserved."""


class UndoRefused(BusinessError):
    """What was done cannot be taken back."""


def identity(order_id: str, what: str) -> str:
    """The same for the same order, so that what is written again overwrites nothing and adds nothing."""
    return str(uuid5(NAMESPACE_URL, f"{order_id}/{what}"))


@activity
def process_order(ctx: StepContext, order_id: str) -> dict[str, Any]:
    """Enter the order as pending."""
    return _enter(ctx, order_id, "order", "1", OrderRefused)


@activity
def process_payment(ctx: StepContext, order_id: str, amount: float) -> dict[str, Any]:
    """Take the money."""
    return _enter(ctx, order_id, "payment", "2", PaymentRefused, amount=amount)


@activity
def reserve_inventory(ctx: StepContext, order_id: str, items: list[str]) -> dict[str, Any]:
    """Set the goods aside."""
    return _enter(ctx, order_id, "inventory", "3", InventoryRefused, items=items)


@activity
def update_order_status(order_id: str) -> bool:
    """Mark the order as failed; whether there was one."""
    return _take_back(order_id, "order", "11")


@activity
def process_refund(order_id: str) -> bool:
    """Give the money back; whether any was taken."""
    return _take_back(order_id, "payment", "22")


@activity
def release_inventory(order_id: str) -> bool:
    """Give the goods back; whether any were set aside."""
    return _take_back(order_id, "inventory", "33")


@activity
def notify_people(ctx: StepContext, order_id: str, text: str) -> str:
    """Tell the people who look after orders."""
    with books.opened(f"saga/{order_id}/notices") as notices:
        return str(notices.post("notice", ctx.idempotency_key, {"text": text}).data["text"])


def _enter(
    ctx: StepContext, order_id: str, what: str, prefix: str, error: type[BusinessError], **data: Any
) -> dict[str, Any]:
    if order_id.startswith(prefix):
        raise error(f"order {order_id}")
    with books.opened(f"saga/{order_id}/{what}") as book:
        return book.post(what, identity(order_id, what), {"id": identity(order_id, what), **data}).data


def _take_back(order_id: str, what: str, prefix: str) -> bool:
    if order_id.startswith(prefix):
        raise UndoRefused(f"{what} of order {order_id}")
    done = identity(order_id, what)
    with books.opened(f"saga/{order_id}/{what}") as book:
        book.post(f"no {what}", identity(order_id, f"no {what}"), {}, reverses=done)
        return book.found(done) is not None
