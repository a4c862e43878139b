"""Executions taken up again after ends that came at awkward moments: nothing is left out, nothing is done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from ledger.proxy import Proxy
from nodes.process_nodes import WorkerNode
from nodes.site import Site
from nodes.waiting import eventually

from orchestrator import ControlRefused, ExecutionHandle
from orchestrator.engine.core import Core
from orchestrator.engine.service import Service
from orchestrator.ledger import database

pytest_plugins = ("nodes.fixtures",)

ANN: dict[str, Any] = {"actor": "ann", "reason": "a test"}


def calls(site: Site, handle: ExecutionHandle) -> Counter[str]:
    """How often each step was called."""
    return Counter(call.path for call in site.witness.calls(handle.id))


def child_of(site: Site, handle: ExecutionHandle) -> ExecutionHandle:
    """The only child."""
    found = site.value("SELECT id FROM orchestrator.execution WHERE parent_id = :id", id=handle.id)
    return site.orchestrator.execution(str(found))


@pytest.mark.parametrize(
    ("name", "result", "steps"),
    [
        (
            "cut-each",
            [1, 2, 3],
            ["box[0].held", "box[0].then", "box[1].held", "box[1].then", "box[2].held", "box[2].then"],
        ),
        ("cut-repeat", 2, ["box[0].held", "box[0].then", "box[1].held", "box[1].then"]),
        ("cut-block", 2, ["box[0].held", "box[0].then"]),
    ],
)
def test_a_body_that_was_cancelled_between_two_of_its_steps_goes_on_with_the_second(
    site: Site, worker: WorkerNode, name: str, result: Any, steps: list[str]
) -> None:
    handle = site.start(name)
    site.call(handle, "box[0].held")
    site.orchestrator.cancel(handle.id, **ANN)
    site.open(handle)
    site.status(handle, "cancelled")
    assert calls(site, handle) == {"box[0].held": 1}
    site.orchestrator.retry(handle.id, **ANN)
    assert handle.result(30) == result
    assert calls(site, handle) == Counter([*steps, "behind"])


def test_a_block_that_is_given_an_output_is_left_behind_with_all_that_it_holds(site: Site, worker: WorkerNode) -> None:
    handle = site.start("skipped-block")
    site.status(handle, "failed")
    before = calls(site, handle)
    site.orchestrator.skip(handle.id, "box", output="by hand", **ANN)
    assert handle.result(30) == "by hand"
    assert calls(site, handle) == before + Counter({"behind": 1})


def test_a_join_that_could_not_be_met_is_not_met_by_a_retry_but_by_a_step_that_is_given(
    site: Site, worker: WorkerNode
) -> None:
    handle = site.start("none-left")
    site.status(handle, "failed")
    ended = len(site.events(handle, "execution_failed"))
    site.orchestrator.retry(handle.id, **ANN)
    eventually(lambda: len(site.events(handle, "execution_failed")) > ended, "it fails again")
    assert site.step(handle, "any_of_them")["error"]["name"] == "JoinUnmet"
    assert "any_of_them" not in calls(site, handle)
    with pytest.raises(ControlRefused, match="borne"):
        site.orchestrator.skip(handle.id, "two", **ANN)
    site.orchestrator.skip(handle.id, "any_of_them", output="by hand", **ANN)
    assert handle.result(30) == "by hand"


def test_a_machine_repeats_no_transition_that_had_failed_and_takes_the_next_event(
    site: Site, worker: WorkerNode
) -> None:
    handle = site.start("stumbles")
    site.step_status(handle, "machine", "waiting")
    site.orchestrator.send(handle.id, "GO")
    eventually(lambda: site.steps(handle).get("1:GO/leap") == "failed", "the transition has failed")
    waits = "SELECT path FROM orchestrator.step WHERE execution_id = :id AND awaits = 'event' AND status = 'waiting'"
    eventually(lambda: site.execute(waits, id=handle.id), "it waits for an event")
    site.orchestrator.cancel(handle.id, **ANN)
    site.status(handle, "cancelled")
    site.orchestrator.retry(handle.id, **ANN)
    eventually(lambda: site.execute(waits, id=handle.id), "it waits for an event")
    assert site.steps(handle)["1:GO/leap"] == "failed"
    site.orchestrator.send(handle.id, "WALK")
    assert handle.result(30) == {"state": "there"}
    assert calls(site, handle) == {"1:GO/first": 1, "1:GO/leap": 1}


# What is given by hand.


def test_a_choice_that_is_skipped_goes_on_by_the_case_that_is_given(site: Site, worker: WorkerNode) -> None:
    handle = site.start("chooses")
    site.open(handle)
    site.status(handle, "failed")
    for wrong in (None, "no case", ["default"]):
        with pytest.raises(ControlRefused, match=r"the name of a case: \w+, default"):
            site.orchestrator.skip(handle.id, "route", output=wrong, **ANN)
    assert handle.status() == "failed"
    site.orchestrator.skip(handle.id, "route", output="default", **ANN)
    assert handle.result(30) == [None, "right"]
    assert calls(site, handle) == {"first": 1, "right": 1, "end": 1}
    assert site.step(handle, "route")["exit"] == "default"


def test_a_choice_whose_turn_it_is_is_ended_by_the_case_that_is_given(site: Site, worker: WorkerNode) -> None:
    handle = site.start("chooses")
    site.call(handle, "first")
    site.orchestrator.pause(handle.id, **ANN)
    site.open(handle)
    site.step_status(handle, "route", "ready")
    with pytest.raises(ControlRefused, match="the name of a case"):
        site.orchestrator.complete(handle.id, "route", **ANN)
    site.orchestrator.complete(handle.id, "route", output="default", **ANN)
    site.orchestrator.resume(handle.id, **ANN)
    assert handle.result(30) == [None, "right"]
    assert site.step(handle, "route")["exit"] == "default"


def test_a_join_that_can_not_be_met_and_is_ended_by_hand_is_met(site: Site, worker: WorkerNode) -> None:
    handle = site.start("unmet-by-hand")
    for path in ("one", "two"):
        site.call(handle, path)
    site.orchestrator.pause(handle.id, **ANN)
    site.open(handle, "refusal")
    site.step_status(handle, "any_of_them", "ready")
    assert site.step(handle, "any_of_them")["exit"] == "unmet"
    site.orchestrator.complete(handle.id, "any_of_them", output="by hand", **ANN)
    assert site.step(handle, "any_of_them")["exit"] is None
    site.orchestrator.resume(handle.id, **ANN)
    assert handle.result(30) == "by hand"


@pytest.mark.parametrize("given", [["by", "hand"], None, {"no": "list"}])
def test_a_loop_that_is_skipped_has_the_output_that_it_is_given(site: Site, worker: WorkerNode, given: Any) -> None:
    handle = site.start("skipped-loop")
    site.status(handle, "failed")
    site.orchestrator.skip(handle.id, "loop", output=given, **ANN)
    assert handle.result(30) == given


def test_a_loop_around_one_that_is_skipped_gathers_what_that_was_given(site: Site, worker: WorkerNode) -> None:
    handle = site.start("skipped-inner-loop")
    site.status(handle, "failed")
    site.orchestrator.skip(handle.id, "outer[0].inner", output="by hand", **ANN)
    assert handle.result(30) == ["by hand", [1]]


@pytest.mark.parametrize("path", ["box", "box[0].inside"])
def test_nothing_is_taken_up_when_a_step_is_given_an_output_that_nobody_waits_for(
    site: Site, worker: WorkerNode, path: str
) -> None:
    handle = site.start("unlucky-parent")
    site.status(handle, "failed")
    with pytest.raises(ControlRefused, match="nothing waits for step box"):
        site.orchestrator.skip(handle.id, path, output=1, **ANN)
    assert len(site.events(child_of(site, handle), "execution_running")) == 1


# Forks.


@pytest.mark.parametrize("name", ["raced", "raced-later"])
def test_a_fork_does_not_run_the_losers_of_a_race_again(site: Site, worker: WorkerNode, name: str) -> None:
    handle = site.start(name)
    assert handle.result(30) == 2
    forked = site.orchestrator.fork(handle.id, "last", **ANN)
    assert forked.result(30) == 2
    assert calls(site, forked) == {"last": 1}
    # Nobody has won in one that begins before that.
    again = site.orchestrator.fork(handle.id, "quick", **ANN)
    assert again.result(30) == 2
    assert "slow" in site.steps(again)
    for each in (handle, forked, again):
        site.open(each)


@pytest.mark.parametrize("fault", [Proxy.lose_reply, Proxy.lose_statement, Proxy.delay])
def test_a_fork_is_made_once_although_its_reply_is_lost(
    site: Site, worker: WorkerNode, fault: Callable[[Proxy, str], None]
) -> None:
    handle = site.start("forked")
    handle.result(30)
    with Proxy(site.database_url) as proxy:
        near = site.orchestrator.core
        engine = database.connect(proxy.url, pool_size=1, lock_timeout=10)
        # A new connection has a transaction of its own at first, which is not to be struck.
        engine.connect().close()
        distant = Service()
        distant.core = Core(near.settings, engine, near.publisher)
        fault(proxy, "INSERT INTO orchestrator.execution")
        forked = distant.fork(handle.id, "second", **ANN)
        if fault is Proxy.delay:
            proxy.deliver()
        assert proxy.pending == 0
        assert forked.result(30) == "done"
        engine.dispose()
    made = site.execute("SELECT id FROM orchestrator.execution WHERE forked_from = :id", id=handle.id)
    assert [str(row[0]) for row in made] == [forked.id]
    assert calls(site, forked) == {"second": 1}
    audited = "SELECT count(*) FROM orchestrator.audit WHERE execution_id = :id AND command = 'fork'"
    assert site.value(audited, id=handle.id) == 1


# Deadlines.

LONG_AGO = """
UPDATE orchestrator.execution SET created_at = created_at - interval '1 hour', deadline = deadline + interval '1 hour'
WHERE id = :id
"""
LEFT = (
    "SELECT CAST(extract(epoch FROM deadline - clock_timestamp()) AS float8) FROM orchestrator.execution WHERE id = :id"
)


def test_a_deadline_is_as_long_after_every_retry_and_in_every_fork_as_it_was_at_first(
    site: Site, worker: WorkerNode
) -> None:
    handle = site.start("none-left", timeout=1000)
    for ended in (1, 2):
        eventually(lambda: len(site.events(handle, "execution_failed")) == ended, "it has failed")  # noqa: B023
        # It was begun long ago, and paused for long.
        site.execute(LONG_AGO, id=handle.id)
        site.orchestrator.retry(handle.id, **ANN)
        assert 500 < site.value(LEFT, id=handle.id) <= 1000
    eventually(lambda: len(site.events(handle, "execution_failed")) == 3, "it has failed")
    site.execute(LONG_AGO, id=handle.id)
    forked = site.orchestrator.fork(handle.id, "one", **ANN)
    assert 500 < site.value(LEFT, id=forked.id) <= 1000
    site.status(forked, "failed")
    site.execute(LONG_AGO, id=forked.id)
    again = site.orchestrator.fork(forked.id, "one", **ANN)
    assert 500 < site.value(LEFT, id=again.id) <= 1000


def test_what_was_held_has_its_whole_time_from_when_it_begins(site: Site, worker: WorkerNode) -> None:
    site.orchestrator.maintenance(True, **ANN)
    try:
        handle = site.start("chooses", timeout=1000)
        site.execute(LONG_AGO, id=handle.id)
    finally:
        site.orchestrator.maintenance(False, **ANN)
    site.call(handle, "first")
    assert 500 < site.value(LEFT, id=handle.id) <= 1000
    site.open(handle)


def test_a_child_that_is_retried_with_its_parent_has_as_long_as_that(site: Site, worker: WorkerNode) -> None:
    handle = site.start("unlucky-parent", timeout=100)
    site.status(handle, "failed")
    child = child_of(site, handle)
    for each in (handle, child):
        site.execute(LONG_AGO, id=each.id)
    site.orchestrator.retry(handle.id, **ANN)
    assert 50 < site.value(LEFT, id=handle.id) <= 100
    assert 50 < site.value(LEFT, id=child.id) <= 100
