"""Which statuses may follow which, and which rows cannot be: the database's word and the statements' own text."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Final

import pytest
from sqlalchemy import TextClause
from sqlalchemy.exc import IntegrityError

import orchestrator.ledger
from ledger.driver import Begun, Ledger
from orchestrator.ledger.statement import Statement
from orchestrator.model.state import EXECUTION_TRANSITIONS, OPEN_STEPS, STEP_TRANSITIONS, ExecutionStatus, StepStatus

S, X = StepStatus, ExecutionStatus
FORWARD_OPEN: Final = OPEN_STEPS - {S.RUNNING}
DRAINING: Final = frozenset({X.FAILING, X.CANCELLING, X.TIMING_OUT})

#: Statement -> what it makes of a step's status.
STEP_WRITES: Final = {
    "claims.CLAIM": ({S.READY}, {S.RUNNING}),
    "claims.CLAIM_UNDO": ({S.READY}, {S.RUNNING}),
    "claims.SETTLE_AND_CLAIM": ({S.RUNNING}, {S.SUCCEEDED}),
    "claims.SETTLE_AND_SPREAD": ({S.RUNNING}, {S.SUCCEEDED}),
    "claims.SETTLE_AND_FINISH": ({S.RUNNING}, {S.SUCCEEDED}),
    "failures.SETTLE_RETRY": ({S.RUNNING}, {S.RETRYING, S.FAILED}),
    "failures.SETTLE_FAILED": ({S.RUNNING}, {S.FAILED, S.TIMED_OUT}),
    "failures.SETTLE_CAUGHT": ({S.RUNNING}, {S.FAILED, S.TIMED_OUT}),
    "failures.SETTLE_BREAKING": ({S.RUNNING}, {S.FAILED, S.TIMED_OUT}),
    "undos.BEGIN_PART": ({S.RUNNING}, {S.WAITING, S.CANCELLED}),
    "undos.SETTLE_UNDO": ({S.RUNNING}, {S.SUCCEEDED, S.FAILED}),
    "undos.SETTLE_UNDO, the next": ({S.BLOCKED}, {S.READY}),
    "undos.SETTLE_UNDO, the others": ({S.BLOCKED}, {S.CANCELLED}),
    "parks.PARK": ({S.RUNNING}, {S.WAITING, S.CANCELLED}),
    "parks.WAKE_FOR_BODY": ({S.WAITING}, {S.READY}),
    "signals.TAKE": ({S.WAITING}, {S.READY}),
    "children.WAKE": ({S.WAITING}, {S.READY}),
    "halts.DRAIN": (FORWARD_OPEN, {S.CANCELLED}),
    "joins.JOIN": ({S.BLOCKED}, {S.READY, S.SKIPPED}),
    "joins.CANCEL_LOSERS": (OPEN_STEPS, {S.CANCELLED}),
    "controls.COMPLETE": (FORWARD_OPEN - {S.BLOCKED}, {S.SUCCEEDED}),
    "timers.DUE": ({S.RETRYING, S.WAITING}, {S.READY}),
    "owners.RELEASE_OWNER": ({S.RUNNING}, {S.READY, S.CANCELLED}),
    "owners.RELEASE_GONE": ({S.RUNNING}, {S.READY, S.CANCELLED}),
    "owners.RELEASE_LOST_CHILDREN": ({S.RUNNING}, {S.READY, S.CANCELLED}),
}

#: Statement -> what it makes of an execution's status.
EXECUTION_WRITES: Final = {
    "claims.SETTLE_AND_FINISH": ({X.RUNNING}, {X.SUCCEEDED}),
    "failures.SETTLE_FAILED": ({X.RUNNING}, {X.FAILING}),
    "undos.SETTLE_UNDO": ({X.COMPENSATING}, {X.COMPENSATED, X.COMPENSATION_FAILED}),
    "executions.FINISH": ({X.RUNNING}, {X.SUCCEEDED}),
    "executions.FLAG_FAILING": ({X.RUNNING}, {X.FAILING}),
    "halts.BEGIN_UNDO": (DRAINING | {X.SUCCEEDED, X.FAILED, X.CANCELLED, X.TIMED_OUT}, {X.COMPENSATING}),
    "controls.CANCEL": ({X.CREATED, X.RUNNING, X.PAUSING, X.PAUSED}, {X.CANCELLING}),
    "children.CANCEL_ORPHANS": ({X.CREATED, X.RUNNING, X.PAUSING, X.PAUSED}, {X.CANCELLING}),
    "controls.PAUSE": ({X.RUNNING}, {X.PAUSING}),
    "controls.PAUSE_WITH_PARENT": ({X.RUNNING}, {X.PAUSING}),
    "controls.PAUSED": ({X.PAUSING}, {X.PAUSED}),
    "controls.RESUME": ({X.PAUSING, X.PAUSED}, {X.RUNNING, X.FAILING}),
    "reopens.RETRY": ({X.FAILED, X.CANCELLED, X.TIMED_OUT}, {X.RUNNING}),
    "reopens.UNDO_AGAIN": ({X.COMPENSATION_FAILED}, {X.COMPENSATING}),
    "restores.BEGIN": ({X.CREATED}, {X.RUNNING}),
    "restores.HOLD": ({X.RUNNING}, {X.PAUSING}),
    "restores.REST": ({X.PAUSING}, {X.PAUSED}),
    "timers.DUE": ({X.CREATED}, {X.RUNNING}),
    "timers.EXPIRE": ({X.RUNNING}, {X.TIMING_OUT}),
}

#: An assignment to a status; comparisons follow other words.
ASSIGNMENT: Final = re.compile(r"(?:SET|,)\s+status = (CASE\b.*?\bEND\b|'\w+'|:\w+)", re.DOTALL)

#: `halts.END` makes of each flag its own end.
ENDS: Final = {X.FAILING: X.FAILED, X.CANCELLING: X.CANCELLED, X.TIMING_OUT: X.TIMED_OUT}


def statements() -> dict[str, str]:
    """Text of every statement among the ledger's module constants, by module and name."""
    found = {}
    for module in pkgutil.iter_modules(orchestrator.ledger.__path__):
        for name, value in vars(importlib.import_module(f"orchestrator.ledger.{module.name}")).items():
            if isinstance(value, TextClause | Statement) and not name.startswith("_"):
                found[f"{module.name}.{name}"] = value.text
    return found


