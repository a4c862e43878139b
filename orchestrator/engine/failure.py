"""How a failed attempt is settled: another one later, or the end of the step and the turn of its execution.

Workers call it for what went wrong under their hands, the deadline sweep for attempts that took too long; the claim's
token lets one of them.
"""

from __future__ import annotations

import json

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.ledger import claims
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.identity import undone_path
from orchestrator.model.outcome import Failure
from orchestrator.model.state import ExecutionStatus, StepStatus

#: Errors of the definition or the code, which another attempt would only repeat.
FINAL_ERRORS = frozenset({"ExpressionError", "InvalidInput", "PayloadError", "ConfigurationError"})


#: What a failure makes of a step or compensation.
FAILED = frozenset({StepStatus.RETRYING, StepStatus.FAILED})


def settle_failure(connection: Connection, graph: Graph, held: Claim, failure: Failure) -> Settled | None:
    """Record a failed attempt by the step's retry policy.

    Unless another attempt follows (status retrying), the caller takes the execution up with `advance`.

    Returns:
        None when the claim was lost and nothing was written.
    """
    undone = undone_path(held.path)
    policy, failures = graph.retry(held.path), held.failures + 1
    error = json.dumps(failure.as_data())
    if failure.name not in FINAL_ERRORS and policy.retries(failures, failure.category, failure.name):
        want = ExecutionStatus.RUNNING if undone is None else ExecutionStatus.COMPENSATING
        return claims.settle_retry(connection, held, error, delay=policy.delay(failures), want=want)
    if undone is None:
        return claims.settle_failed(connection, held, error, outcome=StepStatus.FAILED)
    return claims.settle_undo(connection, held, outcome=StepStatus.FAILED, output=None, error=error)
