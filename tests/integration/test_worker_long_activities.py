"""What activities do while they work, on real workers: side effects, logs, heartbeats, interruptions, hanging."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence

import pytest
from nodes.legacy import LEGACY
from nodes.long_work import SECRET, THREADS
from nodes.process_nodes import WorkerNode
from nodes.site import WORK, Pool, Site, settled_once
from nodes.waiting import eventually

from orchestrator import ExecutionHandle
from orchestrator.cli import call

pytest_plugins = ("nodes.fixtures",)

LIMIT = 30


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    limited = (("ORCHESTRATOR_LOG_LIMIT", str(LIMIT)),)
    return [
        Pool(name="long", queues=(WORK, LEGACY), concurrency=4, env=limited),
        Pool(
            name="long-threads",
            queues=(THREADS,),
            pool="threads",
            env=(*limited, ("ORCHESTRATOR_LOG_LEVEL", "debug")),
        ),
    ]


def cancel(site: Site, handle: ExecutionHandle) -> None:
    """As an operator does."""
    site.orchestrator.cancel(handle.id, actor="ann")


def phases(site: Site, handle: ExecutionHandle) -> list[str]:
    """What the activities of an execution have noted."""
    lines = (site.witness.folder / "calls" / handle.id).read_text().splitlines()
    return [json.loads(line)["phase"] for line in lines]


@pytest.fixture
def told(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command prints."""
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", site.database_url)

    def carry_out(*arguments: str) -> str:
        assert call(arguments) == 0
        return capsys.readouterr().out

    return carry_out


def until_looked(site: Site) -> None:
    """Let the nodes look after their pools once more: whoever waits at a gate now and is unwanted is interrupted."""
    handle = site.start("waiting")
    site.call(handle, "work")
    cancel(site, handle)
    site.status(handle, "cancelled")


# --- side effects


@pytest.mark.parametrize("name", ["thrown", "thrown-in-transaction"])
def test_a_side_effect_is_the_same_in_the_next_attempt(site: Site, worker: WorkerNode, name: str) -> None:
    handle = site.start(name, {"gate": None})
    value = handle.result(30)
    assert phases(site, handle) == ["thrown", value, value]
    settled_once(site, handle)


def test_a_side_effect_outlives_the_process_that_recorded_it(site: Site, worker: WorkerNode) -> None:
    handle = site.start("thrown", {"gate": "gate"})
    eventually(lambda: len(site.witness.calls(handle.id, phase="thrown")) == 1, "it is thrown")
    eventually(lambda: len(phases(site, handle)) == 2, "it is recorded")
    os.kill(site.witness.calls(handle.id, phase="thrown")[0].pid, signal.SIGKILL)
    value = handle.result(30)
    assert phases(site, handle) == ["thrown", value, value]


def test_a_compensation_has_side_effects_of_its_own(site: Site, worker: WorkerNode) -> None:
    handle = site.start("thrown-twice")
    site.status(handle, "compensated")
    rows = site.execute("SELECT path, value FROM orchestrator.side_effect WHERE execution_id = :id", id=handle.id)
    values = {row.path: row.value for row in rows}
    assert values.keys() == {"otp", "undo:otp"}
    assert values["otp"] == site.step(handle, "otp")["output"] != values["undo:otp"]


# --- logs


def test_what_attempts_log_is_kept_in_order_without_secrets_and_up_to_a_limit(site: Site, worker: WorkerNode) -> None:
    handle = site.start("talking", {"count": LIMIT})
    handle.result(30)
    eventually(lambda: len(handle.logs()) == 2 * (LIMIT + 1), "all is written")
    found = handle.logs(path="talk")
    assert [row["attempt"] for row in found] == [1] * (LIMIT + 1) + [2] * (LIMIT + 1)
    assert SECRET not in str(found)
    first = found[: LIMIT + 1]
    assert [row["number"] for row in first] == list(range(1, LIMIT + 2))
    begun, warned, own, *lines, last = first
    assert (begun["level"], begun["message"], begun["logger"]) == ("INFO", "begun", "orchestrator.activity")
    assert begun["fields"] == {"password": "***", "name_": "n", "nul": "a\ufffdb", "number": 1.5, "nothing": "nan"}
    assert (warned["level"], warned["message"], warned["fields"]) == ("WARNING", "100 % of ***", None)
    assert (own["level"], own["logger"], own["fields"]) == ("ERROR", "shop.talk", {"what": {"id": 1}})
    assert [row["message"] for row in lines] == [f"line {n}" for n in range(LIMIT - 3)]
    assert last["message"] == f"3 more records were dropped: an attempt may keep {LIMIT}"
    assert {row["message"] for row in handle.logs(level="error")} == {"own logger"}
    assert handle.logs(path="nowhere") == []
    with pytest.raises(ValueError, match="no level"):
        handle.logs(level="loud")


def test_a_command_prints_what_attempts_log(site: Site, worker: WorkerNode, told: Callable[..., str]) -> None:
    handle = site.start("talking", {"count": 0})
    handle.result(30)
    eventually(lambda: len(handle.logs()) == 2 * 3, "all is written")
    printed = told("logs", handle.id)
    assert printed.count("begun") == 2
    assert printed.count("own logger") == 2
    lines = told("logs", handle.id, "--path", "talk", "--level", "error", "--json").splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["own logger"] * 2


def test_what_a_coroutine_logs_is_kept(site: Site, worker: WorkerNode) -> None:
    handle = site.start("talking-async")
    handle.result(30)
    eventually(lambda: len(handle.logs()) == 6, "all is written")
    expected = [said for n in range(3) for said in (f"line {n}", f"aside {n}")]
    assert [row["message"] for row in handle.logs()] == expected


