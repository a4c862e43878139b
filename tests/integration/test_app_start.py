"""What application code may expect of `start` and of the handle that it returns; a real worker and beat."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import inf, nan
from typing import Any

import pytest
from app_support import Place, eventually, place
from app_workflows import Parcel, facts

from orchestrator import (
    ExecutionFailed,
    ExecutionStatus,
    IdempotencyConflict,
    InvalidInput,
    Orchestrator,
    ResultTimeout,
    UnknownDefinition,
)
from orchestrator.embedded import Servers
from orchestrator.errors import ExecutionNotFound, PayloadError

#: Seconds within which a short workflow ends on a busy machine.
SOON = 20.0
MIB = 1_048_576


@pytest.fixture(scope="module")
def home(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(servers, tmp_path_factory.mktemp("start"), "app_start", number=8) as found:
        found.beat("app_workflows")
        found.worker("app_workflows")
        yield found


@pytest.fixture
def orchestrator(home: Place) -> Iterator[Orchestrator]:
    """Made for each test: the last one made is the process's."""
    made = Orchestrator(database_url=home.database_url, broker_url=home.broker_url, modules=("app_workflows",))
    yield made
    made.core.database.dispose()


def test_the_same_key_and_input_give_the_same_execution_also_after_it_ended(orchestrator: Orchestrator) -> None:
    first = orchestrator.start("app-echo", {"a": 1, "b": [2]}, idempotency_key="same")
    assert first.created
    assert first.result(timeout=SOON) == {"a": 1, "b": [2]}
    again = orchestrator.start("app-echo", {"b": [2], "a": 1}, idempotency_key="same")
    assert (again.id, again.created, again.status()) == (first.id, False, ExecutionStatus.SUCCEEDED)
    assert again.result(timeout=0) == {"a": 1, "b": [2]}


def test_a_key_with_another_input_is_refused_and_names_the_execution_that_has_it(orchestrator: Orchestrator) -> None:
    first = orchestrator.start("app-echo", 1, idempotency_key="other")
    with pytest.raises(IdempotencyConflict, match=first.id) as refusal:
        orchestrator.start("app-echo", 2, idempotency_key="other")
    assert (refusal.value.key, refusal.value.execution_id) == ("other", first.id)


def test_a_key_belongs_to_its_definition_and_tenant(orchestrator: Orchestrator) -> None:
    ids = {
        orchestrator.start("app-echo", 1, idempotency_key="mine").id,
        orchestrator.start("app-facts", 1, idempotency_key="mine").id,
        orchestrator.start("app-echo", 2, idempotency_key="mine", tenant="elsewhere").id,
    }
    assert len(ids) == 3


def test_a_key_can_be_made_of_the_input(orchestrator: Orchestrator) -> None:
    first = orchestrator.start("app-echo", {"a": 1, "b": 2}, key_from_input=True)
    assert orchestrator.start("app-echo", {"b": 2, "a": 1}, key_from_input=True).id == first.id
    assert orchestrator.start("app-echo", {"a": 1, "b": 3}, key_from_input=True).id != first.id
    assert orchestrator.start("app-echo", {"a": 1, "b": 2}).id != first.id


def test_an_activity_learns_correlation_id_and_labels(orchestrator: Orchestrator) -> None:
    handle = orchestrator.start(
        "app-facts", correlation_id="request-7", labels={"region": "eu"}, actor="ann", tenant="acme"
    )
    assert handle.result(timeout=SOON) == {
        "correlation_id": "request-7",
        "labels": {"region": "eu"},
        "tenant": "acme",
        "version": 2,
        "execution_id": handle.id,
    }
    assert handle.events()[0]["data"] == {"actor": "ann"}


def test_an_execution_is_pinned_to_the_version_asked_for_or_the_newest(orchestrator: Orchestrator) -> None:
    pinned = orchestrator.start("app-facts", version=1)
    newest = orchestrator.start("app-facts")
    assert [found.result(timeout=SOON)["version"] for found in (pinned, newest)] == [1, 2]
    with pytest.raises(UnknownDefinition, match="no version 9; there is 1, 2"):
        orchestrator.start("app-facts", version=9)


