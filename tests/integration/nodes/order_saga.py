"""An order as a saga: what may fail is chosen by the order's number and its input, and all effects stand in tables.

An order whose number begins with 1 fails when it is processed, with 2 when it is paid, with 3 when its goods are
reserved; with the figure twice, taking that back fails too, which people are told of. A step that fails has had its
effect before: nobody else knows, so its own compensation is called.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from sqlalchemy import Connection, NullPool, create_engine, text

from nodes import witness
from orchestrator import (
    BusinessError,
    RetryPolicy,
    StepContext,
    TransientError,
    activity,
    compensation,
    parallel,
    step,
    workflow,
)

ATTEMPTS = 3
AGAIN = RetryPolicy(max_attempts=ATTEMPTS, backoff=0.05, jitter=0)
#: In the shop at first.
STOCK = 1_000
#: A step that oversleeps is interrupted after this many seconds, and has two attempts at it.
HASTE = 2.5

SCHEMA = (
    """CREATE TABLE saga_call (number bigint GENERATED ALWAYS AS IDENTITY, execution uuid, entered text, attempt int,
    given jsonb, undo boolean)""",
    # What was done adds to it, what was taken back takes away; each has an id of its own, so that it counts once.
    "CREATE TABLE saga_entry (id uuid PRIMARY KEY, order_id text, what text, amount int)",
    "CREATE TABLE saga_order (order_id text PRIMARY KEY, status text)",
    "CREATE TABLE saga_stock (item text PRIMARY KEY, units int CHECK (units >= 0))",
    "CREATE TABLE saga_notice (order_id text, said text, PRIMARY KEY (order_id, said))",
    f"INSERT INTO saga_stock VALUES ('tea', {STOCK})",
)

_CALL = text(
    "INSERT INTO saga_call (execution, entered, attempt, given, undo) VALUES (:execution, :entered, :attempt, "
    "CAST(:given AS jsonb), :undo)"
)
_ENTRY = text("INSERT INTO saga_entry VALUES (:id, :order, :what, :amount) ON CONFLICT DO NOTHING RETURNING id")
_TAKE_BACK = text(
    "INSERT INTO saga_entry SELECT :id, order_id, what, -amount FROM saga_entry WHERE id = :done "
    "ON CONFLICT DO NOTHING RETURNING id"
)
_STOCK = text("UPDATE saga_stock SET units = units + :units WHERE item = 'tea'")
_STATUS = text("INSERT INTO saga_order VALUES (:order, :status) ON CONFLICT (order_id) DO UPDATE SET status = :status")
_NOTICE = text("INSERT INTO saga_notice VALUES (:order, :said) ON CONFLICT DO NOTHING")


def identity(order_id: str, what: str) -> str:
    """The same for the same order: what is written again changes nothing."""
    return str(uuid5(NAMESPACE_URL, f"{order_id}/{what}"))


@contextmanager
def _shop() -> Iterator[Connection]:
    """The shop's own transaction, which knows nothing of the ledger's."""
    engine = create_engine(os.environ["ORCHESTRATOR_DATABASE_URL"], poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


def _enter(ctx: StepContext, entered: str, **given: Any) -> None:
    seen = witness.present()
    with _shop() as shop:
        shop.execute(
            _CALL,
            {
                "execution": ctx.execution_id,
                "entered": entered,
                "attempt": ctx.attempt,
                "given": json.dumps(given),
                "undo": ctx.undo,
            },
        )
    seen.note(ctx)


def _tell(ctx: StepContext, order_id: str, said: str) -> None:
    _enter(ctx, f"notify {said}")
    with _shop() as shop:
        shop.execute(_NOTICE, {"order": order_id, "said": said})


def _fail(ctx: StepContext, order_id: str, figure: str, how: str) -> None:
    """Fail if the order's number says so, in the way that is asked for."""
    if not order_id.startswith(figure):
        return
    seen = witness.present()
    if how == "break":
        raise TransientError(f"{ctx.path} broke down")
    if how == "come back":
        raise TransientError(f"{ctx.path} is closed today", retry_after=3600)
    if how == "oversleep":
        time.sleep(30)
    if how == "hold":
        seen.pass_gate(f"{ctx.execution_id}.refusal")
    if how == "meet":
        seen.meet(ctx.execution_id, 2)
    raise BusinessError(f"{ctx.path} is refused")


def _post(shop: Connection, order_id: str, what: str, amount: int) -> bool:
    """Whether it was not there already."""
    entry = {"id": identity(order_id, what), "order": order_id, "what": what, "amount": amount}
    return shop.execute(_ENTRY, entry).first() is not None


