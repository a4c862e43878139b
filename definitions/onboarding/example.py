"""What the example does, checked on real workers by `orchestrator examples`."""

from __future__ import annotations

from typing import Any

from definitions import books
from definitions.play import Play

WORKFLOW = "onboarding"
SAMPLE = {"phone": "+85620555123"}
#: The code is in the text message; another is refused, and the state stays.
FIRST_EVENT = {"event": "NEXT", "payload": {"code": "123456"}, "actor": "ann", "role": "user"}
DAY = 86_400.0
#: The way without detours.
STATES = [
    "PHONE_ENTERED",
    "OTP_VERIFIED",
    "PROFILE_COMPLETED",
    "DOC_UPLOADED",
    "EKYC_PENDING",
    "EKYC_APPROVED",
    "AML_PENDING",
    "AML_CLEARED",
    "ACCOUNT_CREATED",
    "WALLET_CREATED",
    "CARD_ACTIVATED",
    "COMPLETED",
]
_PASSPORT = {"kind": "passport", "number": "P-1"}


def _next(play: Play, handle: Any, payload: Any = None) -> None:
    play.send(handle, "NEXT", payload, by="ann", role="user")


def _result(play: Play, handle: Any, vendor: str, decision: str) -> None:
    play.send(handle, f"{vendor}_RESULT", {"decision": decision}, by=vendor, role="system")


def _otp(play: Play, handle: Any) -> str:
    """The code that the customer gets by text message."""
    book = f"sms/{handle.id}"
    play.wait(lambda: books.read(book).last("otp") is not None, lambda: "a code was to be sent")
    (sent,) = books.read(book).entries
    return str(sent.data["code"])


def _begin(play: Play) -> Any:
    handle = play.start(WORKFLOW, SAMPLE)
    _otp(play, handle)
    play.wait(lambda: play.steps(handle).get("machine") == "waiting", lambda: "it was to wait for the code")
    return handle


def _to_ekyc(play: Play) -> Any:
    handle = _begin(play)
    _next(play, handle, {"code": _otp(play, handle)})
    _next(play, handle, {"name": "Ann", "birth_year": 1990})
    _next(play, handle, _PASSPORT)
    _next(play, handle)
    return handle


def _to_card(play: Play) -> Any:
    handle = _to_ekyc(play)
    _result(play, handle, "EKYC", "approved")
    play.state(handle, "AML_PENDING")
    _result(play, handle, "AML", "clear")
    for _ in range(3):
        _next(play, handle)
    play.state(handle, "CARD_ACTIVATED")
    return handle


def check_completed(play: Play) -> None:
    """a customer goes through every state to the end"""
    handle = _to_card(play)
    _next(play, handle)
    play.same(play.output(handle), {"state": "COMPLETED"}, "the output")
    play.same(play.states(handle), STATES, "states")


def check_otp(play: Play) -> None:
    """a wrong code changes nothing, and the code stays the same; only the user may send it"""
    handle = _begin(play)
    code = _otp(play, handle)
    play.refused(handle, "NEXT", {"code": code}, by="vendor", role="system")
    play.refused(handle, "EKYC_RESULT", {"decision": "approved"}, by="vendor", role="system")
    _next(play, handle, {"code": "wrong"})
    play.wait(lambda: any(e["type"] == "step_failed" for e in handle.events()), lambda: "the code was to be refused")
    play.same(handle.state(), "PHONE_ENTERED", "the state")
    play.wait(lambda: play.steps(handle).get("machine") == "waiting", lambda: "it was to wait for another code")
    play.same(_otp(play, handle), code, "the code")
    _next(play, handle, {"code": code})
    play.state(handle, "OTP_VERIFIED")


def check_otp_repeated(play: Play) -> None:
    """an attempt that is repeated because its answer was lost sends no other code"""
    handle = play.start(WORKFLOW, {"phone": "+999555123"})
    play.wait(lambda: play.attempts(handle, "1:itself/send_otp") == 2, lambda: "a second attempt was to be made")
    play.wait(lambda: play.steps(handle).get("machine") == "waiting", lambda: "it was to wait for the code")
    _next(play, handle, {"code": _otp(play, handle)})
    play.state(handle, "OTP_VERIFIED")


def check_manual_review(play: Play) -> None:
    """what the vendor cannot decide is reviewed, revised, resubmitted and approved by an analyst"""
    handle = _to_ekyc(play)
    _result(play, handle, "EKYC", "review")
    play.state(handle, "EKYC_MANUAL_REVIEW")
    play.refused(handle, "REVIEW", {"decision": "approve"}, by="ann", role="user")
    play.send(handle, "REVIEW", {"decision": "revision"}, by="zoe", role="analyst")
    play.send(handle, "RESUBMITTED", _PASSPORT | {"number": "P-2"}, by="ann", role="user")
    play.send(handle, "REVIEW", {"decision": "approve"}, by="zoe", role="analyst")
    play.state(handle, "AML_PENDING")
    review = ["EKYC_MANUAL_REVIEW", "EKYC_REVISION", "EKYC_MANUAL_REVIEW"]
    play.same(play.states(handle), [*STATES[:5], *review, "EKYC_APPROVED", "AML_PENDING"], "states")
    numbers = [e.data["number"] for e in books.read(f"customer/{handle.id}").entries if e.action == "document"]
    play.same(numbers, ["P-1", "P-2"], "documents")


def check_review_rejected(play: Play) -> None:
    """an analyst's rejection ends it"""
    handle = _to_ekyc(play)
    _result(play, handle, "EKYC", "review")
    play.send(handle, "REVIEW", {"decision": "reject"}, by="zoe", role="analyst")
    play.same(play.output(handle), {"state": "EKYC_REJECTED"}, "the output")


def check_late_aml_rejection(play: Play) -> None:
    """a late rejection undoes card, wallet and account in that order, and ends compensated"""
    handle = _to_card(play)
    _result(play, handle, "AML", "hit")
    play.ended(handle, "compensated")
    play.same(handle.state(), "AML_REJECTED", "the state")
    undone = [name for name in play.begun(handle) if name.startswith("undo ")]
    play.same(undone, ["undo activate_card", "undo create_wallet", "undo create_account"], "compensations")
    for book, action in (("cards", "block_card"), ("wallets", "close_wallet"), ("accounts", "close_account")):
        made = [e for e in books.read(f"bank/{book}").entries if e.key.startswith(handle.id)]
        play.same([entry.action for entry in made][-1:], [action], f"the last entry of the {book}")


def check_expired(play: Play) -> None:
    """a state that is untouched for 24 hours expires; what was opened by then is closed"""
    handle = _begin(play)
    play.age(handle, DAY)
    play.same(play.output(handle), {"state": "EXPIRED"}, "the output")
    opened = _to_card(play)
    play.wait(lambda: play.steps(opened).get("machine") == "waiting", lambda: "it was to wait")
    play.age(opened, DAY)
    play.ended(opened, "compensated")
    play.same(opened.state(), "EXPIRED", "the state")
