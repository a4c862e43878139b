"""A Django application that starts workflows inside Django's own transactions, and a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django as django_itself
import pytest
from app_support import Place, eventually, place
from django.core.management import call_command
from django.db import DatabaseError, connections, transaction
from django.test import Client

from orchestrator import IdempotencyConflict, Orchestrator
from orchestrator.embedded import Servers
from orchestrator.errors import ConfigurationError
from orchestrator.integrations import django

#: Django's settings are the process's, so the module can have but one shop.
WORKFLOW = "confirm-django-order"


@pytest.fixture(scope="module")
def shop(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    env = {"DJANGO_SETTINGS_MODULE": "examples.django_shop.settings"}
    with place(servers, tmp_path_factory.mktemp("django"), "app_django", number=4, env=env) as found:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("ORCHESTRATOR_DATABASE_URL", "ORCHESTRATOR_BROKER_URL", "DJANGO_SETTINGS_MODULE"):
                patch.setenv(name, found.env[name])
            django_itself.setup()
            call_command("migrate", run_syncdb=True, verbosity=0)
            found.worker("examples.django_shop.orchestration")
            yield found
        connections.close_all()


@pytest.fixture
def orchestrator(shop: Place) -> Orchestrator:
    from examples.django_shop.orchestration import orchestrator  # noqa: PLC0415 - needs Django's settings

    return orchestrator


@pytest.fixture
def order_model(shop: Place) -> Any:
    from examples.django_shop.models import Order  # noqa: PLC0415 - needs Django's settings

    return Order


def confirmed(shop: Place, order_id: int) -> None:
    # No beat runs here: only the publish after the commit can have told the worker.
    question = "SELECT status FROM django_shop_order WHERE id = :id"
    eventually(lambda: shop.value(question, id=order_id) == "confirmed", within=10)


def started(shop: Place, key: str) -> Any:
    return shop.value("SELECT count(*) FROM orchestrator.execution WHERE idempotency_key = :key", key=key)


def test_an_order_and_its_execution_commit_together_and_are_carried_out(shop: Place) -> None:
    answer = Client().post("/orders", {"customer": "ann", "amount": 10}, content_type="application/json")
    assert answer.status_code == 201
    assert started(shop, f"order-{answer.json()['order_id']}") == 1
    confirmed(shop, answer.json()["order_id"])


def test_a_refused_order_leaves_nothing_and_djangos_connection_goes_on(shop: Place, order_model: Any) -> None:
    before = order_model.objects.count(), shop.executions()
    raw = connections["default"].connection
    answer = Client().post("/orders", {"customer": "bob", "amount": 5_000}, content_type="application/json")
    assert answer.status_code == 409
    assert (order_model.objects.count(), shop.executions()) == before
    assert connections["default"].connection is raw
    assert connections["default"].get_autocommit()
    assert not connections["default"].in_atomic_block


def test_nothing_is_seen_from_outside_before_django_commits(
    shop: Place, orchestrator: Orchestrator, order_model: Any
) -> None:
    with transaction.atomic():
        order = order_model.objects.create(customer="eve", amount=1)
        handle = orchestrator.start(WORKFLOW, {"order_id": order.pk}, session=django.connection())
        assert shop.value("SELECT count(*) FROM orchestrator.execution WHERE id = :id", id=handle.id) == 0
        assert order_model.objects.filter(pk=order.pk).exists()
    assert handle.result(timeout=10) == {"order_id": order.pk, "changed": 1}


def test_a_start_in_a_savepoint_that_is_rolled_back_is_gone_and_the_rest_commits(
    shop: Place, orchestrator: Orchestrator, order_model: Any
) -> None:
    with transaction.atomic():
        order = order_model.objects.create(customer="joe", amount=1)
        orchestrator.start(WORKFLOW, {"order_id": order.pk}, idempotency_key="kept", session=django.connection())
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            orchestrator.start(WORKFLOW, {"order_id": 0}, idempotency_key="dropped", session=django.connection())
            raise ZeroDivisionError
        with transaction.atomic():
            orchestrator.start(WORKFLOW, {"order_id": 0}, idempotency_key="inner", session=django.connection())
    assert [started(shop, key) for key in ("kept", "dropped", "inner")] == [1, 0, 1]
    confirmed(shop, order.pk)
    inner = "SELECT status FROM orchestrator.execution WHERE idempotency_key = 'inner'"
    eventually(lambda: shop.value(inner) == "succeeded", within=10)


def test_a_conflicting_key_is_refused_and_djangos_transaction_goes_on(
    shop: Place, orchestrator: Orchestrator, order_model: Any
) -> None:
    with transaction.atomic():
        order = order_model.objects.create(customer="sam", amount=1)
        first = orchestrator.start(WORKFLOW, {"order_id": order.pk}, idempotency_key="k", session=django.connection())
        again = orchestrator.start(WORKFLOW, {"order_id": order.pk}, idempotency_key="k", session=django.connection())
        with pytest.raises(IdempotencyConflict):
            orchestrator.start(WORKFLOW, {"order_id": 0}, idempotency_key="k", session=django.connection())
    assert (again.id, again.created) == (first.id, False)
    confirmed(shop, order.pk)


def test_outside_atomic_a_start_commits_by_itself(shop: Place, orchestrator: Orchestrator, order_model: Any) -> None:
    order = order_model.objects.create(customer="kim", amount=1)
    handle = orchestrator.start(WORKFLOW, {"order_id": order.pk}, session=django.connection())
    assert handle.result(timeout=10) == {"order_id": order.pk, "changed": 1}


def test_leaving_the_borrowed_connection_ends_nothing_of_djangos(shop: Place, order_model: Any) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        with django.connection() as borrowed:
            borrowed.exec_driver_sql("SELECT 1")
            borrowed.commit()
        with django.connection() as borrowed:
            borrowed.exec_driver_sql(
                "INSERT INTO django_shop_order (customer, amount, status) VALUES ('zoe', 1, 'new')"
            )
            borrowed.rollback()
        assert order_model.objects.filter(customer="zoe").exists()
        with django.connection() as borrowed:
            borrowed.close()
        assert order_model.objects.filter(customer="zoe").exists()
        raise DatabaseError
    assert not order_model.objects.filter(customer="zoe").exists()


def test_a_database_that_cannot_be_the_ledgers_is_refused_by_name(shop: Place) -> None:
    with pytest.raises(ConfigurationError, match='DATABASES\\["notes"\\] is sqlite'):
        django.connection("notes")
