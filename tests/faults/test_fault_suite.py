"""The fault suite's own parts: what it measures, what its proxy does to a connection, and what its checker notices."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import fault_suite.faults  # noqa: F401 - registers them
import pytest
from click.testing import CliRunner
from fault_suite import machine, mutants, report, scenario
from fault_suite.__main__ import main
from fault_suite.checker import INVARIANTS, check
from fault_suite.client import MIX, evenly
from fault_suite.evidence import Effect, Event, Evidence, Found, Step
from fault_suite.fault import FAULTS
from fault_suite.outside import Answer, Call, Outside
from fault_suite.proxy import Proxy
from fault_suite.rates import Recovery, recovery
from fault_suite.workload import ENDS, UNDOABLE
from kombu import Producer
from rich.console import Console

from orchestrator import fault_points

# Rates.


def steady(begin: float, end: float, rate: float) -> list[float]:
    """Calls at an even pace."""
    return [begin + n / rate for n in range(int((end - begin) * rate))]


def test_a_rate_that_breaks_down_is_back_when_it_stays_back() -> None:
    times = [*steady(0, 10, 50), *steady(13, 20, 50)]
    found = recovery(times, begin=0, struck=10, gone=11, end=20)
    assert found.before == pytest.approx(50, rel=0.05)
    assert found.lowest == 0
    assert found.seconds == pytest.approx(2, abs=0.2)


def test_a_rate_that_never_comes_back_is_told() -> None:
    times = [*steady(0, 10, 50), *steady(10, 20, 30)]
    assert recovery(times, begin=0, struck=10, gone=10, end=20).seconds is None


def test_a_rate_that_never_broke_down_is_back_at_once() -> None:
    assert recovery(steady(0, 20, 50), begin=0, struck=10, gone=10, end=20).seconds == pytest.approx(0, abs=0.2)


def test_a_breakdown_that_comes_late_counts() -> None:
    times = [*steady(0, 12, 50), *steady(15, 25, 50)]
    assert recovery(times, begin=0, struck=10, gone=10, end=25).seconds == pytest.approx(5, abs=0.2)


def test_the_load_is_spread_evenly() -> None:
    for seed in range(20):
        names = evenly(MIX, random.Random(seed))
        drawn = [next(names) for _ in range(sum(MIX.values()))]
        assert Counter(drawn) == MIX
        for name, weight in MIX.items():
            expected = 20 * weight / len(drawn)
            assert all(abs(drawn[n : n + 20].count(name) - expected) <= 2 for n in range(len(drawn) - 20))


# The proxy.


@contextmanager
def echo() -> Iterator[int]:
    """A server on loopback that sends back what it gets; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection:
                try:
                    while data := connection.recv(65536):
                        connection.sendall(data)
                except OSError:
                    return

        def accept() -> None:
            try:
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with echo() as port, Proxy(port) as running:
        yield running


def line(proxy: Proxy) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    assert asked(found, b"hello") == b"hello"
    return found


def asked(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    answer = b""
    while len(answer) < len(data):
        answer += (piece := client.recv(65536))
        if not piece:
            break
    return answer


def test_a_good_network_carries_everything_in_pieces_too(proxy: Proxy) -> None:
    proxy.latency, proxy.slice = 0.001, 7
    data = bytes(range(256)) * 20
    with line(proxy) as client:
        assert asked(client, data) == data


def test_a_half_open_connection_carries_nothing_and_stands(proxy: Proxy) -> None:
    with line(proxy) as client, line(proxy) as other:
        assert proxy.half_open(new=False) == 2
        client.settimeout(0.3)
        client.sendall(b"is anybody there?")
        with pytest.raises(TimeoutError):
            client.recv(1)
        with line(proxy) as new:
            assert asked(new, b"yes") == b"yes"
        proxy.heal()
        other.settimeout(5)
        with pytest.raises(ConnectionResetError):
            other.recv(1)


def test_a_cut_network_resets_who_was_there_and_takes_nobody(proxy: Proxy) -> None:
    with line(proxy) as client:
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionError), socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as late:
        late.sendall(b"hello")
        if late.recv(1) == b"":
            raise ConnectionError
    proxy.heal()
    line(proxy).close()


