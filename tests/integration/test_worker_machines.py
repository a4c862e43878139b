"""State machines on real workers: what they accept, in which order, and what they do when a transition fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Site, settled_once
from nodes.waiting import eventually

from orchestrator import ExecutionHandle, SignalRefused

pytest_plugins = ("nodes.fixtures",)


def state(site: Site, handle: ExecutionHandle, name: str) -> None:
    eventually(lambda: handle.state() == name, f"the machine is in {name}")


def entered(handle: ExecutionHandle) -> list[str]:
    return [event["data"]["state"] for event in handle.events() if event["type"] == "state_entered"]


def test_events_move_a_machine_from_state_to_state(site: Site, worker: WorkerNode) -> None:
    handle = site.start("paper")
    send = site.orchestrator.send
    assert send(handle.id, "SUBMIT", {"title": "Tea"}, actor="ann", roles=["author"])
    assert send(handle.id, "FILE", {"pages": 3}, actor="max", roles=["manager"])
    assert handle.result(30) == {"state": "filed", "note": "Tea by ann"}
    assert entered(handle) == ["draft", "checked", "filed"]
    assert [row for row in site.steps(handle) if row != "machine"] == ["1:SUBMIT/note"]
    settled_once(site, handle)


@pytest.mark.parametrize(
    ("event", "sent", "reason"),
    [
        ("FILE", ({"pages": 1}, ["manager"]), "FILE is not allowed in state draft; allowed now: SUBMIT, WITHDRAW"),
        ("SUBMIT", ({"title": "x"}, ["manager"]), "may not send SUBMIT in state draft: it takes author"),
        ("SUBMIT", ({}, ["author"]), "title"),
        ("SING", (None, []), "SING is not allowed in state draft"),
    ],
)
def test_an_event_that_is_not_allowed_is_refused_with_what_is(
    site: Site, worker: WorkerNode, event: str, sent: tuple[object, list[str]], reason: str
) -> None:
    payload, roles = sent
    handle = site.start("paper")
    with pytest.raises(SignalRefused, match=reason):
        site.orchestrator.send(handle.id, event, payload, actor="eve", roles=roles)
    (refused,) = site.events(handle, "signal_refused")
    assert refused["data"]["actor"] == "eve"
    assert site.orchestrator.allowed(handle.id) == ("draft", ("SUBMIT", "WITHDRAW"))


def test_a_condition_that_does_not_hold_refuses_the_event(site: Site, worker: WorkerNode) -> None:
    handle = site.start("paper")
    site.orchestrator.send(handle.id, "SUBMIT", {"title": "x"}, roles=["author"])
    state(site, handle, "checked")
    with pytest.raises(SignalRefused, match="the condition of FILE does not hold"):
        site.orchestrator.send(handle.id, "FILE", {"pages": 11}, roles=["manager"])
    with pytest.raises(SignalRefused, match="cannot be computed"):
        site.orchestrator.send(handle.id, "FILE", {}, roles=["manager"])
    assert site.orchestrator.send(handle.id, "WITHDRAW")
    assert handle.result(30)["state"] == "withdrawn"
    with pytest.raises(SignalRefused, match="ended succeeded in state withdrawn"):
        site.orchestrator.send(handle.id, "WITHDRAW")


def test_events_are_taken_in_the_order_of_their_acceptance_and_once(site: Site, worker: WorkerNode) -> None:
    """Also those that come while a transition is under way."""
    handle = site.start("turnstile")
    send = site.orchestrator.send
    for number in range(20):
        assert send(handle.id, "COIN", number, id=f"coin {number}")
        assert not send(handle.id, "COIN", number, id=f"coin {number}")
        assert send(handle.id, "PUSH", 0)
    assert send(handle.id, "CLOSE")
    handle.result(60)
    assert entered(handle) == ["locked", *["open", "locked"] * 20, "closed"]
    settled_once(site, handle)
    outputs = {path: site.step(handle, path)["output"] for path in site.steps(handle) if "COIN" in path}
    assert [outputs[f"{2 * number + 1}:COIN/count"] for number in range(20)] == list(range(20))


def test_of_two_senders_at_once_only_one_moves_the_machine(site: Site, worker: WorkerNode) -> None:
    for _ in range(10):
        handle, barrier = site.start("turnstile"), Barrier(4)
        state(site, handle, "locked")

        def send(number: int, handle: ExecutionHandle = handle, barrier: Barrier = barrier) -> bool:
            barrier.wait(10)
            try:
                return site.orchestrator.send(handle.id, "COIN", number)
            except SignalRefused:
                return False

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(send, range(4))) == [False, False, False, True]
        state(site, handle, "open")
        site.orchestrator.send(handle.id, "CLOSE")
        handle.result(30)
        assert entered(handle) == ["locked", "open", "closed"]


def test_a_machine_goes_on_by_itself_where_a_condition_holds(site: Site, worker: WorkerNode) -> None:
    assert site.start("by-itself").result(30) == {"state": "three"}


def test_a_machine_goes_on_when_its_time_has_come(site: Site, worker: WorkerNode) -> None:
    handle = site.start("by-time")
    state(site, handle, "stale")
    assert site.step(handle, "1:after/warn")["status"] == "succeeded"
    due = "SELECT due_at - clock_timestamp() BETWEEN interval '23 h' AND interval '24 h' FROM orchestrator.step"
    eventually(lambda: site.step(handle, "machine")["status"] == "waiting", "it waits")
    assert site.value(f"{due} WHERE execution_id = :id AND path = 'machine'", id=handle.id)
    site.execute("UPDATE orchestrator.step SET due_at = now() WHERE execution_id = :id", id=handle.id)
    assert handle.result(30) == {"state": "gone"}


def test_a_transition_that_fails_or_takes_too_long_leaves_the_state_as_it_was(site: Site, worker: WorkerNode) -> None:
    handle = site.start("stumbling")
    send = site.orchestrator.send
    send(handle.id, "GO")
    site.step_status(handle, "1:GO/walk", "failed")
    eventually(lambda: len(entered(handle)) == 2, "the failure is noted")
    send(handle.id, "FLY")
    site.call(handle, "2:FLY/fly")
    halted = "SELECT halt FROM orchestrator.step WHERE execution_id = :id AND path = '2:FLY/fly'"
    eventually(lambda: site.value(halted, id=handle.id), "the transition's time is over")
    site.open(handle)
    eventually(lambda: len(entered(handle)) == 3, "so is the timeout")
    assert entered(handle) == ["here", "here", "here"]
    errors = [e["data"].get("error", {}).get("name") for e in handle.events() if e["type"] == "state_entered"]
    assert errors == [None, "BusinessError", "TransitionTimedOut"]
    send(handle.id, "RIDE")
    assert handle.result(30) == {"state": "there"}
    settled_once(site, handle)


def test_a_transition_by_itself_that_fails_is_not_taken_again_and_again(site: Site, worker: WorkerNode) -> None:
    handle = site.start("stuck-by-itself")
    site.step_status(handle, "machine", "waiting")
    eventually(lambda: entered(handle) == ["here", "here"], "the failure is noted")
    site.orchestrator.send(handle.id, "GO")
    assert handle.result(30) == {"state": "there"}
    assert len(site.witness.calls(handle.id)) == 1


def test_a_transition_that_is_a_workflow_of_its_own_is_undone_as_a_unit_if_it_fails(
    site: Site, worker: WorkerNode
) -> None:
    handle = site.start("voyage")
    site.orchestrator.send(handle.id, "BOOK", 1)
    eventually(lambda: entered(handle) == ["planned", "planned"], "the failure is noted")
    assert handle.status() == "running"
    site.orchestrator.send(handle.id, "BOOK", 0)
    site.status(handle, "succeeded")
    parts = "SELECT status FROM orchestrator.execution WHERE parent_id = :id ORDER BY parent_path"
    assert [row[0] for row in site.execute(parts, id=handle.id)] == ["compensated", "succeeded"]
    settled_once(site, handle)


def test_a_machine_that_goes_back_undoes_its_transitions_in_reverse_order(site: Site, worker: WorkerNode) -> None:
    handle = site.start("account")
    for event in ("NEXT", "NEXT", "REFUSE"):
        site.orchestrator.send(handle.id, event)
    site.status(handle, "compensated")
    undone = [event["path"] for event in site.events(handle, "step_succeeded") if event["path"].startswith("undo:")]
    assert undone == ["undo:2:NEXT/fund", "undo:1:NEXT/open"]
    assert handle.state() == "refused"
    settled_once(site, handle)


def test_a_state_is_entered_once_all_steps_of_its_transition_have_ended(site: Site, worker: WorkerNode) -> None:
    handle = site.start("side-by-side-machine")
    site.orchestrator.send(handle.id, "GO")
    site.step_status(handle, "1:GO/quick", "succeeded")
    site.call(handle, "1:GO/slow")
    assert handle.state() == "here"
    site.open(handle)
    assert handle.result(30) == {"state": "there"}
    assert entered(handle) == ["here", "there"]
    settled_once(site, handle)


def test_an_event_whose_transition_fails_does_not_put_the_timer_off(site: Site, worker: WorkerNode) -> None:
    handle = site.start("ageing")
    due = "SELECT due_at FROM orchestrator.step WHERE execution_id = :id AND path = 'machine' AND status = 'waiting'"
    ((before,),) = eventually(lambda: site.execute(due, id=handle.id), "it waits")
    site.orchestrator.send(handle.id, "TOUCH")
    eventually(lambda: len(entered(handle)) == 2, "the failure is noted")
    ((after,),) = eventually(lambda: site.execute(due, id=handle.id), "it waits again")
    assert after == before