def _reverse(ctx: StepContext, order_id: str, what: str, *, figure: str, said: str, how: str) -> None:
    """Take back what was done, if anything was; fail as the order's number says, before that."""
    if order_id.startswith(figure):
        if how == "refuse" or ctx.attempt == ATTEMPTS:
            _tell(ctx, order_id, said)
        raise BusinessError(said) if how == "refuse" else TransientError(said)
    with _shop() as shop:
        done = {"id": identity(order_id, f"no {what}"), "done": identity(order_id, what)}
        reversed_now = shop.execute(_TAKE_BACK, done).first() is not None
        if reversed_now and what == "inventory":
            shop.execute(_STOCK, {"units": 1})
        if what == "order":
            shop.execute(_STATUS, {"order": order_id, "status": "failed"})
    if how == f"hold {what}" and ctx.attempt == 1:
        # It is done, but nobody has been told: whoever kills this worker cannot know.
        witness.present().pass_gate(f"{ctx.execution_id}.gate")


@activity
def saga_order(ctx: StepContext, order_id: str, how: str) -> dict[str, str]:
    """ProcessOrder: enter the order as pending."""
    _enter(ctx, "ProcessOrder", order_id=order_id)
    with _shop() as shop:
        _post(shop, order_id, "order", 1)
        shop.execute(_STATUS, {"order": order_id, "status": "pending"})
    _fail(ctx, order_id, "1", how)
    return {"id": identity(order_id, "order")}


@activity
def saga_payment(ctx: StepContext, order_id: str, amount: int, how: str) -> dict[str, str]:
    """ProcessPayment: take the money."""
    _enter(ctx, "ProcessPayment", order_id=order_id, amount=amount)
    with _shop() as shop:
        _post(shop, order_id, "payment", amount)
    _fail(ctx, order_id, "2", how)
    # Another branch fails meanwhile, or at the same moment.
    if how == "hold":
        witness.present().pass_gate(f"{ctx.execution_id}.gate")
    if how == "meet":
        witness.present().meet(ctx.execution_id, 2)
    return {"id": identity(order_id, "payment")}


@activity
def saga_inventory(ctx: StepContext, order_id: str, how: str) -> dict[str, str]:
    """ReserveInventory: set the goods aside."""
    _enter(ctx, "ReserveInventory", order_id=order_id)
    with _shop() as shop:
        if _post(shop, order_id, "inventory", 1):
            shop.execute(_STOCK, {"units": -1})
    _fail(ctx, order_id, "3", how)
    return {"id": identity(order_id, "inventory")}


@activity
def saga_notify(ctx: StepContext, order_id: str) -> None:
    """Tell that all went well."""
    _tell(ctx, order_id, "success")


@activity
def saga_fail_order(ctx: StepContext, order_id: str, did: Any, how: str) -> None:
    """UpdateOrderStatus: mark the order as failed."""
    _enter(ctx, "UpdateOrderStatus", order_id=order_id, did=did)
    _reverse(ctx, order_id, "order", figure="11", said="UpdateOrder failed", how=how)


@activity
def saga_refund(ctx: StepContext, order_id: str, did: Any, amount: int, how: str) -> None:
    """ProcessRefund: give the money back."""
    _enter(ctx, "ProcessRefund", order_id=order_id, did=did, amount=amount)
    _reverse(ctx, order_id, "payment", figure="22", said="Refund failed", how=how)


@activity
def saga_release(ctx: StepContext, order_id: str, did: Any, how: str) -> None:
    """ReleaseInventory: give the goods back."""
    _enter(ctx, "ReleaseInventory", order_id=order_id, did=did)
    _reverse(ctx, order_id, "inventory", figure="33", said="Release failed", how=how)


_ORDER = {"order_id": "{{ input.order_id }}"}
_DO = _ORDER | {"how": "{{ input.how }}"}
_UNDO = _ORDER | {"did": "{{ undo.output }}", "how": "{{ input.undo }}"}

process_order = step("ProcessOrder", saga_order, _DO, compensation=compensation(saga_fail_order, _UNDO, retry=AGAIN))
process_payment = step(
    "ProcessPayment",
    saga_payment,
    _DO | {"amount": 30},
    compensation=compensation(saga_refund, _UNDO | {"amount": "{{ undo.input.amount }}"}, retry=AGAIN),
)
reserve_inventory = step(
    "ReserveInventory", saga_inventory, _DO, compensation=compensation(saga_release, _UNDO, retry=AGAIN)
)
notify_success = step("NotifySuccess", saga_notify, _ORDER)

#: No step shares a message with another, so that several workers take part.
order_saga = workflow(
    "order-saga-compensated",
    process_order,
    process_payment,
    reserve_inventory,
    notify_success,
    retry=AGAIN,
    fuse=False,
    on_compensation_failure="stop",
)

#: The same with little patience for the payment.
hasty = workflow(
    "order-saga-hasty",
    process_order,
    step(
        "ProcessPayment",
        saga_payment,
        _DO | {"amount": 30},
        compensation=compensation(saga_refund, _UNDO | {"amount": "{{ undo.input.amount }}"}, retry=AGAIN),
        timeout=HASTE,
        retry=RetryPolicy(max_attempts=2, backoff=0.05, jitter=0),
    ),
    reserve_inventory,
    notify_success,
    on_compensation_failure="stop",
)

#: The money is taken while the goods are reserved.
beside = workflow(
    "order-saga-beside",
    process_order,
    parallel(process_payment, reserve_inventory),
    notify_success,
    retry=AGAIN,
    on_compensation_failure="stop",
)
