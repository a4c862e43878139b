"""An application that had Celery before: what is its own stays its own, beside workflows in the same worker."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from app_support import QUEUES, Place, eventually, place
from celery import Celery, chord
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import AsyncResult

from orchestrator import ExecutionHandle, IdempotencyConflict, Orchestrator
from orchestrator.embedded import Servers
from orchestrator.errors import AttemptInProgress

# redis-py deprecates what Celery 5.6 stores results with.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

SOON = 30.0
SQUARES = sum(number * number for number in range(1, 51))


@pytest.fixture(scope="module")
def home(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    results = f"{servers.broker_url.rsplit('/', 1)[0]}/13"
    env = {"EXISTING_RESULT_URL": results}
    with place(servers, tmp_path_factory.mktemp("existing"), "app_existing", number=12, env=env) as found:
        for name in ("beat", "second_beat"):
            found.beat("app_tasks", name=name)
        found.worker("app_tasks", queues=f"celery,{QUEUES}", concurrency=3)
        yield found


@pytest.fixture(scope="module")
def app(home: Place) -> Iterator[Celery]:
    """The same application in this process, as a client."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ORCHESTRATOR_DATABASE_URL", "ORCHESTRATOR_BROKER_URL", "EXISTING_RESULT_URL"):
            patch.setenv(name, home.env[name])
        import app_tasks  # noqa: PLC0415 - an application of the environment's

        yield app_tasks.app
        # A result that is collected unsubscribes, and would try to for minutes once its Redis is gone.
        gc.collect()
        app_tasks.app.orchestrator.core.database.dispose()
    for module in ("app_tasks", "examples.existing_celery.app"):
        del sys.modules[module]


def send(app: Celery, task: str, *arguments: Any) -> AsyncResult:
    return app.tasks[task].apply_async(arguments)


def start(app: Celery) -> ExecutionHandle:
    found: Orchestrator = app.orchestrator
    return found.start("sum-of-squares")


def test_init_app_leaves_the_application_s_settings_and_results_alone(home: Place) -> None:
    app = Celery("plain", broker=home.broker_url, backend=home.redis_url, set_as_current=False)
    app.conf.update(
        task_serializer="yaml", accept_content=["yaml", "json"], result_serializer="yaml", result_expires=60
    )

    @app.task
    def own() -> None: ...

    before = dict(app.conf)
    Orchestrator(database_url=home.database_url, broker_url=home.broker_url).init_app(app)
    changed = {key for key in before if app.conf[key] != before[key]}
    assert changed == {"broker_transport_options", "broker_connection_max_retries"}
    assert app.conf.task_acks_late is False
    assert app.conf.worker_prefetch_multiplier == 4
    assert app.tasks[own.name].backend is app.backend
    assert app.tasks[own.name].acks_late is False
    assert app.tasks["orchestrator.segment"].backend is not app.backend


def test_the_application_s_transport_options_win_over_ours(home: Place) -> None:
    app = Celery("opinionated", broker=home.broker_url, set_as_current=False)
    app.conf.update(broker_transport_options={"socket_timeout": 77, "visibility_timeout": 99})
    app.conf.broker_connection_max_retries = 3
    Orchestrator(database_url=home.database_url, broker_url=home.broker_url).init_app(app)
    assert app.conf.broker_transport_options["socket_timeout"] == 77
    assert app.conf.broker_transport_options["visibility_timeout"] == 99
    assert app.conf.broker_connection_max_retries == 3


def test_its_own_chords_and_ours_count_beside_each_other_each_exactly(home: Place, app: Celery) -> None:
    square, total = app.tasks["existing.square"], app.tasks["existing.total"]
    before = int(home.redis().get("totals") or 0)
    theirs, ours = [], []
    for _ in range(3):
        theirs.append(chord([square.s(number) for number in range(1, 51)], total.s()).apply_async())
        ours.append(start(app))
    assert [result.get(timeout=SOON) for result in theirs] == [SQUARES] * 3
    assert [handle.result(timeout=SOON) for handle in ours] == [SQUARES] * 3
    assert int(home.redis().get("totals") or 0) == before + 3
    attempts = "SELECT count(*), sum(attempt), count(*) FILTER (WHERE status = 'succeeded') FROM orchestrator.step"
    with home.engine.connect() as connection:
        counted = connection.exec_driver_sql(f"{attempts} WHERE execution_id = ANY(%s)", ([h.id for h in ours],)).one()
    assert tuple(counted) == (153, 153, 153)


