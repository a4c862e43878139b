"""Whoever has lost a race to a join: cancelled and fenced, whatever was under way in the losing branch."""

from __future__ import annotations

from ledger.driver import OTHER, OWNER, QUEUE, Begun, Ledger
from ledger.races import race, until
from orchestrator.ledger import claims, joins
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.definition import Step


def racing(ledger: Ledger, length: int = 3) -> Begun:
    """Two branches to a join that needs one of them: `fast`, and a line of slow steps."""
    slow = [Step(id=f"slow-{i}", activity="do", after=(f"slow-{i - 1}",) if i else ()) for i in range(length)]
    join = Step(id="join", activity="do", after=("fast", slow[-1].id), join="any")
    return ledger.begin(ledger.target_of(Step(id="fast", activity="do"), *slow, join))


def win(ledger: Ledger, begun: Begun) -> list[str]:
    """Let the fast branch meet the join; the paths that have lost."""
    ledger.succeed(begun, "fast")
    assert ledger.do(joins.join, begun.id, "join") == joins.Joined(verdict="ready")
    return begun.graph.losers("join")


def settle_and_claim(ledger: Ledger, held: Claim, following: str) -> Settled | None:
    return ledger.do(
        claims.settle_and_claim, held, "1", following=following, queue=QUEUE, transactional=False, timeout=None
    )


def open_losers(ledger: Ledger, begun: Begun) -> list[str]:
    return [path for path, status in ledger.statuses(begun).items() if status not in {"succeeded", "cancelled"}]


def test_a_join_with_a_number_is_met_while_others_are_open_and_those_are_cancelled_and_fenced(ledger: Ledger) -> None:
    begun = racing(ledger)
    held = ledger.claim(begun, "slow-0", OTHER)
    losers = win(ledger, begun)
    assert sorted(losers) == ["fast", "slow-0", "slow-1", "slow-2"]
    ledger.do(joins.cancel_losers, begun.id, losers)
    assert ledger.statuses(begun) == {"fast": "succeeded", "join": "ready", "slow-0": "cancelled"}
    assert ledger.events(begun, "step_cancelled") == [("step_cancelled", "slow-0", 1)]
    assert settle_and_claim(ledger, held, "slow-1") is None
    ledger.succeed(begun, "join")


def test_a_claim_that_is_uncommitted_while_losers_are_cancelled_is_waited_for_and_fenced(ledger: Ledger) -> None:
    begun = racing(ledger)
    losers = win(ledger, begun)
    with ledger.open() as claiming:
        taken = claims.claim(claiming, begun.id, "slow-0", owner=OTHER, transactional=False, timeout=None)
        assert taken is not None
        with ledger.behind(lambda c: joins.cancel_losers(c, begun.id, losers)) as cancelling:
            cancelling.until_blocked()
            claiming.commit()
            cancelling.result()
    assert ledger.step(begun, "slow-0").status == "cancelled"
    assert settle_and_claim(ledger, taken[0], "slow-1") is None


def test_a_step_claimed_by_an_uncommitted_settle_of_a_loser_is_waited_for_and_cancelled(ledger: Ledger) -> None:
    begun = racing(ledger)
    held = ledger.claim(begun, "slow-0", OTHER)
    losers = win(ledger, begun)
    with ledger.open() as settling:
        settled = claims.settle_and_claim(
            settling, held, "1", following="slow-1", queue=QUEUE, transactional=False, timeout=None
        )
        assert settled == Settled(halted=False, claimed=True)
        with ledger.behind(lambda c: joins.cancel_losers(c, begun.id, losers)) as cancelling:
            cancelling.until_blocked()
            settling.commit()
            cancelling.result()
    assert (ledger.step(begun, "slow-0").status, ledger.step(begun, "slow-1").status) == ("succeeded", "cancelled")
    following = Claim(execution_id=begun.id, path="slow-1", attempt=1, owner=OTHER)
    assert settle_and_claim(ledger, following, "slow-2") is None


def test_rows_inserted_by_an_uncommitted_settle_of_a_loser_are_waited_for_and_cancelled(ledger: Ledger) -> None:
    begun = racing(ledger)
    held = ledger.claim(begun, "slow-0", OTHER)
    losers = win(ledger, begun)
    with ledger.open() as settling:
        claims.settle_and_spread(settling, held, "1", successors=begun.successors("slow-0"))
        with ledger.behind(lambda c: joins.cancel_losers(c, begun.id, losers)) as cancelling:
            cancelling.until_blocked()
            settling.commit()
            cancelling.result()
    assert open_losers(ledger, begun) == ["join"]


def test_a_losing_body_is_cancelled_with_its_container(ledger: Ledger) -> None:
    loop = Step(
        id="loop",
        kind="each",
        spec={"items": [1, 2], "concurrency": 2},
        steps=(Step(id="work", activity="do"),),
    )
    alike = Step(id="loop-b", activity="do")
    join = Step(id="join", activity="do", after=("fast", "loop"), join="any")
    begun = ledger.begin(ledger.target_of(Step(id="fast", activity="do"), loop, alike, join))
    ledger.wait_for_body(begun, "loop", 0, 1)
    held = ledger.claim(begun, "loop[0].work", OTHER)
    ledger.do(joins.cancel_losers, begun.id, win(ledger, begun))
    assert ledger.statuses(begun) == {
        "fast": "succeeded",
        "join": "ready",
        "loop": "cancelled",
        "loop-b": "ready",
        "loop[0].work": "cancelled",
        "loop[1].work": "cancelled",
    }
    assert ledger.do(claims.settle_and_spread, held, "1", successors="[]") is None


def test_of_a_losing_branch_nothing_is_open_once_its_losers_are_cancelled_under_stress(ledger: Ledger) -> None:
    length = 12
    begun = [racing(ledger, length) for _ in range(40)]
    stopped: list[str] = []

    def work() -> None:
        for execution in begun:
            held = ledger.try_claim(execution, "slow-0", OTHER)
            while held is not None:
                following = execution.graph.following(held.path)
                if following is None:
                    ledger.do(claims.settle_and_spread, held, "1", successors=execution.successors(held.path))
                    break
                settled = settle_and_claim(ledger, held, following)
                if settled is None or not settled.claimed:
                    break
                held = Claim(execution_id=execution.id, path=following, attempt=1, owner=OTHER)

    def cancel() -> None:
        for execution in begun:
            until(lambda e=execution: len(ledger.statuses(e)) > 3, "the slow branch is under way")  # type: ignore[misc]
            ledger.succeed(execution, "fast", OWNER)
            ledger.do(joins.join, execution.id, "join")
            ledger.do(joins.cancel_losers, execution.id, execution.graph.losers("join"))
            assert open_losers(ledger, execution) == ["join"]
            if "cancelled" in ledger.statuses(execution).values():
                stopped.append(execution.id)

    race([work, cancel])
    assert len(stopped) > 5, "too few were caught at work"
    for execution in begun:
        assert open_losers(ledger, execution) == ["join"]
        assert ledger.events(execution, "step_ready").count(("step_ready", "join", None)) == 1
