"""Several executions in one message, when very many are started at once.

A message costs as much as three to five steps. Where many executions begin with the same lone segment, a worker may as
well take a few of them back to back. How few: a bundle holds at most one in SPREAD of what was started together, so
that the last bundle to end keeps nobody waiting for long, and at most LIMIT, for the message's size. A worker that
takes longer than its segment budget gives the rest of its bundle back.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.compiler.plan import Chain, Plan
from orchestrator.dispatch.publish import Planned

LIMIT = 8
SPREAD = 32


def bundled(execution_ids: Sequence[str], definition_id: str, plan: Plan) -> list[Planned]:
    """The same plan for many executions, in as few messages as is fair."""
    size = min(LIMIT, max(1, len(execution_ids) // SPREAD)) if _is_lone_segment(plan) else 1
    return [
        Planned(execution_ids=tuple(execution_ids[begin : begin + size]), definition_id=definition_id, plan=plan)
        for begin in range(0, len(execution_ids), size)
    ]


def _is_lone_segment(plan: Plan) -> bool:
    """No chain or chord: a bundle has no canvas that could go on."""
    parts = plan.parts
    if len(parts) != 1 or not isinstance(parts[0], Chain):
        return False
    return len(parts[0].segments) == 1 and parts[0].segments[0].task is None
