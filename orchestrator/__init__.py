"""Durable workflows for Celery.

Authors write definitions with `workflow` or `machine`, `step` and the other node functions, and functions with
`@activity`; applications start them through an `Orchestrator`. Importing this does no I/O.
"""

from orchestrator.activities.context import StepContext
from orchestrator.activities.current_step import current_step
from orchestrator.activities.registry import activity
from orchestrator.application import Orchestrator
from orchestrator.authoring.builder import machine, transition, workflow
from orchestrator.authoring.shapes import (
    block,
    case,
    choice,
    delay,
    each,
    emit,
    fail,
    repeat,
    subworkflow,
    task,
    wait,
    when,
)
from orchestrator.authoring.steps import compensation, handle, node, parallel, sequence, step
from orchestrator.authoring.workflow import Workflow
from orchestrator.config import Settings
from orchestrator.engine.handle import ExecutionHandle
from orchestrator.errors import (
    ActivityError,
    AttemptCancelled,
    AttemptFenced,
    AttemptInProgress,
    AttemptInterrupted,
    AttemptTimedOut,
    BusinessError,
    CancelledFailure,
    ControlRefused,
    DeadlineError,
    DefinitionConflict,
    DefinitionError,
    ExecutionFailed,
    ExecutionNotFound,
    IdempotencyConflict,
    InvalidInput,
    OrchestratorError,
    ResultPurged,
    ResultTimeout,
    SignalRefused,
    SystemFailure,
    TransientError,
    UnknownDefinition,
)
from orchestrator.ledger.attempts import AttemptRecord
from orchestrator.model.definition import Definition
from orchestrator.model.policy import ErrorRule, RetryPolicy
from orchestrator.model.state import ExecutionStatus, StepStatus
from orchestrator.runtime.idempotent import idempotent

__all__ = [
    "ActivityError",
    "AttemptCancelled",
    "AttemptFenced",
    "AttemptInProgress",
    "AttemptInterrupted",
    "AttemptRecord",
    "AttemptTimedOut",
    "BusinessError",
    "CancelledFailure",
    "ControlRefused",
    "DeadlineError",
    "Definition",
    "DefinitionConflict",
    "DefinitionError",
    "ErrorRule",
    "ExecutionFailed",
    "ExecutionHandle",
    "ExecutionNotFound",
    "ExecutionStatus",
    "IdempotencyConflict",
    "InvalidInput",
    "Orchestrator",
    "OrchestratorError",
    "ResultPurged",
    "ResultTimeout",
    "RetryPolicy",
    "Settings",
    "SignalRefused",
    "StepContext",
    "StepStatus",
    "SystemFailure",
    "TransientError",
    "UnknownDefinition",
    "Workflow",
    "activity",
    "block",
    "case",
    "choice",
    "compensation",
    "current_step",
    "delay",
    "each",
    "emit",
    "fail",
    "handle",
    "idempotent",
    "machine",
    "node",
    "parallel",
    "repeat",
    "sequence",
    "step",
    "subworkflow",
    "task",
    "transition",
    "wait",
    "when",
    "workflow",
]
