"""Tables of errors, policies of retries, steps that kill, and what is told of attempts, on real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site, settled_once
from nodes.waiting import eventually

from orchestrator import AttemptRecord, ExecutionFailed, ExecutionHandle, Settings
from orchestrator.cli import call
from orchestrator.ledger import claims, owners

pytest_plugins = ("nodes.fixtures",)

#: Deaths that the workers bear.
MOST = 3


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="worker", concurrency=4), Pool(name="threads", queues=("threads",), pool="threads")]


def error_of(attempt: AttemptRecord) -> tuple[str, str]:
    assert attempt.error is not None
    return attempt.error["category"], attempt.error["name"]


def ends(handle: ExecutionHandle, path: str = "work") -> list[str | None]:
    return [attempt.ended for attempt in handle.attempts(path)]


def failed(handle: ExecutionHandle, status: str = "failed") -> None:
    with pytest.raises(ExecutionFailed) as failure:
        handle.result(30)
    assert failure.value.status == status


# Tables.


def test_a_step_fails_as_the_table_says_and_its_handler_follows(site: Site, worker: WorkerNode) -> None:
    handle = site.start("tabled")
    handle.result(30)
    (attempt,) = handle.attempts("work")
    assert error_of(attempt) == ("business", "Refusal")
    assert site.steps(handle) == {"work": "failed", "handler": "succeeded"}
    settled_once(site, handle)


def test_an_entry_that_asks_for_a_text_may_make_an_error_worth_another_attempt(site: Site, worker: WorkerNode) -> None:
    handle = site.start("tabled-busy")
    failed(handle)
    assert [error_of(attempt) for attempt in handle.attempts()] == [("transient", "Busy")] * 3


def test_the_table_knows_better_than_the_list_of_errors_that_are_never_retried(site: Site, worker: WorkerNode) -> None:
    with_table = site.start("tabled-namesake")
    without = site.start("default-policy", {"error": "InvalidInput", "message": "no"})
    failed(with_table)
    failed(without)
    assert (len(with_table.attempts()), len(without.attempts())) == (3, 1)


@pytest.mark.parametrize("name", ["tabled-transaction", "tabled-task"])
def test_the_table_holds_for_transactional_activities_and_tasks_of_ones_own(
    site: Site, worker: WorkerNode, name: str
) -> None:
    handle = site.start(name)
    failed(handle)
    assert [error_of(attempt) for attempt in handle.attempts()] == [("business", "Refusal")]


def test_the_table_holds_for_an_attempt_that_a_sweep_has_fenced(site: Site, worker: WorkerNode) -> None:
    handle = site.start("tabled-slow")
    failed(handle)
    assert [error_of(attempt) for attempt in handle.attempts()] == [("business", "TooSlow")]
    site.open(handle)
    eventually(lambda: site.events(handle, "attempt_fenced"), "the late attempt is fenced")
    assert ends(handle) == ["failed"], "what was settled stays settled"


def test_the_table_holds_for_a_compensation(site: Site, worker: WorkerNode) -> None:
    handle = site.start("tabled-compensation")
    failed(handle, "compensation_failed")
    assert [error_of(attempt) for attempt in handle.attempts("undo:first")] == [("business", "Refusal")]


def test_the_table_holds_for_a_step_of_a_loop_and_for_who_bears_its_failure(site: Site, worker: WorkerNode) -> None:
    handle = site.start("tabled-loop")
    handle.result(30)
    assert [error_of(attempt) for attempt in handle.attempts("loop[0].work")] == [("business", "Refusal")]
    assert site.steps(handle)["handler"] == "succeeded"
    settled_once(site, handle)


def test_a_workflow_within_another_has_its_own_table_and_the_outer_one_sees_what_that_says(
    site: Site, worker: WorkerNode
) -> None:
    handle = site.start("tabled-parent")
    handle.result(30)
    assert site.steps(handle) == {"child": "failed", "handler": "succeeded"}
    (child,) = site.execute("SELECT id FROM orchestrator.execution WHERE parent_id = :id", id=handle.id)
    assert ends(site.orchestrator.execution(str(child.id))) == ["failed"]


def test_the_table_holds_for_a_machine(site: Site, worker: WorkerNode) -> None:
    handle = site.start("tabled-machine")
    eventually(lambda: handle.state() == "here", "the machine has begun")
    site.orchestrator.send(handle.id, "GO")
    site.step_status(handle, "1:GO/work", "failed")
    assert [error_of(attempt) for attempt in handle.attempts("1:GO/work")] == [("business", "Refusal")]
    # A moment longer its way leads to the other state.
    eventually(lambda: "FLY" in site.orchestrator.allowed(handle.id)[1], "the machine is back where it was")
    site.orchestrator.send(handle.id, "FLY")
    handle.result(30)


# Policies.


@pytest.mark.parametrize(
    ("name", "raised", "attempts"),
    [
        ("default-policy", "ValueError: no", 3),
        ("default-policy", "SystemFailure: no", 3),
        ("default-policy", "CancelledFailure: no", 1),
        ("retry-on", "DeadlineError: no", 3),
        ("retry-on", "Overload: busy", 3),
        ("retry-on", "Overload: no", 1),
        ("retry-on", "TransientError: no", 1),
        ("never-on", "DeadlineError: no", 1),
        ("never-on", "Overload: busy", 1),
        ("never-on", "TransientError: no", 3),
        ("short-budget", "TransientError: no", 1),
        ("long-budget", "TransientError: no", 3),
        ("last-attempt", "TransientError: no", 2),
    ],
)
def test_the_policy_says_which_errors_are_retried_and_how_often(
    site: Site, worker: WorkerNode, name: str, raised: str, attempts: int
) -> None:
    """The waits that `short-budget` and `last-attempt` must not make are of an hour."""
    error, _, message = raised.partition(": ")
    handle = site.start(name, {"error": error, "message": message})
    failed(handle)
    assert ends(handle) == ["retrying"] * (attempts - 1) + ["failed"]
    settled_once(site, handle)


def test_attempts_end_with_the_budget(site: Site, worker: WorkerNode) -> None:
    handle = site.start("spent-budget", {"error": "TransientError", "message": "no"})
    failed(handle)
    attempts = handle.attempts()
    assert len(attempts) < 100
    assert attempts[-1].ended == "failed"
    assert attempts[-1].next_at is None


# Steps that kill their workers.


def test_a_step_that_kills_its_workers_fails_and_its_handler_follows(site: Site, worker: WorkerNode) -> None:
    handle = site.start("killer", {"plan": ["die"]})
    handle.result(30)
    attempts = handle.attempts("work")
    assert [(attempt.attempt, attempt.ended) for attempt in attempts] == [
        (1, "released"),
        (2, "released"),
        (3, "failed"),
    ]
    assert error_of(attempts[-1]) == ("system", "WorkerLost")
    message = str(attempts[-1].error)
    assert all(word in message for word in ("work", f"{MOST} times", str(attempts[-1].owner)))
    pids = [call.pid for call in site.witness.calls(handle.id, "work")]
    assert [str(attempt.owner).rpartition(".")[2] for attempt in attempts] == [str(pid) for pid in pids]
    assert all(str(attempt.node).startswith("worker@") for attempt in attempts)
    assert site.steps(handle) == {"work": "failed", "handler": "succeeded"}
    settled_once(site, handle)


def test_a_step_that_kills_less_often_succeeds(site: Site, worker: WorkerNode) -> None:
    handle = site.start("killer", {"plan": ["die", "die", "go on"]})
    handle.result(30)
    assert ends(handle) == ["released", "released", "succeeded"]


def test_failed_attempts_between_its_deaths_do_not_save_a_step(site: Site, worker: WorkerNode) -> None:
    handle = site.start("killer", {"plan": ["die", "err", "die", "err", "die"]})
    handle.result(30)
    assert ends(handle) == ["released", "retrying", "released", "retrying", "failed"]
    assert error_of(handle.attempts("work")[-1]) == ("system", "WorkerLost")


def test_a_saga_is_undone_for_a_step_that_kills_its_workers_even_if_it_is_to_be_tried_for_ever(
    site: Site, worker: WorkerNode
) -> None:
    handle = site.start("killer-saga")
    failed(handle, "compensated")
    assert site.steps(handle) == {"first": "succeeded", "work": "failed", "undo:first": "succeeded"}
    settled_once(site, handle)


def test_a_compensation_that_kills_its_workers_fails_and_the_others_are_made(site: Site, worker: WorkerNode) -> None:
    handle = site.start("killer-compensation")
    failed(handle, "compensation_failed")
    assert ends(handle, "undo:first") == ["released", "released", "failed"]
    assert error_of(handle.attempts("undo:first")[-1]) == ("system", "WorkerLost")
    assert site.steps(handle)["undo:zeroth"] == "succeeded"
    settled_once(site, handle)


def test_a_body_is_broken_off_by_a_step_that_kills_its_workers(site: Site, worker: WorkerNode) -> None:
    handle = site.start("killer-block")
    handle.result(30)
    assert site.steps(handle) == {"around": "failed", "around[0].work": "failed", "handler": "succeeded"}


def test_the_sweep_fails_what_a_buried_node_holds_once_too_often(site: Site, worker: WorkerNode) -> None:
    handle = site.start("unconsumed")
    site.step_status(handle, "work", "ready")
    boot = handle.id.replace("-", "")
    site.execute("UPDATE orchestrator.step SET crashes = 2 WHERE execution_id = :id AND path = 'work'", id=handle.id)
    with site.orchestrator.core.database.connect() as connection:
        owners.register(connection, boot, tenant="default", name="lost", queues=[], children=[], pid=1)
        taken = claims.claim(connection, handle.id, "work", owner=f"{boot}.1", transactional=False, timeout=None)
    assert taken is not None
    site.execute("UPDATE orchestrator.worker SET buried_at = now() WHERE boot_id = :boot", boot=boot)
    failed(handle, "compensated")
    (attempt,) = handle.attempts("work")
    assert error_of(attempt) == ("system", "WorkerLost")
    assert attempt.node == "lost"
    settled_once(site, handle)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("leaves", "SystemExit"),
        ("leaves", "CancelledError"),
        ("leaves-thread", "SystemExit"),
        ("leaves-thread", "CancelledError"),
        ("leaves-transaction", "SystemExit"),
        ("leaves-loop", "CancelledError"),
        ("leaves-loop", "SystemExit"),
        ("leaves-task", "SystemExit"),
    ],
)
def test_an_activity_that_would_end_its_process_fails_as_any_other(
    site: Site, worker: WorkerNode, name: str, error: str
) -> None:
    handle = site.start(name, {"error": error})
    failed(handle)
    assert ends(handle) == ["failed"]
    assert error_of(handle.attempts()[0]) == ("system", error)
    assert site.start("leaves-not").result(30) == 1
    assert worker.alive
    settled_once(site, handle)


# Failures that cannot be written.

#: Raises as a step of this path is to be failed before that many attempts: with what no statement is sent again for.
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON orchestrator.step FOR EACH ROW
WHEN (NEW.path IN ('hard', 'undo:hard') AND NEW.status = 'failed' AND NEW.attempt < {attempt})
EXECUTE FUNCTION refuse()
"""


