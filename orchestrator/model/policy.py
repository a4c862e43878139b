"""How failures are met: retry policies."""

from __future__ import annotations

import random

from pydantic import BaseModel, ConfigDict, Field

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
    #: Error names or categories that are not retried; business errors never are.
    never_on: tuple[str, ...] = ()

    def retries(self, failures: int, category: str, name: str, *, for_ever: bool = False) -> bool:
        """Whether another attempt follows the `failures`-th failure.

        Args:
            for_ever: whatever `max_attempts` says.
        """
        if category in FINAL_CATEGORIES or category in self.never_on or name in self.never_on:
            return False
        return for_ever or failures < self.max_attempts

    def delay(self, failures: int) -> float:
        """Seconds to wait after the `failures`-th failure: exponential, capped, with `jitter` of it drawn at random.

        Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (equal jitter at 0.5).
        """
        # The exponent is capped, or a patient policy would overflow a float.
        full = min(self.max_delay, self.backoff * self.factor ** min(failures - 1, 64))
        return full * (1 - self.jitter * random.random())  # noqa: S311 - spreads load, hides nothing
