from __future__ import annotations

from orchestrator.spelling import did_you_mean


def test_close_words_are_suggested_the_closest_first() -> None:
    assert did_you_mean("chrge", ["charge", "ship"]) == '; did you mean "charge"?'


def test_a_word_like_none_of_them_gets_no_suggestion() -> None:
    assert did_you_mean("zebra", ["charge", "ship"]) == ""
