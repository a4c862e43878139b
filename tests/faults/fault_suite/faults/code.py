"""9, 11 and 12: workers that are restarted, of an older release, without some of the code, or ended by it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from fault_suite import breakers, needs
from fault_suite.breakers import IN_ACTIVITY
from fault_suite.evidence import waits_for_losers
from fault_suite.fault import Broken, Missed, Strike, Tier, at_once, fault
from fault_suite.stack import MAX_CRASHES, PATH, SWEEPS, WORK, Stack

#: Messages for tasks that nobody knows.
UNKNOWN = 20
_REPOSITORY = Path(__file__).parents[4]


@fault("9a", "a rolling restart by SIGTERM under load", mixes=True, tier=Tier.QUICK)
def rolling_restart(stack: Stack) -> Strike:
    """No attempt is lost, and none is repeated: every step ends within the time that a shutdown waits."""
    # What another fault has ended is not at work, and cannot be ended in good order.
    stack.heal()
    struck = time.monotonic()
    begun = stack.value("SELECT clock_timestamp()")
    stack.start_many("long-step", 8)
    stack.until(lambda: _running(stack, "long-step"), "long steps run", 10)
    for name in ("worker-1", "worker-2"):
        _end(stack, name)
        stack.start_again(name)

    def later(stack: Stack) -> None:
        repeated = stack.value(
            "SELECT count(*) FROM orchestrator.event e JOIN orchestrator.execution x ON x.id = e.execution_id "
            "WHERE e.type = 'step_released' AND x.correlation_id = :mark AND e.at > :begun",
            mark=stack.mark,
            begun=begun,
        )
        if repeated:
            raise Broken(f"{repeated} attempts were lost, and repeated")

    return Strike(evidence="both workers restarted, no attempt lost", struck=struck, gone=time.monotonic(), later=later)


def _end(stack: Stack, name: str) -> None:
    """End a worker in good order. One that does not end first writes into its log what each of its threads is at."""
    process = stack.nodes[name].process
    process.signal(signal.SIGTERM)
    try:
        code = process.wait(20)
    except TimeoutError:
        process.signal(signal.SIGUSR1)  # Celery's own: a report of all threads
        time.sleep(1)
        process.kill_group()
        raise Broken(f"{name} has not ended within 20 s; what it was at is in its log") from None
    if code:
        raise Broken(f"{name} ended with {code}")


def _running(stack: Stack, definition: str) -> int:
    return int(
        stack.value(
            "SELECT count(*) FROM orchestrator.step s JOIN orchestrator.execution x ON x.id = s.execution_id "
            "WHERE s.status = 'running' AND x.definition_name = :name AND x.correlation_id = :mark",
            name=definition,
            mark=stack.mark,
        )
    )


@fault("9b", "this release and the one before the last migration at work together", needs=[needs.release_before])
def two_releases(stack: Stack) -> Strike:
    struck = time.monotonic()
    old = stack.folder / "release-before"
    if not old.exists():
        old.mkdir()
        words = ["git", "archive", str(needs.revision_before()), "orchestrator", "migrations"]
        archive = subprocess.run(words, cwd=_REPOSITORY, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", str(old)], input=archive, check=True)
    stack.retire("worker-2")
    node = stack.start_worker("worker-2", side="b", env={"PYTHONPATH": f"{old}:{PATH}", "PYTHONSAFEPATH": "1"})

    def mend() -> None:
        stack.retire("worker-2")
        stack.start_worker("worker-2", side="b")

    stack.afterwards(mend)
    up = time.monotonic()
    time.sleep(4)
    pids = node.children()
    engines = Counter(call.engine for call in stack.outside.calls(stack.mark) if call.pid in pids and call.at > up)
    if set(engines) != {str(old)}:
        raise Missed(f"the older release is in {old}; what worked was {dict(engines)}")
    evidence = f"{engines[str(old)]} calls by {str(needs.revision_before())[:9]}"
    if not waits_for_losers(str(old)):
        evidence += ", which does not wait for the losers of races yet"
    return Strike(evidence=evidence, struck=struck, gone=time.monotonic())


@fault("11a", "a definition that some workers do not know")
def unknown_definition(stack: Stack) -> Strike:
    """Its step is tried again until a worker takes it that knows the activity."""
    struck = time.monotonic()
    stack.start_worker("ignorant", queues=["elsewhere"], env={"ORCHESTRATOR_MODULES": "fault_suite.nothing"})
    stack.afterwards(lambda: stack.retire("ignorant"))
    stack.start_many("patient", 4)
    unknown = (
        "SELECT count(*) FROM orchestrator.event e JOIN orchestrator.execution x ON x.id = e.execution_id "
        "WHERE x.correlation_id = :mark AND x.definition_name = 'patient' AND e.type = 'step_retrying'"
    )
    stack.until(lambda: stack.value(unknown, mark=stack.mark), "it is met by a worker that does not know it", 20)
    met = stack.value(unknown, mark=stack.mark)
    if not stack.nodes["ignorant"].alive:
        raise Broken("the worker died of it")
    stack.retire("ignorant")
    stack.start_worker("knowing", queues=["elsewhere"])
    stack.afterwards(lambda: stack.retire("knowing"))
    stack.until(lambda: not stack.unfinished_of("patient"), "it is done by a worker that does", 30)
    return Strike(evidence=f"tried {met} times where it is unknown", struck=struck, gone=time.monotonic())


@fault("11b", "messages for tasks that nobody knows", mixes=True)
def unknown_task(stack: Stack) -> Strike:
    before = _refused(stack)
    for number in range(UNKNOWN):
        stack.orchestrator.app.send_task("nobody.knows", [number], queue=(WORK, SWEEPS)[number % 2])
    # Among other faults a message may be dropped, or be with a worker that is killed.
    stack.until(lambda: _refused(stack) - before >= UNKNOWN / 2, "workers have met them", 30)
    if ended := stack.ended_by_themselves():
        raise Broken(f"{', '.join(ended)} died of it")
    return at_once(f"{_refused(stack) - before} of {UNKNOWN} messages were met, and every worker lives")


def _refused(stack: Stack) -> int:
    """Messages of tasks that a worker did not know: Celery tells of each in the worker's log."""
    return sum(
        node.process.log.read_text(errors="replace").count("Received unregistered task of type 'nobody.knows'")
        for node in stack.workers()
    )


