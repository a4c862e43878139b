"""Joins: several parents settle, one statement makes the child ready, whatever the order."""

from __future__ import annotations

import random
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger.driver import OTHER, OWNER, QUEUE, Begun, Ledger
from ledger.races import DEADLINE, race
from orchestrator import clock
from orchestrator.ledger import claims, executions, failures, joins, walks
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.recovery.sweep import LIMIT

DIAMOND: Final = {"left": (), "right": (), "join": ("left", "right")}


def settle(ledger: Ledger, begun: Begun, held: Claim) -> Settled:
    """Settle as a segment does that does not go on in place."""
    if begun.graph.children(held.path):
        settled = ledger.do(claims.settle_and_spread, held, "1", successors=begun.successors(held.path))
    else:
        settled = ledger.do(claims.settle_and_finish, held, "1", result="1")
    assert settled is not None
    return settled


def test_two_last_arrivers_that_do_not_see_each_other_start_the_join_once(ledger: Ledger) -> None:
    begun = ledger.start(DIAMOND)
    left, right = ledger.claim(begun, "left"), ledger.claim(begun, "right", OTHER)
    with ledger.open() as one:
        claims.settle_and_spread(one, left, "1", successors=begun.successors("left"))
        # The join's row exists already, uncommitted: the second settle waits for it, as it cannot see it.
        with ledger.behind(
            lambda c: claims.settle_and_spread(c, right, "1", successors=begun.successors("right"))
        ) as two:
            two.until_blocked()
            one.commit()
            assert two.result() == Settled(halted=False)
    assert ledger.step(begun, "join").status == "blocked"
    assert sorted(map(bool, race([lambda: ledger.do(joins.join, begun.id, "join")] * 2))) == [False, True]
    assert ledger.events(begun, "step_ready").count(("step_ready", "join", None)) == 1


def test_a_join_asked_for_within_the_settling_transactions_is_started_by_neither(ledger: Ledger) -> None:
    """Why the join has a statement and a commit of its own."""
    begun = ledger.start({**DIAMOND, "early": (), "join": ("left", "right", "early")})
    ledger.succeed(begun, "early")
    left, right = ledger.claim(begun, "left"), ledger.claim(begun, "right")
    with ledger.open() as one, ledger.open() as two:
        claims.settle_and_spread(one, left, "1", successors=begun.successors("left"))
        claims.settle_and_spread(two, right, "1", successors=begun.successors("right"))
        asked = [joins.join(one, begun.id, "join"), joins.join(two, begun.id, "join")]
        one.commit()
        two.commit()
    assert asked == [None, None]
    assert ledger.do(joins.join, begun.id, "join")


def test_a_join_waits_for_a_parent_that_has_not_committed(ledger: Ledger) -> None:
    begun = ledger.start({**DIAMOND, "early": (), "join": ("left", "right", "early")})
    ledger.succeed(begun, "early")
    ledger.succeed(begun, "left")
    right = ledger.claim(begun, "right")
    with ledger.open() as late:
        claims.settle_and_spread(late, right, "1", successors=begun.successors("right"))
        assert not ledger.do(joins.join, begun.id, "join")
        late.commit()
    assert ledger.do(joins.join, begun.id, "join")
    assert not ledger.do(joins.join, begun.id, "join")


def test_a_join_whose_row_appeared_before_its_other_parents_waits_for_them(ledger: Ledger) -> None:
    begun = ledger.start({"left": (), "before": (), "right": ("before",), "join": ("left", "right")})
    ledger.succeed(begun, "left")
    assert not ledger.do(joins.join, begun.id, "join")
    assert ledger.try_claim(begun, "join") is None
    ledger.succeed(begun, "before")
    ledger.succeed(begun, "right")
    assert ledger.do(joins.join, begun.id, "join")


def test_a_join_is_not_made_ready_by_a_parent_that_failed(ledger: Ledger) -> None:
    begun = ledger.start(DIAMOND)
    ledger.succeed(begun, "left")
    right = ledger.claim(begun, "right")
    ledger.do(failures.settle_failed, right, '{"name": "No"}', outcome="failed")
    assert not ledger.do(joins.join, begun.id, "join")
    assert ledger.step(begun, "join").status == "blocked"


def test_a_join_whose_last_arriver_died_is_found_by_one_sweep(ledger: Ledger) -> None:
    begun = ledger.start(DIAMOND)
    ledger.succeed(begun, "left")
    ledger.succeed(begun, "right")
    assert ledger.do(joins.lost, 10) == []
    ledger.sql("UPDATE orchestrator.step SET ready_at = ready_at - interval '3 s' WHERE execution_id = :e", e=begun.id)
    assert race([lambda: ledger.do(joins.lost, 10)] * 4) == [[(begun.id, "join")]] * 4
    decided = race([lambda: ledger.do(joins.join, begun.id, "join")] * 4)
    assert sorted(map(bool, decided)) == [False, False, False, True]
    assert ledger.do(walks.unclaimed, begun.id, ["join"]) == ["join"]
    assert ledger.do(walks.forsaken, begun.id, ["join"]) == [], "too young"
    ledger.age(begun, "ready_at")
    assert sorted(race([lambda: ledger.do(walks.forsaken, begun.id, ["join"])] * 4)) == [[], [], [], ["join"]]
    assert ledger.do(joins.lost, 10) == []


