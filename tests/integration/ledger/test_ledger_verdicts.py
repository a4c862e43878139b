"""The statement that decides a join, against its rules written down here, whatever its parents may have become."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import Final

import pytest

from ledger.driver import Begun, Ledger
from orchestrator.compiler.edges import Edge, verdict
from orchestrator.ledger import joins
from orchestrator.model.definition import Join

#: Rule -> `need` of a blocked row.
NEEDS: Final[dict[Join, int | None]] = {"all": None, "settled": 0, "any": 1, 2: 2, 3: 3}
#: What a parent may be -> status and exit of its row.
PARENTS: Final[dict[str, tuple[str, str | None]]] = {
    "pending": ("running", None),
    "succeeded": ("succeeded", None),
    "chose": ("succeeded", "other"),
    "failed": ("failed", "failed"),
    "continued": ("failed", "ok"),
    "caught": ("failed", "error"),
    "skipped": ("skipped", None),
    "dead": ("skipped", "failed"),
    "cancelled": ("cancelled", None),
}
#: Exits that edges ask for: plain, a catch's, and any end.
EDGES: Final = (None, "error", "ended")
#: Most parents of a join here.
WIDTH: Final = 3


@dataclass(frozen=True)
class Parent:
    """A parent, and the edge that leads from it."""

    kind: str
    edge: str | None

    @property
    def pending(self) -> bool:
        """Whether it has not ended."""
        return self.kind == "pending"

    @property
    def exit(self) -> str | None:
        """By which exit it has ended; None is the ordinary one."""
        status, exit_by = PARENTS[self.kind]
        return exit_by or {"succeeded": None, "skipped": "skipped"}.get(status, "failed")

    @property
    def leads_on(self) -> bool:
        """Whether it has ended as its edge asks."""
        if self.pending:
            return False
        if self.edge is None:
            return self.kind in {"succeeded", "chose", "continued"}
        return self.edge in {self.exit, "ended"}

    @property
    def fails(self) -> bool:
        """Whether its failure is the join's affair."""
        return not self.pending and self.exit == "failed" and self.edge != "ended"


def expected(rule: Join, parents: Sequence[Parent]) -> str | None:
    """What a join becomes; None as long as that is open."""
    pending = sum(parent.pending for parent in parents)
    live = sum(parent.leads_on for parent in parents)
    failed = any(parent.fails for parent in parents)
    if rule == "all":
        found = "dead" if failed else "ready" if live else "skipped"
        return None if pending else found
    if rule == "settled":
        nothing = all(parent.exit == "skipped" and not parent.leads_on for parent in parents)
        found = "skipped" if nothing else "ready"
        return None if pending else found
    need = 1 if rule == "any" else int(rule)
    if need <= live + pending:
        return "ready" if live >= need else None
    if live or failed:
        return "unmet"
    return None if pending else "skipped"


def every(width: int) -> Iterator[tuple[Parent, ...]]:
    """Every choice of parents and edges, their order aside."""
    found = [Parent(kind, edge) for kind, edge in product(PARENTS, EDGES)]
    yield from combinations_with_replacement(found, width)


@pytest.fixture(scope="module")
def settled(ledger: Ledger) -> Begun:
    """An execution with parents of all kinds, as many as one join may have of the same."""
    begun = ledger.start({"root": ()})
    rows = [
        {"path": f"{kind}-{copy}", "status": row[0], "exit": row[1]}
        for (kind, row), copy in product(PARENTS.items(), range(WIDTH))
        # Of those that are pending, one in two has no row yet.
        if kind != "pending" or copy % 2
    ]
    ledger.sql(
        """
        INSERT INTO orchestrator.step (execution_id, path, tenant, status, exit, queue, owner, settled_at)
        SELECT CAST(:e AS uuid), path, 'default', status, exit, 'q', CASE status WHEN 'running' THEN 'boot.1' END,
               CASE WHEN status <> 'running' THEN now() END
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(path text, status text, exit text)
        """,
        e=begun.id,
        rows=json.dumps(rows),
    )
    return begun


def blocked(name: str, rule: Join, parents: Sequence[Parent]) -> dict[str, object]:
    """A join's row, as compiler/body.py makes it."""
    paths = [f"{parent.kind}-{copy}" for copy, parent in enumerate(parents)]
    edges = [[path, parent.edge] for path, parent in zip(paths, parents, strict=True)]
    named = any(parent.edge for parent in parents)
    return {"path": name, "parents": paths, "edges": edges if named else None, "need": NEEDS[rule]}


