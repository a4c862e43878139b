"""Durable workflows for Celery.

Authors write definitions with `workflow`, `step`, `parallel`, `sequence` and `compensation`, and functions with
`@activity`; applications start them through an `Orchestrator`. Importing this does no I/O.
"""

from orchestrator.activities.context import StepContext
from orchestrator.activities.registry import activity
from orchestrator.application import Orchestrator
from orchestrator.authoring.builder import Workflow, compensation, parallel, sequence, step, workflow
from orchestrator.config import Settings
from orchestrator.engine.handle import ExecutionHandle
from orchestrator.errors import (
    ActivityError,
    AttemptInProgress,
    BusinessError,
    DefinitionConflict,
    DefinitionError,
    ExecutionFailed,
    IdempotencyConflict,
    InvalidInput,
    OrchestratorError,
    ResultTimeout,
    TransientError,
    UnknownDefinition,
)
from orchestrator.model.definition import Definition
from orchestrator.model.policy import RetryPolicy
from orchestrator.model.state import ExecutionStatus, StepStatus
from orchestrator.runtime.idempotent import idempotent

__all__ = [
    "ActivityError",
    "AttemptInProgress",
    "BusinessError",
    "Definition",
    "DefinitionConflict",
    "DefinitionError",
    "ExecutionFailed",
    "ExecutionHandle",
    "ExecutionStatus",
    "IdempotencyConflict",
    "InvalidInput",
    "Orchestrator",
    "OrchestratorError",
    "ResultTimeout",
    "RetryPolicy",
    "Settings",
    "StepContext",
    "StepStatus",
    "TransientError",
    "UnknownDefinition",
    "Workflow",
    "activity",
    "compensation",
    "idempotent",
    "parallel",
    "sequence",
    "step",
    "workflow",
]
