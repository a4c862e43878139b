"""What makes two failures the same."""

from __future__ import annotations

import pytest

from orchestrator.model.fingerprint import blanked, fingerprint, without_numbers


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 7 is gone", "order 8,123.5 is gone"),
        ("no row 019a1b2c-0000-7000-8000-00000000000a", "no row 019a1b2c-0000-7000-8000-00000000000B"),
        ("at 0x7f3a", "at 0xdeadBEEF"),
        ("commit 9f86d081884c7d65 is missing", "commit e3b0c44298fc1c14 is missing"),
        ("10.0.0.1:5432 refused", "10.0.0.27:5433 refused"),
    ],
)
def test_messages_that_differ_in_numbers_and_ids_only_are_alike(one: str, other: str) -> None:
    assert blanked(one) == blanked(other)
    assert "#" in blanked(one)


@pytest.mark.parametrize(
    ("one", "other"), [("card declined", "card expired"), ("the facade", "the decade"), ("defaced feed", "a feed")]
)
def test_words_are_not_blanked(one: str, other: str) -> None:
    assert blanked(one) == one
    assert blanked(one) != blanked(other)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("charge", "charge"),
        ("notify[31].send", "notify[].send"),
        ("a[0].b[12].c", "a[].b[].c"),
        ("2:NEXT/verify", "NEXT/verify"),
        ("undo:12:NEXT/verify", "undo:NEXT/verify"),
        ("undo:step_07", "undo:step_07"),
    ],
)
def test_a_path_is_the_same_in_every_iteration_and_transition(path: str, expected: str) -> None:
    assert without_numbers(path) == expected


def test_parts_do_not_flow_into_one_another() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint("a", "b") != fingerprint("a\x1fb")
    assert fingerprint("a", "b") == fingerprint("a", "b")