def test_an_answer_is_lost_after_the_server_has_heard(proxy: Proxy) -> None:
    proxy.lose_answers(b"COMMIT", 1)
    with line(proxy) as client:
        client.sendall(b"COMMIT")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert proxy.struck_so_far == 1
    line(proxy).close()


# Traps.


def test_of_several_who_come_one_springs_a_trap(tmp_path: Path) -> None:
    outside = Outside(tmp_path)
    outside.lay("claimed")
    assert [outside.spring("claimed"), outside.spring("claimed")] == ["kill", None]
    outside.lay("claimed", pid=1)
    assert outside.spring("claimed") is None, "it is laid for another process"
    assert len(outside.sprung("claimed")) == 1


# The checker.


def good() -> Found:
    """A saga that was undone as it should be."""
    steps = {
        "one": Step("succeeded", None, True),
        "two": Step("succeeded", None, True),
        "undo:two": Step("succeeded", "two", True),
        "undo:one": Step("succeeded", "one", True),
    }
    events, calls = [], []
    for number, path in enumerate(steps):
        name = path.removeprefix("undo:")
        events += [
            Event(number * 2, "step_started", path, 1, number),
            Event(number * 2 + 1, "step_succeeded", path, 1, number + 0.5),
        ]
        for phase, at in (("begun", float(number)), ("ended", number + 0.5)):
            undo = path != name
            calls.append(Call(execution="x", path=path, attempt=1, undo=undo, phase=phase, pid=7, at=at))
    effects = [Effect(1, "one", 1, False), Effect(2, "two", 1, False)]
    effects += [Effect(3, "two", 1, True), Effect(4, "one", 1, True)]
    found = Found(id="x", definition="saga", status="compensated", key="k", error=None)
    found.steps, found.events, found.effects, found.calls = steps, events, effects, calls
    return found


def broken(found: Found, *answers: Answer, claims: dict[str, list[str]] | None = None) -> set[str]:
    """Names of the invariants that do not hold."""
    told = [Answer(kind="started", definition="saga", execution="x", key="k", at=0.0), *answers]
    return {name for name, violations in check(evidence(found, *told, claims=claims)).items() if violations}


def evidence(found: Found, *answers: Answer, claims: dict[str, list[str]] | None = None) -> Evidence:
    """All that there is of one execution."""
    return Evidence(executions={"x": found}, answers=list(answers), claims=claims or {}, differences=[])


def test_nothing_is_wrong_with_what_is_right() -> None:
    assert broken(good()) == set()


def test_each_wrong_is_noticed() -> None:
    found = good()
    found.status = "compensating"
    assert "every acknowledged start reaches a final state" in broken(found)
    found = good()
    found.status = "failed"
    assert "every execution ends as its definition says" in broken(found)
    found = good()
    found.steps["two"] = Step("running", None, True)
    assert "nothing is left open or claimed" in broken(found)
    found = good()
    found.effects.append(Effect(5, "one", 2, True))
    assert "no transactional effect twice" in broken(found)
    found = good()
    found.effects.pop()
    assert {"effects and records are the same", "compensations in reverse order, all of them"} <= broken(found)
    found = good()
    found.events.append(Event(99, "step_succeeded", "one", 1, 9.0))
    assert {"no step settled twice", "no settle by a fenced owner"} & broken(found) == {"no step settled twice"}
    found = good()
    found.events.insert(1, Event(0, "step_started", "one", 2, 0.1))
    assert {"one attempt at a time has a step", "no settle by a fenced owner"} <= broken(found)
    found = good()
    found.calls.append(Call(execution="x", path="one", attempt=1, undo=False, phase="begun", pid=8, at=0.2))
    assert "no attempt in two processes" in broken(found)
    found = good()
    found.calls = [
        Call(execution="x", path="one", attempt=1, undo=False, phase=phase, pid=9, at=at)
        for phase, at in (("begun", 0.0), ("ended", 2.2))
    ] + found.calls[2:]
    assert "no compensation while a forward attempt lives" in broken(found)
    found = good()
    found.effects[2:] = [Effect(3, "one", 1, True), Effect(4, "two", 1, True)]
    assert "compensations in reverse order, all of them" in broken(found)
    assert "one execution for each idempotency key" in broken(
        good(), Answer(kind="started", definition="saga", execution="y", key="k", at=1.0)
    )
    assert "the ledger agrees with itself" in broken(good(), claims={"a claim": ["found"]})


