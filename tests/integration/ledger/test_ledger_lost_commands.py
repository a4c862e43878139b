"""An operator's command whose answer is lost is carried out once, and is not refused for what it did itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger.clients import Client
from ledger.driver import Begun, Ledger
from ledger.proxy import Proxy
from orchestrator.errors import ControlRefused

LINE = {"first": (), "second": ("first",)}
ANN = "ann"

Command = Callable[[Client, str], object]

_ENDED = "UPDATE orchestrator.execution SET status = 'failed', settled_at = now() WHERE id = :id"
_FAILING = "UPDATE orchestrator.execution SET status = 'failing', error = '{\"name\": \"No\"}' WHERE id = :id"


def running(ledger: Ledger) -> Begun:
    return ledger.start(LINE)


def paused(ledger: Ledger) -> Begun:
    begun = running(ledger)
    for status in ("pausing", "paused"):
        ledger.sql(
            f"UPDATE orchestrator.execution SET status = '{status}', paused_at = now() WHERE id = :id", id=begun.id
        )
    return begun


def trying(ledger: Ledger) -> Begun:
    """The first step waits for its next attempt."""
    begun = running(ledger)
    held = ledger.claim(begun, "first")
    ledger.sql(
        "UPDATE orchestrator.step SET status = 'retrying', owner = NULL, due_at = now() + interval '1 h' "
        "WHERE execution_id = :id AND path = :path",
        id=begun.id,
        path=held.path,
    )
    return begun


def failed(ledger: Ledger) -> Begun:
    """The first step has failed for good."""
    begun = ledger.start(LINE)
    ledger.claim(begun, "first")
    ledger.sql(
        "UPDATE orchestrator.step SET status = 'failed', owner = NULL, settled_at = now() WHERE execution_id = :id",
        id=begun.id,
    )
    for statement in (_FAILING, _ENDED):
        ledger.sql(statement, id=begun.id)
    return begun


def undoable(ledger: Ledger) -> Begun:
    """It has failed after its first step, which has a compensation, succeeded."""
    begun = ledger.start({"first": ()}, compensated=("first",))
    ledger.claim(begun, "first")
    ledger.sql(
        "UPDATE orchestrator.step SET status = 'succeeded', owner = NULL, settled_at = now(), output = '1' "
        "WHERE execution_id = :id",
        id=begun.id,
    )
    for statement in (_FAILING, _ENDED):
        ledger.sql(statement, id=begun.id)
    return begun


#: name -> how it stands before, what only the command's statement says, the command, and the status that it leaves.
COMMANDS: dict[str, tuple[Callable[[Ledger], Begun], str, Command, str]] = {
    "cancel": (running, "'execution_cancelling'", lambda by, found: by.cancel(found, actor=ANN), "cancelled"),
    "resume": (paused, "deadline + (clock_timestamp() - paused_at)", lambda by, i: by.resume(i, actor=ANN), "running"),
    "retry": (failed, "retries = retries +", lambda by, found: by.retry(found, actor=ANN), "running"),
    "skip": (failed, "retries = retries +", lambda by, found: by.skip(found, "first", actor=ANN), "running"),
    "complete": (
        running,
        "'event', 'undo')",
        lambda by, found: by.complete(found, "first", actor=ANN),
        "running",
    ),
    "compensate": (undoable, "'execution_compensating'", lambda by, i: by.compensate(i, actor=ANN), "compensating"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_whose_answer_is_lost_is_carried_out_once_and_told_so(
    name: str, ledger: Ledger, distant: Client, proxy: Proxy
) -> None:
    stand, marker, command, status = COMMANDS[name]
    begun = stand(ledger)
    proxy.lose_reply(marker)
    command(distant, begun.id)
    assert proxy.pending == 0, "the answer was lost"
    assert [entry.command for entry in distant.audit(begun.id)] == [name]
    assert distant.execution(begun.id).status() == status
    assert [entry.parameters for entry in distant.audit(begun.id) if "command_id" in entry.parameters] == []


def test_a_step_that_is_hurried_on_is_so_once(ledger: Ledger, distant: Client, proxy: Proxy) -> None:
    begun = trying(ledger)
    proxy.lose_reply("due_at > clock_timestamp()")
    distant.retry(begun.id, actor=ANN)
    assert [entry.command for entry in distant.audit(begun.id)] == ["retry"]
    (row,) = ledger.sql(
        "SELECT status, due_at <= clock_timestamp() FROM orchestrator.step WHERE execution_id = :id", id=begun.id
    )
    assert tuple(row) == ("retrying", True)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_same_said_again_is_another_command_and_refused(name: str, ledger: Ledger, distant: Client) -> None:
    stand, _, command, _ = COMMANDS[name]
    begun = stand(ledger)
    command(distant, begun.id)
    with pytest.raises(ControlRefused):
        command(distant, begun.id)
    assert len(distant.audit(begun.id)) == 1