def test_nothing_of_ours_is_written_to_its_result_backend(home: Place, app: Celery) -> None:
    redis = home.redis()
    own = [send(app, "existing.square", number) for number in range(3)]
    assert [result.get(timeout=SOON) for result in own] == [0, 1, 4]
    prefix = "celery-task-meta-"
    # Ticks are its own as well, and come when they come.
    known = set(redis.scan_iter("*"))
    assert {f"{prefix}{result.id}" for result in own} <= known
    start(app).result(timeout=SOON)
    swept = "SELECT count(*) FROM orchestrator.schedule_fire WHERE schedule LIKE 'orchestrator.%'"
    before = home.value(swept)
    eventually(lambda: home.value(swept) > before + 2)
    new = {key for key in redis.scan_iter("*") if key not in known}
    assert all(key.startswith(prefix) for key in new)
    names = {app.AsyncResult(key.removeprefix(prefix)).result for key in new}
    assert names <= {None}  # a tick's result; a segment's would be true or false
    assert len(new) <= int(redis.get("ticks") or 0)


def test_its_own_retries_go_on_as_before(app: Celery) -> None:
    result = send(app, "existing.flaky", 2)
    assert result.get(timeout=SOON) == 2
    assert app.tasks["existing.flaky"].max_retries == 3


def test_two_beats_fire_its_own_schedule_once_a_time(home: Place) -> None:
    redis, fired = home.redis(), "SELECT count(*) FROM orchestrator.schedule_fire WHERE schedule = 'tick'"
    eventually(lambda: home.value(fired) > 0)
    begun, ticks = monotonic(), int(redis.get("ticks") or 0)
    eventually(lambda: int(redis.get("ticks") or 0) >= ticks + 6, within=20)
    elapsed = monotonic() - begun
    # Six fires in six seconds of the clock take 4 s at least, less what the first message took longer than the last;
    # beats that know nothing of each other would need 3 s.
    assert 3.5 < elapsed < 12
    eventually(lambda: int(redis.get("ticks") or 0) == home.value(fired))


def test_twenty_messages_charge_once_and_all_get_the_receipt(home: Place, app: Celery) -> None:
    before = int(home.redis().get("charges") or 0)
    results = [send(app, "existing.charge", 42, 10) for _ in range(20)]
    # Asked, not awaited: Celery's client is told late, by many seconds, of results that were retried meanwhile.
    eventually(lambda: all(result.ready() for result in results), within=SOON)
    receipts = [result.result for result in results]
    assert receipts == [{"payment_id": 42, "amount": 10, "receipt": before + 1}] * 20
    assert int(home.redis().get("charges") or 0) == before + 1


def test_other_arguments_under_a_used_key_are_refused(app: Celery) -> None:
    assert send(app, "existing.charge", 43, 10).get(timeout=SOON)["amount"] == 10
    with pytest.raises(IdempotencyConflict, match="payment-43"):
        send(app, "existing.charge", 43, 11).get(timeout=SOON)


@pytest.mark.parametrize("task", ["app.killed", "app.killed_in_thread"])
def test_a_killed_task_gives_its_key_back_and_the_redelivered_message_has_its_effect_once(
    home: Place, app: Celery, task: str
) -> None:
    keys = [f"{task}-{number}" for number in range(5)]
    results = [send(app, task, key, 1) for key in keys]
    assert [result.get(timeout=SOON) for result in results] == [2] * 5
    assert [home.redis().get(f"effects:{key}") for key in keys] == ["1"] * 5


def test_an_error_gives_the_key_back_so_celery_s_own_retry_succeeds(home: Place, app: Celery) -> None:
    assert send(app, "app.failing", "f").get(timeout=SOON) == 3
    assert send(app, "app.failing", "f").get(timeout=SOON) == 3
    assert home.redis().get("attempts:f") == "3"


def test_a_key_that_is_worked_on_is_refused_until_its_first_call_ends(home: Place, app: Celery) -> None:
    first = send(app, "app.slow", "s", 3)
    eventually(lambda: home.redis().get("attempts:s") == "1")
    with pytest.raises(AttemptInProgress, match="slow-s"):
        send(app, "app.slow", "s", 3).get(timeout=SOON)
    with pytest.raises(CeleryTimeout):
        first.get(timeout=0.01)
    assert first.get(timeout=SOON) == "s"
    assert send(app, "app.slow", "s", 3).get(timeout=SOON) == "s"
    assert home.redis().get("attempts:s") == "1"