def called(path: str, begun: float, ended: float | None, attempt: int = 1) -> list[Call]:
    """The lines of a call; one that never ended has one."""
    return [
        Call(execution="x", path=path, attempt=attempt, undo=path.startswith("undo:"), phase=phase, pid=9, at=at)
        for phase, at in (("begun", begun), ("ended", ended))
        if at is not None
    ]


def cancelled(first: str | None) -> Found:
    """A cancelled execution whose only step to undo stands so."""
    found = Found(id="x", definition="doomed", status="cancelled", key="k", error=None)
    found.steps = {"first": Step(first, None, False)} if first else {}
    return found


def test_what_is_cancelled_goes_back_if_anything_was_done() -> None:
    assert broken(cancelled(None)) == set()
    assert broken(cancelled("cancelled")) == set()
    assert broken(cancelled("succeeded")) == {"every execution ends as its definition says"}
    # Without compensations there is nothing to go back to.
    plain = cancelled("succeeded")
    plain.definition = "chain"
    assert not any(
        "had succeeded" in found for found in check(evidence(plain))["every execution ends as its definition says"]
    )


UNDONE_ONCE = "every step that goes back is undone once"


def with_slow() -> Found:
    """The saga with one more step, whose compensation leaves no effect and was called twice."""
    found = good()
    found.steps |= {"slow": Step("succeeded", None, False), "undo:slow": Step("succeeded", "slow", False)}
    found.events += [Event(20, "step_started", "slow", 1, 1.0), Event(21, "step_succeeded", "slow", 1, 1.5)]
    found.events += [
        Event(30, "step_started", "undo:slow", 1, 1.6),
        Event(31, "step_released", "undo:slow", 1, 1.7),
        Event(32, "step_started", "undo:slow", 2, 1.8),
        Event(33, "step_succeeded", "undo:slow", 2, 1.9),
    ]
    found.calls += called("slow", 1.0, 1.5) + called("undo:slow", 1.6, None) + called("undo:slow", 1.8, 1.9, attempt=2)
    return found


def test_each_step_is_undone_once_whether_that_leaves_an_effect_or_not() -> None:
    assert broken(with_slow()) == set()
    found = with_slow()
    del found.steps["undo:slow"]
    found.events = [event for event in found.events if event.path != "undo:slow"]
    found.calls = [call for call in found.calls if call.path != "undo:slow"]
    assert broken(found) == {UNDONE_ONCE}
    found = with_slow()
    found.steps["undo:slow"] = Step("cancelled", "slow", False)
    found.events[-1] = Event(33, "step_cancelled", "undo:slow", 2, 1.9)
    assert broken(found) == {UNDONE_ONCE}
    found = with_slow()
    found.calls = [call for call in found.calls if (call.path, call.phase) != ("undo:slow", "ended")]
    assert broken(found) == {UNDONE_ONCE}
    found = with_slow()
    found.events.append(Event(34, "step_succeeded", "undo:slow", 2, 2.0))
    assert UNDONE_ONCE in broken(found)
    found = with_slow()
    found.steps["undo:slow again"] = Step("succeeded", "slow", False)
    assert UNDONE_ONCE in broken(found)
    # One that never succeeded may be undone, as its outcome is unknown, or not.
    found = with_slow()
    found.steps["slow"] = Step("cancelled", None, False)
    found.events = [replace(e, type="step_cancelled") if e.id == 21 else e for e in found.events]
    assert broken(found) == set()


