"""What must hold after any fault, checked from outside: against what activities wrote, what clients were told, and the
ledger as any reader of its tables sees it. Nothing here calls the engine.

Each invariant gives its violations, in words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from math import inf
from typing import Any, TypeAlias

from fault_suite.evidence import LET_GO, SETTLING, Event, Evidence, Step
from fault_suite.workload import ENDS, JOINS, LOSERS, PARTS
from orchestrator.model.identity import undo_path, undone_path

Violations: TypeAlias = Iterator[str]
_GAVE_UP = ("step_released", "attempt_fenced", "step_timed_out", "step_cancelled", "step_retrying")
#: What only an attempt that has its step writes, or a sweep in its name and with its token. A step may be released or
#: cancelled by anybody.
_BY_HOLDER = ("step_succeeded", "step_failed", "step_timed_out", "step_retrying", "step_waiting")
#: Of a step that lost a race: nobody who lives is at work on it.
_OWNER_GONE = ("step_released", "attempt_lost")
_PUT_BACK = ("step_retrying", "step_waiting")


def check(evidence: Evidence) -> dict[str, list[str]]:
    """Every invariant with its violations; none has any if all is well."""
    return {name: list(invariant(evidence)) for name, invariant in INVARIANTS.items()}


def _final(evidence: Evidence) -> Violations:
    for answer in evidence.answers:
        if answer.kind != "started":
            continue
        found = evidence.executions.get(answer.execution)
        if found is None:
            yield f"{answer.definition} {answer.execution}: its start was acknowledged, and it is not there"
        elif found.status not in _FINAL:
            yield f"{answer.definition} {answer.execution} is {found.status}"


_FINAL = {"succeeded", "failed", "cancelled", "timed_out", "compensated", "compensation_failed"}


#: What counts as done: faults are no excuse for the others.
ENDED_WELL = {"succeeded", "compensated", "cancelled"}


def _ends(evidence: Evidence) -> Violations:
    """What is cancelled goes back, unless there was nothing yet to undo."""
    cancelled = {answer.execution for answer in evidence.answers if answer.kind == "cancelled"}
    for found in evidence.executions.values():
        wanted = ENDS[found.definition] - ({"succeeded"} if found.id in cancelled else set())
        if found.status in _FINAL and found.status not in wanted:
            yield f"{found.definition} {found.id} ended {found.status} ({found.error})"
        elif found.status == "cancelled" and (left := found.to_undo()):
            yield f"{found.definition} {found.id} ended cancelled, and {', '.join(left)} had succeeded"


def _nothing_open(evidence: Evidence) -> Violations:
    for found in evidence.executions.values():
        open_steps = [f"{path} {step.status}" for path, step in found.steps.items() if not _is_settled(step)]
        if open_steps:
            yield f"{found.definition} {found.id}, {found.status}: {', '.join(open_steps)}"
        elif found.status not in _FINAL:
            yield f"{found.definition} {found.id} is {found.status} without an open step"


def _is_settled(step: Step) -> bool:
    return f"step_{step.status}" in SETTLING


def _effects_once(evidence: Evidence) -> Violations:
    for found in evidence.executions.values():
        for (path, undo), times in Counter((effect.path, effect.undo) for effect in found.effects).items():
            if times > 1:
                yield f"{found.definition} {found.id}: {path}{' (undone)' if undo else ''} took effect {times} times"


def _effects_as_recorded(evidence: Evidence) -> Violations:
    for found in evidence.executions.values():
        made = {(effect.path, effect.undo) for effect in found.effects}
        recorded = set()
        for path, step in found.steps.items():
            if step.transactional and step.status == "succeeded":
                recorded.add((step.undoes or path, step.undoes is not None))
        for path, undo in made ^ recorded:
            what = "took effect and is not recorded" if (path, undo) in made else "is recorded and took no effect"
            yield f"{found.definition} {found.id}: {path}{' (undone)' if undo else ''} {what}"
        succeeded = defaultdict(set)
        for event in found.named("step_succeeded"):
            succeeded[event.path].add(event.attempt)
        for effect in found.effects:
            attempts = succeeded[undo_path(effect.path) if effect.undo else effect.path]
            if attempts and effect.attempt not in attempts:
                yield (
                    f"{found.definition} {found.id}: {effect.path}{' (undone)' if effect.undo else ''} took effect in "
                    f"attempt {effect.attempt} and is recorded of {', '.join(map(str, attempts))}"
                )


def _settled_once(evidence: Evidence) -> Violations:
    for found in evidence.executions.values():
        settled = Counter(event.path for event in found.events if event.type in SETTLING)
        for path, times in settled.items():
            if times > 1:
                yield f"{found.definition} {found.id}: {path} was settled {times} times"


def _fenced_settle(evidence: Evidence) -> Violations:
    """To be told of as fenced as well is wrong of a success only. What failed may have been failed by a sweep, with the
    owner's token, before the owner came to it; or a reply was lost, and when it was asked for, the step had gone on.
    """
    for found in evidence.executions.values():
        current: dict[str | None, int | None] = {}
        for event in found.events:
            if event.type == "step_started":
                current[event.path] = event.attempt
            elif event.type in {"step_released", "step_cancelled"}:
                current[event.path] = None
            elif event.type in _BY_HOLDER and event.attempt is not None:
                holder = current.get(event.path)
                fenced = {other.attempt for other in found.named("attempt_fenced", event.path)}
                if event.type == "step_succeeded" and event.attempt in fenced:
                    yield f"{found.definition} {found.id}: {event.path} is settled by attempt {event.attempt}, fenced"
                if holder != event.attempt:
                    yield (
                        f"{found.definition} {found.id}: attempt {event.attempt} of {event.path} wrote {event.type} "
                        f"when {f'attempt {holder}' if holder else 'nobody'} had it"
                    )
                elif event.type in _PUT_BACK:
                    current[event.path] = None


def _one_at_a_time(evidence: Evidence) -> Violations:
    for found in evidence.executions.values():
        current: dict[str | None, int | None] = {}
        for event in found.events:
            if event.type == "step_started":
                if (holder := current.get(event.path)) is not None:
                    yield (
                        f"{found.definition} {found.id}: attempt {event.attempt} of {event.path} started "
                        f"when attempt {holder} had it"
                    )
                current[event.path] = event.attempt
            elif event.type in SETTLING or event.type in LET_GO:
                current[event.path] = None


def _attempts_alone(evidence: Evidence) -> Violations:
    for found in evidence.executions.values():
        processes = defaultdict(set)
        for call in found.calls:
            if call.phase == "begun":
                processes[(call.path, call.attempt, call.undo)].add(call.pid)
        for (path, attempt, _), pids in processes.items():
            if len(pids) > 1:
                yield f"{found.definition} {found.id}: attempt {attempt} of {path} ran in {len(pids)} processes"


def _started_after_cancel(evidence: Evidence) -> Violations:
    """By the database's clock: when a client had been told, and when a statement claimed a step. The other order, a
    claim that was under way while the cancellation committed, is the drain's to halt or to wait for."""
    told = {answer.execution: answer.database_at for answer in evidence.answers if answer.kind == "cancelled"}
    for found in evidence.executions.values():
        for event in found.named("step_started"):
            undone = event.path in found.steps and found.steps[event.path].undoes is not None
            if found.id in told and not undone and event.at > told[found.id]:
                yield (
                    f"{found.definition} {found.id}: attempt {event.attempt} of {event.path} started "
                    f"{event.at - told[found.id]:.3f} s after the client was told of the cancellation"
                )


