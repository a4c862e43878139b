"""canvas(plan): Celery's own chains and chords. The only importer of celery.canvas.

A message carries ids only: execution, definition, and the path at the segment's head. So it has the same size however
large the workflow and its data.
"""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery
from celery.canvas import Signature, chain, chord

from orchestrator.compiler.plan import Chain, Plan, Segment
from orchestrator.dispatch.own_task import OwnTask, StepRef

#: The Celery task that runs a segment.
SEGMENT_TASK = "orchestrator.segment"
#: Between the ids of a bundle's executions (dispatch/bundle.py).
SEPARATOR = ","


def canvas(app: Celery, plan: Plan, execution_ids: Sequence[str], definition_id: str) -> list[Signature | OwnTask]:
    """One signature, chain or chord for each part of a plan; of a task of the application's own, its message."""
    executions = SEPARATOR.join(execution_ids)

    def signature(segment: Segment) -> Signature:
        return app.signature(
            SEGMENT_TASK, args=(executions, definition_id, segment.head), immutable=True, queue=segment.queue
        )

    found: list[Signature | OwnTask] = []
    for part in plan.parts:
        if isinstance(part, Chain) and (task := part.segments[0].task) is not None:
            queue, path = part.segments[0].queue, part.segments[0].head
            steps = [StepRef(execution_id=each, definition_id=definition_id, path=path) for each in execution_ids]
            found.extend(OwnTask(task=task, queue=queue, step=step) for step in steps)
        elif isinstance(part, Chain):
            links = [signature(segment) for segment in part.segments]
            found.append(links[0] if len(links) == 1 else chain(*links, app=app))
        else:
            header = [signature(segment) for segment in part.header]
            found.append(chord(header, signature(part.body), app=app))
    return found


def is_chord(part: Signature) -> bool:
    """Whether a rendered part is a chord."""
    return isinstance(part, chord)


def label(name: str, paths: tuple[str, ...]) -> str:
    """What a segment is called in Flower and logs: `order-fulfilment: validate > reserve`."""
    shown = (
        " > ".join(paths) if len(paths) <= 4 else f"{paths[0]} > {paths[1]} > ... > {paths[-1]} ({len(paths)} steps)"
    )
    return f"{name}: {shown}"[:200]