@fault("12a", "a step that kills its worker each time")
def poison(stack: Stack) -> Strike:
    struck = time.monotonic()
    stack.start_many("poison", 1)
    stack.until(lambda: not stack.unfinished_of("poison"), "it is given up", 40)
    calls = [call for call in stack.outside.calls(stack.mark) if call.path == "kills"]
    error = stack.value(
        "SELECT error ->> 'name' FROM orchestrator.execution WHERE correlation_id = :mark "
        "AND definition_name = 'poison'",
        mark=stack.mark,
    )
    if error != "WorkerLost":
        raise Broken(f"it ended with {error}")
    attempts = Counter(call.attempt for call in calls)
    if len(attempts) != int(MAX_CRASHES):
        raise Broken(f"it was given to {len(attempts)} processes, where {MAX_CRASHES} are allowed")
    return Strike(
        evidence=f"failed as WorkerLost after it had killed {len(attempts)} processes",
        struck=struck,
        gone=time.monotonic(),
    )


@fault("12b", f"an activity that holds the interpreter's lock for {breakers.GIL_HELD} s")
def held_gil(stack: Stack) -> Strike:
    struck = time.monotonic()
    before = len(stack.outside.sprung(IN_ACTIVITY))
    stack.outside.lay(IN_ACTIVITY, deed="gil")
    stack.until(lambda: len(stack.outside.sprung(IN_ACTIVITY)) > before, "an activity holds it", 20)
    time.sleep(breakers.GIL_HELD + 1)
    released = stack.value(
        "SELECT count(*) FROM orchestrator.worker WHERE buried_at > clock_timestamp() - interval '20 seconds'"
    )
    if released:
        raise Broken("the worker was taken for dead, though its main process lives")
    return Strike(
        evidence=f"one process answered nothing for {breakers.GIL_HELD} s, its worker stayed alive",
        struck=struck,
        gone=time.monotonic(),
    )
