"""Values that are computed once: whoever inserts first decides."""

from __future__ import annotations

from functools import partial

import pytest

from ledger.driver import Ledger
from ledger.races import race
from orchestrator.ledger import side_effects


def test_of_several_attempts_at_once_all_get_the_same_value(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    assert ledger.do(side_effects.recorded, begun.id, "one", "otp") is None
    values = race([partial(ledger.do, side_effects.record, begun.id, "one", "otp", str(n)) for n in range(8)])
    assert len(set(values)) == 1
    assert ledger.do(side_effects.recorded, begun.id, "one", "otp") == (values[0],)


def test_one_who_comes_while_another_is_about_to_commit_gets_the_others_value(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    with ledger.open() as first:
        assert side_effects.record(first, begun.id, "one", "otp", "1") == 1
        with ledger.behind(lambda second: side_effects.record(second, begun.id, "one", "otp", "2")) as background:
            background.until_blocked()
            first.commit()
            assert background.result() == 1


def test_null_is_a_value_and_names_steps_and_executions_are_told_apart(ledger: Ledger) -> None:
    begun, other = ledger.start({"one": ()}), ledger.start({"one": ()})
    assert ledger.do(side_effects.record, begun.id, "one", "a", "null") is None
    assert ledger.do(side_effects.recorded, begun.id, "one", "a") == (None,)
    for execution, path, name in ((begun, "one", "b"), (begun, "undo:one", "a"), (other, "one", "a")):
        assert ledger.do(side_effects.recorded, execution.id, path, name) is None


def test_nothing_is_recorded_for_an_execution_that_is_not_there(ledger: Ledger) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(LookupError, match="no execution"):
        ledger.do(side_effects.record, nobody, "one", "a", "1")
