"""The definition: the steps of a shop's checkout, each with what undoes it.

A cart that has become an order before gives that order, and nothing is done. Start it under the key
`complete:<cart id>`, so that of two calls at once one completes the cart and both get its order.
"""

from __future__ import annotations

from typing import Any

from definitions.complete_cart import activities as do
from definitions.complete_cart.models import Cart
from orchestrator import RetryPolicy, case, choice, compensation, emit, parallel, step, workflow

_CART_ID = {"cart_id": "{{ input.cart_id }}"}
_TOTAL = "{{ steps.load_cart.output.total }}"
_ORDER = "{{ steps.create_orders.output }}"


def _undo(activity: Any) -> Any:
    """Every compensation finds by itself what there is to undo; it needs to know the cart only."""
    return compensation(activity, {"cart_id": "{{ undo.input.cart_id }}"})


complete_cart = workflow(
    "complete-cart",
    step("find_order", do.find_order, _CART_ID),
    choice(
        "is_new",
        case("{{ steps.find_order.output != null }}", exit="known"),
        default=[
            step("load_cart", do.load_cart, {"cart": "{{ input }}"}),
            step("validate_cart_payments", do.validate_payments, {"cart": "{{ input }}"}),
            step(
                "authorize_payment_session",
                do.authorize_payment,
                _CART_ID | {"amount": _TOTAL, "limit": "{{ input.payment_limit }}"},
                compensation=_undo(do.cancel_payment),
            ),
            step(
                "create_orders",
                do.create_orders,
                _CART_ID | {"customer": "{{ input.customer }}", "total": _TOTAL},
                compensation=_undo(do.delete_orders),
            ),
            parallel(
                step(
                    "create_remote_links",
                    do.create_links,
                    _CART_ID
                    | {
                        "order_id": _ORDER,
                        "payment_id": "{{ steps.authorize_payment_session.output.payment_id }}",
                        "total": _TOTAL,
                    },
                    compensation=_undo(do.dismiss_links),
                ),
                step("update_carts", do.close_cart, _CART_ID, compensation=_undo(do.reopen_cart)),
                step(
                    "reserve_inventory",
                    do.reserve_items,
                    _CART_ID | {"items": "{{ input.items }}"},
                    compensation=compensation(do.release_items),
                ),
                step(
                    "emit_event",
                    do.hold_event,
                    _CART_ID | {"order_id": _ORDER},
                    compensation=_undo(do.drop_event),
                ),
            ),
            step(
                "register_usage",
                do.register_usage,
                {"promotion": "{{ default(input.promotion, null) }}"},
                compensation=compensation(do.revert_usage, {"promotion": "{{ undo.input.promotion }}"}),
            ),
            # The news that was held back: now nothing can fail any more.
            emit("tell_others", "order_placed", {"order_id": _ORDER}, correlation="{{ input.cart_id }}"),
        ],
    ),
    input=Cart,
    output={
        "order_id": "{{ coalesce(default(steps.find_order.output.order_id, null), steps.create_orders.output) }}",
        "total": "{{ coalesce(default(steps.find_order.output.total, null), steps.load_cart.output.total) }}",
        "was_known": "{{ steps.is_new.output == 'known' }}",
    },
    retry=RetryPolicy(max_attempts=10, backoff=0.2, max_delay=5.0),
)