@pytest.mark.parametrize("width", range(1, WIDTH + 1))
@pytest.mark.parametrize("rule", NEEDS)
def test_a_join_is_decided_by_its_rule_whatever_became_of_its_parents(
    ledger: Ledger, settled: Begun, rule: Join, width: int
) -> None:
    cases = {f"{rule}-{width}-{number}": parents for number, parents in enumerate(every(width))}
    wrong = []
    with ledger.open() as connection:
        connection.exec_driver_sql(
            """
            INSERT INTO orchestrator.step (execution_id, path, tenant, status, queue, parents, edges, need)
            SELECT CAST(%(e)s AS uuid), path, 'default', 'blocked', 'q', parents, edges, need
            FROM jsonb_to_recordset(CAST(%(rows)s AS jsonb)) AS r(path text, parents jsonb, edges jsonb, need int)
            """,
            {"e": settled.id, "rows": json.dumps([blocked(name, rule, parents) for name, parents in cases.items()])},
        )
        for name, parents in cases.items():
            joined = joins.join(connection, settled.id, name)
            found = None if joined is None else joined.verdict
            if found != expected(rule, parents):
                wrong.append((parents, found, expected(rule, parents)))
    assert wrong == []


def test_a_step_with_one_parent_is_decided_by_the_compiler_as_the_ledger_would() -> None:
    cases = [(rule, parent) for rule in NEEDS for (parent,) in every(1) if not parent.pending]
    assert len(cases) == len(NEEDS) * len(EDGES) * 8
    for rule, parent in cases:
        edges = [Edge(parent="parent", exit=parent.edge)]
        found = verdict(rule, edges, parent.exit, chosen=parent.kind == "chose")
        assert found == expected(rule, [parent]), (rule, parent)


def test_what_is_decided_while_parents_are_pending_is_what_would_be_decided_later() -> None:
    ends = [kind for kind in PARENTS if not Parent(kind, None).pending]
    early = 0
    for rule, parents in product(NEEDS, every(WIDTH)):
        found, open_ = expected(rule, parents), [parent for parent in parents if parent.pending]
        if found is None or not open_:
            continue
        early += 1
        for kinds in product(ends, repeat=len(open_)):
            later = iter(kinds)
            done = [Parent(next(later), parent.edge) if parent.pending else parent for parent in parents]
            assert expected(rule, done) == found, (rule, parents, done)
    assert early


#: Verdict -> a join that comes to it, status and exit of its row, and which rows follow.
DECIDED: Final[dict[str, tuple[Join, tuple[str, ...], str, str | None, str | None]]] = {
    "ready": ("all", ("succeeded", "skipped"), "ready", None, None),
    "unmet": ("any", ("failed", "skipped"), "ready", "unmet", None),
    "skipped": ("all", ("skipped", "skipped"), "skipped", None, "for nothing"),
    "dead": ("all", ("succeeded", "failed"), "skipped", "failed", "for a failure"),
}


@pytest.mark.parametrize("name", DECIDED)
def test_a_decided_join_and_what_lies_behind_it_have_rows_and_events_that_say_so(
    ledger: Ledger, settled: Begun, name: str
) -> None:
    rule, kinds, status, exit_by, behind = DECIDED[name]
    row = blocked(name, rule, [Parent(kind, None) for kind in kinds])
    ledger.sql(
        "INSERT INTO orchestrator.step (execution_id, path, tenant, status, queue, parents, need) "
        "VALUES (CAST(:e AS uuid), :path, 'default', 'blocked', 'q', CAST(:parents AS jsonb), :need)",
        e=settled.id,
        path=name,
        parents=json.dumps(row["parents"]),
        need=row["need"],
    )
    following = f"behind {name}"
    rows = {
        why: json.dumps([{"path": following, "status": "ready", "queue": why}])
        for why in ("for nothing", "for a failure")
    }
    joined = ledger.do(joins.join, settled.id, name, when_skipped=rows["for nothing"], when_dead=rows["for a failure"])
    assert joined == joins.Joined(verdict=name, ready=(following,) if behind else ())
    found, after = ledger.step(settled, name), ledger.step(settled, following)
    assert (found.status, found.exit, after and after.queue) == (status, exit_by, behind)
    made = [(f"step_{status}", name, None), *([("step_ready", following, None)] if behind else [])]
    assert [event for event in ledger.events(settled) if event[1] in {name, following}] == made
