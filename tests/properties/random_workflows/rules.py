"""What the documentation says of edges, joins and failures, and nothing of how the engine does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.model.definition import Step

#: How a step ended, as edges see it, beside the exits that definitions name. None is plain success.
SKIPPED, FAILED = "skipped", "failed"
#: In the place of an exit: it has not ended, or never will.
PENDING = "pending"


@dataclass(frozen=True)
class End:
    """How a step has ended, as those after it see it."""

    exit: str | None
    #: Also of a step that has chosen an exit.
    succeeded: bool = False


def parent_of(edge: str) -> str:
    """The step that an edge comes from."""
    return edge.partition(":")[0]


def fate(step: Step, ends: Mapping[str, End]) -> str | None:
    """ready, unmet, skipped, dead (skipped for a failure), or None while that is open.

    Args:
        ends: how each parent has ended; those that have not are missing, or PENDING.
    """
    if not step.after:
        return "ready"
    live, failed, reached, pending = _tally(step, ends)
    if step.join == "all":
        found = "dead" if failed else "ready" if live else "skipped"
        return None if pending else found
    if step.join == "settled":
        found = "ready" if reached else "skipped"
        return None if pending else found
    need = 1 if step.join == "any" else int(step.join)
    if live + pending >= need:
        return "ready" if live >= need else None
    found = "unmet" if live + failed else "skipped"
    return None if pending and found == "skipped" else found


def _tally(step: Step, ends: Mapping[str, End]) -> tuple[int, int, int, int]:
    """How many edges are taken, have failed, come from a step that was not skipped, and are undecided."""
    live = failed = reached = pending = 0
    for edge in step.after:
        parent, _, wanted = edge.partition(":")
        end = ends.get(parent, End(PENDING))
        if end.exit == PENDING:
            pending += 1
            continue
        reached += end.exit != SKIPPED
        failed += end.exit == FAILED
        live += end.exit == wanted if wanted else end.succeeded or end.exit == "ok"
    return live, failed, reached, pending


def children_of(steps: Sequence[Step]) -> dict[str, set[str]]:
    """Step -> the steps directly after it."""
    return {
        step.id: {other.id for other in steps if any(parent_of(edge) == step.id for edge in other.after)}
        for step in steps
    }


def leading_only_to(targets: Iterable[str], children: Mapping[str, set[str]]) -> set[str]:
    """Steps of which every way on leads into one of the targets."""
    within = set(targets)
    found: set[str] = set()
    while True:
        more = {step for step, after in children.items() if step not in found and after and after <= found | within}
        if not more:
            return found
        found |= more


def tolerated(steps: Sequence[Step]) -> set[str]:
    """Steps whose failures joins bear."""
    return leading_only_to((step.id for step in steps if step.join != "all"), children_of(steps))


def losers(join: Step, steps: Sequence[Step]) -> set[str]:
    """Steps that are cancelled once a join with a number has been decided."""
    return set() if join.join in {"all", "settled"} else leading_only_to([join.id], children_of(steps))


def exit_of_failure(step: Step, category: str, name: str, *, is_tolerated: bool) -> str | None:
    """The exit by which a failed step ends; None when it does not bear its failure itself."""
    for catch in step.catch:
        if not catch.errors or category in catch.errors or name in catch.errors:
            return catch.exit
    if step.on_error == "continue":
        return "ok"
    return FAILED if is_tolerated and step.on_error == "compensate" else None


def surely_before(steps: Sequence[Step]) -> dict[str, frozenset[str]]:
    """Step -> those that have ended when it starts, whichever way was taken: not what only leads to a join that did
    without it."""
    before: dict[str, frozenset[str]] = {}
    for step in in_order(steps):
        ways = [before[parent] | {parent} for parent in {parent_of(edge) for edge in step.after}]
        waits = step.join in {"all", "settled"}
        found = frozenset[str]().union(*ways) if waits or not ways else frozenset.intersection(*ways)
        before[step.id] = found
    return before


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Parents before their children."""
    left, done = list(steps), set[str]()
    ordered = []
    while left:
        ready = [step for step in left if all(parent_of(edge) in done for edge in step.after)]
        ordered += ready
        done |= {step.id for step in ready}
        left = [step for step in left if step.id not in done]
    return ordered
