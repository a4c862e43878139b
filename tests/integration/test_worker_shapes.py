"""Graphs, join rules, choices, loops and handlers on real workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from nodes.large import LAYERS, WIDTH
from nodes.process_nodes import WorkerNode
from nodes.site import Site, settled_once
from nodes.waiting import eventually
from nodes.witness import Call

from orchestrator import ControlRefused, ExecutionFailed, ExecutionHandle

pytest_plugins = ("nodes.fixtures",)


def outcome(site: Site, name: str, value: Any = None) -> tuple[Any, dict[str, str]]:
    """Output and steps of an execution that succeeds."""
    handle = site.start(name, value)
    output = handle.result(30)
    settled_once(site, handle)
    return output, site.steps(handle)


def test_a_diamond_with_a_shortcut_starts_its_join_after_all_parents(site: Site, worker: WorkerNode) -> None:
    assert outcome(site, "shortcut")[0] == 4


def test_joins_that_share_parents_each_start_once(site: Site, worker: WorkerNode) -> None:
    output, steps = outcome(site, "shared-parents")
    assert output == "z"
    assert set(steps.values()) == {"succeeded"}


def test_six_hundred_branches_meet_in_one_join(site: Site, worker: WorkerNode) -> None:
    output, steps = outcome(site, "fan-600")
    assert output == sum(range(600))
    assert len(steps) == 601


def test_two_thousand_steps_with_shared_parents_each_start_once_and_after_both(site: Site, worker: WorkerNode) -> None:
    handle = site.start("mesh")
    assert handle.result(120) == 1
    settled_once(site, handle)
    at = {(event["type"], event["path"]): event["id"] for event in handle.events()}
    assert len(site.steps(handle)) == LAYERS * WIDTH
    for layer in range(1, LAYERS):
        for n in range(WIDTH):
            for parent in (n, (n + 1) % WIDTH):
                ended = at["step_succeeded", f"s{layer - 1}_{parent}"]
                assert ended < at["step_started", f"s{layer}_{n}"]


def test_the_first_of_several_branches_wins_and_the_others_are_cancelled(site: Site, worker: WorkerNode) -> None:
    handle = site.start("first-wins")
    assert handle.result(30) == ["quick", None]
    steps = site.steps(handle)
    assert steps["winner"] == "succeeded"
    assert steps["slow"] == "cancelled"
    assert "slower" not in steps
    site.open(handle)
    settled_once(site, handle)


def test_a_branch_that_begins_after_the_race_is_decided_has_lost_it(site: Site, worker: WorkerNode) -> None:
    handle = site.start("late-loser")
    site.step_status(handle, "winner", "succeeded")
    site.open(handle)
    assert handle.result(30) == "quick"
    assert site.steps(handle) | {"late": "cancelled", "on": "succeeded"} == site.steps(handle)
    assert not site.witness.calls(handle.id, "late")
    settled_once(site, handle)


def lose(site: Site, name: str, within: str = "") -> tuple[ExecutionHandle, Call]:
    """An execution that fails while the loser of its race is at work; and that call."""
    handle = site.start(name)
    late = site.call(handle, f"{within}slow")
    site.open(handle, "quick")
    site.call(handle, f"{within}fails")
    site.open(handle, "refusal")
    return handle, late


def swept_twice(site: Site) -> None:
    """Wait until the sweep of stalled executions has looked twice."""
    fires = "SELECT count(*) FROM orchestrator.schedule_fire WHERE schedule = 'orchestrator.stalled'"
    before = site.value(fires)
    # A fire is a message: that of the last one may still be on its way.
    eventually(lambda: site.value(fires) >= before + 3, "sweeps")


def owner_of(site: Site, handle: ExecutionHandle) -> str:
    """Who is noted as at work on a step that is settled."""
    return str(site.value("SELECT owner FROM orchestrator.straggler WHERE execution_id = :id", id=handle.id))


def undone(site: Site, handle: ExecutionHandle) -> list[str]:
    """What was undone, in order."""
    calls = sorted(site.witness.calls(handle.id), key=lambda call: call.at)
    return [call.path for call in calls if call.path.startswith("undo:")]


def test_nothing_is_undone_while_the_loser_of_a_race_is_at_work(site: Site, worker: WorkerNode) -> None:
    handle, _ = lose(site, "lost-and-undone")
    site.status(handle, "failing")
    swept_twice(site)
    assert not undone(site, handle)
    (reason,) = site.orchestrator.explain(handle.id).findings
    assert "to end: it lost a race, and is still at work" in reason.sentence
    assert f"waits for the attempt at `slow` by {owner_of(site, handle)} " in reason.sentence
    site.open(handle)
    site.status(handle, "compensated")
    assert undone(site, handle) == ["undo:slow", "undo:before"]
    assert [event["path"] for event in site.events(handle, "attempt_fenced")] == ["slow"]
    settled_once(site, handle)


def test_a_loser_that_dies_at_work_is_waited_for_no_longer(site: Site, worker: WorkerNode) -> None:
    handle, late = lose(site, "lost-and-undone")
    site.status(handle, "failing")
    os.kill(late.pid, signal.SIGKILL)
    site.status(handle, "compensated")
    assert undone(site, handle) == ["undo:slow", "undo:before"]


def test_a_loser_whose_end_cannot_be_noted_is_waited_for_no_longer(site: Site, worker: WorkerNode) -> None:
    handle, _ = lose(site, "lost-and-undone")
    site.status(handle, "failing")
    site.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON orchestrator.event FOR EACH ROW
        WHEN (NEW.type = 'attempt_fenced') EXECUTE FUNCTION refuse()
    """)
    try:
        site.open(handle)
        site.status(handle, "compensated")
    finally:
        site.execute("DROP TRIGGER refuse ON orchestrator.event; DROP FUNCTION refuse()")
    assert worker.alive
    assert not site.events(handle, "attempt_lost")


