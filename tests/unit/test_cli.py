"""The command line without servers: what it refuses, what it draws, what it plans."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator, compensation, parallel, sequence, step, workflow
from orchestrator.authoring.example import example
from orchestrator.cli import call
from orchestrator.cli.kill import Killed
from orchestrator.cli.main import cli
from orchestrator.cli.reach import consumed_queues
from orchestrator.cli.report import RELEASED, Halfway, Report
from orchestrator.cli.timeline import axis, bars, draw
from orchestrator.cli.walk import segments, undo, walk
from orchestrator.compiler.compile import CHAIN_LIMIT
from orchestrator.compiler.graph import Graph
from orchestrator.compiler.plan import Chain, Chord
from orchestrator.ledger.figures import Done, Held
from orchestrator.ledger.verify import Check

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "MODULES"):
        monkeypatch.delenv(f"ORCHESTRATOR_{name}", raising=False)


def graph(*nodes: Any, **options: Any) -> Graph:
    return Graph(workflow("planned", *nodes, **options).definition, "main")


def event(kind: str, path: str | None, seconds: float) -> dict[str, Any]:
    return {"type": kind, "path": path, "at": BEGIN + timedelta(seconds=seconds)}


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["start"],
        ["start", "greeting", "--input", "{'single': 'quotes'}"],
        ["start", "greeting", "--input", "@no/such/file.json"],
        ["start", "greeting", "--label", "no-equals-sign"],
        ["show", "not-an-id"],
        ["list", "--status", "no-such-status"],
        ["compile"],
        ["worker", "--concurrency", "0"],
    ],
)
def test_a_wrong_command_line_is_told_and_exits_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(arguments) == 2
    told = capsys.readouterr()
    assert "Error:" in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    "command", ["migrate", "worker", "beat", "list", "verify", "start greeting", "definitions publish"]
)
def test_without_settings_one_line_says_which_is_missing(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command.split()) == 1
    told = capsys.readouterr().err
    assert "ORCHESTRATOR_DATABASE_URL" in told or "ORCHESTRATOR_BROKER_URL" in told
    assert len(told.splitlines()) == 1


def test_an_application_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["worker", "--app", "no_such_module:app"]) == 1
    assert "no Celery application at no_such_module:app" in capsys.readouterr().err
    assert call(["beat", "--app", "json:dumps"]) == 1
    assert "json:dumps is no application of ours" in capsys.readouterr().err


def test_the_help_of_each_command_that_has_codes_of_its_own_tells_them(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("start", "verify", "demo"):
        assert call([command, "--help"]) == 0
        assert "Exit codes:" in capsys.readouterr().out


def test_every_command_says_in_one_sentence_what_it_does() -> None:
    assert all(command.get_short_help_str() for command in cli.commands.values())


def test_a_yaml_file_is_compiled_without_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "two.yaml"
    file.write_text("name: two\nsteps:\n  - {id: a, activity: x}\n  - {id: b, activity: y, queue: other}\n")
    assert call(["compile", "--file", str(file), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["stages"] == [
        {
            "after": [],
            "in_place": False,
            "parts": [
                {
                    "kind": "chain",
                    "segments": [{"paths": ["a"], "queue": "orchestrator"}, {"paths": ["b"], "queue": "other"}],
                }
            ],
        }
    ]
    assert call(["compile", "--file", str(file)]) == 0
    assert "chain" in capsys.readouterr().out


def test_a_file_that_is_no_definition_is_told_with_its_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("name: wrong\nsteps:\n  - {id: a, activity: x, after: [b]}\n")
    assert call(["compile", "--file", str(file)]) == 1
    assert str(file) in capsys.readouterr().err


def test_a_definition_that_nobody_knows_is_told_with_a_close_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_MODULES", "definitions.greeting")
    assert call(["compile", "greting"]) == 1
    assert "greeting" in capsys.readouterr().err


def test_without_a_database_the_modules_definitions_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_MODULES", "definitions.greeting")
    assert call(["definitions", "--json"]) == 0
    told = capsys.readouterr()
    (row,) = json.loads(told.out)["definitions"]
    assert (row["name"], row["state"], row["published"]) == ("greeting", "not published", None)
    assert "no database" in told.err


def test_branches_that_join_are_walked_as_a_chord_and_what_follows_runs_in_one_task() -> None:
    planned = graph(step("a", "x"), parallel(step("b", "x"), step("c", "x")), step("d", "x"), step("e", "x"))
    first, second = walk(planned)
    assert [segment.paths for segment in segments(first.parts[0])] == [("a",)]
    (chord,) = second.parts
    assert isinstance(chord, Chord)
    assert second.after == ("a",)
    assert [segment.paths for segment in chord.header] == [("b",), ("c",)]
    assert chord.body.paths == ("d", "e")


def test_a_join_of_branches_with_several_tasks_is_a_stage_of_its_own() -> None:
    branch = sequence(step("b", "x"), step("c", "x", queue="far"))
    *_, last = walk(graph(step("a", "x"), parallel(branch, step("d", "x")), step("e", "x")))
    assert set(last.after) == {"c", "d"}
    assert [segment.paths for segment in segments(last.parts[0])] == [("e",)]


def test_a_chain_longer_than_one_message_goes_on_in_a_further_stage() -> None:
    nodes = [step(f"s{n}", "x", queue=f"q{n % 2}") for n in range(CHAIN_LIMIT + 3)]
    first, second = walk(graph(*nodes))
    assert [len(segments(stage.parts[0])) for stage in (first, second)] == [CHAIN_LIMIT, 3]
    assert not second.in_place  # its first step is for the other queue


def test_every_step_of_a_wide_graph_is_walked_exactly_once() -> None:
    layers = [parallel(*(step(f"s{n}_{m}", "x") for m in range(n + 1))) for n in range(1, 6)]
    planned = graph(*layers)
    walked = [path for stage in walk(planned) for part in stage.parts for s in segments(part) for path in s.paths]
    assert sorted(walked) == sorted(planned.root.steps)


def test_the_undo_of_everything_is_one_reverse_order_cut_into_messages() -> None:
    count = CHAIN_LIMIT + 2
    nodes = [step(f"s{n}", "x", compensation=compensation("y")) for n in range(count)]
    parts = undo(graph(*nodes))
    assert all(isinstance(part, Chain) for part in parts)
    paths = [path for part in parts for segment in segments(part) for path in segment.paths]
    assert paths == [f"undo:s{n}" for n in reversed(range(count))]


def test_a_worker_consumes_every_queue_that_a_definition_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "with_queues.py"
    module.write_text(
        "from orchestrator import activity, compensation, step, workflow\n"
        "@activity\ndef with_queues_call() -> None: ...\n"
        "undo = compensation('with_queues_call', queue='undoing')\n"
        "a = workflow('with-queues', step('a', 'with_queues_call', queue='special', compensation=undo), queue='own')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = Orchestrator(
        database_url="postgresql://nobody@127.0.0.1:1/x", broker_url="redis://127.0.0.1:1/0", modules=("with_queues",)
    )
    assert consumed_queues(found) == ["orchestrator", "orchestrator.sweeps", "own", "special", "undoing"]


def test_a_bar_tells_waiting_from_running_and_each_attempt_by_itself() -> None:
    history = [
        event("execution_running", None, 0),
        event("step_ready", "a", 0),
        event("step_started", "a", 2),
        event("step_retrying", "a", 3),
        event("step_ready", "a", 5),
        event("step_started", "a", 6),
        event("step_succeeded", "a", 8),
        event("step_started", "b", 8),
    ]
    a, b = bars(history, BEGIN + timedelta(seconds=10))
    assert (a.path, a.attempts, a.ran, a.waited) == ("a", 2, 3.0, 5.0)
    assert [span.ended for span in a.spans if span.state == "running"] == ["retrying", "succeeded"]
    assert (b.attempts, b.ran, b.spans[0].ended) == (1, 2.0, "")  # cut off where it is still at work


def test_bars_are_drawn_to_scale_and_an_undo_is_marked() -> None:
    history = [
        event("step_ready", "a", 0),
        event("step_started", "a", 5),
        event("step_succeeded", "a", 10),
        event("step_started", "undo:a", 10),
        event("step_succeeded", "undo:a", 20),
    ]
    drawn = bars(history, BEGIN + timedelta(seconds=20))
    lines = [line.plain for line in draw(drawn, BEGIN, BEGIN + timedelta(seconds=20), width=20)]
    assert lines == ["a   " + "░" * 5 + "█" * 5 + " " * 10 + " 5 s", "↩ a " + " " * 10 + "█" * 10 + " 10 s"]
    assert axis(BEGIN, BEGIN + timedelta(seconds=20), 3, 20).plain == "    0" + "20 s".rjust(19)


def test_the_shortest_attempt_is_still_seen() -> None:
    history = [event("step_started", "a", 0), event("step_succeeded", "a", 0.0001)]
    (line,) = draw(bars(history, BEGIN), BEGIN, BEGIN + timedelta(hours=1), width=30)
    assert line.plain.count("█") == 1


def test_a_first_command_has_an_input_that_fits_the_schema() -> None:
    schema = {
        "type": "object",
        "required": ["name", "age", "tags", "kind"],
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 18},
            "tags": {"type": "array", "items": {"type": "boolean"}},
            "kind": {"enum": ["small", "large"]},
            "optional": {"type": "string"},
        },
    }
    assert example(schema) == {"name": "Ada", "age": 18, "tags": [True], "kind": "small"}


def report() -> Report:
    held = Held(execution_id="e", path="a", attempt=1)
    killed = Killed(worker="worker-1", boot_id="b", pid=1, held=(held,))
    return Report(
        workflow="w",
        inputs=10,
        seed=None,
        statuses={"succeeded": 10},
        figures={},
        done=Done(executions=10, attempts=21, steps=20, seconds=2.0),
        halfway=Halfway(killed=killed, executions=5, seconds=0.5),
        released=[held],
        scenario_checks=[],
        ledger_checks=[Check(name="claim", violations=0, sample=[])],
    )


def test_a_demonstration_passes_only_if_every_claim_holds_and_a_claim_was_released() -> None:
    assert report().ok
    assert not replace(report(), ledger_checks=[Check(name="claim", violations=1, sample=["x"])]).ok
    unreleased = replace(report(), released=[])
    assert [verdict.name for verdict in unreleased.verdicts if not verdict.ok] == [RELEASED]


def test_a_demonstrations_rates_are_of_the_whole_time() -> None:
    data = report().as_data()
    assert (data["executions_per_second"], data["steps_per_second"]) == (5.0, 10.0)
    assert data["killed"]["executions_per_second_before"] == 10.0
    assert json.loads(json.dumps(data)) == data