def test_an_unknown_workflow_is_refused_with_the_name_that_was_meant(orchestrator: Orchestrator) -> None:
    with pytest.raises(UnknownDefinition, match=r'"app-ecco".*app-echo'):
        orchestrator.start("app-ecco")


def test_a_delayed_start_waits_for_its_time_and_no_longer(home: Place, orchestrator: Orchestrator) -> None:
    at = datetime.now(UTC) + timedelta(seconds=2.5)
    handle = orchestrator.start("app-echo", "late", start_at=at)
    assert handle.status() is ExecutionStatus.CREATED
    assert handle.result(timeout=SOON) == "late"
    question = "SELECT extract(epoch FROM started_at - :at) FROM orchestrator.step WHERE execution_id = :id"
    assert 0 <= home.value(question, at=at, id=handle.id) < 10


def test_a_start_time_in_the_past_is_now_and_one_without_a_zone_is_refused(orchestrator: Orchestrator) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    assert orchestrator.start("app-echo", 1, start_at=past).result(timeout=SOON) == 1
    with pytest.raises(InvalidInput, match="no time zone"):
        orchestrator.start("app-echo", 1, start_at=datetime(2030, 1, 1))  # noqa: DTZ001 - what is refused


def test_an_execution_past_its_timeout_is_timed_out(orchestrator: Orchestrator) -> None:
    handle = orchestrator.start("app-sleeping", 2, timeout=0.5)
    with pytest.raises(ExecutionFailed, match="timed_out") as end:
        handle.result(timeout=SOON)
    assert end.value.error is not None
    assert end.value.error["name"] == "DeadlineExceeded"
    with pytest.raises(InvalidInput, match="timeout must be more than 0"):
        orchestrator.start("app-sleeping", 2, timeout=0)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("app-typed", {"weight": 0, "to": "ann"}, r"\$\.weight"),
        ("app-typed", {"weight": 1}, "'to' is a required property"),
        ("app-schema", {"name": 7}, r"\$\.name: 7 is not of type 'string'"),
        ("app-schema", None, "is not of type 'object'"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_its_place(
    orchestrator: Orchestrator, home: Place, name: str, value: Any, problem: str
) -> None:
    before = home.executions()
    with pytest.raises(InvalidInput, match=problem):
        orchestrator.start(name, value)
    assert home.executions() == before


def test_a_pydantic_model_is_an_input(orchestrator: Orchestrator) -> None:
    handle = orchestrator.start("app-typed", Parcel(weight=2, to="ann"))
    assert handle.result(timeout=SOON) == {"weight": 2, "to": "ann"}


@pytest.mark.parametrize("value", [nan, {"deep": [inf]}, object(), {1: object()}, "a\0b"])
def test_an_input_that_is_not_json_is_refused(orchestrator: Orchestrator, value: Any) -> None:
    with pytest.raises(PayloadError, match="input of app-echo"):
        orchestrator.start("app-echo", value)


def test_an_input_may_have_1_mib_and_no_byte_more(orchestrator: Orchestrator) -> None:
    largest = "x" * (MIB - 2)  # and two quotes
    assert orchestrator.start("app-echo", largest).result(timeout=SOON) == largest
    with pytest.raises(PayloadError, match="1,048,577 bytes, over the limit of 1,048,576"):
        orchestrator.start("app-echo", largest + "x")
    with pytest.raises(PayloadError, match="over the limit"):
        orchestrator.start("app-echo", "é" * (MIB // 2))


@pytest.mark.parametrize(
    ("kind", "problem"), [("object", "is not JSON"), ("nan", "NaN is no JSON number"), ("large", "over the limit")]
)
def test_a_result_that_cannot_be_kept_fails_the_execution_and_says_why(
    orchestrator: Orchestrator, kind: str, problem: str
) -> None:
    with pytest.raises(ExecutionFailed, match=f"PayloadError: output of step answer.*{problem}"):
        orchestrator.start("app-returning", kind).result(timeout=SOON)


def test_a_refusal_reaches_the_caller_as_data(orchestrator: Orchestrator) -> None:
    handle = orchestrator.start("app-refused")
    with pytest.raises(ExecutionFailed, match="NoStamp: no stamp, no parcel") as end:
        handle.result(timeout=SOON)
    assert (end.value.execution_id, end.value.status) == (handle.id, "failed")
    assert end.value.error is not None
    assert (end.value.error["category"], end.value.error["name"]) == ("business", "NoStamp")
    assert handle.status() is ExecutionStatus.FAILED


def test_a_result_is_waited_for_no_longer_than_asked_and_comes_all_the_same(orchestrator: Orchestrator) -> None:
    handle = orchestrator.start("app-sleeping", 1)
    for timeout in (0, 0.2):
        with pytest.raises(ResultTimeout, match="it goes on"):
            handle.result(timeout=timeout)
    assert handle.result(timeout=SOON) == 1


def test_the_history_tells_each_thing_once_and_can_be_read_from_where_one_stopped(orchestrator: Orchestrator) -> None:
    handle = orchestrator.start("app-echo", 1)
    handle.result(timeout=SOON)
    history = handle.events()
    types = [event["type"] for event in history]
    assert types[:2] == ["execution_running", "step_ready"]
    assert types[-1] == "execution_succeeded"
    assert len(types) == len(set(types))
    assert handle.events(after=history[1]["id"]) == history[2:]


def test_a_workflow_starts_by_itself_through_the_process_s_orchestrator(orchestrator: Orchestrator) -> None:
    assert facts.start(None, correlation_id="c").result(timeout=SOON)["correlation_id"] == "c"
    assert facts.delay(anything=1).result(timeout=SOON)["execution_id"]


def test_many_start_at_once_or_none(home: Place, orchestrator: Orchestrator) -> None:
    items = [(f"many-{number}", number) for number in range(30)] + [(None, 30), ("many-0", 0)]
    handles = orchestrator.start_many("app-echo", items, correlation_id="bulk")
    assert [handle.result(timeout=SOON) for handle in handles] == [*range(31), 0]
    assert handles[0].id == handles[31].id
    before = home.executions()
    with pytest.raises(IdempotencyConflict):
        orchestrator.start_many("app-echo", [("many-new", 1), ("many-1", "another")])
    assert home.executions() == before


def test_the_async_twins_do_the_same(orchestrator: Orchestrator) -> None:
    async def use() -> None:
        handle = await orchestrator.astart("app-echo", "a", idempotency_key="async")
        assert await handle.aresult(timeout=SOON) == "a"
        assert await handle.astatus() is ExecutionStatus.SUCCEEDED
        assert await handle.aevents() == handle.events()
        assert (await orchestrator.astart("app-echo", "a", idempotency_key="async")).id == handle.id
        many = await orchestrator.astart_many("app-echo", [(None, 1), (None, 2)])
        assert await asyncio.gather(*(found.aresult(timeout=SOON) for found in many)) == [1, 2]

    asyncio.run(use())


def test_an_execution_is_found_again_by_its_id(orchestrator: Orchestrator) -> None:
    handle = orchestrator.start("app-echo", "found")
    assert orchestrator.execution(handle.id).result(timeout=SOON) == "found"
    with pytest.raises(ExecutionNotFound):
        orchestrator.execution("00000000-0000-7000-8000-000000000000")


def test_concurrent_starts_under_one_key_make_one_execution(home: Place, orchestrator: Orchestrator) -> None:
    async def race() -> set[str]:
        starts = [orchestrator.astart("app-echo", "race", idempotency_key="race") for _ in range(20)]
        return {handle.id for handle in await asyncio.gather(*starts)}

    assert len(asyncio.run(race())) == 1
    count = "SELECT count(*) FROM orchestrator.execution WHERE idempotency_key = 'race'"
    assert eventually(lambda: home.value(count)) == 1
