"""Retry policies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.model.policy import RetryPolicy


@given(
    failures=st.integers(1, 10_000),
    backoff=st.floats(0, 1e6),
    factor=st.floats(1, 100),
    limit=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
)
def test_a_delay_is_never_negative_and_never_above_the_cap(
    failures: int, backoff: float, factor: float, limit: float, jitter: float
) -> None:
    policy = RetryPolicy(backoff=backoff, factor=factor, max_delay=limit, jitter=jitter)
    assert 0 <= policy.delay(failures) <= limit


def test_without_jitter_delays_double() -> None:
    policy = RetryPolicy(backoff=1, factor=2, max_delay=5, jitter=0)
    assert [policy.delay(n) for n in (1, 2, 3, 4)] == [1, 2, 4, 5]


def test_jitter_takes_away_at_most_its_share() -> None:
    policy = RetryPolicy(backoff=10, jitter=0.5)
    delays = {policy.delay(1) for _ in range(200)}
    assert len(delays) > 100
    assert all(5 <= delay <= 10 for delay in delays)


def test_attempts_are_counted_with_the_first() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert [policy.retries(n, "system", "X") for n in (1, 2, 3)] == [True, True, False]


def test_business_errors_and_those_named_are_final() -> None:
    policy = RetryPolicy(max_attempts=9, never_on=("Gone", "timeout"))
    assert not policy.retries(1, "business", "X")
    assert not policy.retries(1, "system", "Gone")
    assert not policy.retries(1, "timeout", "X")
    assert policy.retries(1, "transient", "X")


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"backoff": -1}, {"factor": 0.5}, {"jitter": 2}, {"attempts": 3}]
)
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        RetryPolicy.model_validate(wrong)


def test_with_retry_on_no_other_category_or_name_is_retried() -> None:
    policy = RetryPolicy(max_attempts=9, retry_on=("transient", "Busy"), never_on=("Gone",))
    assert policy.retries(1, "transient", "X")
    assert policy.retries(1, "system", "Busy")
    assert not policy.retries(1, "system", "X")
    assert not policy.retries(1, "transient", "Gone")
    assert not RetryPolicy(retry_on=("business",)).retries(1, "business", "X")
    assert not policy.retries(1, "system", "X", for_ever=True)


def test_cancelled_errors_are_final() -> None:
    assert not RetryPolicy().retries(1, "cancelled", "X", for_ever=True)


def test_an_attempt_that_would_begin_behind_the_budget_has_no_time() -> None:
    policy = RetryPolicy(budget=10)
    assert policy.has_time(4, 6)
    assert not policy.has_time(4, 6.1)
    assert not policy.has_time(11, 0)
    assert RetryPolicy().has_time(1e9, 1e9)


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_is_some_time(budget: float) -> None:
    with pytest.raises(ValidationError):
        RetryPolicy(budget=budget)
