"""The order saga's truth table on two real workers: which steps each order enters, and what is left of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from nodes.order_saga import ATTEMPTS, SCHEMA, STOCK, identity
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site, settled_once
from nodes.waiting import eventually

from orchestrator import ExecutionHandle
from orchestrator.ledger import verify

pytest_plugins = ("nodes.fixtures",)

_numbers = count(1)


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="left"), Pool(name="right")]


@pytest.fixture(scope="module", autouse=True)
def _shop(site: Site) -> Iterator[None]:
    for statement in SCHEMA:
        site.execute(statement)
    yield
    for table in ("call", "entry", "order", "stock", "notice"):
        site.execute(f"DROP TABLE saga_{table}")


@dataclass(frozen=True, kw_only=True)
class Order:
    """An order that was started."""

    handle: ExecutionHandle
    id: str


def start(site: Site, name: str, prefix: str, how: str = "", undo: str = "") -> Order:
    """Start an order whose number begins so and goes on with other figures."""
    order_id = f"{prefix}0{next(_numbers)}"
    return Order(handle=site.start(name, {"order_id": order_id, "how": how, "undo": undo}), id=order_id)


# What was done, past the ledger.


def calls(site: Site, order: Order, *, undo: bool) -> list[tuple[str, int, Any]]:
    """Name, attempt and input of every call of a step, or of a compensation, in order; without notifications."""
    rows = site.execute(
        "SELECT entered, attempt, given FROM saga_call WHERE execution = :id AND undo = :undo ORDER BY number",
        id=order.handle.id,
        undo=undo,
    )
    return [(row[0], row[1], row[2]) for row in rows if not row[0].startswith("notify")]


def entered(site: Site, order: Order) -> list[str]:
    """What was entered, in order, each once, however many attempts it took."""
    rows = site.execute("SELECT entered FROM saga_call WHERE execution = :id ORDER BY number", id=order.handle.id)
    return list(dict.fromkeys(row[0] for row in rows))


def left(site: Site, order: Order) -> dict[str, int]:
    """What was done and not taken back."""
    rows = site.execute(
        "SELECT what, sum(amount) FROM saga_entry WHERE order_id = :id GROUP BY what HAVING sum(amount) <> 0",
        id=order.id,
    )
    return {row[0]: int(row[1]) for row in rows}


def told(site: Site, order: Order) -> list[str]:
    """What people were told."""
    return [row[0] for row in site.execute("SELECT said FROM saga_notice WHERE order_id = :id", id=order.id)]


def consistent(site: Site, order: Order) -> None:
    """Assert what holds of every order that has ended, whatever happened on its way."""
    settled_once(site, order.handle)
    # In one statement: other orders go on.
    ((units, reserved),) = site.execute(
        "SELECT units, (SELECT coalesce(sum(amount), 0) FROM saga_entry WHERE what = 'inventory') FROM saga_stock "
        "WHERE item = 'tea'"
    )
    assert units + reserved == STOCK, "stock is conserved"
    assert all(amount > 0 for amount in left(site, order).values()), "nothing is taken back twice"
    if order.handle.status() == "compensated":
        assert left(site, order) == {}, "no charge without its refund"
    undone = [event for event in order.handle.events() if str(event["path"]).startswith("undo:")]
    ended = [event["path"] for event in undone if event["type"] in {"step_succeeded", "step_failed"}]
    assert len(ended) == len(set(ended)), "no compensation ends twice"
    for name, claim in verify.CLAIMS.items():
        found = site.execute(f"SELECT found FROM ({claim}) v WHERE position(:id in found) > 0", id=order.handle.id)
        assert found == [], name


# The truth table.


def did(order: Order, what: str | None) -> dict[str, str] | None:
    """What a step has returned, as its compensation is given it; None where its outcome is unknown."""
    return None if what is None else {"id": identity(order.id, what)}


def update_status(of: str | None = "order", *, attempts: int = 1) -> list[tuple[str, str | None, Mapping[str, Any]]]:
    return [("UpdateOrderStatus", of, {})] * attempts


def refund(of: str | None = "payment", *, attempts: int = 1) -> list[tuple[str, str | None, Mapping[str, Any]]]:
    return [("ProcessRefund", of, {"amount": 30})] * attempts


def release(of: str | None = "inventory", *, attempts: int = 1) -> list[tuple[str, str | None, Mapping[str, Any]]]:
    return [("ReleaseInventory", of, {})] * attempts


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the truth table."""

    #: What the order's number begins with.
    prefix: str
    #: How the step fails, and how its compensation does.
    how: str = ""
    undo: str = ""
    #: Its final status.
    ends: str
    #: Steps that were called, with how many attempts each had.
    steps: Mapping[str, int]
    #: Compensations that were called, in order: name, whose output each is given, and what else.
    undone: Sequence[tuple[str, str | None, Mapping[str, Any]]] = ()
    #: What people are told, and what is left of the order.
    told: Sequence[str] = ()
    left: Mapping[str, int] = field(default_factory=dict)
    workflow: str = "order-saga-compensated"
    #: The step at whose wait for another attempt the operator cancels.
    cancelled_at: str | None = None


