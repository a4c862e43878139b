"""What the example does, checked on real workers by `orchestrator examples`."""

from __future__ import annotations

from typing import Any

from definitions import books
from definitions.play import Play

WORKFLOW = "order-saga"
SAMPLE: dict[str, Any] = {"order_id": "4001", "amount": 30, "items": ["tea"]}
#: What an order id begins with, and the steps that are entered, in order.
TRUTH = {
    "1": ["ProcessOrder", "UpdateOrderStatus", "OrderFailed"],
    "11": ["ProcessOrder", "UpdateOrderStatus", "NotifyUpdateFailed", "OrderFailed"],
    "2": ["ProcessOrder", "ProcessPayment", "ProcessRefund", "UpdateOrderStatus", "OrderFailed"],
    "22": ["ProcessOrder", "ProcessPayment", "ProcessRefund", "NotifyRefundFailed", "OrderFailed"],
    "3": [
        "ProcessOrder",
        "ProcessPayment",
        "ReserveInventory",
        "ReleaseInventory",
        "ProcessRefund",
        "UpdateOrderStatus",
        "OrderFailed",
    ],
    "33": [
        "ProcessOrder",
        "ProcessPayment",
        "ReserveInventory",
        "ReleaseInventory",
        "NotifyReleaseFailed",
        "OrderFailed",
    ],
}
_SUCCESS = ["ProcessOrder", "ProcessPayment", "ReserveInventory", "NotifySuccess"]


def _order_id(play: Play, prefix: str) -> str:
    # The first figure must not come twice in a row by chance.
    return f"{prefix}0{int(play.tag, 16)}"


def check_success(play: Play) -> None:
    """orders that begin with 4 to 9 are processed"""
    started = {prefix: play.start(WORKFLOW, SAMPLE | {"order_id": _order_id(play, prefix)}) for prefix in "456789"}
    for prefix, handle in started.items():
        output = play.output(handle)
        play.same(output["order_id"], _order_id(play, prefix), "the order")
        play.true(output["payment"] != output["inventory"], "payment and inventory have ids of their own")
        play.same(play.begun(handle), _SUCCESS, f"steps of {prefix}")
        play.same(len(books.read(f"saga/{_order_id(play, prefix)}/notices").entries), 1, "notices")


def check_truth_table(play: Play) -> None:
    """the six ways to fail enter exactly the steps of the table"""
    started = {prefix: play.start(WORKFLOW, SAMPLE | {"order_id": _order_id(play, prefix)}) for prefix in TRUTH}
    for prefix, handle in started.items():
        play.same(play.error(handle, "failed")["name"], "OrderFailed", f"the error of {prefix}")
        play.same(play.begun(handle), TRUTH[prefix], f"steps of {prefix}")
        told = len(books.read(f"saga/{_order_id(play, prefix)}/notices").entries)
        play.same(told, 1 if len(prefix) == 2 else 0, f"notices of {prefix}")
        # 22 and 33 leave behind what could not be taken back, and what was done before it.
        for what, left in (("payment", prefix in {"33"}), ("inventory", False), ("order", prefix in {"22", "33"})):
            standing = books.read(f"saga/{_order_id(play, prefix)}/{what}").standing
            play.same(len(standing), int(left), f"{what} left of {prefix}")


def check_tolerant_undo(play: Play) -> None:
    """an undo of what was never done is no error, and what comes late is refused"""
    order_id = _order_id(play, "2")
    play.error(play.start(WORKFLOW, SAMPLE | {"order_id": order_id}), "failed")
    payment = books.read(f"saga/{order_id}/payment").entries
    play.same([entry.action for entry in payment], ["no payment"], "the payment's book")
