"""What must hold of the rules for failures: a definition's table of errors, and its policies of retries."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

from orchestrator import errors
from orchestrator.model.definition import Step
from orchestrator.model.policy import FINAL_CATEGORIES, ErrorRule, RetryPolicy

#: Errors that say their own category, which no table changes.
OWN_WORD = frozenset(
    name for name, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, errors.ActivityError)
)


def rule_problems(rules: Sequence[ErrorRule]) -> Iterator[str]:
    """Entries of a table of errors that never mean anything."""
    whole: dict[str, int] = {}
    for number, rule in enumerate(rules, 1):
        label = f"errors: entry {number} ({rule.error})"
        if rule.error.rpartition(".")[2] in OWN_WORD:
            yield f"{label} has no say, as such an error says its own category; remove it"
        if rule.error in whole:
            yield f"{label} is never reached, as entry {whole[rule.error]} means all of its errors; move it up"
        elif rule.contains is None:
            whole[rule.error] = number


def policy_problems(policy: RetryPolicy | None) -> Iterator[str]:
    """What is wrong with a policy by itself."""
    if policy is None:
        return
    for word in sorted(FINAL_CATEGORIES.intersection(policy.retry_on)):
        yield f"retry: retry_on: {word} errors are never retried; remove it, or give them another category in errors"
    for word in sorted(set(policy.retry_on) & set(policy.never_on)):
        yield f'retry: "{word}" stands in retry_on and in never_on; remove it from one of them'


def step_policy_problems(step: Step) -> Iterator[str]:
    """What is wrong with the policies of a step and of its compensation."""
    yield from policy_problems(step.retry)
    if step.on_error == "retry" and step.retry is not None and step.retry.budget is not None:
        yield "with on_error retry it is tried for ever, so budget means nothing; remove one of them"
    if step.compensation is not None:
        yield from (f"compensation: {problem}" for problem in policy_problems(step.compensation.retry))