def test_joins_that_are_not_to_be_decided_now_do_not_hide_one_that_is_lost(ledger: Ledger) -> None:
    target = ledger.target(DIAMOND)
    # Failed while they were paused, they wait to fail; their joins are left alone until then.
    held = [ledger.begin(target).id for _ in range(LIMIT + 1)]
    lost = ledger.begin(target)
    for path in ("left", "right"):
        ledger.succeed(lost, path)
    ledger.sql(
        """INSERT INTO orchestrator.step (execution_id, path, tenant, status, queue, parents, ready_at)
           SELECT x, 'join', 'default', 'blocked', 'q', '[]', now() - interval '1 h'
           FROM unnest(CAST(:held AS uuid[])) AS x""",
        held=held,
    )
    for status in ("pausing", "paused"):
        ledger.sql(
            """UPDATE orchestrator.execution SET status = :status, paused_at = now(), error = '{}'
               WHERE id = ANY(CAST(:held AS uuid[]))""",
            status=status,
            held=held,
        )
    ledger.age(lost, "ready_at")
    assert ledger.do(joins.lost, LIMIT) == [(lost.id, "join")]
    assert ledger.do(joins.join, held[-1], "join") is None
    assert ledger.do(joins.join, lost.id, "join")


def test_two_last_steps_that_do_not_see_each_other_leave_the_end_to_one_later_statement(ledger: Ledger) -> None:
    begun = ledger.start({"left": (), "right": ()})
    left, right = ledger.claim(begun, "left"), ledger.claim(begun, "right")
    with ledger.open() as one, ledger.open() as two:
        assert claims.settle_and_finish(one, left, "1", result="1") == Settled(halted=False)
        assert claims.settle_and_finish(two, right, "1", result="1") == Settled(halted=False)
        one.commit()
        two.commit()
    assert ledger.status(begun) == "running"
    assert sorted(race([lambda: ledger.do(executions.finish, begun.id, "1")] * 3)) == [False, False, True]
    assert ledger.events(begun, "execution_succeeded") == [("execution_succeeded", None, None)]


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Steps, each after any of those before it."""
    size = draw(st.integers(1, 12))
    return {
        f"s{index}": tuple(f"s{parent}" for parent in draw(st.sets(st.integers(0, index - 1), max_size=4)))
        if index
        else ()
        for index in range(size)
    }


class Workers:
    """Threads that carry out one execution as segments do; every message comes twice, in any order."""

    def __init__(self, ledger: Ledger, begun: Begun, seed: int) -> None:
        self._ledger, self._begun, self._random = ledger, begun, random.Random(seed)
        self._messages: SimpleQueue[str] = SimpleQueue()
        self._broken = False
        self.send(begun.graph.roots)

    def send(self, paths: tuple[str, ...]) -> None:
        """Publish steps, doubled and shuffled."""
        doubled = [*paths, *paths]
        self._random.shuffle(doubled)
        for path in doubled:
            self._messages.put(path)

    def work(self, owner: str) -> None:
        """Consume until nothing comes and the execution has ended."""
        begun = clock.elapsed()
        while clock.elapsed() - begun < DEADLINE and not self._broken:
            try:
                path = self._messages.get_nowait()
            except Empty:
                if self._ledger.status(self._begun) != "running":
                    return
                clock.pause(0.002)
                continue
            try:
                self._consume(path, owner)
            except BaseException:
                # The others need not wait for what will not come.
                self._broken = True
                raise

    def _consume(self, path: str, owner: str) -> None:
        held = self._ledger.try_claim(self._begun, path, owner)
        while held is not None:
            held = self._settle(held)

    def _settle(self, held: Claim) -> Claim | None:
        graph, begun = self._begun.graph, self._begun
        following = graph.fused(held.path)
        if following is not None:
            settled = self._ledger.do(
                claims.settle_and_claim, held, "1", following=following, queue=QUEUE, transactional=False, timeout=None
            )
            assert settled == Settled(halted=False, claimed=True)
            return Claim(execution_id=begun.id, path=following, attempt=1, owner=held.owner)
        settled = settle(self._ledger, begun, held)
        wide = [child for child in graph.children(held.path) if len(graph.parents(child)) > 1]
        joined = [child for child in wide if self._ledger.do(joins.join, begun.id, child)]
        self.send((*settled.ready, *joined))
        if not graph.children(held.path) and settled.finished is None:
            self._ledger.do(executions.finish, begun.id, "1")
        return None


def assert_each_started_once_after_its_parents(ledger: Ledger, begun: Begun, after: Mapping[str, object]) -> None:
    history = ledger.events(begun, "step_started", "step_succeeded")
    assert sorted(history) == sorted((kind, path, 1) for path in after for kind in ("step_started", "step_succeeded"))
    for path in after:
        started = history.index(("step_started", path, 1))
        for parent in begun.graph.parents(path):
            assert history.index(("step_succeeded", parent, 1)) < started, f"{path} started before {parent} ended"


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(after=graphs(), seed=st.integers(0, 2**16))
def test_any_graph_settled_by_several_workers_starts_each_step_once_after_its_parents_and_ends(
    ledger: Ledger, after: dict[str, tuple[str, ...]], seed: int
) -> None:
    begun = ledger.start(after)
    workers = Workers(ledger, begun, seed)
    owners = (OWNER, OTHER, "boot-c.303")
    race([lambda owner=owner: workers.work(owner) for owner in owners])  # type: ignore[misc]
    assert_each_started_once_after_its_parents(ledger, begun, after)
    assert ledger.status(begun) == "succeeded"
    assert set(ledger.statuses(begun).values()) == {"succeeded"}
