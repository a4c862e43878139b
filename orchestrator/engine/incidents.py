"""Which incident a failure belongs to: its kind, its fingerprint, and what people are told. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from orchestrator.compiler.graph import Graph
from orchestrator.engine.phrases import code
from orchestrator.errors import DefinitionConflict
from orchestrator.ledger.incidents import Incident
from orchestrator.model.fingerprint import blanked, fingerprint, without_numbers
from orchestrator.model.identity import undone_path

#: Errors that say that the worker's code lacks something.
UNKNOWN: Final = frozenset({"UnknownActivity", "UnknownDefinition"})
#: Characters of a message in a title.
_LONGEST: Final = 120

RETRIES_EXHAUSTED: Final = "retries_exhausted"
COMPENSATION_FAILED: Final = "compensation_failed"
QUEUE_WITHOUT_CONSUMER: Final = "queue_without_consumer"
UNKNOWN_ON_WORKERS: Final = "unknown_on_workers"
DRIFT: Final = "drift"
RESTORED: Final = "restored"

KINDS: Final = (RETRIES_EXHAUSTED, COMPENSATION_FAILED, QUEUE_WITHOUT_CONSUMER, UNKNOWN_ON_WORKERS, DRIFT, RESTORED)


def of_failure(row: Mapping[str, Any], graph: Graph) -> Incident:
    """The incident of an execution that ended unluckily, or of an attempt that no worker could make.

    Args:
        row: tenant, definition_name, path (empty for the execution as a whole) and error; status of the execution.
    """
    error: Mapping[str, Any] = row["error"] or {}
    name, message = str(error.get("name", "Error")), str(error.get("message", ""))
    definition, path = row["definition_name"], without_numbers(row["path"])
    if name in UNKNOWN and row.get("status") != "compensation_failed":
        return _unknown(row, graph, name, message)
    kind = COMPENSATION_FAILED if row.get("status") == "compensation_failed" else RETRIES_EXHAUSTED
    category, alike = str(error.get("category", "")), blanked(message)
    undone = undone_path(path)
    where = f", {'undo of ' if undone is not None else ''}{code(undone or path)}" if path else ""
    return Incident(
        tenant=row["tenant"],
        kind=kind,
        fingerprint=fingerprint(definition, path, category, name, alike),
        title=f"{definition}{where}: {name}: {_short(alike)}",
        detail={"definition": definition, "path": path, "category": category, "error": name, "message": message},
    )


def _unknown(row: Mapping[str, Any], graph: Graph, name: str, message: str) -> Incident:
    """One for all steps that want the same activity or workflow."""
    wanted = _wanted(graph, row["path"])
    what = "activity" if name == "UnknownActivity" else "workflow"
    return Incident(
        tenant=row["tenant"],
        kind=UNKNOWN_ON_WORKERS,
        fingerprint=fingerprint(what, wanted),
        title=f"workers do not know the {what} {code(wanted)}",
        detail={
            "definition": row["definition_name"],
            "path": row["path"],
            what: wanted,
            "error": name,
            "message": message,
        },
    )


def _wanted(graph: Graph, path: str) -> str:
    """The activity or workflow that the step or compensation at a path names."""
    try:
        called = graph.call(path)
    except LookupError:
        return path
    spec: Mapping[str, Any] = getattr(called, "spec", {})
    return str(called.activity or spec.get("workflow") or path)


def of_queue(tenant: str, queue: str) -> Incident:
    """The incident of a queue that no living worker consumes."""
    return Incident(
        tenant=tenant,
        kind=QUEUE_WITHOUT_CONSUMER,
        fingerprint=fingerprint(queue),
        title=f"no living worker consumes queue {code(queue)}",
        detail={"queue": queue},
    )


def of_drift(tenant: str, conflict: DefinitionConflict, node: str) -> Incident:
    """The incident of a worker that has loaded other content than what is published under the same version."""
    name, version = conflict.name, conflict.version
    return Incident(
        tenant=tenant,
        kind=DRIFT,
        fingerprint=drift_fingerprint(name, version),
        title=f"{name} v{version} is published with other content than a worker has loaded",
        detail={"definition": name, "version": version, "diff": conflict.diff, "node": node},
    )


def of_restore(tenant: str, definition: str, steps: Sequence[str]) -> Incident:
    """The incident of executions that wait since the ledger was restored.

    Args:
        steps: paths of what may have been done since the backup.
    """
    told = _short(", ".join(map(code, steps)))
    return Incident(
        tenant=tenant,
        kind=RESTORED,
        fingerprint=fingerprint(definition),
        title=f"{definition}: restored from a backup; {told} may have been done since",
        detail={"definition": definition, "steps": list(steps)},
    )


def drift_fingerprint(name: str, version: int) -> str:
    """The fingerprint of the drift of a definition's version."""
    return fingerprint(name, str(version))


def command(kind: str, detail: Mapping[str, Any], execution_id: str | None) -> str | None:
    """The command line that helps with an incident of a kind; None when there is none without an execution."""
    if kind == QUEUE_WITHOUT_CONSUMER:
        return f"orchestrator worker --queues {detail.get('queue')}"
    if kind == DRIFT:
        return "orchestrator definitions"
    if execution_id is None:
        return None
    helps = {COMPENSATION_FAILED: "compensate", RESTORED: "resume"}
    return f"orchestrator {helps.get(kind, 'retry')} {execution_id}"


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
