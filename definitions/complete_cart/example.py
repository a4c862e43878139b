"""What the example does, checked on real workers by `orchestrator examples`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from definitions import books
from definitions.play import Play

WORKFLOW = "complete-cart"
SAMPLE: dict[str, Any] = {
    "cart_id": "cart-1",
    "customer": "ann",
    "items": [{"sku": "tea", "quantity": 2, "price": 500}, {"sku": "cup", "quantity": 1, "price": 900}],
    "payment_limit": 10_000,
    "promotion": "WELCOME",
}
KEY = "complete:cart-1"
_PARALLEL = {"create_remote_links", "update_carts", "reserve_inventory", "emit_event"}


def _cart(play: Play, **changes: Any) -> dict[str, Any]:
    return SAMPLE | {"cart_id": f"cart-{play.tag}"} | changes


def _standing(play: Play) -> dict[str, int]:
    """Entries that stand in every book of the cart."""
    return {name: len(books.read(f"{name}/cart-{play.tag}").standing) for name in ("cart", "payment", "order", "news")}


def check_completed_once(play: Play) -> None:
    """two calls at once complete the cart once and give the same order; so does a later one under another key"""
    cart = _cart(play)
    with ThreadPoolExecutor(2) as both:
        calls = [both.submit(play.start, WORKFLOW, cart, idempotency_key=f"complete:{cart['cart_id']}") for _ in "12"]
        first, second = (call.result() for call in calls)
    play.same(second.id, first.id, "the second call's execution")
    play.same({first.created, second.created}, {True, False}, "what the calls made")
    output = play.output(first)
    play.same((output["total"], output["was_known"]), (1900, False), "the output")
    play.same(_standing(play), {"cart": 2, "payment": 1, "order": 1, "news": 1}, "entries that stand")
    later = play.start(WORKFLOW, cart)
    play.same(play.output(later), output | {"was_known": True}, "the output of a later call")
    play.same(play.begun(later), ["find_order", "is_new"], "steps of a later call")
    play.same(_standing(play), {"cart": 2, "payment": 1, "order": 1, "news": 1}, "entries that stand")
    play.same(books.read("inventory").found(f"{first.id}/reserve_inventory") is not None, True, "a reservation")


def check_undone_in_reverse(play: Play) -> None:
    """a promotion that is used up undoes the parallel steps, then the order, then the payment"""
    handle = play.start(WORKFLOW, _cart(play, promotion="SOLD-OUT"))
    play.same(play.error(handle, "compensated")["name"], "PromotionUsedUp", "the error")
    undone = [name.removeprefix("undo ") for name in play.begun(handle) if name.startswith("undo ")]
    play.same(undone[0], "register_usage", "undone first, as its outcome might have been unknown")
    play.same(set(undone[1:5]), _PARALLEL, "undone then")
    play.same(undone[5:], ["create_orders", "authorize_payment_session"], "undone last")
    play.same(set(_standing(play).values()), {0}, "what stands")
    play.true(books.read("inventory").last("reserve") is None
              or f"{handle.id}/reserve_inventory" not in {e.key for e in books.read("inventory").standing},
              "nothing is reserved")  # fmt: skip


def check_not_in_stock(play: Play) -> None:
    """a product that is not there undoes the branches beside it too"""
    handle = play.start(WORKFLOW, _cart(play, items=[{"sku": "teapot", "quantity": 1, "price": 100}]))
    play.same(play.error(handle, "compensated")["name"], "NotInStock", "the error")
    play.same(set(_standing(play).values()), {0}, "what stands")


def check_declined(play: Play) -> None:
    """a payment that is declined leaves nothing"""
    handle = play.start(WORKFLOW, _cart(play, payment_limit=100))
    play.same(play.error(handle, "compensated")["name"], "PaymentDeclined", "the error")
    play.same(set(_standing(play).values()), {0}, "what stands")


def check_no_session(play: Play) -> None:
    """a cart without a payment session is refused before anything is done"""
    handle = play.start(WORKFLOW, _cart(play, payment_limit=None))
    play.same(play.error(handle, "failed")["name"], "NoPaymentSession", "the error")
