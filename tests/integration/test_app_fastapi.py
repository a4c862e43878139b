"""A FastAPI application that starts workflows inside its own transactions, and a real worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest
from app_support import Place, eventually, place
from httpx import ASGITransport, AsyncClient, Response

from examples.fastapi_shop.app import create_app
from orchestrator.embedded import Servers

#: The same handler twice: on a Session, and on an AsyncSession.
ROADS = pytest.mark.parametrize("road", ["/orders", "/async/orders"])


class Client:
    """A client of the application in this process, on one event loop."""

    def __init__(self, runner: asyncio.Runner, client: AsyncClient) -> None:
        self._runner, self._client = runner, client

    def get(self, path: str) -> Response:
        return self._runner.run(self._client.get(path))

    def post(self, path: str, **body: Any) -> Response:
        return self._runner.run(self._client.post(path, json=body))


@contextmanager
def serving(shop: Place, broker_url: str) -> Iterator[Client]:
    """The application, up."""
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("ORCHESTRATOR_DATABASE_URL", shop.database_url)
        patch.setenv("ORCHESTRATOR_BROKER_URL", broker_url)
        app = create_app()
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        client = AsyncClient(transport=ASGITransport(app), base_url="http://shop")
        yield Client(runner, client)
        runner.run(client.aclose())
        runner.run(lifespan.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def shop(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(servers, tmp_path_factory.mktemp("fastapi"), "app_fastapi", number=2) as found:
        yield found


@pytest.fixture(scope="module")
def client(shop: Place) -> Iterator[Client]:
    with serving(shop, shop.broker_url) as client:
        shop.worker("examples.fastapi_shop.worker")
        yield client


def orders(shop: Place) -> Any:
    return shop.value("SELECT count(*) FROM fastapi_order")


@ROADS
def test_an_order_and_its_execution_commit_together_and_are_carried_out(client: Client, shop: Place, road: str) -> None:
    answer = client.post(road, customer="ann", amount=10)
    assert answer.status_code == 201, answer.text
    placed = answer.json()
    assert shop.value("SELECT count(*) FROM orchestrator.execution WHERE id = :id", id=placed["execution_id"]) == 1
    read = f"/orders/{placed['order_id']}"
    # No beat runs here: only the publish after the commit can have told the worker.
    eventually(lambda: client.get(read).json()["status"] == "confirmed", within=10)


@ROADS
def test_an_error_after_the_start_leaves_neither_order_nor_execution(client: Client, shop: Place, road: str) -> None:
    before = orders(shop), shop.executions()
    assert client.post(road, customer="bob", amount=5_000).status_code == 409
    assert (orders(shop), shop.executions()) == before


@ROADS
def test_a_refused_request_does_not_spoil_the_next_on_the_same_connection(
    client: Client, shop: Place, road: str
) -> None:
    executions = shop.executions()
    for amount in (5_000, 20, 5_000, 30):
        client.post(road, customer="eve", amount=amount)
    assert shop.executions() == executions + 2
    eventually(
        lambda: shop.value("SELECT count(*) FROM fastapi_order WHERE customer = 'eve' AND status = 'new'") == 0,
        within=10,
    )


def test_a_broker_that_is_away_does_not_keep_a_request_waiting(client: Client, shop: Place) -> None:
    before = shop.executions()
    with serving(shop, "redis://127.0.0.1:1/0") as cut_off:
        for road in ("/orders", "/async/orders"):
            begun = monotonic()
            assert cut_off.post(road, customer="joe", amount=1).status_code == 201
            assert monotonic() - begun < 2
    assert shop.executions() == before + 2