@pytest.fixture
def refusing(site: Site, request: pytest.FixtureRequest) -> Iterator[None]:
    """A ledger that will not have a failure of a step whose path is `hard` before its third attempt, or another."""
    site.execute(REFUSE.format(attempt=getattr(request, "param", 3)))
    yield
    site.execute("DROP TRIGGER refuse ON orchestrator.step; DROP FUNCTION refuse()")


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("hard-step", "hard", "failed"),
        ("hard-thread", "hard", "failed"),
        ("hard-task", "hard", "failed"),
        ("hard-undo", "undo:hard", "compensation_failed"),
    ],
)
@pytest.mark.usefixtures("refusing")
def test_a_step_whose_failure_cannot_be_written_is_given_back_and_not_kept_by_who_lives_on(
    site: Site, worker: WorkerNode, name: str, path: str, status: str
) -> None:
    handle = site.start(name)
    failed(handle, status)
    assert ends(handle, path) == ["released", "released", "failed"]
    assert worker.alive
    settled_once(site, handle)


@pytest.mark.parametrize("refusing", [5], indirect=True)
@pytest.mark.usefixtures("refusing")
def test_a_step_that_cannot_be_failed_either_when_it_has_killed_too_many_is_still_given_back(
    site: Site, worker: WorkerNode
) -> None:
    assert Settings().max_crashes < 5
    handle = site.start("hard-step")
    failed(handle)
    assert ends(handle, "hard") == [*["released"] * 4, "failed"]
    assert worker.alive
    settled_once(site, handle)


# What is told.


def test_the_command_shows_every_attempt_with_its_owner_and_the_errors_with_their_tracebacks(
    site: Site, worker: WorkerNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", site.database_url)
    handle = site.start("default-policy", {"error": "ValueError", "message": "[odd] text"})
    failed(handle)
    assert call(["attempts", handle.id]) == 0
    told = capsys.readouterr().out
    assert told.count("ValueError: [odd] text\nTraceback (most recent call last)") == 3
    assert told.count("worker@") == 3
    assert told.count("system: ValueError") == 3
    assert told.count("retrying") == 4
    assert call(["attempts", handle.id, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["path"], row["attempt"], row["ended"]) for row in found] == [
        ("work", 1, "retrying"),
        ("work", 2, "retrying"),
        ("work", 3, "failed"),
    ]
    assert all("erring.py" in row["error"]["traceback"] for row in found)
    assert call(["attempts", handle.id, "--path", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert call(["attempts", "00000000-0000-0000-0000-000000000000"]) == 1
    assert "no execution has the id" in capsys.readouterr().err
