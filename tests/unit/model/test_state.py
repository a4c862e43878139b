"""States and what may follow them."""

from __future__ import annotations

from orchestrator.model import state
from orchestrator.model.state import ExecutionStatus, StepStatus


def test_every_state_says_what_may_follow() -> None:
    assert set(state.STEP_TRANSITIONS) == set(StepStatus)
    assert set(state.EXECUTION_TRANSITIONS) == set(ExecutionStatus)


def test_every_state_can_be_reached_and_every_open_one_left() -> None:
    followers = {after for found in state.STEP_TRANSITIONS.values() for after in found}
    assert followers | {StepStatus.BLOCKED, StepStatus.READY, StepStatus.WAITING} >= set(StepStatus)
    assert all(state.STEP_TRANSITIONS[status] for status in state.OPEN_STEPS)
    reached = {after for found in state.EXECUTION_TRANSITIONS.values() for after in found}
    assert reached | {ExecutionStatus.CREATED} == set(ExecutionStatus)


def test_an_execution_that_is_not_final_can_go_on() -> None:
    for status in set(ExecutionStatus) - state.FINAL_EXECUTIONS:
        assert state.EXECUTION_TRANSITIONS[status], status


def test_what_may_follow_is_asked_by_name() -> None:
    assert state.may_follow(ExecutionStatus.RUNNING, ExecutionStatus.FAILING)
    assert not state.may_follow(ExecutionStatus.SUCCEEDED, ExecutionStatus.RUNNING)
