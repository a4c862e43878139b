from __future__ import annotations

import dataclasses
import logging

import pytest
from sqlalchemy import create_engine, text

from orchestrator.activities.context import StepContext
from orchestrator.errors import ConfigurationError

CONTEXT = StepContext(
    tenant="acme",
    execution_id="0190",
    definition="order",
    version=3,
    path="charge",
    attempt=2,
    idempotency_key="0190:charge",
    correlation_id="req-1",
    labels={"region": "eu"},
)


def test_a_transactional_activity_writes_through_the_connection_it_is_given() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        context = dataclasses.replace(CONTEXT, transaction=connection)
        assert context.connection.execute(text("select 1")).scalar_one() == 1
    engine.dispose()


def test_other_activities_have_no_connection_and_are_told_how_to_get_one() -> None:
    with pytest.raises(ConfigurationError, match=r"step charge.*@activity\(transactional=True\)"):
        _ = CONTEXT.connection


def test_log_records_carry_the_steps_facts_beside_the_callers_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "orchestrator.activity"):
        CONTEXT.log.info("card charged", extra={"amount": 12, "attempt": 99})
    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("orchestrator.activity", "card charged")
    facts = {key: record.__dict__[key] for key in ("execution_id", "step_path", "attempt", "correlation_id", "amount")}
    assert facts == {
        "execution_id": "0190",
        "step_path": "charge",
        "attempt": 2,
        "correlation_id": "req-1",
        "amount": 12,
    }


def test_a_context_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONTEXT.attempt = 3  # type: ignore[misc]