def test_a_part_of_which_a_step_is_not_undone_is_noticed() -> None:
    found = part("part[0].two", "part[0].one")
    found.steps = {"before": Step("succeeded", None, True), "part[0].slow": Step("succeeded", None, False)}
    assert list(INVARIANTS[UNDONE_ONCE](evidence(found)))
    found.steps["undo:part[0].slow"] = Step("succeeded", "part[0].slow", False)
    found.events = [Event(1, "step_succeeded", "undo:part[0].slow", 1, 6.0)]
    found.calls += called("undo:part[0].slow", 6.0, 6.1)
    assert not list(INVARIANTS[UNDONE_ONCE](evidence(found)))


def test_every_step_with_a_compensation_is_known() -> None:
    assert UNDOABLE.keys() == {"saga", "partly", "race", "doomed"}
    assert UNDOABLE["race"] == {"before", "late", "won"}
    assert UNDOABLE["saga"] == {"one", "two", "three", "slow"}
    assert UNDOABLE["partly"] == {"part[0].one", "part[0].two", "part[0].slow"}
    assert UNDOABLE["doomed"] == {"first"}


ALONE = "no compensation while a forward attempt lives"


def test_a_call_that_begins_after_a_compensation_is_noticed_whether_it_ends_or_not() -> None:
    for ended in (None, 9.5):
        found = good()
        found.calls += called("slow", 9.0, ended)
        assert ALONE in broken(found)
        # Its own worker had put that attempt back.
        found.events[:0] = [Event(-2, "step_started", "slow", 1, 0.0), Event(-1, "step_retrying", "slow", 1, 0.0)]
        assert ALONE in broken(found)


@pytest.mark.parametrize("taken", ["step_released", "step_cancelled"])
def test_a_late_owner_may_begin_a_call_if_it_lost_its_claim_before(taken: str) -> None:
    late = called("slow", 9.0, 9.5)
    found = good()
    found.calls += late
    found.events[:0] = [Event(-2, "step_started", "slow", 1, 0.0), Event(-1, taken, "slow", 1, 0.0)]
    found.events.append(Event(99, "attempt_fenced", "slow", 1, 9.6))
    assert broken(found) == set()
    found = good()
    found.calls += late
    found.events[:0] = [Event(-2, "step_started", "slow", 1, 0.0)]
    found.events += [Event(98, taken, "slow", 1, 9.0), Event(99, "attempt_fenced", "slow", 1, 9.6)]
    assert broken(found) == {ALONE}


@pytest.mark.parametrize(("begun", "ended"), [(0.5, 9.5), (9.0, 9.5), (9.0, None)])
def test_who_has_lost_a_race_is_waited_for_unless_it_is_gone(begun: float, ended: float | None) -> None:
    found = good()
    found.definition = "race"
    found.calls += called("late", begun, ended)
    found.events[:0] = [Event(-2, "step_started", "late", 1, 0.0), Event(-1, "step_cancelled", "late", 1, 0.0)]
    found.events.append(Event(99, "attempt_fenced", "late", 1, 9.6))
    assert list(INVARIANTS[ALONE](evidence(found)))
    before = replace(evidence(found), losers_are_waited_for=False)
    assert not list(INVARIANTS[ALONE](before)), "a release before this one promised less"
    found.events.insert(2, Event(0, "attempt_lost", "late", 1, 0.1))
    assert not list(INVARIANTS[ALONE](evidence(found)))


def test_a_late_owner_of_a_compensation_may_begin_it_when_the_handler_has_begun() -> None:
    found = part("part[0].two", "part[0].one")
    found.calls += called("undo:part[0].two", 9.2, 9.3, attempt=2)
    assert list(INVARIANTS[ALONE](evidence(found)))
    path = "undo:part[0].two"
    found.events = [Event(1, "step_started", path, 2, 5.0), Event(2, "step_released", path, 2, 6.0)]
    assert not list(INVARIANTS[ALONE](evidence(found)))


