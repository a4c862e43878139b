"""What the completion's steps do, each on the books of its own service."""

from __future__ import annotations

from typing import Any

from definitions import books
from definitions.complete_cart.models import Cart, Item, Payment
from orchestrator import BusinessError, StepContext, activity

#: Pieces in stock at first, by product, and how often a promotion may be used.
STOCK = {"tea": 100_000, "cup": 100_000, "teapot": 0}
PROMOTIONS = {"WELCOME": 1_000_000, "SOLD-OUT": 0}


class NoPaymentSession(BusinessError):
    """The cart has no payment session."""


class PaymentDeclined(BusinessError):
    """The customer's bank does not let the payment through."""


class NotInStock(BusinessError):
    """A product is not there in this quantity."""


class PromotionUsedUp(BusinessError):
    """The promotion was used as often as it may be."""


@activity
def find_order(cart_id: str) -> dict[str, Any] | None:
    """The order that the cart has become before, or nothing."""
    with books.opened(f"cart/{cart_id}") as cart:
        link = cart.last("link")
    return None if link is None else {"order_id": link.data["order"], "total": link.data["total"]}


@activity
def load_cart(cart: Cart) -> dict[str, int]:
    """Add the cart up."""
    return {"total": sum(item.quantity * item.price for item in cart.items)}


@activity
def validate_payments(cart: Cart) -> dict[str, int]:
    """NoPaymentSession unless the cart has one."""
    if cart.payment_limit is None:
        raise NoPaymentSession
    return {"sessions": 1}


@activity
def authorize_payment(ctx: StepContext, cart_id: str, amount: int, limit: int) -> Payment:
    """Have the money set aside; PaymentDeclined if it is more than the bank lets through."""
    if amount > limit:
        raise PaymentDeclined(f"{amount} is more than {limit}")
    with books.opened(f"payment/{cart_id}") as payment:
        made = payment.post("authorize", ctx.idempotency_key, {"amount": amount})
    return Payment(payment_id=made.key, amount=amount)


@activity
def cancel_payment(ctx: StepContext, cart_id: str) -> bool:
    """Let the money go."""
    return _take_back(ctx, f"payment/{cart_id}", "cancel")


@activity
def create_orders(ctx: StepContext, cart_id: str, customer: str, total: int) -> str:
    """Enter the order; its id."""
    with books.opened(f"order/{cart_id}") as order:
        return order.post("create", ctx.idempotency_key, {"customer": customer, "total": total}).key


@activity
def delete_orders(ctx: StepContext, cart_id: str) -> bool:
    """Delete the order."""
    return _take_back(ctx, f"order/{cart_id}", "delete")


@activity
def create_links(ctx: StepContext, cart_id: str, order_id: str, payment_id: str, total: int) -> bool:
    """Tie cart, order and payment together."""
    with books.opened(f"cart/{cart_id}") as cart:
        cart.post("link", ctx.idempotency_key, {"order": order_id, "payment": payment_id, "total": total})
    return True


@activity
def dismiss_links(ctx: StepContext, cart_id: str) -> bool:
    """Take the links apart."""
    return _take_back(ctx, f"cart/{cart_id}", "dismiss")


@activity
def close_cart(ctx: StepContext, cart_id: str) -> bool:
    """Close the cart."""
    with books.opened(f"cart/{cart_id}") as cart:
        cart.post("complete", ctx.idempotency_key, {})
    return True


@activity
def reopen_cart(ctx: StepContext, cart_id: str) -> bool:
    """Open the cart again."""
    return _take_back(ctx, f"cart/{cart_id}", "reopen")


@activity
def reserve_items(ctx: StepContext, cart_id: str, items: list[Item]) -> dict[str, int]:
    """Set all products aside, or none; NotInStock names the first that is short."""
    wanted: dict[str, int] = {}
    for item in items:
        wanted[item.sku] = wanted.get(item.sku, 0) + item.quantity
    with books.opened("inventory") as inventory:
        if inventory.found(ctx.idempotency_key) is None:
            for sku, quantity in wanted.items():
                if STOCK.get(sku, 0) - inventory.total(sku) < quantity:
                    raise NotInStock(sku)
        inventory.post("reserve", ctx.idempotency_key, wanted)
    return wanted


@activity
def release_items(ctx: StepContext) -> bool:
    """Put the products back."""
    return _take_back(ctx, "inventory", "release")


@activity
def hold_event(ctx: StepContext, cart_id: str, order_id: str) -> bool:
    """Write the news of the order down, to be told once everything is done."""
    with books.opened(f"news/{cart_id}") as news:
        news.post("order.placed", ctx.idempotency_key, {"order": order_id})
    return True


@activity
def drop_event(ctx: StepContext, cart_id: str) -> bool:
    """The news is not told."""
    return _take_back(ctx, f"news/{cart_id}", "dropped")


@activity
def register_usage(ctx: StepContext, promotion: str | None) -> int:
    """Count a use of the promotion, if there is one; PromotionUsedUp when it was used as often as it may be."""
    if promotion is None:
        return 0
    with books.opened(f"promotion/{promotion}") as uses:
        known = uses.found(ctx.idempotency_key) is not None
        if not known and uses.total("use") >= PROMOTIONS.get(promotion, 0):
            raise PromotionUsedUp(promotion)
        uses.post("use", ctx.idempotency_key, {"use": 1})
        return int(uses.total("use"))


@activity
def revert_usage(ctx: StepContext, promotion: str | None) -> bool:
    """Take the use back."""
    return promotion is not None and _take_back(ctx, f"promotion/{promotion}", "revert")


def _take_back(ctx: StepContext, book: str, action: str) -> bool:
    with books.opened(book) as opened:
        return opened.take_back(ctx, action)
