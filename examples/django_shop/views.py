"""The shop's requests. A view that fails leaves neither an order nor an execution."""

from __future__ import annotations

import json

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from examples.django_shop.models import Order
from examples.django_shop.orchestration import orchestrator
from orchestrator.integrations import django

#: Larger orders are refused; the view finds out late, as real ones do.
CREDIT = 1_000


class DepositNeeded(Exception):
    """The order is over the customer's credit."""


@csrf_exempt
@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    """Write the order and start its workflow: both, or neither."""
    new = json.loads(request.body)
    try:
        with transaction.atomic():
            order = Order.objects.create(customer=new["customer"], amount=new["amount"])
            handle = orchestrator.start(
                "confirm-django-order",
                {"order_id": order.pk},
                idempotency_key=f"order-{order.pk}",
                session=django.connection(),
            )
            if order.amount > CREDIT:
                raise DepositNeeded
    except DepositNeeded:
        return JsonResponse({"error": f"orders over {CREDIT} need a deposit"}, status=409)
    return JsonResponse({"order_id": order.pk, "execution_id": handle.id}, status=201)
