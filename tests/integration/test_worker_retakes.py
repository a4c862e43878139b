"""Executions taken up again after ends that came at awkward moments: nothing is left out, nothing is done twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Site
from nodes.waiting import eventually

from orchestrator import ControlRefused, ExecutionHandle

pytest_plugins = ("nodes.fixtures",)

ANN: dict[str, Any] = {"actor": "ann", "reason": "a test"}


def calls(site: Site, handle: ExecutionHandle) -> Counter[str]:
    """How often each step was called."""
    return Counter(call.path for call in site.witness.calls(handle.id))


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
