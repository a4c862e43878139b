"""The end of an execution: its output, and the statement that ends it."""

from __future__ import annotations

import json

from sqlalchemy import Connection

from orchestrator.authoring.schema import validate
from orchestrator.compiler.graph import Graph
from orchestrator.engine.scope import About, Scope
from orchestrator.errors import ExpressionError, InvalidInput, PayloadError
from orchestrator.ledger import executions
from orchestrator.model.outcome import Failure
from orchestrator.model.payload import encode


def result(graph: Graph, scope: Scope, limit: int) -> str:
    """The execution's output as JSON text.

    Raises:
        ExpressionError, InvalidInput, PayloadError: it cannot be computed, or does not fit its schema.
    """
    value = scope.value(graph.output)
    if graph.definition.output_schema is not None:
        validate(value, graph.definition.output_schema, f"output of {graph.name}")
    return encode(value, limit=limit, what=f"output of {graph.name}")


def finish(connection: Connection, graph: Graph, execution_id: str, limit: int) -> bool:
    """End an execution that has no open step, reading what its output needs; False when that is not for us to do.

    An output that cannot be had fails the execution: True as well, with the flag set for the saga to take up.
    """
    # Asked first: the output of an execution that goes on may refer to what does not exist yet.
    if executions.unfinished(connection, execution_id):
        return False
    about = executions.about(connection, execution_id)
    if about is None:
        return False
    scope = scope_of(connection, graph, execution_id, about)
    try:
        return executions.finish(connection, execution_id, result(graph, scope, limit))
    except (ExpressionError, InvalidInput, PayloadError) as error:
        failure = Failure(category="system", name=type(error).__name__, message=str(error))
        return executions.flag_failing(connection, execution_id, json.dumps(failure.as_data()))


def scope_of(connection: Connection, graph: Graph, execution_id: str, about: executions.About) -> Scope:
    """The values of an execution, read as they are asked for."""
    own = About(execution_id=execution_id, input=about.input, correlation_id=about.correlation_id, labels=about.labels)
    return Scope(lambda statement, *args, **options: statement(connection, *args, **options), graph, own)
