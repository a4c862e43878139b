"""A level of steps as a graph: who follows whom, and what the end of one brings about by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from costs import calls

from orchestrator.compiler.body import Body, Following
from orchestrator.compiler.graph import Graph
from orchestrator.model.definition import Definition, Step


def step(name: str, *after: str, **options: Any) -> Step:
    return Step(id=name, activity="do", after=after, **options)


def choice(name: str, *after: str) -> Step:
    cases = [{"exit": "yes", "when": "{{ input.a == 1 }}"}]
    return Step(id=name, kind="choice", after=after, spec={"cases": cases})


def body(*steps: Step, fuses: bool = True) -> Body:
    return Body(steps, lambda found: found.queue or "q", fuses)


def statuses(found: Following) -> dict[str, str]:
    """path -> status of the rows, and the exit where one is set."""
    return {row["path"]: ":".join([row["status"], *([row["exit"]] if "exit" in row else [])]) for row in found.rows}


def test_a_step_is_followed_by_its_only_child_that_waits_for_nothing_else() -> None:
    found = body(step("a"), step("b", "a"), step("c", "b"), step("d", "b"), step("e", "c", "d"), step("f", "e"))
    assert {path: found.following(path) for path in found.steps} == {
        "a": "b", "b": None, "c": None, "d": None, "e": "f", "f": None
    }  # fmt: skip


@pytest.mark.parametrize("edge", ["a:error", "a:ended", "a:ok"])
def test_a_step_behind_an_exit_follows_nobody_as_its_parent_may_end_otherwise(edge: str) -> None:
    found = body(step("a"), step("b", edge))
    assert found.following("a") == ("b" if edge == "a:ended" else None)


def test_a_choice_is_followed_by_nobody_as_it_says_itself_who_comes_next() -> None:
    found = body(choice("a"), step("b", "a"))
    assert (found.following("a"), found.exits("a"), found.fused) == (None, ("yes", "default"), {})


def test_steps_are_fused_on_one_queue_only_and_where_both_may_be() -> None:
    found = body(step("a"), step("b", "a"), step("c", "b", queue="x"), step("d", "c", queue="x"))
    assert found.fused == {"a": "b", "c": "d"}
    assert body(step("a"), step("b", "a", fuse=False), step("c", "b")).fused == {}
    assert body(step("a", fuse=True), step("b", "a", fuse=True), step("c", "b"), fuses=False).fused == {"a": "b"}


def test_a_diamond_with_a_shortcut_skips_one_side_and_leaves_the_join_to_be_decided() -> None:
    found = body(
        choice("route"), step("long", "route:yes"), step("longer", "long"), step("join", "longer", "route:default")
    )
    after = found.follow("route", "default")
    assert statuses(after) == {"long": "skipped", "longer": "skipped", "join": "blocked"}
    assert (after.joins, after.ends) == (("join",), False)
    after = found.follow("route", "yes")
    assert statuses(after) == {"long": "ready", "join": "blocked"}
    assert after.joins == ("join",), "asked once the other side has ended too"
    [row] = [row for row in after.rows if row["path"] == "join"]
    assert (row["parents"], row["edges"]) == (("longer", "route"), [["longer", None], ["route", "default"]])


def test_what_is_skipped_with_a_branch_is_skipped_however_deep_and_its_joins_are_asked() -> None:
    found = body(
        choice("route"),
        choice("inner", "route:yes"),
        step("left", "inner:yes"),
        step("right", "inner:default"),
        step("both", "left", "right"),
        step("other", "route:default"),
        step("end", "both", "other"),
        step("lone", "left"),
    )
    after = found.follow("route", "default")
    assert statuses(after) == {
        "inner": "skipped",
        "left": "skipped",
        "right": "skipped",
        "lone": "skipped",
        "both": "blocked",
        "other": "ready",
    }
    assert after.joins == ("both",), "and the end behind it once that is decided"
    assert after.ends, "lone is a last step"
    assert statuses(found.follow("both", "skipped")) == {"end": "blocked"}


def test_a_failure_that_is_borne_kills_what_depends_on_it_up_to_the_join_that_bears_it() -> None:
    found = body(step("a"), step("b", "a"), step("c", "b:error"), step("d"), step("end", "b", "d", join="any"))
    after = found.follow("a", "failed")
    assert statuses(after) == {"b": "skipped:failed", "c": "skipped:failed", "end": "blocked"}
    assert found.follow("b", "error").joins == ("end",)
    assert statuses(found.follow("b", "error")) == {"c": "ready", "end": "blocked"}
    assert statuses(found.follow("b", None)) == {"c": "skipped", "end": "blocked"}


@pytest.mark.parametrize(
    ("edge", "join", "exit_by", "status"),
    [
        ("a", "all", None, "ready"),
        ("a", "all", "ok", "ready"),
        ("a", "all", "error", "skipped"),
        ("a", "settled", "error", "ready"),
        ("a", "settled", "failed", "ready"),
        ("a", "settled", "skipped", "skipped"),
        ("a:ended", "all", "failed", "ready"),
        ("a:ended", "all", "skipped", "ready"),
        ("a", "any", "failed", "ready:unmet"),
        ("a", "any", "skipped", "skipped"),
        ("a", 2, None, "ready:unmet"),
    ],
)
def test_a_step_with_one_parent_is_decided_at_once(edge: str, join: Any, exit_by: str | None, status: str) -> None:
    found = body(step("a"), step("b", edge, join=join))
    assert statuses(found.follow("a", exit_by)) == {"b": status}


def test_a_step_is_the_end_of_its_branch_also_by_what_is_skipped_with_it() -> None:
    found = body(choice("a"), step("b", "a:yes"), step("c", "a:default"), step("d", "c"))
    assert found.ends == ("b", "d")
    assert [found.follow("a", exit_by).ends for exit_by in ("yes", "default", "skipped")] == [True, True, True]
    assert not found.follow("c", None).ends
    assert found.follow("d", None) == Following(rows=(), joins=(), ends=True)


def test_several_edges_from_one_parent_are_one_parent() -> None:
    found = body(choice("a"), step("b", "a:yes", "a:default"))
    assert (found.parents["b"], found.children["a"]) == (("a",), ("b",))
    assert [statuses(found.follow("a", by)) for by in ("yes", "default", "skipped")] == [
        {"b": "ready"}, {"b": "ready"}, {"b": "skipped"}
    ]  # fmt: skip


def test_a_joins_row_says_what_it_waits_for() -> None:
    rows: Mapping[str, dict[str, Any]] = {
        rule: body(step("a"), step("b"), step("j", "a", "b", join=rule)).row("j") for rule in ("all", "settled", "any")
    }
    assert rows["all"] == {"path": "j", "queue": "q", "status": "blocked", "parents": ("a", "b")}
    assert (rows["settled"]["need"], rows["any"]["need"]) == (0, 1)
    number = body(step("a"), step("b"), step("j", "a", "b:error", join=2)).row("j")
    assert (number["need"], number["edges"]) == (2, [["a", None], ["b", "error"]])


def test_failures_are_borne_by_steps_that_lead_only_to_joins_which_do_without_some() -> None:
    found = body(
        step("root"),
        step("a", "root"),
        step("a2", "a"),
        step("b", "root"),
        step("aside", "b"),
        step("first", "a2", "b", join="any"),
        step("late", "first"),
        step("x"),
        step("all", "late", "x", join="settled"),
        step("end", "all"),
    )
    assert found.tolerated == {"a", "a2", "first", "late", "x"}, "b and root also lead to aside"
    assert found.losers("first") == ("a2", "a")
    assert found.losers("all") == found.losers("end") == ()


def test_losers_of_a_join_may_stand_far_before_it_and_include_whole_diamonds() -> None:
    found = body(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"), step("e"), step("j", "d", "e", join=1))
    assert sorted(found.losers("j")) == ["a", "b", "c", "d", "e"]


def line(size: int) -> list[Step]:
    return [step("s0"), *(step(f"s{i}", f"s{i - 1}") for i in range(1, size))]


def fan(size: int) -> list[Step]:
    """One step, many behind it, and a join of all of them that does without some."""
    wide = [step(f"s{i}", "root") for i in range(size - 2)]
    return [step("root"), *wide, step("join", *(found.id for found in wide), join="any")]


@pytest.mark.parametrize("shape", [line, fan])
def test_a_graph_of_two_thousand_steps_costs_twice_as_much_as_one_of_a_thousand(
    shape: Callable[[int], list[Step]],
) -> None:
    def cost(size: int) -> int:
        definition = Definition(name="w", steps=tuple(shape(size)))

        def build() -> None:
            graph = Graph(definition, "q")
            for root in graph.roots:
                graph.segment(root)
            assert len(graph.root.tolerated) in {0, size - 1}
            assert len(graph.losers(definition.steps[-1].id)) in {0, size - 1}

        return calls(build)

    cost(10)  # imports and caches
    assert cost(2_000) < 2.2 * cost(1_000)