def test_a_part_goes_back_while_what_is_around_it_goes_on() -> None:
    found = part("part[0].two", "part[0].one")
    found.calls += called("behind", 9.6, None)
    assert not list(INVARIANTS[ALONE](evidence(found)))
    found.calls += called("part[0].slow", 9.6, None)
    assert list(INVARIANTS[ALONE](evidence(found)))


FENCED = "no settle by a fenced owner"


def history(*events: tuple[str, int | None]) -> Found:
    """An execution with this history of one step: types, and attempts."""
    found = Found(id="x", definition="unsteady", status="succeeded", key="k", error=None)
    found.events = [Event(n, kind, "a", attempt, float(n)) for n, (kind, attempt) in enumerate(events)]
    return found


HELD = [("step_ready", None), ("step_started", 1)]
WRITTEN = ["step_succeeded", "step_failed", "step_timed_out", "step_retrying", "step_waiting"]


@pytest.mark.parametrize("written", WRITTEN)
def test_whatever_a_fenced_owner_writes_is_noticed(written: str) -> None:
    for lost in ("step_released", "step_cancelled"):
        assert FENCED in broken(history(*HELD, (lost, 1), (written, 1)))
    assert FENCED in broken(history(*HELD, ("step_released", 1), ("step_started", 2), (written, 1)))
    for let_go in ("step_retrying", "step_waiting"):
        assert FENCED in broken(history(*HELD, (let_go, 1), (written, 1)))
    assert FENCED not in broken(history(*HELD, (written, 1)))


def test_what_others_write_with_right_is_no_settle_by_a_fenced_owner() -> None:
    for right in (
        # A sweep failed it with its own token, or the reply to its own failure was lost.
        [("step_failed", 1), ("attempt_fenced", 1)],
        [("step_retrying", 1), ("step_ready", None), ("attempt_fenced", 1), ("step_started", 2), ("step_succeeded", 2)],
        # A drain cancels what nobody has; a release cancels what is halted.
        [("step_released", 1), ("step_cancelled", 1)],
        [("step_cancelled", 1), ("attempt_fenced", 1)],
        [("step_released", 1), ("attempt_fenced", 1), ("step_started", 2), ("step_waiting", 2), ("step_cancelled", 2)],
        # An operator gives it an output.
        [("step_failed", 1), ("step_succeeded", None)],
    ):
        assert FENCED not in broken(history(*HELD, *right))


@pytest.mark.parametrize("undo", [False, True])
def test_an_effect_of_another_attempt_than_the_recorded_is_noticed(undo: bool) -> None:
    found = good()
    found.effects = [replace(e, attempt=2) if (e.path, e.undo) == ("one", undo) else e for e in found.effects]
    assert broken(found) == {"effects and records are the same"}


def test_a_step_that_starts_after_a_cancellation_is_noticed() -> None:
    told = Answer(kind="cancelled", execution="x", at=9.0, database_at=0.9)
    assert "no step started after a cancellation" in broken(good(), told)
    told = Answer(kind="cancelled", execution="x", at=9.0, database_at=1.1)
    assert "no step started after a cancellation" not in broken(good(), told)


def test_a_join_that_fires_twice_or_early_is_noticed() -> None:
    fan = Found(id="x", definition="fan", status="succeeded", key="k", error=None)
    fan.events = [Event(n, "step_ready", "join", None, 0.0) for n in (1, 2)]
    assert "joins fire once, after all their parts" in broken(fan)
    fan.events = [Event(1, "step_ready", "join", None, 0.0)]
    fan.calls = [Call(execution="x", path="join", attempt=1, undo=False, phase="begun", pid=7, at=1.0)]
    assert "joins fire once, after all their parts" in broken(fan)


# What there is.


def test_faults_have_numbers_of_their_own_and_workflows_an_end() -> None:
    numbers = [fault.number for fault in FAULTS]
    assert len(numbers) == len(set(numbers))
    assert {number.rstrip("abcdefghijklmnop") for number in numbers} == {str(n) for n in range(1, 13)}
    assert sum(fault.mixes for fault in FAULTS) >= 8
    assert all(ENDS.values())


