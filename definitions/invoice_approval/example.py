"""What the example does, checked on real workers by `orchestrator examples`."""

from __future__ import annotations

from typing import Any

from definitions import books
from definitions.play import Play

WORKFLOW = "invoice-approval"
SAMPLE = {"number": "INV-1"}
FIRST_EVENT = {"event": "CreateInvoice", "payload": {"amount": 250}, "actor": "adam", "role": "admin"}
DAY = 86_400.0


def _begin(play: Play, amount: float) -> Any:
    handle = play.start(WORKFLOW, {"number": f"INV-{play.tag}"})
    play.refused(handle, "CreateInvoice", {"amount": amount}, by="mia", role="manager")
    play.send(handle, "CreateInvoice", {"amount": amount}, by="adam", role="admin")
    play.state(handle, "CREATED")
    return handle


def _actions(play: Play) -> list[str]:
    return [entry.action for entry in books.read(f"invoice/INV-{play.tag}").entries]


def check_one_approval(play: Play) -> None:
    """up to 1,000 one manager is enough, and nobody else may approve"""
    handle = _begin(play, 1000)
    why = play.refused(handle, "ApproveInvoice", by="adam", role="admin")
    play.true("adam may not send ApproveInvoice in state CREATED: it takes manager" in why, why)
    play.send(handle, "ApproveInvoice", by="mia", role="manager")
    play.same(play.output(handle), {"state": "PAID"}, "the output")
    play.same(play.states(handle), ["NEW", "CREATED", "APPROVED", "PAID"], "states")
    play.same(_actions(play), ["created", "approved", "paid"], "the books")


def check_two_approvals(play: Play) -> None:
    """above 1,000 another manager has to approve as well, not the same one twice"""
    handle = _begin(play, 1000.01)
    play.send(handle, "ApproveInvoice", by="mia", role="manager")
    play.state(handle, "APPROVED_ONCE")
    play.refused(handle, "ApproveInvoice", by="mia", role="manager")
    play.send(handle, "ApproveInvoice", by="max", role="manager")
    play.same(play.output(handle), {"state": "PAID"}, "the output")
    play.same(play.states(handle), ["NEW", "CREATED", "APPROVED_ONCE", "APPROVED", "PAID"], "states")
    play.same(_actions(play), ["created", "approved", "approved", "paid"], "the books")


def check_rejected(play: Play) -> None:
    """what is rejected is not paid, and takes no event any more"""
    handle = _begin(play, 5000)
    play.send(handle, "RejectInvoice", {"reason": "not ours"}, by="mia", role="manager")
    play.same(play.output(handle), {"state": "REJECTED"}, "the output")
    play.refused(handle, "ApproveInvoice", by="max", role="manager")
    play.same(_actions(play), ["created", "rejected"], "the books")


def check_expired(play: Play) -> None:
    """an invoice that nobody looks at for thirty days expires"""
    handle = _begin(play, 10)
    play.wait(lambda: "waiting" in play.steps(handle).values(), lambda: "it was to wait")
    play.age(handle, 30 * DAY)
    play.same(play.output(handle), {"state": "EXPIRED"}, "the output")
