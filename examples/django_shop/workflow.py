"""What happens to an order once its request has been answered."""

from __future__ import annotations

from examples.django_shop.models import Order
from orchestrator import activity, step, workflow


@activity
def confirm_django_order(order_id: int) -> dict[str, int]:
    """Mark the order as confirmed, through Django. A second attempt finds it confirmed and changes nothing."""
    changed = Order.objects.filter(pk=order_id, status="new").update(status="confirmed")
    return {"order_id": order_id, "changed": changed}


confirm_django = workflow(
    "confirm-django-order",
    step("confirm", confirm_django_order, {"order_id": "{{ input.order_id }}"}),
    input={"type": "object", "required": ["order_id"], "properties": {"order_id": {"type": "integer"}}},
)