def test_each_mutant_is_meant_for_a_fault_and_a_claim_that_there_are() -> None:
    assert len(mutants.MUTANTS) >= 10
    known = {fault.number for fault in FAULTS} | {"none"}
    beside = (scenario.OWN, scenario.AGAIN, scenario.REPEATED)
    for mutant in mutants.MUTANTS.values():
        assert mutant.fault in known
        assert any(mutant.caught_by in name for name in (*INVARIANTS, *beside))


def test_nothing_is_armed_but_processes_started_to_be_hurt() -> None:
    """This one has loaded the suite, and all the tests that come after run in it."""
    assert fault_points.reach.__module__ == "orchestrator.fault_points"
    assert Producer._publish.__module__ == "kombu.messaging"


#: Breaks the engine once for each mutant, in a child of its own; prints the names of those that could not.
BREAK_EACH = """
import os
from fault_suite.mutants import MUTANTS
for name, mutant in MUTANTS.items():
    if not (child := os.fork()):
        mutant.break_it()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(name)
"""


def test_each_mutant_still_finds_what_it_breaks() -> None:
    """Each in a process of its own, as what it does to the engine stays; forked, as loading that takes long."""
    path = os.pathsep.join(str(folder) for folder in (Path(__file__).parent, Path(__file__).parents[1]))
    env = os.environ | {"PYTHONPATH": path, "ORCHESTRATOR_DATABASE_URL": "postgresql+psycopg://x/y"}
    argv = [sys.executable, "-c", BREAK_EACH]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == [], done.stderr


# A part that goes back by itself.


def part(*undone: str, handled_at: float = 9.0, late: str | None = None) -> Found:
    """An execution of which these were undone, in order, and whose handler began then."""
    found = Found(id="x", definition="partly", status="succeeded", key="k", error=None)
    done = ["before", "part[0].one", "part[0].two", "instead"]
    found.effects = [Effect(number, path, 1, False) for number, path in enumerate(done)]
    found.effects += [Effect(number, path, 1, True) for number, path in enumerate(undone, 10)]
    times = {"before": 1.0, "part[0].one": 2.0, "part[0].two": 3.0, "instead": handled_at} | (
        {late: 7.0} if late else {}
    )
    for path, at in [*times.items(), *((f"undo:{path}", 5.0 + number) for number, path in enumerate(undone))]:
        for phase, when in (("begun", at), ("ended", at + 0.5)):
            undo = path.startswith("undo:")
            found.calls.append(Call(execution="x", path=path, attempt=1, undo=undo, phase=phase, pid=7, at=when))
    return found


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (part(), "compensations in reverse order, all of them"),
        (part("part[0].two"), "compensations in reverse order, all of them"),
        (part("part[0].one", "part[0].two"), "compensations in reverse order, all of them"),
        (part("part[0].two", "part[0].one", "before"), "compensations in reverse order, all of them"),
        (part("part[0].two", "part[0].one", handled_at=5.5), "no compensation while a forward attempt lives"),
        (part("part[0].two", "part[0].one", late="part[0].two"), "no compensation while a forward attempt lives"),
    ],
)
def test_a_part_that_does_not_go_back_as_a_unit_is_noticed(found: Found, name: str) -> None:
    assert list(INVARIANTS[name](Evidence(executions={"x": found}, answers=[], claims={}, differences=[])))
    for invariant in ("compensations in reverse order, all of them", "no compensation while a forward attempt lives"):
        sound = Evidence(executions={"x": part("part[0].two", "part[0].one")}, answers=[], claims={}, differences=[])
        assert not list(INVARIANTS[invariant](sound))


# Reports.


def found(number: str, seed: int, claim: str | None = None) -> dict[str, object]:
    result = scenario.Result(number=number, title=f"fault {number}", seed=seed)
    result.claims = {claim: ["broken"]} if claim else {}
    (data,) = report.as_data([result], [], {}, "abc")["scenarios"]
    return dict(data)


MADE = {"made_of": "servers", "seed": 5, "rate": 14.0, "load": "14 executions/s", "command": "make faults-matrix"}