TABLE = {
    "1: the order is refused": Row(
        prefix="1", how="refuse", ends="compensated", steps={"ProcessOrder": 1}, undone=update_status(None)
    ),
    "11: and cannot be marked as failed": Row(
        prefix="11",
        how="break",
        undo="refuse",
        ends="compensation_failed",
        steps={"ProcessOrder": ATTEMPTS},
        undone=update_status(None),
        told=["UpdateOrder failed"],
        left={"order": 1},
    ),
    "2: the payment breaks down until its attempts are used up": Row(
        prefix="2",
        how="break",
        ends="compensated",
        steps={"ProcessOrder": 1, "ProcessPayment": ATTEMPTS},
        undone=[*refund(None), *update_status()],
    ),
    "22: the payment times out, and is not refunded": Row(
        prefix="22",
        how="oversleep",
        undo="refuse",
        ends="compensation_failed",
        steps={"ProcessOrder": 1, "ProcessPayment": 2},
        undone=refund(None),
        told=["Refund failed"],
        left={"order": 1, "payment": 30},
        workflow="order-saga-hasty",
    ),
    "3: the operator cancels while the goods wait for another attempt": Row(
        prefix="3",
        how="come back",
        ends="compensated",
        steps={"ProcessOrder": 1, "ProcessPayment": 1, "ReserveInventory": 1},
        undone=[*release(None), *refund(), *update_status()],
        cancelled_at="ReserveInventory",
    ),
    "33: the goods are refused, and their release breaks down until its attempts are used up": Row(
        prefix="33",
        how="refuse",
        undo="break",
        ends="compensation_failed",
        steps={"ProcessOrder": 1, "ProcessPayment": 1, "ReserveInventory": 1},
        undone=release(None, attempts=ATTEMPTS),
        told=["Release failed"],
        left={"order": 1, "payment": 30, "inventory": 1},
    ),
    "4 to 9: the order succeeds": Row(
        prefix="4",
        ends="succeeded",
        steps={"ProcessOrder": 1, "ProcessPayment": 1, "ReserveInventory": 1},
        told=["success"],
        left={"order": 1, "payment": 30, "inventory": 1},
    ),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=[name.partition(":")[0] for name in TABLE])
def test_each_order_enters_the_steps_of_the_table_and_leaves_what_it_says(
    site: Site, worker: WorkerNode, row: Row
) -> None:
    order = start(site, row.workflow, row.prefix, row.how, row.undo)
    if row.cancelled_at is not None:
        site.step_status(order.handle, row.cancelled_at, "retrying")
        site.orchestrator.cancel(order.handle.id, actor="ann", reason="no patience")
    site.status(order.handle, row.ends)
    begun = [(name, attempt) for name, attempt, _ in calls(site, order, undo=False)]
    assert begun == [(name, attempt) for name, attempts in row.steps.items() for attempt in range(1, attempts + 1)]
    undone = [(name, given) for name, _, given in calls(site, order, undo=True)]
    assert undone == [(name, {"order_id": order.id, "did": did(order, of), **also}) for name, of, also in row.undone]
    assert entered(site, order) == [
        *row.steps,
        *dict.fromkeys(name for name, *_ in row.undone),
        *(f"notify {said}" for said in row.told),
    ]
    assert told(site, order) == list(row.told)
    assert left(site, order) == row.left
    consistent(site, order)


def test_every_other_figure_succeeds(site: Site, worker: WorkerNode) -> None:
    orders = [start(site, "order-saga-compensated", figure) for figure in "56789"]
    for order in orders:
        site.status(order.handle, "succeeded")
        assert told(site, order) == ["success"]
        consistent(site, order)


