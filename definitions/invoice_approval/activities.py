"""What the invoice's transitions do."""

from __future__ import annotations

from typing import Any

from definitions import books
from orchestrator import BusinessError, StepContext, activity


class InvoiceExists(BusinessError):
    """An invoice of this number was created before."""


@activity
def create_invoice(ctx: StepContext, number: str, amount: float, actor: str) -> dict[str, Any]:
    """Enter an invoice; InvoiceExists if its number is taken."""
    with books.opened(f"invoice/{number}") as invoice:
        if invoice.entries and invoice.found(ctx.idempotency_key) is None:
            raise InvoiceExists(number)
        data = {"number": number, "amount": amount, "created_by": actor}
        return invoice.post("created", ctx.idempotency_key, data).data


@activity
def approve_invoice(ctx: StepContext, number: str, actor: str) -> dict[str, Any]:
    """Enter an approval."""
    with books.opened(f"invoice/{number}") as invoice:
        return invoice.post("approved", ctx.idempotency_key, {"by": actor}).data


@activity
def pay_invoice(ctx: StepContext, number: str) -> dict[str, Any]:
    """Have the bank pay what the invoice says."""
    with books.opened(f"invoice/{number}") as invoice:
        created = invoice.last("created")
        amount = 0 if created is None else created.data["amount"]
        return invoice.post("paid", ctx.idempotency_key, {"paid": amount}).data


@activity
def reject_invoice(ctx: StepContext, number: str, actor: str, reason: str) -> dict[str, Any]:
    """Enter why the invoice is not paid."""
    with books.opened(f"invoice/{number}") as invoice:
        return invoice.post("rejected", ctx.idempotency_key, {"by": actor, "reason": reason}).data
