from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.durations import LONGEST, seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (90, 90.0),
        (1.5, 1.5),
        (0, 0.0),
        ("90", 90.0),
        ("0.5", 0.5),
        ("1h30m", 5_400.0),
        ("1h 30m", 5_400.0),
        (" 24h ", 86_400.0),
        ("7d", 604_800.0),
        ("2w", 1_209_600.0),
        ("1.5h", 5_400.0),
        ("500ms", 0.5),
        ("1m500ms", 60.5),
        ("5m", 300.0),
        ("P1DT2H", 93_600.0),
        ("PT1M", 60.0),
        ("PT0.5S", 0.5),
        ("P2W", 1_209_600.0),
        ("36525d", LONGEST),
    ],
)
def test_a_duration_is_read_as_seconds(value: object, expected: float) -> None:
    result = seconds(value)
    assert result == expected
    assert isinstance(result, float)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "write seconds"),
        ("soon", "'soon' is no duration; write seconds (\"90\"), units from w to ms"),
        ("30m1h", "no duration"),
        ("1h1h", "no duration"),
        ("1e3", "no duration"),
        ("h", "no duration"),
        ("P", "no duration"),
        ("PT", "no duration"),
        ("P1DT", "no duration"),
        ("--1", "no duration"),
        ("٣h", "no duration"),
        ("P1Y", "months and years have no fixed length; use days"),
        ("P1M", "months and years"),
        ("2mo", "months and years"),
        ("1y", "months and years"),
        ("9" * 1_000_000, "no duration"),
        ("36525d1s", "at most 100 years"),
        (10**400, "at most 100 years"),
        (math.inf, "at most 100 years"),
        (math.nan, "at most 100 years"),
        (-1, "not negative"),
        ("-1h", "not negative"),
        (True, "not bool"),
        (None, "not NoneType"),
        ([1], "not list"),
    ],
)
def test_what_is_no_duration_is_refused_with_what_is(value: object, problem: str) -> None:
    with pytest.raises(ValueError, match="duration") as caught:
        seconds(value)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("value", "expected"), [(-90, -90.0), ("-1h30m", -5_400.0), ("-PT1S", -1.0), ("-5", -5.0)])
def test_a_signed_duration_may_be_negative(value: object, expected: float) -> None:
    assert seconds(value, signed=True) == expected


@given(st.text() | st.text(alphabet="0123456789.wdhmsPTYM- "))
def test_any_text_is_a_finite_duration_or_a_value_error(text: str) -> None:
    try:
        result = seconds(text, signed=True)
    except ValueError:
        return
    assert abs(result) <= LONGEST