def writers(table: str) -> dict[str, list[str]]:
    """Statement -> the texts of its assignments to a table's status."""
    update = re.compile(rf"UPDATE orchestrator\.{table}\b(?P<set>.*?)\bRETURNING\b", re.DOTALL)
    return {
        name: sets
        for name, text in statements().items()
        if (sets := [m["set"] for m in update.finditer(text) if ASSIGNMENT.search(m["set"])])
    }


def test_the_tables_here_name_every_statement_that_writes_a_status() -> None:
    assert set(writers("step")) == {name.partition(",")[0] for name in STEP_WRITES}
    assert set(writers("execution")) == {*EXECUTION_WRITES, "halts.END"}
    assert len(writers("step")["undos.SETTLE_UNDO"]) == 3


@pytest.mark.parametrize("name", STEP_WRITES)
def test_a_step_is_given_only_statuses_that_may_follow(name: str) -> None:
    before, after = STEP_WRITES[name]
    for status in before:
        assert after <= STEP_TRANSITIONS[status], status


@pytest.mark.parametrize("name", EXECUTION_WRITES)
def test_an_execution_is_given_only_statuses_that_may_follow(name: str) -> None:
    before, after = EXECUTION_WRITES[name]
    for status in before:
        assert after <= EXECUTION_TRANSITIONS[status], status


def test_each_flag_may_be_followed_by_its_end() -> None:
    text = statements()["halts.END"]
    for flag, end in ENDS.items():
        assert end in EXECUTION_TRANSITIONS[flag]
        assert re.search(rf"WHEN '{flag}' THEN '{end}'|ELSE '{end}'", text), (flag, end)


def words(assigned: str) -> list[str]:
    """The statuses that an assigned expression may give."""
    return re.findall(r"(?:THEN|ELSE|^) ?'(\w+)'", assigned)


def test_the_statements_write_the_statuses_that_the_tables_here_say() -> None:
    known = {*StepStatus, *ExecutionStatus}
    for table, expected in (("step", STEP_WRITES), ("execution", EXECUTION_WRITES)):
        for name, sets in writers(table).items():
            declared = {
                status for key, (_, after) in expected.items() if key.partition(",")[0] == name for status in after
            }
            written = {word for a in sets for value in ASSIGNMENT.findall(a) for word in words(value)}
            assert written <= known, name
            if name != "halts.END":
                assert written <= declared, name


def guard_of(name: str) -> str:
    """The condition of the UPDATE by which a statement makes steps ready."""
    found = re.search(
        r"UPDATE orchestrator\.step\b[^;]*?'ready'[^;]*?\bWHERE\b(?P<guard>[^;]*?)\bRETURNING\b", statements()[name]
    )
    assert found, name
    return re.sub(r"FROM orchestrator\.execution[^)]*", "", found["guard"])


