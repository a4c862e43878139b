"""The shop's requests. A handler that fails leaves neither an order nor an execution."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, PositiveInt
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from examples.fastapi_shop.models import Base, Order
from orchestrator import Orchestrator

#: Larger orders are refused; the handlers find out late, as real ones do.
CREDIT = 1_000

router = APIRouter()


class NewOrder(BaseModel):
    """What a customer sends."""

    customer: str
    amount: PositiveInt


class Placed(BaseModel):
    """What the customer gets back."""

    order_id: int
    execution_id: str


def transaction(request: Request) -> Iterator[Session]:
    """One transaction a request: committed before the answer is sent, rolled back if the handler raises."""
    with Session(request.app.state.engine) as session, session.begin():
        yield session


async def async_transaction(request: Request) -> AsyncIterator[AsyncSession]:
    """`transaction` for asynchronous handlers."""
    async with AsyncSession(request.app.state.async_engine) as session, session.begin():
        yield session


def the_orchestrator(request: Request) -> Orchestrator:
    """The application's orchestrator."""
    found: Orchestrator = request.app.state.orchestrator
    return found


Workflows = Annotated[Orchestrator, Depends(the_orchestrator)]
# Function scope: without it FastAPI would commit after the customer has been told that all went well.
Transaction = Annotated[Session, Depends(transaction, scope="function")]
AsyncTransaction = Annotated[AsyncSession, Depends(async_transaction, scope="function")]


@router.post("/orders", status_code=201)
def place_order(new: NewOrder, session: Transaction, workflows: Workflows) -> Placed:
    """Write the order and start its workflow: both, or neither."""
    order = Order(customer=new.customer, amount=new.amount)
    session.add(order)
    session.flush()
    handle = workflows.start(
        "place-order", {"order_id": order.id}, idempotency_key=f"order-{order.id}", session=session
    )
    refuse_large(new)
    return Placed(order_id=order.id, execution_id=handle.id)


@router.post("/async/orders", status_code=201)
async def place_order_async(new: NewOrder, session: AsyncTransaction, workflows: Workflows) -> Placed:
    """The same, without a thread of its own."""
    order = Order(customer=new.customer, amount=new.amount)
    session.add(order)
    await session.flush()
    handle = await workflows.astart(
        "place-order", {"order_id": order.id}, idempotency_key=f"order-{order.id}", session=session
    )
    refuse_large(new)
    return Placed(order_id=order.id, execution_id=handle.id)


@router.get("/orders/{order_id}")
def read_order(order_id: int, session: Transaction) -> dict[str, str]:
    """Where an order stands."""
    order = session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "no such order")
    return {"customer": order.customer, "status": order.status}


def refuse_large(new: NewOrder) -> None:
    """The last check of a handler comes after the start."""
    if new.amount > CREDIT:
        raise HTTPException(409, f"orders over {CREDIT} need a deposit")


def create_app() -> FastAPI:
    """The application; settings come from ORCHESTRATOR_* variables."""
    orchestrator = Orchestrator(modules=("examples.fastapi_shop.workflow",))
    database_url = orchestrator.settings.require_database_url()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.orchestrator = orchestrator
        app.state.engine = create_engine(database_url)
        app.state.async_engine = create_async_engine(database_url)
        Base.metadata.create_all(app.state.engine)
        yield
        app.state.engine.dispose()
        await app.state.async_engine.dispose()

    app = FastAPI(title="shop", lifespan=lifespan)
    app.include_router(router)
    return app
