"""One fault, or several at random, under a load: strike, watch the rate come back, let everything end, and check."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from fault_suite import checker, evidence, postmortem, republished
from fault_suite.fault import Broken, Fault, Missed, Strike
from fault_suite.rates import Recovery, recovery
from fault_suite.stack import Stack

#: Seconds of steady load before a strike; what comes before is a cold start.
COLD, WARM = 1.0, 3.0
#: Seconds that are watched after a fault without a target.
UNASKED = 2.0
#: Seconds that everything has to end, once the load has ended.
DRAIN = 90.0
#: Seconds that a broken engine has; what it leaves behind is left for good.
MUTANT_DRAIN = 15.0
#: Seconds without a strike, at least and at most, in a mixed run.
PAUSES = (0.5, 3.0)
#: Executions that a minute of faults at random must have; it lasts until it has, but not longer than so many times.
LEAST = 500
LONGER = 3
#: How often a rate is measured that was not back in time at first. Odd: one is in the middle.
TIMES = 3
#: Connections that one process of a worker may have.
MOST_CONNECTIONS = 2
#: In the place of a fault's number: several at random.
MIXED = "mixed"
#: Likewise: a load without any.
NONE = "none"
#: Names of what is claimed beside the checker's invariants.
IN_TIME, TAKEN_UP, HIT, ALIVE, FEW_CONNECTIONS, ENOUGH, OWN, LEFT, AGAIN, REPEATED = (
    "the rate is back in time",
    "what was at work or ready is taken up in time",
    "the fault has hit",
    "no worker ends by itself",
    f"at most {MOST_CONNECTIONS} database connections a process",
    "at least half of what is done without faults",
    "what only this fault can see",
    "everything ends within the time that it is given",
    "without faults, next to nothing is published again",
    "without faults, no attempt is repeated",
)


@dataclass(kw_only=True, slots=True)
class Result:
    """What became of one scenario."""

    number: str
    title: str
    seed: int
    #: Number and evidence of each strike.
    strikes: list[tuple[str, str]] = field(default_factory=list)
    #: Violations, in words, of each claim.
    claims: dict[str, list[str]] = field(default_factory=dict)
    recovery: Recovery | None = None
    #: Of a rate that was measured more than once: all that was found; `recovery` is the one in the middle.
    recoveries: list[Recovery] = field(default_factory=list)
    target: float | None = None
    #: Seconds from when the cause was gone until all that was at work or ready at the strike had been taken up, or had
    #: ended; None where that was not asked, or had not come.
    taken: float | None = None
    executions: int = 0
    completed: int = 0
    #: Of these, what had ended well by the end of the load.
    in_time: int = 0
    #: Seconds that the load lasted.
    lasted: float = inf
    connections: int = 0
    seconds: float = 0.0

    @property
    def violations(self) -> int:
        """How many there are in all."""
        return sum(map(len, self.claims.values()))

    @property
    def ok(self) -> bool:
        """Whether every claim holds."""
        return not self.violations


def alone(stack: Stack, fault: Fault, seed: int, rate: float) -> Result:
    """A fault by itself.

    A rate that was not back in time is measured again, `TIMES` times in all, and the one in the middle counts: where a
    second decides, a machine that others use as well is late now and then by itself. Everything else must hold each
    time.
    """
    result = _alone(stack, fault, seed, rate)
    if IN_TIME not in result.claims:
        return result
    return together([result, *(_alone(stack, fault, seed, rate) for _ in range(TIMES - 1))])


def together(results: Sequence[Result]) -> Result:
    """One result of several of the same fault. The rate is back when it was back in most of them; any other violation
    of any of them stays."""
    found = sorted((each for each in results if each.recovery is not None), key=_back)
    middle = found[len(found) // 2]
    claims: dict[str, list[str]] = {}
    for each in results:
        for claim, violations in each.claims.items():
            if claim != IN_TIME:
                claims.setdefault(claim, []).extend(violations)
    claims[IN_TIME] = middle.claims.get(IN_TIME, [])
    taken = [each.taken for each in results]
    return replace(
        middle,
        claims=claims,
        recoveries=[each.recovery for each in results if each.recovery is not None],
        executions=sum(each.executions for each in results),
        completed=sum(each.completed for each in results),
        taken=None if None in taken else max(filter(None, taken), default=0.0),
        connections=max(each.connections for each in results),
        seconds=sum(each.seconds for each in results),
    )


def _back(result: Result) -> float:
    return inf if result.recovery is None or result.recovery.seconds is None else result.recovery.seconds


def _alone(stack: Stack, fault: Fault, seed: int, rate: float) -> Result:
    result = Result(number=fault.number, title=fault.title, seed=seed, target=fault.target)

    def under_load(begin: float) -> None:
        strike = _strike(stack, fault, result)
        if strike is not None:
            strikes.append(strike)
            _watch(stack, fault, strike, begin, result)

    strikes: list[Strike] = []
    _carry_out(stack, result, rate * fault.load, under_load)
    for later in (strike.later for strike in strikes if strike.later is not None):
        try:
            later(stack)
        except Broken as broken:
            result.claims.setdefault(OWN, []).append(f"{fault.number}: {broken}")
    return result


def mixed(stack: Stack, faults: Sequence[Fault], seed: int, rate: float, seconds: float) -> Result:
    """Faults at random, one soon after the other; the same for the same seed.

    Args:
        seconds: for how long, at least: while a server is away nobody starts anything, and it goes on until there have
            been `LEAST` executions a minute.
    """
    result = Result(number=MIXED, title=f"{seconds:g} s of faults at random", seed=seed)
    chosen = random.Random(seed)

    def under_load(begin: float) -> None:
        # Every kind at least once before any comes again.
        waiting: list[Fault] = []
        most = begin + LONGER * seconds
        while (now := time.monotonic()) < begin + seconds or (now < most and too_few()):
            waiting = waiting or chosen.sample(faults, len(faults))
            time.sleep(chosen.uniform(*PAUSES))
            if not stack.workers():
                stack.heal()
            _strike(stack, waiting.pop(), result)
            # What a fault ended is started again, or not yet: the next may strike a stack that is hurt already.
            if chosen.random() < 0.5:
                stack.heal()
        result.lasted = time.monotonic() - begin

    def too_few() -> bool:
        started = (answer for answer in stack.outside.answers(stack.mark) if answer.kind == "started")
        return len({answer.execution for answer in started}) < _least(seconds)

    found = _carry_out(stack, result, rate, under_load)
    kinds = {number for number, _ in found.strikes}
    if len(kinds) < 3:
        found.claims.setdefault(HIT, []).append(f"only {len(kinds)} kinds of fault have hit")
    return found


def fair(stack: Stack, seed: int, rate: float, seconds: float) -> Result:
    """The same load without faults: then nothing is done twice either that might be after one."""
    result = Result(number=NONE, title=f"{seconds:g} s without faults", seed=seed)

    def under_load(begin: float) -> None:
        with republished.counted(stack) as count:
            time.sleep(max(0.0, begin + seconds - time.monotonic()))
            result.lasted = seconds
            stack.drain(stack.mark, 2 * COLD)
        steps = stack.value(_STEPS_OF, mark=stack.mark)
        if count() > steps * republished.SHARE:
            result.claims[AGAIN] = [f"{count()} of {steps} steps"]
        repeated = stack.execute(_REPEATED, mark=stack.mark)
        result.claims[REPEATED] = [f"{row[1]} of {row[0]} was given back" for row in repeated]

    return _carry_out(stack, result, rate, under_load)


_STEPS_OF = """
SELECT count(*) FROM orchestrator.step s JOIN orchestrator.execution x ON x.id = s.execution_id
WHERE x.correlation_id = :mark
"""
_REPEATED = """
SELECT x.id, e.path FROM orchestrator.event e JOIN orchestrator.execution x ON x.id = e.execution_id
WHERE x.correlation_id = :mark AND e.type = 'step_released'
"""


def require_half(found: Result, without: Result, seconds: float) -> None:
    """A run that does nothing breaks nothing: while the load lasts, not only after it, it must complete half of what
    the same seed does without faults in as many seconds; and it must be large enough to show anything.

    Args:
        seconds: that the run was to last.
    """
    expected = without.in_time * found.lasted / without.lasted
    if found.in_time * 2 < expected:
        found.claims[ENOUGH] = [
            f"{found.in_time} executions in {found.lasted:.0f} s, and {expected:.0f} without faults"
        ]
    if found.executions < _least(seconds):
        found.claims[ENOUGH] = [f"{found.executions} executions, where {_least(seconds):.0f} are asked for"]


def _least(seconds: float) -> float:
    return LEAST * seconds / 60


def _carry_out(stack: Stack, result: Result, rate: float, under_load: Callable[[float], None]) -> Result:
    mark = f"{result.number}-{result.seed}-{time.monotonic_ns():x}"
    begun = begin = time.monotonic()
    stack.fallen.clear()
    stack.start_client(mark, result.seed, rate)
    try:
        stack.until(lambda: stack.outside.calls(mark), "the load has begun")
        stack.census.begin()
        begin = time.monotonic() + COLD
        time.sleep(COLD + WARM)
        under_load(begin)
    except Exception:
        result.claims.setdefault(HIT, []).append(traceback.format_exc())
    stack.heal()
    stack.stop_client()
    left = stack.drain(mark, MUTANT_DRAIN if stack.choice.mutant else DRAIN)
    stack.until(lambda: not _running(stack, mark), "nothing is at work", 30) if not left else None
    if left:
        result.claims[LEFT] = postmortem.of(stack, mark)
    dead = stack.ended_by_themselves()
    result.claims[ALIVE] = [f"{name} has ended:\n{stack.processes.log_tail(name, 5)}" for name in dead]
    _check(stack, mark, result)
    result.in_time = _done_by(stack, mark, begin + result.lasted) if result.lasted < inf else result.completed
    result.seconds = time.monotonic() - begun
    return result


def _done_by(stack: Stack, mark: str, moment: float) -> int:
    """How many executions had ended well by then: monotonic seconds of this machine."""
    return int(
        stack.value(
            "SELECT count(*) FROM orchestrator.execution WHERE correlation_id = :mark AND status = ANY(:well) "
            "AND settled_at < clock_timestamp() - CAST(:ago AS float8) * interval '1 second'",
            mark=mark,
            well=sorted(checker.ENDED_WELL),
            ago=time.monotonic() - moment,
        )
    )


def _running(stack: Stack, mark: str) -> int:
    return int(
        stack.value(
            "SELECT count(*) FROM orchestrator.step s JOIN orchestrator.execution x ON x.id = s.execution_id "
            "WHERE s.status = 'running' AND x.correlation_id = :mark",
            mark=mark,
        )
    )


def _strike(stack: Stack, fault: Fault, result: Result) -> Strike | None:
    try:
        strike = fault.act(stack)
    except Broken as broken:
        result.claims.setdefault(OWN, []).append(f"{fault.number}: {broken}")
    except (Missed, TimeoutError) as missed:
        result.claims.setdefault(HIT, []).append(f"{fault.number}: {missed}")
    else:
        result.strikes.append((fault.number, strike.evidence))
        return strike
    return None


def _watch(stack: Stack, fault: Fault, strike: Strike, begin: float, result: Result) -> None:
    """Until the rate is back for a while, or should have been, and all that was hit has been taken up, likewise."""
    limit = fault.target or UNASKED
    hit = _open_since(stack, strike.struck) if fault.taken is not None else []
    while True:
        now = time.monotonic()
        times = sorted(call.at for call in stack.outside.calls(stack.mark) if call.phase == "begun")
        result.recovery = found = recovery(times, begin=begin, struck=strike.struck, gone=strike.gone, end=now)
        since = now - strike.gone
        if fault.taken is not None and result.taken is None:
            hit = _still_open(stack, hit, strike.struck)
            result.taken = None if hit else since
        back = since > UNASKED and (fault.target is None or found.seconds is not None or since > limit + UNASKED)
        if back and (fault.taken is None or result.taken is not None or since > fault.taken):
            break
        time.sleep(0.2)
    if fault.taken is not None and (result.taken is None or result.taken > fault.taken):
        late = f"after {result.taken or since:.1f} s, where {fault.taken:g} s were allowed"
        result.claims[TAKEN_UP] = postmortem.of_steps(stack, hit) if hit else [late]
    if fault.target is not None and (found.seconds is None or found.seconds > fault.target):
        after = "not at all" if found.seconds is None else f"after {found.seconds:.1f} s"
        result.claims[IN_TIME] = [f"{after}, where {fault.target:g} s were allowed; {found.before:.0f} calls/s before"]


def _open_since(stack: Stack, struck: float) -> list[tuple[str, str]]:
    """Executions and paths of steps that were at work or ready at a moment, in monotonic seconds, and still are."""
    return [(str(row[0]), row[1]) for row in stack.execute(_OPEN_SINCE, mark=stack.mark, ago=_ago(struck))]


def _still_open(stack: Stack, steps: list[tuple[str, str]], struck: float) -> list[tuple[str, str]]:
    """Those of them that nobody has taken up since, or ended."""
    if not steps:
        return []
    ids, paths = [execution for execution, _ in steps], [path for _, path in steps]
    return [(str(row[0]), row[1]) for row in stack.execute(_STILL_OPEN, ids=ids, paths=paths, ago=_ago(struck))]


def _ago(moment: float) -> float:
    return time.monotonic() - moment


_OPEN_SINCE = """
SELECT s.execution_id, s.path FROM orchestrator.step s JOIN orchestrator.execution x ON x.id = s.execution_id
WHERE x.correlation_id = :mark AND s.status IN ('ready', 'running')
  AND coalesce(s.started_at, s.ready_at) < clock_timestamp() - CAST(:ago AS float8) * interval '1 second'
"""
_STILL_OPEN = """
SELECT s.execution_id, s.path FROM orchestrator.step s
JOIN unnest(CAST(:ids AS uuid[]), CAST(:paths AS text[])) hit (execution_id, path) USING (execution_id, path)
WHERE s.status IN ('ready', 'running')
  AND (s.started_at IS NULL OR s.started_at < clock_timestamp() - CAST(:ago AS float8) * interval '1 second')
"""


def _check(stack: Stack, mark: str, result: Result) -> None:
    with stack.engine.connect() as connection:
        found = evidence.collect(connection, stack.outside, mark, stack.differences(mark))
    result.claims |= checker.check(found)
    result.executions = len(found.executions)
    result.completed = sum(found.status in checker.ENDED_WELL for found in found.executions.values())
    result.connections = stack.census.most
    if not stack.census.most:
        result.claims[FEW_CONNECTIONS] = [f"none was seen in {stack.census.looks} looks"]
    if stack.census.most > MOST_CONNECTIONS:
        result.claims[FEW_CONNECTIONS] = [f"one process had {stack.census.most}"]