# --- heartbeats


def test_heartbeats_keep_an_attempt_alive_and_tell_how_far_it_is(
    site: Site, worker: WorkerNode, told: Callable[..., str]
) -> None:
    handle = site.start("beating")
    site.call(handle, "work")
    eventually(lambda: site.step(handle, "work")["progress"], "progress is told")
    assert '"seconds":' in told("show", handle.id)
    assert handle.result(30) == 1
    assert site.step(handle, "work")["progress"]["seconds"] > 2 + 2, "longer than it could do without"
    settled_once(site, handle)


def test_an_attempt_that_falls_silent_is_fenced_and_followed_by_another(site: Site, worker: WorkerNode) -> None:
    handle = site.start("falling-silent")
    assert handle.result(30) == 2
    (retry,) = site.events(handle, "step_retrying")
    error = retry["data"]["error"]
    assert (error["category"], error["name"]) == ("timeout", "HeartbeatTimedOut")
    assert site.step(handle, "work")["progress"] == {"rows": 7}
    eventually(lambda: "cleaned up" in phases(site, handle), "the silent attempt is interrupted")
    assert phases(site, handle) == ["begun", "AttemptFenced", "cleaned up"]
    settled_once(site, handle)


# --- interruptions


def test_a_cancelled_executions_attempt_is_interrupted_and_cleans_up(site: Site, worker: WorkerNode) -> None:
    processes = worker.children()
    handle = site.start("waiting")
    site.call(handle, "work")
    cancel(site, handle)
    site.status(handle, "cancelled")
    assert phases(site, handle) == ["begun", "AttemptCancelled", "cleaned up"]
    error = site.step(handle, "work")["error"]
    assert (error["category"], error["name"]) == ("cancelled", "AttemptCancelled")
    assert site.steps(handle) == {"work": "failed"}, "it is not tried again"
    assert worker.children() == processes
    settled_once(site, handle)


def test_a_cancelled_executions_coroutine_cleans_up_before_its_step_is_settled(site: Site, worker: WorkerNode) -> None:
    handle = site.start("waiting-async")
    site.call(handle, "work")
    cancel(site, handle)
    site.status(handle, "cancelled")
    assert phases(site, handle) == ["begun", "cleaned up"]


def test_an_interrupted_attempt_is_undone(site: Site, worker: WorkerNode) -> None:
    handle = site.start("waiting-undone")
    site.call(handle, "work")
    cancel(site, handle)
    site.status(handle, "compensated")
    assert site.steps(handle) == {"work": "failed", "undo:work": "succeeded"}


def test_an_attempt_in_a_thread_learns_of_it_from_its_heartbeat(site: Site, worker: WorkerNode) -> None:
    handle = site.start("waiting-in-thread")
    site.call(handle, "work")
    cancel(site, handle)
    site.status(handle, "cancelled")
    assert phases(site, handle) == ["begun", "AttemptCancelled"]
    eventually(lambda: handle.logs(level="debug"), "its log is written")
    (said,) = handle.logs(level="debug")
    assert (said["level"], said["message"]) == ("DEBUG", "below the level of Python's loggers")


def test_a_task_of_the_applications_own_is_interrupted_too(site: Site, worker: WorkerNode) -> None:
    processes = worker.children()
    handle = site.start("held-task")
    site.call(handle, "called")
    cancel(site, handle)
    site.status(handle, "cancelled")
    assert site.step(handle, "called")["error"]["name"] == "AttemptCancelled"
    assert worker.children() == processes
    settled_once(site, handle)


def test_an_activity_that_must_not_be_interrupted_is_left_alone(site: Site, worker: WorkerNode) -> None:
    handle = site.start("held", {"attempts": 1})
    site.call(handle, "work")
    cancel(site, handle)
    until_looked(site)
    until_looked(site)
    assert handle.status() == "cancelling"
    site.open(handle)
    site.status(handle, "cancelled")
    assert phases(site, handle) == ["begun", "ended"]
    assert site.steps(handle)["work"] == "succeeded"


def test_a_failing_execution_waits_for_the_result_of_what_runs(site: Site, worker: WorkerNode) -> None:
    handle = site.start("wanted-all-the-same")
    site.call(handle, "work")
    site.status(handle, "failing")
    until_looked(site)
    until_looked(site)
    site.open(handle)
    site.status(handle, "failed")
    assert site.steps(handle)["work"] == "succeeded"


def test_the_loser_of_a_race_is_interrupted(site: Site, worker: WorkerNode) -> None:
    handle = site.start("losing")
    site.call(handle, "work")
    site.open(handle, "refusal")
    handle.result(30)
    assert site.steps(handle)["work"] == "cancelled"
    eventually(lambda: site.witness.calls(handle.id, "work", "cleaned up"), "the loser is interrupted")
    assert site.witness.calls(handle.id, "work", "AttemptFenced")


# --- hanging


def test_a_hung_attempt_is_fenced_and_its_process_killed(site: Site, worker: WorkerNode) -> None:
    handle = site.start("hanging")
    hung = site.call(handle, "work").pid
    assert handle.result(30) == 2
    (retry,) = site.events(handle, "step_retrying")
    assert retry["data"]["error"]["name"] == "AttemptTimedOut"
    eventually(lambda: hung not in worker.children(), "the hung process is killed")
    assert not site.events(handle, "attempt_fenced"), "it has said nothing more"
    eventually(lambda: len(worker.children()) == 4, "Celery has replaced it")
    settled_once(site, handle)
