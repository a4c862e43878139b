"""How many executions share a message."""

from __future__ import annotations

import pytest

from orchestrator.compiler.compile import compile_plan
from orchestrator.compiler.graph import Graph
from orchestrator.compiler.plan import Plan
from orchestrator.dispatch.bundle import LIMIT, bundled
from orchestrator.model.definition import Definition, Step
from orchestrator.model.snapshot import Snapshot
from orchestrator.model.state import ExecutionStatus


def plan(*steps: Step) -> Plan:
    graph = Graph(Definition(name="w", steps=steps), "q")
    return compile_plan(graph, Snapshot(status=ExecutionStatus.RUNNING, ready=graph.roots))


LONE = plan(Step(id="a", activity="x"), Step(id="b", activity="x", after=("a",)))
CHAIN = plan(Step(id="a", activity="x"), Step(id="b", activity="x", after=("a",), queue="other"))
TWO_ROOTS = plan(Step(id="a", activity="x"), Step(id="b", activity="x"))


@pytest.mark.parametrize(("count", "messages"), [(0, 0), (1, 1), (63, 63), (64, 32), (300, 38), (830, 104)])
def test_a_bundle_holds_a_small_share_of_what_was_started_together(count: int, messages: int) -> None:
    ids = [str(number) for number in range(count)]
    found = bundled(ids, "d", LONE)
    assert len(found) == messages
    assert [found_id for planned in found for found_id in planned.execution_ids] == ids
    assert all(len(planned.execution_ids) <= LIMIT for planned in found)


@pytest.mark.parametrize("canvas", [CHAIN, TWO_ROOTS])
def test_a_canvas_that_goes_on_is_not_shared(canvas: Plan) -> None:
    assert len(bundled([str(number) for number in range(300)], "d", canvas)) == 300