def test_orders_of_every_kind_at_once_are_shared_by_both_workers_and_keep_out_of_each_others_way(
    site: Site, worker: WorkerNode
) -> None:
    rows = [row for row in TABLE.values() if row.cancelled_at is None and row.how != "oversleep"] * 4
    orders = [start(site, row.workflow, row.prefix, row.how, row.undo) for row in rows]
    for row, order in zip(rows, orders, strict=True):
        site.status(order.handle, row.ends)
        assert left(site, order) == row.left
        consistent(site, order)
    owners = {event["data"]["owner"].split(".")[0] for o in orders for event in site.events(o.handle, "step_started")}
    assert len(owners) == 2


# Races.


def test_nothing_is_undone_while_the_payment_still_runs_beside_goods_that_were_refused(
    site: Site, worker: WorkerNode
) -> None:
    order = start(site, "order-saga-beside", "3", "hold")
    site.call(order.handle, "ProcessPayment")
    site.call(order.handle, "ReserveInventory")
    site.open(order.handle, "refusal")
    site.status(order.handle, "failing")
    assert calls(site, order, undo=True) == []
    assert left(site, order) == {"order": 1, "payment": 30, "inventory": 1}
    site.open(order.handle)
    site.status(order.handle, "compensated")
    assert calls(site, order, undo=True) == [
        # What ended last is undone first, and the payment knows by then what it did.
        ("ProcessRefund", 1, {"order_id": order.id, "did": did(order, "payment"), "amount": 30}),
        ("ReleaseInventory", 1, {"order_id": order.id, "did": None}),
        ("UpdateOrderStatus", 1, {"order_id": order.id, "did": did(order, "order")}),
    ]
    assert told(site, order) == []
    consistent(site, order)


def test_a_payment_that_succeeds_at_the_moment_at_which_the_goods_are_refused_is_refunded_once(
    site: Site, worker: WorkerNode
) -> None:
    for _ in range(8):
        order = start(site, "order-saga-beside", "3", "meet")
        site.status(order.handle, "compensated")
        ended = [
            event["path"] for kind in ("step_succeeded", "step_failed") for event in site.events(order.handle, kind)
        ]
        assert {"ProcessPayment", "ReserveInventory"} <= set(ended)
        undone = [name for name, _, _ in calls(site, order, undo=True)]
        assert sorted(undone[:2]) == ["ProcessRefund", "ReleaseInventory"]
        assert undone[2:] == ["UpdateOrderStatus"]
        consistent(site, order)


# Deaths.


@pytest.mark.parametrize("what", ["inventory", "payment", "order"])
def test_a_compensation_whose_worker_is_killed_is_called_again_and_has_its_effect_once(
    site: Site, worker: WorkerNode, what: str
) -> None:
    step = {"inventory": "ReserveInventory", "payment": "ProcessPayment", "order": "ProcessOrder"}[what]
    order = start(site, "order-saga-compensated", "3", "refuse", f"hold {what}")
    call = site.call(order.handle, f"undo:{step}")
    eventually(lambda: what not in left(site, order), "it is done, but not recorded")
    os.kill(call.pid, signal.SIGKILL)
    site.status(order.handle, "compensated")
    undone = calls(site, order, undo=True)
    assert [name for name, attempt, _ in undone if attempt == 1] == [
        "ReleaseInventory",
        "ProcessRefund",
        "UpdateOrderStatus",
    ]
    ((name, attempt, given),) = [found for found in undone if found[1] > 1]
    assert (name, attempt) == (next(n for n, _, g in undone if g == given), 2), "the same, with the same input"
    assert len({call.key for call in site.witness.calls(order.handle.id, f"undo:{step}")}) == 1
    assert [event["path"] for event in site.events(order.handle, "step_released")] == [f"undo:{step}"]
    assert site.step(order.handle, f"undo:{step}")["failures"] == 0
    consistent(site, order)


def test_a_payment_whose_worker_is_killed_is_taken_once_and_refunded_once(site: Site, worker: WorkerNode) -> None:
    order = start(site, "order-saga-beside", "3", "hold")
    call = site.call(order.handle, "ProcessPayment")
    eventually(lambda: "payment" in left(site, order), "the money is taken, but that is not recorded")
    site.open(order.handle, "refusal")
    site.status(order.handle, "failing")
    os.kill(call.pid, signal.SIGKILL)
    site.status(order.handle, "compensated")
    assert site.steps(order.handle)["ProcessPayment"] == "cancelled"
    refunds = [given for name, _, given in calls(site, order, undo=True) if name == "ProcessRefund"]
    assert refunds == [{"order_id": order.id, "did": None, "amount": 30}], "its outcome is unknown to the ledger"
    consistent(site, order)
