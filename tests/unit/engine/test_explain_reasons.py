"""Why an execution is where it is: from what was read to sentences and commands."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RetryPolicy, each, machine, parallel, step, transition, wait, workflow
from orchestrator.compiler.graph import Graph
from orchestrator.engine import explain as explain_module
from orchestrator.engine import step_findings
from orchestrator.engine.explain import explain
from orchestrator.engine.phrases import listed, told, when
from orchestrator.engine.step_findings import Finding
from orchestrator.ledger.explain import Reading
from orchestrator.model.state import DRAINING_EXECUTIONS

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
ID = "019a0000-0000-7000-8000-000000000001"
SWEEPS = "orchestrator.sweeps"

PLAIN = workflow(
    "plain",
    step("a", "x", retry=RetryPolicy(max_attempts=4)),
    step("b", "x"),
    parallel(step("c", "x"), step("d", "x")),
    step("e", "x"),
)
SIGNALS = workflow(
    "signals",
    wait("word", "approval"),
    signals={"approval": {"type": "object", "required": ["by"], "properties": {"by": {"type": "string"}}}},
)
LOOP = workflow("loop", each("loop", "{{ input.items }}", step("inner", "x")))
DOOR = machine(
    "door",
    initial="closed",
    states=["closed", "open"],
    final=["open"],
    transitions=[transition("closed", "open", event="OPEN", actors=["keeper"])],
)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def row(path: str, status: str, **columns: Any) -> dict[str, Any]:
    """A step as it is read."""
    empty = dict.fromkeys(
        ("undoes", "owner", "awaits", "wait_name", "correlation", "due_at", "error", "progress", "pending", "count")
    )
    empty |= {"woken_by": None, "inner": f"{path}["}
    given = {"path": path, "status": status, "queue": "main", "attempt": 1, "failures": 0, "ahead": 0, "done": 0}
    times = {"ready_at": at(-60), "started_at": at(-60), "halt": False, "open": 1}
    return empty | given | times | columns


def findings(
    definition: Any, *steps: dict[str, Any], status: str = "running", read: dict[str, Any] | None = None, **columns: Any
) -> list[Finding]:
    execution = dict.fromkeys(
        ("state", "error", "start_at", "deadline", "retry_at", "settled_at", "paused_at", "paused_by", "pause_reason")
    )
    execution |= dict.fromkeys(("pause_asked_at", "maintenance_since", "maintenance_by", "maintenance_reason"))
    execution |= {"id": ID, "status": status, "retries": 0, "now": NOW, "created_at": at(-100)}
    around: dict[str, Any] = {"consumers": {"main": 2, SWEEPS: 1}, "fired": at(-1)}
    reading = Reading(execution=execution | columns, steps=steps, **(around | (read or {})))
    return explain(reading, Graph(definition.definition, "main"), dead_after=10, sweep_queue=SWEEPS)


def only(found: list[Finding]) -> tuple[str, str, str | None]:
    (one,) = found
    return one.kind, one.sentence, one.command


def test_a_signal_is_named_with_the_command_that_sends_one_that_fits() -> None:
    waiting = row("word", "waiting", awaits="signal", wait_name="approval", due_at=at(3600))
    kind, sentence, command = only(findings(SIGNALS, waiting))
    assert (kind, command) == ("signal", f"""orchestrator signal {ID} approval --payload '{{"by": "Ada"}}'""")
    assert sentence == "`word` waits for the signal `approval`, at most until 2026-01-31 10:00:00 UTC (in 1 h)"


def test_an_event_is_named_with_its_correlation_as_a_shell_takes_it() -> None:
    waiting = row("word", "waiting", awaits="signal", wait_name="paid", correlation="order 7; rm")
    kind, sentence, command = only(findings(SIGNALS, waiting))
    assert (kind, command) == ("event", "orchestrator emit paid 'order 7; rm'")
    assert sentence == "`word` waits for the event `paid` about `order 7; rm`"


def test_a_machine_tells_which_events_it_takes_and_whose() -> None:
    found = only(findings(DOOR, row("machine", "waiting", awaits="event"), state="closed"))
    assert found[0] == "machine"
    assert found[1] == "the machine stands in state `closed` and waits for an event; allowed are `OPEN`"
    assert found[2] == f"orchestrator send {ID} OPEN --role keeper"


def test_a_delay_and_a_retry_tell_when() -> None:
    kind, sentence, command = only(findings(PLAIN, row("a", "waiting", due_at=at(120))))
    assert (kind, command) == ("time", f"orchestrator complete {ID} a")
    assert sentence == "`a` waits for its time, at 2026-01-31 09:02:00 UTC, in 2 min"
    error = {"name": "Busy", "message": "come back"}
    kind, sentence, command = only(findings(PLAIN, row("a", "retrying", failures=2, due_at=at(30), error=error)))
    assert (kind, command) == ("retry", f"orchestrator retry {ID}")
    assert sentence == (
        "`a` is tried again at 2026-01-31 09:00:30 UTC, in 30 s, as attempt 3 of 4; the last ended with Busy: come back"
    )


def test_a_ready_step_tells_a_queue_nobody_consumes_from_a_backlog() -> None:
    lonely = findings(PLAIN, row("a", "ready", queue="special one"))
    assert only(lonely)[0] == "no_consumer"
    assert only(lonely)[2] == "orchestrator worker --queues 'special one'"
    kind, sentence, command = only(findings(PLAIN, row("a", "ready", ahead=12)))
    assert (kind, command) == ("backlog", "orchestrator worker --queues main")
    assert "12 ahead of it in queue `main`, which 2 living workers consume" in sentence
    assert "1000 or more ahead" in only(findings(PLAIN, row("a", "ready", ahead=1000)))[1]


NODE = {"boot_id": "boot", "name": "w@h", "seen": at(-1), "buried_at": None, "stopped_at": None}


@pytest.mark.parametrize(
    ("node", "kind", "words"),
    [
        (NODE, "running", "runs under boot.1 on w@h since 2026-01-31 08:59:00 UTC (1 min ago)"),
        (NODE | {"seen": at(-8)}, "owner_silent", "it is released at 2026-01-31 09:00:02 UTC, in 2 s"),
        (NODE | {"buried_at": at(-20)}, "owner_dead", "gone since 2026-01-31 08:59:40 UTC (20 s ago)"),
        (NODE | {"stopped_at": at(-20)}, "owner_dead", "the next sweep of dead owners releases it"),
        (None, "owner_dead", "is dead; the next sweep"),
    ],
)
def test_a_running_step_tells_of_its_owner(node: dict[str, Any] | None, kind: str, words: str) -> None:
    owners = {} if node is None else {"boot": node}
    found = only(findings(PLAIN, row("a", "running", owner="boot.1"), read={"owners": owners}))
    assert (found[0], found[2]) == (kind, None)
    assert words in found[1]


def test_the_claim_of_a_dead_owner_needs_somebody_who_sweeps() -> None:
    running = row("a", "running", owner="boot.1")
    nobody = {"owners": {}, "consumers": {"main": 1}}
    assert only(findings(PLAIN, running, read=nobody))[2] == f"orchestrator worker --queues {SWEEPS}"
    assert only(findings(PLAIN, running, read={"fired": at(-60)}))[2] == "orchestrator beat"


def test_progress_and_timeout_of_an_attempt_are_told() -> None:
    running = row("a", "running", owner="boot.1", progress={"done": 3}, due_at=at(5))
    sentence = only(findings(PLAIN, running, read={"owners": {"boot": NODE}}))[1]
    assert sentence.endswith('its progress: {"done": 3}; its timeout ends it at 2026-01-31 09:00:05 UTC, in 5 s')


def test_a_blocked_step_is_followed_to_what_it_waits_for_in_the_end() -> None:
    """`e` has a row because `d` has ended; `c`, which it waits for, has none yet."""
    found = findings(PLAIN, row("a", "waiting", awaits="signal", wait_name="go"), row("e", "blocked", pending=["c"]))
    assert [(one.kind, one.path) for one in found] == [("signal", "a"), ("blocked", "e")]
    assert found[1].sentence == "`e` is blocked behind `c`: `a` waits for the signal `go`"
    assert found[1].command == found[0].command
    two = findings(
        PLAIN, row("c", "retrying", due_at=at(1)), row("d", "ready"), row("e", "blocked", pending=["c", "d"])
    )
    assert two[2].command is None
    assert "behind `c` and `d`: `c` is tried again" in two[2].sentence


def test_a_loop_tells_how_much_is_done() -> None:
    found = findings(LOOP, row("loop", "waiting", awaits="body", count=10, done=3), row("loop[3].inner", "ready"))
    assert found[0].sentence == "the loop `loop` is open: 3 of 10 iterations are done"
    assert found[1].path == "loop[3].inner"


def test_a_body_that_was_broken_off_tells_what_of_it_goes_on() -> None:
    broken = {
        "awaits": "body",
        "woken_by": "broken",
        "error": {"name": "No", "message": "enough", "step": "loop[0].inner"},
    }
    loop = row("loop", "waiting", count=10, done=3, **broken)
    begins = "`loop` has failed with No in `loop[0].inner`: enough; before that is handled, it waits for"
    assert only(findings(LOOP, loop)) == ("part", f"{begins} its steps to end", None)
    kids = [{"id": name, "definition_name": "plain", "status": "cancelling"} for name in ("kid", "other")]
    children = (kids[0] | {"parent_path": "loop[1].inner"}, kids[1] | {"parent_path": "elsewhere[1].inner"})
    running = row("loop[2].inner", "running", owner="boot.1", halt=True)
    found = findings(LOOP, loop, running, read={"owners": {"boot": NODE}, "children": children})
    assert [one.kind for one in found] == ["part", "running"]
    assert found[0].sentence == f"{begins} `loop[2].inner` and its child kid (plain) to end"
    assert (found[0].child, found[0].command) == ("kid", "orchestrator explain kid")
    # Of a machine, the transition that it is in.
    turn = row("machine", "waiting", **broken | {"inner": "2:OPEN/"})
    assert "`2:OPEN/pay` to end" in findings(DOOR, turn, row("2:OPEN/pay", "running", owner="boot.1"))[0].sentence


def test_a_child_is_handed_on_to_be_explained() -> None:
    (found,) = findings(PLAIN, row("a", "waiting", awaits="child", wait_name="other"))
    assert (found.kind, found.child, found.command) == ("child", "other", "orchestrator explain other")


def test_a_pause_tells_who_and_why_and_hides_what_merely_does_not_start() -> None:
    since: dict[str, Any] = {"paused_at": at(-300), "paused_by": "ann", "pause_reason": "the bank is closed"}
    kind, sentence, command = only(findings(PLAIN, row("a", "ready"), status="paused", **since))
    assert (kind, command) == ("paused", f"orchestrator resume {ID}")
    assert sentence == "it was paused by ann at 2026-01-31 08:55:00 UTC, 5 min ago because the bank is closed"
    running = row("a", "running", owner="boot.1")
    found = findings(PLAIN, running, status="pausing", read={"owners": {"boot": NODE}}, **since)
    assert [one.kind for one in found] == ["pausing", "running"]
    assert "comes to rest once `a` has ended" in found[0].sentence


def test_an_execution_that_has_not_begun_tells_when_and_what_holds_it() -> None:
    held: dict[str, Any] = {"start_at": at(60), "maintenance_since": at(-60), "maintenance_by": "ann"}
    found = findings(PLAIN, row("a", "waiting", due_at=at(60)), status="created", **held)
    assert [one.kind for one in found] == ["starts_at", "maintenance"]
    assert found[0].sentence == "it starts at 2026-01-31 09:01:00 UTC, in 1 min"
    assert found[1].command == "orchestrator maintenance off"
    assert "ann turned it on" in found[1].sentence


@pytest.mark.parametrize(
    ("status", "words"),
    [("failing", "is failing"), ("cancelling", "is being cancelled"), ("timing_out", "is timing out")],
)
def test_a_drain_tells_which_attempts_and_children_it_waits_for(status: str, words: str) -> None:
    error = {"name": "No", "message": "enough", "step": "b"}
    child = {"id": "kid", "definition_name": "plain", "status": "cancelling"}
    running = row("c", "running", owner="boot.1", halt=True)
    around = {"owners": {"boot": NODE}, "children": (child,)}
    found = findings(PLAIN, running, status=status, error=error, read=around)
    assert [one.kind for one in found] == [status, "child", "running"]
    assert (
        found[0].sentence == f"it {words} because of No in `b`: enough, and waits for the running attempt of `c` to end"
    )
    assert found[1].child == "kid"


def test_a_rollback_tells_at_which_undo_it_is() -> None:
    undo = row("undo:b", "ready", undoes="b", queue="undoing")
    behind = row("undo:a", "blocked", undoes="a", pending=["undo:b"])
    found = findings(PLAIN, undo, behind, status="compensating", error={"name": "No", "message": "enough"})
    assert [one.kind for one in found] == ["compensating", "no_consumer"]
    assert found[0].sentence == "it goes back because of No: enough, and is at the undo of `b`; 2 left"


def test_a_deadline_is_told_when_it_is_near_or_comes_first() -> None:
    far, waiting = at(86_400), row("a", "waiting", due_at=at(7200))
    assert [one.kind for one in findings(PLAIN, waiting, deadline=far)] == ["time"]
    assert [one.kind for one in findings(PLAIN, waiting, deadline=at(1800))] == ["time", "deadline"]
    assert [one.kind for one in findings(PLAIN, row("a", "waiting", due_at=at(90_000)), deadline=far)][1:] == [
        "deadline"
    ]


def test_what_is_long_due_needs_a_beat_or_somebody_who_sweeps() -> None:
    late = row("a", "retrying", due_at=at(-60))
    assert [one.kind for one in findings(PLAIN, late)] == ["retry"]
    kinds = {one.kind: one.command for one in findings(PLAIN, late, read={"fired": at(-60)})}
    assert kinds["no_sweeps"] == "orchestrator beat"
    kinds = {one.kind: one.command for one in findings(PLAIN, late, read={"consumers": {}})}
    assert kinds["no_sweeps"] == f"orchestrator worker --queues {SWEEPS}"


ERROR = {"name": "Busy", "message": "come back", "step": "b"}


@pytest.mark.parametrize(
    ("status", "words", "command"),
    [
        ("succeeded", "it succeeded", None),
        ("failed", "it failed", "retry"),
        ("cancelled", "it was cancelled", "retry"),
        ("timed_out", "it timed out", "retry"),
        ("compensated", "it went back, which ended", None),
    ],
)
def test_an_end_tells_how_and_what_can_be_done(status: str, words: str, command: str | None) -> None:
    error = None if status == "succeeded" else ERROR
    because = "" if error is None else " because of Busy in `b`: come back"
    found = only(findings(PLAIN, status=status, settled_at=at(-10), error=error))
    sentence = f"{words} at 2026-01-31 08:59:50 UTC, 10 s ago{because}"
    assert found == (status, sentence, None if command is None else f"orchestrator {command} {ID}")


def test_a_failed_rollback_names_what_could_not_be_undone() -> None:
    undos = ({"undoes": "a", "error": {"name": "Gone", "message": "no such order"}},)
    found = only(
        findings(PLAIN, status="compensation_failed", settled_at=at(-10), error=ERROR, read={"failed_undos": undos})
    )
    assert "could not undo `a` (Gone: no such order)" in found[1]
    assert found[2] == f"orchestrator compensate {ID}"


def test_an_execution_that_is_retried_as_a_whole_says_when() -> None:
    sentence = only(findings(PLAIN, status="failed", settled_at=at(-10), retry_at=at(60), retries=1))[1]
    assert sentence.endswith("it is retried by itself at 2026-01-31 09:01:00 UTC, in 1 min, for the 2. time")


def test_nothing_open_is_what_a_crash_leaves() -> None:
    assert only(findings(PLAIN))[0] == "stalled"


def test_of_many_open_steps_the_rest_is_counted() -> None:
    assert findings(PLAIN, row("a", "ready", open=500))[-1].sentence == "499 more of its steps are open"


def test_phrases() -> None:
    assert when(NOW, NOW) == "at 2026-01-31 09:00:00 UTC, now"
    assert when(at(-90_000), NOW).endswith("1 d ago")
    assert told({"name": "E", "message": "x" * 300}).endswith("x…")
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_the_page_on_operating_has_every_kind_of_reason() -> None:
    sources = "".join(inspect.getsource(module) for module in (explain_module, step_findings))
    kinds = set(re.findall(r'_found\(\s*"(\w+)"', sources)) | DRAINING_EXECUTIONS | {"failed", "cancelled", "timed_out"}
    page = (Path(__file__).parents[3] / "docs/operating.md").read_text(encoding="utf-8")
    table = page.partition("| kind | says |")[2].partition("## ")[0]
    shown = {
        kind for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for kind in re.findall(r"`(\w+)`", cell)
    }
    assert shown == kinds
