"""What must hold of the order in which things happened, by the history and by the witness, whatever the definition."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from orchestrator.model.definition import Definition
from random_workflows import rules
from random_workflows.observation import Observation, Row
from random_workflows.places import container_of, prefix_of, step_at

SETTLING = frozenset(f"step_{status}" for status in ("succeeded", "failed", "skipped", "cancelled", "timed_out"))
#: What lets another attempt begin, with right.
AGAIN = frozenset({"step_retrying", "step_released"})


def problems(definition: Definition, seen: Observation) -> list[str]:
    """Everything that is out of order."""
    return [
        *_settled_once(seen),
        *_began_once(definition, seen),
        *_joins(definition, seen),
        *_order_of_calls(definition, seen),
        *_loops(definition, seen),
    ]


def _settled_once(seen: Observation) -> Iterator[str]:
    settled = Counter(event.path for event in seen.events if event.type in SETTLING)
    for path in {**seen.rows, **seen.undone}:
        if settled[path] != 1:
            yield f"{path} was settled {settled[path]} times"


def _began_once(definition: Definition, seen: Observation) -> Iterator[str]:
    """No attempt's activity begins twice, and none begins that the history does not know."""
    again = {(event.path, event.attempt) for event in seen.events if event.type in AGAIN}
    begun = Counter((call.path, call.attempt) for call in seen.calls if call.phase == "begun")
    for (path, attempt), times in begun.items():
        row = seen.rows.get(path) or seen.undone.get(path)
        if times > 1:
            yield f"attempt {attempt} of {path} began {times} times"
        if row is None or attempt > row.attempt:
            yield f"attempt {attempt} of {path} began, and the ledger does not know of it"
        elif attempt > 1 and (path, attempt - 1) not in again:
            yield f"attempt {attempt} of {path} began, and nothing says why another was needed"
    for path, row in seen.rows.items():
        if (
            step_at(definition, path).kind == "activity"
            and row.status == "succeeded"
            and (path, row.attempt) not in begun
        ):
            yield f"{path} succeeded by attempt {row.attempt}, which never began"


def _end_of(row: Row) -> rules.End:
    by_status = {"succeeded": None, "skipped": rules.SKIPPED}.get(row.status, rules.FAILED)
    return rules.End(by_status if row.exit is None else row.exit, row.status == "succeeded")


def _joins(definition: Definition, seen: Observation) -> Iterator[str]:
    """Each step is begun or skipped when, and only when, what came before says so."""
    settled = {event.path: event.id for event in seen.events if event.type in SETTLING}
    started: dict[str, int] = {}
    for event in seen.events:
        if event.type in {"step_started", "step_ready"} and event.path is not None:
            started.setdefault(event.path, event.id)
    for path, row in seen.rows.items():
        if row.status == "cancelled" and path not in started:
            continue
        moment = started.get(path, settled.get(path, 0))
        step = step_at(definition, path)
        prefix = prefix_of(path)
        ended = {
            parent: _end_of(seen.rows[prefix + parent])
            for parent in map(rules.parent_of, step.after)
            if settled.get(prefix + parent, moment) < moment and prefix + parent in seen.rows
        }
        fate = rules.fate(step, ended)
        must = {"skipped", "dead"} if row.status == "skipped" else {"ready", "unmet"}
        if fate not in must:
            yield f"{path} became {'skipped' if row.status == 'skipped' else 'ready'} after {ended}"
        if (around := container_of(path)) is not None and started.get(around[0], moment) >= moment:
            yield f"{path} began before {around[0]}"


def _order_of_calls(definition: Definition, seen: Observation) -> Iterator[str]:
    """An activity begins after those that its step needs have ended, by the clock."""
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    for call in seen.calls:
        if call.phase == "begun":
            begun[call.path] = min(call.at, begun.get(call.path, call.at))
        elif call.path in seen.rows:
            ended[call.path] = max(call.at, ended.get(call.path, 0))
    for path, at in begun.items():
        if path not in seen.rows:
            continue
        step = step_at(definition, path)
        for parent in {prefix_of(path) + rules.parent_of(edge) for edge in step.after}:
            row = seen.rows.get(parent)
            if row is None or row.status not in {"succeeded", "failed"} or step.join not in {"all", "settled"}:
                continue
            for earlier, end in ended.items():
                inner = earlier == parent or earlier.startswith(f"{parent}[")
                if inner and end > at and seen.rows[earlier].status in {"succeeded", "failed"}:
                    yield f"{path} began before {earlier} had ended"


def _loops(definition: Definition, seen: Observation) -> Iterator[str]:
    """No more iterations of a loop are under way at the same time than it allows."""
    spans: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for call in seen.calls:
        path = call.path
        if path not in seen.rows or seen.rows[path].status == "cancelled":
            continue
        while (around := container_of(path)) is not None:
            path, index = around
            spans[path][index].append(call.at)
    for path, iterations in spans.items():
        step = step_at(definition, path)
        most = {"each": step.spec.get("concurrency", 1)}.get(step.kind, 1)
        turns = sorted(
            (at, change) for times in iterations.values() for at, change in ((min(times), 1), (max(times), -1))
        )
        at_once = 0
        for _, change in turns:
            at_once += change
            if at_once > most:
                yield f"{path} had {at_once} iterations at once, and may have {most}"
                break
    indexes = {path: sorted(iterations) for path, iterations in spans.items()}
    for path, found in indexes.items():
        if step_at(definition, path).kind == "repeat" and any(
            max(spans[path][early]) > min(spans[path][late]) for early, late in pairwise(found)
        ):
            yield f"{path} did not go through its iterations in order"
