"""How failures are met: which category an error is of, and whether another attempt follows it, and when."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from orchestrator.model.outcome import Failure

#: What kind of failure it is.
Category: TypeAlias = Literal["business", "transient", "system", "timeout", "cancelled"]
#: Categories that another attempt cannot mend.
FINAL_CATEGORIES = frozenset({"business", "cancelled"})


class RetryPolicy(BaseModel):
    """When a failed attempt is followed by another, and after how long. Durations are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Attempts in all, the first included; 1 means no retry.
    max_attempts: int = Field(default=3, ge=1)
    #: Wait before the second attempt.
    backoff: float = Field(default=1.0, ge=0)
    #: Each further wait is this many times longer.
    factor: float = Field(default=2.0, ge=1)
    #: No wait is longer.
    max_delay: float = Field(default=60.0, ge=0)
    #: Share of the wait that is random, 0 to 1, so that failures of one moment do not return together.
    jitter: float = Field(default=0.5, ge=0, le=1)
    #: Time for all attempts, counted from the beginning of the first that failed; none starts later.
    budget: float | None = Field(default=None, gt=0)
    #: Error names or categories; if given, no others are retried.
    retry_on: tuple[str, ...] = ()
    #: Error names or categories that are not retried; business and cancelled errors never are.
    never_on: tuple[str, ...] = ()

    def retries(self, failures: int, category: str, name: str, *, for_ever: bool = False) -> bool:
        """Whether another attempt follows the `failures`-th failure, if there is time for it.

        Args:
            for_ever: whatever `max_attempts` says.
        """
        if category in FINAL_CATEGORIES or category in self.never_on or name in self.never_on:
            return False
        if self.retry_on and category not in self.retry_on and name not in self.retry_on:
            return False
        return for_ever or failures < self.max_attempts

    def delay(self, failures: int) -> float:
        """Seconds to wait after the `failures`-th failure: exponential, capped, with `jitter` of it drawn at random.

        Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (equal jitter at 0.5).
        """
        # The exponent is capped, or a patient policy would overflow a float.
        full = min(self.max_delay, self.backoff * self.factor ** min(failures - 1, 64))
        return full * (1 - self.jitter * random.random())  # noqa: S311 - spreads load, hides nothing

    def has_time(self, spent: float, delay: float) -> bool:
        """Whether an attempt after a wait of `delay` seconds begins within the budget, of which `spent` are gone."""
        return self.budget is None or spent + delay <= self.budget


def _class_name(value: Any) -> Any:
    """An exception's class by its name; anything else as it is."""
    if isinstance(value, type) and issubclass(value, BaseException):
        return value.__qualname__ if value.__module__ == "builtins" else f"{value.__module__}.{value.__qualname__}"
    return value


class ErrorRule(BaseModel):
    """An entry of a definition's table of errors: which exceptions it means, and what they are to be taken for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The exception's class, or one of its bases: its name, or that with its module, as in requests.exceptions.Timeout.
    error: Annotated[
        str, BeforeValidator(_class_name), Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")
    ]
    #: Only those whose message contains this text.
    contains: str | None = Field(default=None, min_length=1)
    #: What kind of failure it is taken for.
    category: Category
    #: A stable name for policies and handlers; by default the exception's class.
    name: str | None = Field(default=None, min_length=1, max_length=200)

    def matches(self, failure: Failure) -> bool:
        """Whether it means this failure."""
        return any(self._means(found) for found in failure.classes) and (self.contains or "") in failure.message

    def _means(self, found: str) -> bool:
        module, _, name = self.error.rpartition(".")
        if found == self.error:
            return True
        # A package may define a class in a module of its own and offer it in another: requests.Timeout.
        return found.rpartition(".")[2] == name and (not module or found.startswith(f"{module}."))


def ruled(rules: Iterable[ErrorRule], failure: Failure) -> Failure:
    """The failure as the first rule that means it has it; as it is when none does. Twice is the same as once."""
    for rule in () if failure.interrupted else rules:
        if rule.matches(failure):
            return replace(failure, category=rule.category, name=rule.name or failure.name, ruled=True)
    return failure
