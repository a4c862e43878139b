"""What may enter the ledger as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import PayloadError
from orchestrator.model.payload import canonical, digest, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@dataclass
class Money:
    amount: Decimal
    at: datetime


def test_what_people_return_is_encoded() -> None:
    value = Money(Decimal("1.50"), datetime(2026, 1, 1, tzinfo=UTC))
    text = encode({"money": value, "id": UUID(int=1), "set": {1}}, limit=1000, what="it")
    assert json.loads(text) == {
        "money": {"amount": "1.50", "at": "2026-01-01T00:00:00Z"},
        "id": "00000000-0000-0000-0000-000000000001",
        "set": [1],
    }


@pytest.mark.parametrize("wrong", [object(), float("nan"), [float("inf")], {"a": -float("inf")}, "a\x00b", "\ud800"])
def test_what_is_no_json_or_no_jsonb_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(PayloadError, match="output of step x"):
        encode(wrong, limit=1000, what="output of step x")


@pytest.mark.parametrize("text", ["NaN", "Infinity", "\\u0000", "\\\\u0000"])
def test_words_that_look_like_trouble_are_only_words(text: str) -> None:
    assert json.loads(encode(text, limit=1000, what="it")) == text


def test_the_limit_counts_bytes() -> None:
    assert encode("é" * 9, limit=20, what="it")
    with pytest.raises(PayloadError, match="over the limit of 20"):
        encode("é" * 10, limit=20, what="it")


@given(JSON)
def test_equal_data_has_one_canonical_form(value: Any) -> None:
    shuffled = json.loads(json.dumps(value), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert canonical(value) == canonical(shuffled)
    assert digest(value) == digest(shuffled)


def test_a_number_that_could_not_be_read_back_is_refused() -> None:
    assert encode(10**4299, limit=10_000, what="output") == str(10**4299)
    assert encode("7" * 5000, limit=10_000, what="output") == json.dumps("7" * 5000)
    with pytest.raises(PayloadError, match="more than 4300 digits"):
        encode({"n": [10**4300]}, limit=10_000, what="output")