def test_a_part_goes_back_once_the_loser_of_a_race_in_it_has_ended(site: Site, worker: WorkerNode) -> None:
    handle, _ = lose(site, "lost-in-part", "part[0].")
    site.step_status(handle, "part[0].fails", "failed")
    swept_twice(site)
    assert not undone(site, handle)
    (reason,) = site.orchestrator.explain(handle.id).findings
    assert f"the attempt at `part[0].slow` by {owner_of(site, handle)}, which lost a race, to end" in reason.sentence
    site.open(handle)
    handle.result(30)
    assert undone(site, handle) == ["undo:part[0].slow"]
    settled_once(site, handle)


def child_of(site: Site, handle: ExecutionHandle) -> ExecutionHandle:
    """The only child of an execution, once there is one."""
    statement = "SELECT min(id::text) FROM orchestrator.execution WHERE parent_id = :id"
    found = eventually(lambda: site.value(statement, id=handle.id), "the child")
    return site.orchestrator.execution(str(found))


def test_a_child_goes_back_once_the_loser_of_its_race_has_ended(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-of-losers")
    child = child_of(site, handle)
    site.call(child, "slow")
    site.open(child, "quick")
    site.status(child, "succeeded")
    with pytest.raises(ControlRefused, match="is still at work on slow, which has lost its race"):
        site.orchestrator.compensate(child.id, actor="ann")
    site.open(handle, "refusal")
    site.status(handle, "failing")
    swept_twice(site)
    assert not undone(site, handle)
    (reason,) = site.orchestrator.explain(handle.id).findings
    assert "waits for the attempt at `child / slow` by " in reason.sentence
    site.open(child)
    site.status(handle, "compensated")
    assert undone(site, child) == ["undo:slow", "undo:before"]
    assert undone(site, handle) == ["undo:before"]


def test_a_child_of_a_child_is_looked_at_before_it_goes_back(site: Site, worker: WorkerNode) -> None:
    handle = site.start("grandparent-of-losers")
    child = child_of(site, child_of(site, handle))
    site.call(child, "slow")
    site.open(child, "quick")
    site.status(child, "succeeded")
    site.open(handle, "refusal")
    site.status(handle, "compensating")
    eventually(lambda: site.steps(handle).get("undo:child") == "waiting", "it waits to look again")
    assert child.status() == "succeeded"
    site.open(child)
    site.status(handle, "compensated")
    assert undone(site, child) == ["undo:slow", "undo:before"]


def test_a_loser_that_is_an_execution_itself_goes_back_first(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-of-race")
    child = child_of(site, handle)
    loser = child_of(site, child)
    site.call(loser, "work")
    site.open(child, "quick")
    site.status(child, "succeeded")
    site.open(handle, "refusal")
    site.status(handle, "failing")
    site.status(loser, "cancelling")
    swept_twice(site)
    assert not undone(site, handle) + undone(site, child)
    (reason,) = site.orchestrator.explain(handle.id).findings
    assert f"`child / slow` by execution {loser.id}" in reason.sentence
    site.open(loser)
    site.status(handle, "compensated")
    assert undone(site, loser) == ["undo:work"]
    assert undone(site, child) == undone(site, handle) == ["undo:before"]
    settled_once(site, handle)


def test_a_join_that_no_branch_can_meet_fails(site: Site, worker: WorkerNode) -> None:
    handle = site.start("none-wins")
    with pytest.raises(ExecutionFailed) as failed:
        handle.result(30)
    assert failed.value.error is not None
    assert failed.value.error["name"] == "JoinUnmet"
    assert site.steps(handle) == {"one": "failed", "two": "failed", "behind": "skipped", "winner": "failed"}


def test_two_of_three_are_enough(site: Site, worker: WorkerNode) -> None:
    assert outcome(site, "two-of-three")[0] == "enough"


def test_a_join_of_what_has_settled_sees_failures(site: Site, worker: WorkerNode) -> None:
    assert outcome(site, "all-settled")[0] == [1, "BusinessError", "skipped"]


@pytest.mark.parametrize(("n", "way"), [(11, "large"), (6, "middle"), (1, "small")])
def test_a_choice_takes_the_first_case_that_holds(site: Site, worker: WorkerNode, n: int, way: str) -> None:
    output, steps = outcome(site, "routed", {"n": n})
    assert output == way
    taken = {"large": {"large"}, "middle": {"middle", "middle_too"}, "small": {"small"}}
    for name, paths in taken.items():
        assert {steps[path] for path in paths} == {"succeeded" if name == way else "skipped"}


def test_an_execution_ends_at_once_when_all_that_is_left_is_skipped(site: Site, worker: WorkerNode) -> None:
    handle = site.start("nothing-behind")
    handle.result(30)
    assert set(site.steps(handle).values()) == {"succeeded", "skipped"}
    at = {event["type"]: event["at"] for event in handle.events() if event["path"] in {None, "route"}}
    assert (at["execution_succeeded"] - at["step_succeeded"]).total_seconds() < 0.4, "no sweep was needed"
    settled_once(site, handle)


@pytest.mark.parametrize("n", [1, 2])
def test_a_step_behind_a_choice_without_a_default_always_starts(site: Site, worker: WorkerNode, n: int) -> None:
    output, steps = outcome(site, "maybe", {"n": n})
    assert output == "done"
    assert steps["odd"] == ("succeeded" if n == 1 else "skipped")


def test_a_condition_that_cannot_be_computed_fails_the_choice(site: Site, worker: WorkerNode) -> None:
    handle = site.start("broken-condition")
    with pytest.raises(ExecutionFailed, match="missing"):
        handle.result(30)
    _, steps = outcome(site, "defaulted-condition")
    assert steps == {"route": "succeeded", "never": "skipped", "instead": "succeeded"}


def test_a_loop_goes_through_its_items_in_order(site: Site, worker: WorkerNode) -> None:
    output, steps = outcome(site, "in-order", {"items": [3, 1, 2]})
    assert output == {"results": [30, 11, 22], "sum": 63}
    assert set(steps) == {"loop", "loop[0].send", "loop[1].send", "loop[2].send"}


def test_a_loop_over_nothing_gives_nothing(site: Site, worker: WorkerNode) -> None:
    assert outcome(site, "in-order", {"items": []})[0] == {"results": [], "sum": 0}


@pytest.mark.parametrize("count", [1, 3, 4, 9, 50])
def test_a_parallel_loop_gives_its_results_in_the_order_of_the_items(
    site: Site, worker: WorkerNode, count: int
) -> None:
    output, _ = outcome(site, "side-by-side", {"items": list(range(count))})
    assert output == [2 * n for n in range(count)]


def test_a_loop_in_the_middle_of_a_chain_needs_no_sweep(site: Site, worker: WorkerNode) -> None:
    handle = site.start("unfused")
    assert handle.result(30) == [1, 2]
    begun, *_, ended = (event["at"] for event in handle.events())
    assert (ended - begun).total_seconds() < 1.5, "what the loop made ready was published at once"
    settled_once(site, handle)


def test_loops_within_loops_see_their_own_items_and_those_around(site: Site, worker: WorkerNode) -> None:
    output, _ = outcome(site, "nested", {"rows": [[1, 2], [], [3]]})
    assert output == [[1, 2], [], [5]]


def test_an_iteration_that_chooses_nothing_gives_null(site: Site, worker: WorkerNode) -> None:
    output, _ = outcome(site, "filtered", {"items": [1, 3, 2, 4]})
    assert output == [None, 3, None, 4]


def test_a_failure_in_a_loop_fails_the_execution_unless_it_is_borne(site: Site, worker: WorkerNode) -> None:
    handle = site.start("failing-loop")
    with pytest.raises(ExecutionFailed):
        handle.result(30)
    assert site.steps(handle) == {"loop": "cancelled", "loop[0].one": "failed"}
    assert outcome(site, "bearing-loop")[0] == [None, None, None]


def test_a_loop_repeats_until_its_condition_holds(site: Site, worker: WorkerNode) -> None:
    output, steps = outcome(site, "counted")
    assert output == 3
    assert set(steps) == {"count", "count[0].tick", "count[1].tick", "count[2].tick"}
    output, _ = outcome(site, "paused")
    assert output == 1


def test_a_loop_that_never_ends_fails_at_its_bound(site: Site, worker: WorkerNode) -> None:
    handle = site.start("endless")
    with pytest.raises(ExecutionFailed, match="max_iterations 3"):
        handle.result(30)
    assert len(site.steps(handle)) == 4


def test_a_fallback_takes_the_place_of_a_step_that_failed(site: Site, worker: WorkerNode) -> None:
    output, steps = outcome(site, "fallen-back")
    assert output == [None, "as told"]
    assert steps == {"charge": "failed", "invoice": "succeeded", "ship": "succeeded"}


@pytest.mark.parametrize(
    ("value", "output"),
    [
        ({"attempts": 0, "business": True}, [1, None, None]),
        ({"attempts": 99, "business": True}, [None, "business", None]),
        ({"attempts": 99, "business": False}, [None, None, "TransientError"]),
    ],
)
def test_handlers_catch_by_name_and_by_category(
    site: Site, worker: WorkerNode, value: dict[str, Any], output: list[Any]
) -> None:
    assert outcome(site, "caught-by-name", value)[0] == output


def test_a_failure_in_a_block_is_caught_once_everything_in_it_has_ended(site: Site, worker: WorkerNode) -> None:
    handle = site.start("tried")
    site.call(handle, "attempt[0].held")
    site.open(handle, "refusal")
    site.step_status(handle, "attempt[0].breaks", "failed")
    assert site.steps(handle)["attempt"] == "waiting"
    site.open(handle)
    assert handle.result(30) == "attempt[0].breaks"
    steps = site.steps(handle)
    assert steps["attempt"] == "failed"
    assert steps["attempt[0].held"] == "succeeded"
    assert steps.get("attempt[0].never") in {None, "cancelled"}
    settled_once(site, handle)


def test_a_block_without_trouble_gives_its_last_output(site: Site, worker: WorkerNode) -> None:
    assert outcome(site, "untroubled")[0] == [2, "skipped"]


def test_a_step_that_stops_leaves_what_was_done(site: Site, worker: WorkerNode) -> None:
    handle = site.start("stopped")
    site.status(handle, "failed")
    assert site.steps(handle) == {"done": "succeeded", "fails": "failed"}


def test_a_patient_step_is_tried_beyond_its_attempts(site: Site, worker: WorkerNode) -> None:
    assert outcome(site, "patient")[0] == 6


def test_a_workflow_may_fail_with_an_error_of_its_own(site: Site, worker: WorkerNode) -> None:
    handle = site.start("refusing", {"n": 7})
    with pytest.raises(ExecutionFailed, match="NotForUs: order 7 is not for us"):
        handle.result(30)


def resident(pid: int) -> int:
    """Bytes of memory that a process has used at most."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(fields["VmHWM"].split()[0]) * 1024


def test_a_loop_over_ten_thousand_items_joins_once_and_keeps_memory_small(site: Site, worker: WorkerNode) -> None:
    """Twenty megabytes of results, each far below the limit that all of them together would pass."""
    count, size = 10_000, 2_000
    outcome(site, "many", {"count": 100, "size": 10})
    before = {pid: resident(pid) for pid in worker.children()}
    handle = site.start("many", {"count": count, "size": size})
    assert handle.result(120) == {"count": count, "in_order": True, "bytes": count * size}
    assert [event["path"] for event in site.events(handle, "step_ready")].count("loop") == 2
    settled_once(site, handle)
    grown = [resident(pid) - before.get(pid, 0) for pid in worker.children()]
    assert max(grown) < 100 * 2**20, grown


def test_the_lanes_of_a_loop_are_a_chord_whose_body_is_the_loop(site: Site, worker: WorkerNode) -> None:
    with site.traffic() as traffic:
        handle = site.start("side-by-side", {"items": list(range(9))})
        handle.result(30)
        settled_once(site, handle)
        messages = traffic.segments(handle.id)
    lanes = [message for message in messages if message.args[2].startswith("loop[")]
    assert sorted(message.args[2] for message in lanes) == [f"loop[{index}].first" for index in (0, 2, 4, 6)]
    assert all(message.chord_body == "loop" for message in lanes)
    # The loop is published when it starts, and again by whichever lane ends last; what follows it is taken in place.
    assert [message.args[2] for message in messages if message not in lanes] == ["loop", "loop"]