def test_only_a_release_turns_a_running_step_ready() -> None:
    makers = {name for name, (before, after) in STEP_WRITES.items() if S.RUNNING in before and S.READY in after}
    assert makers == {"owners.RELEASE_OWNER", "owners.RELEASE_GONE", "owners.RELEASE_LOST_CHILDREN"}
    for name, sets in writers("step").items():
        written = [value for assignment in sets for value in ASSIGNMENT.findall(assignment)]
        if any("'ready'" in value for value in written) and name not in makers:
            # Not of the step of a child that has lost (ledger/stragglers.py), which is `l` there.
            guards = re.findall(r"(?<!\bl\.)status = '(\w+)'|status IN \('(retrying)', '(waiting)'\)", guard_of(name))
            before, _ = STEP_WRITES.get(f"{name}, the next", STEP_WRITES[name])
            assert before == {found for guard in guards for found in guard if found}, f"{name} says so of {guards}"


def test_every_settle_matches_the_fencing_token() -> None:
    token = re.compile(r"status = 'running' AND (s\.)?attempt = :attempt AND (s\.)?owner = :owner")
    settles = {name: text for name, text in statements().items() if ".SETTLE_" in name or name == "parks.PARK"}
    assert len(settles) == 9
    assert [name for name, text in settles.items() if not token.search(" ".join(text.split()))] == []


def test_the_watch_on_these_tests_refuses_what_may_not_follow(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    for change in (
        "UPDATE orchestrator.step SET status = 'blocked'",
        "UPDATE orchestrator.step SET attempt = attempt - 1",
        "UPDATE orchestrator.execution SET status = 'created'",
    ):
        with pytest.raises(Exception, match=r"unlawful|went back|not_negative"):
            ledger.sql(f"{change} WHERE {'id' if '.execution' in change else 'execution_id'} = :e", e=begun.id)


#: Constraint -> changes of a ready step that it refuses.
STEP_CHECKS: Final = {
    "step_status_known": ["status = 'done'"],
    "step_running_iff_owned": ["status = 'running'", "owner = 'boot.1'"],
    "step_settled_iff_settled_at": ["status = 'cancelled'", "settled_at = now()", "status = 'skipped'"],
    "step_ready_has_xid": ["ready_xid = NULL"],
    "step_retrying_has_due_at": ["status = 'retrying'"],
}
#: Constraint -> changes of a running execution that it refuses.
EXECUTION_CHECKS: Final = {
    "execution_status_known": ["status = 'done'"],
    "execution_final_iff_settled_at": ["status = 'succeeded'", "settled_at = now()"],
    "execution_idempotency_key_not_empty": ["idempotency_key = ''"],
    "execution_definition": ["definition_id = gen_random_uuid()"],
    "execution_parent_has_path": ["parent_id = gen_random_uuid()", "parent_path = 'child'"],
}
#: Constraint -> changes of a running idempotency record that it refuses.
RECORD_CHECKS: Final = {
    "idempotency_record_status_known": ["status = 'failed', owner = NULL"],
    "idempotency_record_running_iff_owned": ["owner = NULL", "status = 'ready'"],
    "idempotency_record_settled_iff_succeeded": ["status = 'succeeded', owner = NULL", "settled_at = now()"],
}
DEFINITION_CHECKS: Final = {
    "definition_status_known": ["status = 'gone'"],
    "definition_version_positive": ["version = 0"],
    "definition_version_unique": ["version = 1"],
}


@pytest.fixture(scope="module")
def impossible(ledger: Ledger) -> Begun:
    """An execution, an idempotency record and two versions of a definition, none of which may be changed so."""
    ledger.sql(
        "INSERT INTO orchestrator.idempotency_record (tenant, scope, key, status, input_hash, owner) "
        "VALUES ('default', 'task', 'key', 'running', 'hash', 'boot.1')"
    )
    ledger.sql(
        "INSERT INTO orchestrator.definition (id, tenant, name, version, spec, checksum) "
        "SELECT gen_random_uuid(), 'default', 'impossible', version, '{}', '' FROM generate_series(1, 2) AS version"
    )
    return ledger.start({"one": ()})


@pytest.mark.parametrize(
    ("table", "constraint", "change"),
    [
        (table, constraint, change)
        for table, checks in (
            ("step", STEP_CHECKS),
            ("execution", EXECUTION_CHECKS),
            ("idempotency_record", RECORD_CHECKS),
            ("definition", DEFINITION_CHECKS),
        )
        for constraint, changes in checks.items()
        for change in changes
    ],
)
def test_a_row_that_cannot_be_is_refused_by_its_constraint(
    ledger: Ledger, impossible: Begun, table: str, constraint: str, change: str
) -> None:
    which = {
        "step": "execution_id = :e",
        "execution": "id = :e",
        "idempotency_record": "key = 'key' AND CAST(:e AS text) IS NOT NULL",
        "definition": "name = 'impossible' AND version = 2 AND CAST(:e AS text) IS NOT NULL",
    }[table]
    with pytest.raises(IntegrityError) as refused:
        ledger.sql(f"UPDATE orchestrator.{table} SET {change} WHERE {which}", e=impossible.id)
    assert constraint in str(refused.value.orig)
