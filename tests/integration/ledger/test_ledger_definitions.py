"""Publishing: a version has one content, whoever publishes it."""

from __future__ import annotations

import pytest

from ledger.driver import TENANT, Ledger
from ledger.races import race
from orchestrator.errors import DefinitionConflict
from orchestrator.ledger import definitions
from orchestrator.ledger.definitions import Published
from orchestrator.model.definition import Definition, Step


def definition(name: str, activity: str, version: int = 1) -> Definition:
    """A definition of one step."""
    return Definition(name=name, version=version, steps=(Step(id="only", activity=activity),))


def publish(ledger: Ledger, found: Definition, *, dev: bool = False) -> Published:
    return ledger.do(definitions.publish, TENANT, found, new_version=dev)


def versions(ledger: Ledger, name: str) -> list[int]:
    return [row["version"] for row in ledger.do(definitions.listed, TENANT) if row["name"] == name]


def test_many_that_publish_one_definition_publish_it_once(ledger: Ledger) -> None:
    found = race([lambda: publish(ledger, definition("same", "do"))] * 8)
    assert len({published.id for published in found}) == 1
    assert versions(ledger, "same") == [1]
    assert ledger.do(definitions.load, found[0].id) == definition("same", "do")


def test_racing_publishers_of_two_contents_agree_on_one(ledger: Ledger) -> None:
    def attempt(activity: str) -> str:
        try:
            return publish(ledger, definition("two", activity)).checksum
        except DefinitionConflict:
            return "conflict"

    found = race([lambda a=a: attempt(a) for a in ("one", "two") * 4])  # type: ignore[misc]
    assert found.count("conflict") == 4
    assert len(set(found)) == 2


def test_changed_content_under_a_published_version_is_a_conflict_with_its_diff(ledger: Ledger) -> None:
    publish(ledger, definition("changed", "charge"))
    with pytest.raises(DefinitionConflict) as conflict:
        publish(ledger, definition("changed", "refund"))
    assert (conflict.value.name, conflict.value.version) == ("changed", 1)
    lines = conflict.value.diff.splitlines()
    assert [line.split() for line in lines if line.startswith(("- ", "+ "))] == [
        ["-", '"activity":', '"charge",'],
        ["+", '"activity":', '"refund",'],
    ]
    assert versions(ledger, "changed") == [1]


def test_in_dev_mode_changed_content_becomes_a_new_version_and_known_content_keeps_its_own(ledger: Ledger) -> None:
    first = publish(ledger, definition("dev", "one"), dev=True)
    second = publish(ledger, definition("dev", "two"), dev=True)
    assert (first.version, second.version) == (1, 2)
    assert publish(ledger, definition("dev", "two"), dev=True) == second
    assert publish(ledger, definition("dev", "one"), dev=True) == first
    assert second.definition().version == 2
    assert ledger.do(definitions.find, TENANT, "dev", None) == second


def test_in_dev_mode_racing_publishers_of_several_contents_give_each_a_version(ledger: Ledger) -> None:
    publish(ledger, definition("race", "zero"))
    found = race([lambda a=a: publish(ledger, definition("race", a), dev=True) for a in ("one", "two", "three") * 2])  # type: ignore[misc]
    assert versions(ledger, "race") == [1, 2, 3, 4]
    assert len({published.id for published in found}) == 3


def test_an_execution_stays_with_the_content_that_it_was_started_with(ledger: Ledger) -> None:
    first = publish(ledger, definition("pinned", "one"))
    publish(ledger, definition("pinned", "two", version=2))
    assert ledger.do(definitions.find, TENANT, "pinned", 1) == first
    newest = ledger.do(definitions.find, TENANT, "pinned", None)
    assert newest is not None
    assert newest.version == 2
    assert ledger.do(definitions.find, "another-tenant", "pinned", None) is None