def measured(seconds: float | None, claim: str | None = None) -> scenario.Result:
    """A fault that may take a second, and another claim that it may have broken."""
    result = scenario.Result(number="1a", title="a kill", seed=5, target=1, executions=9, completed=9, connections=1)
    result.recovery = Recovery(before=50, lowest=0, seconds=seconds)
    late = seconds is None or seconds > 1
    result.claims = {scenario.IN_TIME: ["late"] if late else []} | ({claim: ["broken"]} if claim else {})
    return result


@pytest.mark.parametrize(
    ("seconds", "counts", "told"),
    [
        ([2.0, 0.2, 0.4], 0.4, "0.4 s (measured 2.0 s, 0.2 s, 0.4 s)"),
        ([2.0, 0.2, 1.3], 1.3, "1.3 s (measured 2.0 s, 0.2 s, 1.3 s)"),
        ([None, None, 0.1], None, " (measured never, never, 0.1 s)"),
    ],
)
def test_of_a_rate_that_was_late_the_one_in_the_middle_of_three_counts(
    seconds: list[float | None], counts: float | None, told: str
) -> None:
    result = scenario.together([measured(one) for one in seconds])
    assert result.recovery is not None
    assert result.recovery.seconds == counts
    assert result.ok == (counts is not None and counts <= 1)
    assert (result.executions, result.completed) == (27, 27)
    assert f"| {told} | 1 s |" in report.page(report.as_data([result], [], MADE, "abc"))


def test_a_page_tells_each_claim_of_each_fault() -> None:
    whole, broken = found("1a", 5), found("4a", 6, scenario.HIT) | {"commit": "def"}
    told = report.page(MADE | {"violations": 1, "scenarios": [whole, broken], "not_run": []})
    number = len(INVARIANTS) + 1
    assert f"{number}. {scenario.HIT}" in told
    assert f"| 4a |{'  |' * (number - 1)} 1 |" in told
    assert "- commit abc, def" in told


def test_what_was_found_is_kept_a_line_a_scenario() -> None:
    for scenarios in ([found("1a", 5), found("4a", 6, scenario.HIT)], []):
        data = MADE | {"violations": 1, "scenarios": scenarios, "not_run": []}
        kept = report.as_text(data)
        assert json.loads(kept) == data
        assert sum(line.startswith("    {") for line in kept.splitlines()) == len(scenarios)


@pytest.mark.parametrize(
    ("in_time", "executions", "complaint"),
    [
        (401, 600, None),
        (399, 600, "399 executions in 80 s, and 800 without faults"),
        (400, 499, "499 executions, where 500 are asked for"),
    ],
)
def test_a_mixed_run_has_to_do_half_of_what_is_done_without_faults(
    in_time: int, executions: int, complaint: str | None
) -> None:
    without = scenario.Result(number=scenario.NONE, title="", seed=5, in_time=200, lasted=20)
    found = scenario.Result(number=scenario.MIXED, title="", seed=5, in_time=in_time, executions=executions, lasted=80)
    scenario.require_half(found, without, 60)
    assert found.claims.get(scenario.ENOUGH) == (None if complaint is None else [complaint])


@pytest.mark.parametrize(
    ("alone", "under_load", "rate"),
    [
        (0.05, 0.40, machine.MOST),  # time to spare
        (0.15, 0.75, 11.7),
        (0.05, 1.00, machine.LEAST),  # never fewer than a mixed run needs
        (0.70, 0.90, machine.LEAST),
        (0.30, 0.30, machine.MOST),  # nothing was measured
    ],
)
def test_a_load_leaves_the_machine_time_to_spare(alone: float, under_load: float, rate: float) -> None:
    assert machine.fitted(alone, under_load) == rate


def test_what_the_processors_do_is_read_from_the_kernel() -> None:
    def used(work: Callable[[], object]) -> float:
        before, end = machine.Moment.now(), time.monotonic() + 0.5
        while time.monotonic() < end:
            work()
        return machine.Moment.now().since(before)

    assert used(lambda: None) > 0.5 / (os.cpu_count() or 1)
    moment = machine.Moment.now()
    assert moment.since(moment) == 0


