"""Rolling back on real worker pools."""

from __future__ import annotations

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Site, settled_once

from orchestrator import ExecutionHandle

pytest_plugins = ("nodes.fixtures",)


def undone(site: Site, handle: ExecutionHandle) -> list[str]:
    """The paths of the compensations that were called, in order."""
    return [call.path for call in site.witness.calls(handle.id) if call.path.startswith("undo:")]


def test_a_failed_execution_undoes_its_steps_in_reverse_order(site: Site, worker: WorkerNode) -> None:
    handle = site.start("rollback")
    site.status(handle, "compensated")
    assert undone(site, handle) == ["undo:three", "undo:two", "undo:one"]
    assert site.step(handle, "undo:one")["output"] == 1, "a compensation is given what its step returned"
    assert "never" not in site.steps(handle)
    settled_once(site, handle)


def test_a_long_rollback_goes_through_several_canvases(site: Site, worker: WorkerNode) -> None:
    handle = site.start("undo-long")
    site.status(handle, "compensated")
    assert undone(site, handle) == [f"undo:step_{n:02}" for n in reversed(range(20))]
    settled_once(site, handle)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Its outcome is unknown to the ledger: an attempt was made.
        ("undo-attempted", ["undo:fails", "undo:done"]),
        ("undo-completed", ["undo:done"]),
        # What it wrote was rolled back with its attempt.
        ("undo-transactional", ["undo:done"]),
    ],
)
def test_the_failed_step_itself_is_undone_unless_it_can_have_left_nothing(
    site: Site, worker: WorkerNode, name: str, expected: list[str]
) -> None:
    handle = site.start(name)
    site.status(handle, "compensated")
    assert undone(site, handle) == expected
    settled_once(site, handle)


def test_a_compensation_that_fails_is_tried_again(site: Site, worker: WorkerNode) -> None:
    handle = site.start("undo-retried")
    site.status(handle, "compensated")
    assert undone(site, handle) == ["undo:two", "undo:two", "undo:two", "undo:one"]
    assert site.step(handle, "undo:two")["attempt"] == 3
    settled_once(site, handle)


def test_a_compensation_that_fails_for_good_does_not_keep_the_rest_from_being_undone(
    site: Site, worker: WorkerNode
) -> None:
    handle = site.start("undo-fails")
    site.status(handle, "compensation_failed")
    assert undone(site, handle) == ["undo:three", "undo:two", "undo:one"]
    assert {path: status for path, status in site.steps(handle).items() if path.startswith("undo:")} == {
        "undo:three": "succeeded",
        "undo:two": "failed",
        "undo:one": "succeeded",
    }
    settled_once(site, handle)


def children(site: Site, handle: ExecutionHandle) -> list[ExecutionHandle]:
    """The executions that it has started, by the paths of their steps."""
    found = site.execute(
        "SELECT id FROM orchestrator.execution WHERE parent_id = :id ORDER BY parent_path", id=handle.id
    )
    return [site.orchestrator.execution(str(row[0])) for row in found]


def test_a_part_that_fails_is_undone_before_that_is_handled_and_only_once(site: Site, worker: WorkerNode) -> None:
    goes_on, goes_back = site.start("part-undone", {"attempts": 0}), site.start("part-undone", {"attempts": 1})
    site.status(goes_on, "succeeded")
    site.status(goes_back, "compensated")
    assert undone(site, goes_on) == []
    assert undone(site, goes_back) == ["undo:behind", "undo:before"]
    for handle in (goes_on, goes_back):
        (part,) = children(site, handle)
        assert part.status() == "compensated"
        assert undone(site, part) == ["undo:rest[0].hotel", "undo:flight"]
        handled = site.witness.calls(handle.id, "apologise")[0]
        assert max(call.at for call in site.witness.calls(part.id)) < handled.at
        settled_once(site, handle)
        settled_once(site, part)


def test_each_part_of_a_loop_is_undone_by_itself(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parts-undone", {"attempts": [0, 1, 0]})
    site.status(handle, "succeeded")
    statuses = [part.status() for part in children(site, handle)]
    assert statuses == ["succeeded", "compensated", "succeeded"]
    settled_once(site, handle)


def test_the_rollback_waits_for_branches_that_still_run(site: Site, worker: WorkerNode) -> None:
    handle = site.start("undo-waits")
    site.call(handle, "slow")
    site.open(handle, "refusal")
    site.status(handle, "failing")
    assert undone(site, handle) == []
    site.open(handle)
    site.status(handle, "compensated")
    assert undone(site, handle) == ["undo:slow"]
    (ended,) = site.witness.calls(handle.id, "slow", "ended")
    (undo,) = site.witness.calls(handle.id, "undo:slow")
    assert undo.at > ended.at
    settled_once(site, handle)
