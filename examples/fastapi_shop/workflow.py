"""What happens to an order once its request has been answered."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy import update

from examples.fastapi_shop.models import Order
from orchestrator import StepContext, activity, step, workflow


class OrderPlaced(BaseModel):
    """The workflow's input."""

    order_id: int


@activity(transactional=True)
def confirm_order(context: StepContext, order_id: int) -> dict[str, int]:
    """Mark the order as confirmed, in the ledger's own transaction: exactly once."""
    changed = context.connection.execute(
        update(Order).where(Order.id == order_id, Order.status == "new").values(status="confirmed")
    )
    return {"order_id": order_id, "changed": changed.rowcount}


place_order = workflow(
    "place-order",
    step("confirm", confirm_order, {"order_id": "{{ input.order_id }}"}),
    input=OrderPlaced,
)