def _joins_once(evidence: Evidence) -> Violations:
    for found in evidence.executions.values():
        if found.definition not in JOINS:
            continue
        join, parts = JOINS[found.definition]
        ready = False
        for event in found.events:
            if event.path != join:
                continue
            if event.type == "step_ready" and ready:
                yield f"{found.definition} {found.id}: {join} became ready twice"
            ready = event.type == "step_ready" or (ready and event.type not in _GAVE_UP)
        begun = [call.at for call in found.calls if call.path == join and call.phase == "begun"]
        for part in parts:
            ended = [call.at for call in found.calls if call.path == part and call.phase == "ended"]
            if begun and (not ended or min(ended) > min(begun)):
                yield f"{found.definition} {found.id}: {join} began before {part} had ended"


def _undone_in_reverse(evidence: Evidence) -> Violations:
    for found in evidence.executions.values():
        done = [effect.path for effect in found.effects if not effect.undo]
        undone = [effect.path for effect in found.effects if effect.undo]
        if undone != [path for path in reversed(done) if path in undone]:
            yield f"{found.definition} {found.id}: {done} were undone as {undone}"
        inner, _ = PARTS.get(found.definition, ("", ""))
        part = [path for path in done if inner and path.startswith(inner)]
        if found.status not in _FINAL and not undone:
            # It is on its way still, and told of as such.
            continue
        if set(undone) != set(done if found.status == "compensated" else part):
            yield f"{found.definition} {found.id}: of {part or done} only {undone} were undone"


def _undone_once(evidence: Evidence) -> Violations:
    """Asked of the records, as a compensation may leave no effect. It may be called more than once: whoever called it
    may have died before it was settled."""
    for found in evidence.executions.values():
        inner, _ = PARTS.get(found.definition, (None, ""))
        for path in found.to_undo():
            undo = undo_path(path)
            rows = sum(step.undoes == path and step.status == "succeeded" for step in found.steps.values())
            settled = len(found.named("step_succeeded", undo))
            if rows > 1 or settled > 1:
                yield f"{found.definition} {found.id}: {path} was undone {max(rows, settled)} times"
            part = inner is not None and path.startswith(inner) and found.status in _FINAL
            if not part and found.status not in _WENT_BACK:
                continue
            if not rows or not settled:
                yield f"{found.definition} {found.id}: {path} had succeeded and was not undone"
            elif not any(call.path == undo and call.phase == "ended" for call in found.calls):
                yield f"{found.definition} {found.id}: {path} is recorded as undone, and nobody did it"


