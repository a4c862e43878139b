"""The definition: every step that leaves an effect names the activity that undoes it.

A failed order is undone backwards: shipment cancelled, captured money refunded, order cancelled, open authorisation
voided, stock released. Each compensation finds out by itself whether there is anything to undo: that of a step whose
outcome is unknown is called as well.
"""

from __future__ import annotations

from definitions.order_fulfilment.carrier import book_shipment, cancel_shipment
from definitions.order_fulfilment.models import Order
from definitions.order_fulfilment.notices import send_notice, withdraw_notice
from definitions.order_fulfilment.orders import cancel_order, create_order, validate_order
from definitions.order_fulfilment.payments import authorise_payment, capture_payment, refund_payment, void_payment
from definitions.order_fulfilment.stock import release_stock, reserve_stock
from orchestrator import RetryPolicy, compensation, parallel, step, workflow

_ORDER_ID = "{{ input.order_id }}"
_AMOUNT = "{{ steps.validate.output.amount }}"

#: Outlasts a database's restart; what the business says no to is not tried again.
_PATIENT = RetryPolicy(max_attempts=10, backoff=0.2, max_delay=10.0)

order_fulfilment = workflow(
    "order-fulfilment",
    step("validate", validate_order, input={"order": "{{ input }}"}),
    parallel(
        step(
            "reserve_stock",
            reserve_stock,
            input={"order_id": _ORDER_ID, "lines": "{{ input.lines }}"},
            compensation=compensation(release_stock),
        ),
        step(
            "authorise_payment",
            authorise_payment,
            input={"order_id": _ORDER_ID, "amount": _AMOUNT},
            compensation=compensation(void_payment, {"order_id": "{{ undo.input.order_id }}"}),
        ),
    ),
    step(
        "create_order",
        create_order,
        input={"order_id": _ORDER_ID, "customer_id": "{{ input.customer_id }}", "lines": "{{ input.lines }}"},
        compensation=compensation(cancel_order, {"order_id": "{{ undo.input.order_id }}"}),
    ),
    step(
        "capture_payment",
        capture_payment,
        input={"order_id": _ORDER_ID, "amount": _AMOUNT},
        compensation=compensation(refund_payment, {"order_id": "{{ undo.input.order_id }}"}),
    ),
    step(
        "book_shipment",
        book_shipment,
        input={
            "order_id": _ORDER_ID,
            "shipper_id": "{{ input.ship_via }}",
            "required_date": "{{ input.required_date }}",
            "shipped_date": "{{ input.shipped_date }}",
        },
        compensation=compensation(cancel_shipment, {"order_id": "{{ undo.input.order_id }}"}),
    ),
    step(
        "notify",
        send_notice,
        input={"order_id": _ORDER_ID, "customer_id": "{{ input.customer_id }}"},
        compensation=compensation(withdraw_notice, {"order_id": "{{ undo.input.order_id }}"}),
    ),
    version=1,
    input=Order,
    output={
        "order_id": _ORDER_ID,
        "amount": "{{ steps.capture_payment.output.amount }}",
        "tracking_number": "{{ steps.book_shipment.output.tracking_number }}",
    },
    retry=_PATIENT,
)