def test_what_breaks_while_a_rate_is_measured_again_stays_broken() -> None:
    result = scenario.together([measured(2.0), measured(0.1, scenario.ALIVE), measured(0.2)])
    assert {name for name, found in result.claims.items() if found} == {scenario.ALIVE}


def test_what_is_run_again_takes_the_place_of_what_was_found_and_is_told() -> None:
    earlier = MADE | {
        "violations": 1,
        "scenarios": [found("1a", 5), found("4a", 6, scenario.HIT), found("mixed", 5)],
        "not_run": [{"fault": "10b", "title": "a backlog", "reason": "left out"}],
    }
    assert "- violations: 1" in report.page(earlier)
    data = report.amended(earlier, {"scenarios": [found("10b", 9), found("4a", 10)]})
    assert (data["violations"], data["not_run"]) == (0, [])
    assert [one["fault"] for one in data["scenarios"]] == ["1a", "4a", "10b", "mixed"]
    assert "- seed 5, 14 executions/s; run by themselves: 4a (seed 10), 10b (seed 9)" in report.page(data)


def test_a_run_that_was_broken_off_goes_on_with_what_it_has_not_yet() -> None:
    assert report.done(None) == set()
    # Broken off after the comparison, and before the mixed run that it is for.
    kept = [found("1a", 5, scenario.HIT), found("none", 5), found("mixed", 5), found("none", 1005)]
    earlier = {"seed": 5, "violations": 1, "scenarios": kept, "not_run": []}
    assert report.done(earlier) == {("1a", 5), ("none", 5), ("mixed", 5), ("none", 1005)}
    more = [found("none", 1005), found("mixed", 1005)]
    data = report.resumed(earlier, {"seed": 5, "violations": 0, "scenarios": more, "not_run": []})
    assert data["violations"] == 1, "what was broken stays so"
    told = [(one["fault"], one["seed"]) for one in data["scenarios"]]
    assert told == [("1a", 5), ("none", 5), ("mixed", 5), ("none", 1005), ("mixed", 1005)]


def test_what_is_broken_is_told_last_and_what_was_left_out_once_for_each_reason() -> None:
    told = Console(record=True, width=160, file=io.StringIO())
    broken = scenario.Result(number="1a", title="a kill", seed=5, claims={scenario.HIT: [f"no {n}" for n in range(7)]})
    fault = FAULTS[0]
    report.left_out(told, [(fault, "too long"), (replace(fault, number="4x"), "too long"), (fault, "no servers")])
    report.table(told, [broken], [])
    report.failures(told, [scenario.Result(number="2a", title="another", seed=6), broken], "BROKER=amqp ")
    lines = told.export_text().splitlines()
    assert lines[:2] == [
        f"NOT RUN {fault.number} 4x: 2 faults: too long",
        f"NOT RUN {fault.number}: {fault.title}: no servers",
    ]
    assert [words.split()[0] for words in lines[-8:-1]] == ["1a", *["the"] * 6]
    assert lines[-2].endswith(f"{scenario.HIT}: 2 more")
    assert lines[-1].strip() == 'again: BROKER=amqp make faults SEED=5 ARGS="--only 1a --mixed 0"'


def test_only_a_run_that_has_been_kept_can_go_on(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(MADE | {"made_of": "clay", "scenarios": []}))
    for words, complaint in (
        (["--resume"], "--resume needs --into FILE"),
        (["--resume", "--into", str(kept), "--seed", "6"], "holds a run of seed 5"),
        (["--resume", "--into", str(kept), "--rate", "9"], "holds a run with 14 executions/s"),
        (["--resume", "--into", str(kept)], "holds a run of another make: clay"),
        (["--resume", "--into", str(kept), "--amend", str(kept)], "choose one"),
    ):
        refused = CliRunner().invoke(main, words)
        assert (refused.exit_code, complaint in refused.output) == (2, True)