_WENT_BACK = {"compensated", "compensation_failed"}


def _undone_alone(evidence: Evidence) -> Violations:
    """Two things are right of an attempt whose owner was taken for dead, and only stood still or was cut off. It may be
    at work still. And it may begin late, as nothing asks the ledger between a claim and its call; but then it must have
    lost its claim before the first compensation was claimed. One that its own worker has put back begins no more.

    Who has lost a race has lost no more than that: it is waited for, unless it is told of as gone itself.
    """
    for found in evidence.executions.values():
        undos = [call for call in found.calls if call.undo and call.phase == "begun"]
        if not undos:
            continue
        first, taken = min(call.at for call in undos), found.taken()
        claimed = min((event.id for event in found.named("step_started") if _undoes(event)), default=0)
        given_up = {(event.path, event.attempt) for kind in _GAVE_UP for event in found.named(kind)}
        loser = LOSERS.get(found.definition) if evidence.losers_are_waited_for else None
        late = {attempt for attempt in given_up | taken.keys() if attempt[0] == loser}
        late -= {(event.path, event.attempt) for kind in _OWNER_GONE for event in found.named(kind)}
        given_up, taken = given_up - late, {attempt: at for attempt, at in taken.items() if attempt not in late}
        ended = {
            (call.path, call.attempt, call.pid): call.at
            for call in found.calls
            if call.phase == "ended" and not call.undo
        }
        inner, handler = PARTS.get(found.definition, ("", ""))
        # A compensation's late owner may begin it once more, when another has done it.
        last = max((call.at for call in undos if (call.path, call.attempt) not in taken), default=first)
        for call in found.calls:
            if call.path == handler and call.phase == "begun" and call.at < last:
                yield f"{found.definition} {found.id}: {handler} began before the part before it had gone back"
            if call.undo or call.phase != "begun" or not call.path.startswith(inner):
                continue
            attempt = (call.path, call.attempt)
            if call.at > first:
                if taken.get(attempt, inf) > claimed:
                    yield f"{found.definition} {found.id}: {call.path} began when compensations had begun"
            elif attempt not in given_up and ended.get((*attempt, call.pid), first) > first:
                yield f"{found.definition} {found.id}: {call.path} was at work when compensations had begun"


def _undoes(event: Event) -> bool:
    return event.path is not None and undone_path(event.path) is not None


def _keys_once(evidence: Evidence) -> Violations:
    told, kept = defaultdict(set), defaultdict(set)
    for answer in evidence.answers:
        if answer.kind == "started" and answer.key:
            told[answer.key].add(answer.execution)
    for found in evidence.executions.values():
        if found.key:
            kept[found.key].add(found.id)
    for name in told.keys() | kept.keys():
        everybody = told[name] | kept[name]
        if len(everybody) > 1:
            yield f"key {name} has the executions {', '.join(sorted(everybody))}"


def _ledger_agrees(evidence: Evidence) -> Violations:
    for claim, sample in evidence.claims.items():
        yield from (f"{claim}: {found}" for found in sample)


def _events_fold(evidence: Evidence) -> Violations:
    yield from evidence.differences


#: By name, in the order in which they are told.
INVARIANTS: dict[str, Callable[[Evidence], Violations]] = {
    "every acknowledged start reaches a final state": _final,
    "every execution ends as its definition says": _ends,
    "nothing is left open or claimed": _nothing_open,
    "no transactional effect twice": _effects_once,
    "effects and records are the same": _effects_as_recorded,
    "no step settled twice": _settled_once,
    "no settle by a fenced owner": _fenced_settle,
    "one attempt at a time has a step": _one_at_a_time,
    "no attempt in two processes": _attempts_alone,
    "no step started after a cancellation": _started_after_cancel,
    "joins fire once, after all their parts": _joins_once,
    "compensations in reverse order, all of them": _undone_in_reverse,
    "every step that goes back is undone once": _undone_once,
    "no compensation while a forward attempt lives": _undone_alone,
    "one execution for each idempotency key": _keys_once,
    "the ledger agrees with itself": _ledger_agrees,
    "events fold to rows": _events_fold,
}


def summary(found: dict[str, list[str]]) -> dict[str, Any]:
    """As JSON: the number of violations by invariant, and the first few in words."""
    return {name: {"violations": len(each), "sample": each[:5]} for name, each in found.items()}
