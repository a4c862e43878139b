"""What a fault is: how it strikes a stack at work, how it proves that it has, and how soon all must be over it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from fault_suite.stack import Choice, Stack


class Tier(IntEnum):
    """How long a run must be to have a fault by itself; faults that mix come at random in every run."""

    #: A few minutes, after every change.
    QUICK = 0
    #: A quarter of an hour.
    FULL = 1
    #: Faults that take a minute and more by themselves.
    LONG = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Strike:
    """A fault that has struck."""

    #: What shows that it hit, in words and figures.
    evidence: str
    #: When it struck, and when its cause was gone: monotonic seconds.
    struck: float
    gone: float
    #: What only this fault can see once everything has ended: raises `Broken`.
    later: Callable[[Stack], None] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One way to hurt a stack."""

    #: Number of the class, and a letter.
    number: str
    title: str
    #: Strikes; returns when its cause is gone, and raises if it did not hit.
    act: Callable[[Stack], Strike]
    #: Seconds within which the rate must be back at 90 %; None: not measured, as the fault itself slows work down.
    target: float | None
    #: Seconds within which every step that was at work or ready when it struck has been taken up; None: not asked.
    taken: float | None
    #: Why a stack of this make, or this machine, cannot have it; None if it can.
    why_not: Callable[[Choice], str | None]
    #: Whether it may strike among others.
    mixes: bool
    #: Which runs have it.
    tier: Tier
    #: Share of the usual load when it strikes alone: what is left of the stack, or of the machine, must carry it.
    load: float


#: Seconds that a step has to be taken up again, at least: a message that is lost is missed by a sweep, a silent worker
#: by another.
TAKEN = 15.0

#: All faults, in order.
FAULTS: list[Fault] = []


def fault(
    number: str,
    title: str,
    *,
    target: float | None = None,
    needs: Sequence[Callable[[Choice], str | None]] = (),
    mixes: bool = False,
    tier: Tier = Tier.FULL,
    load: float = 1.0,
    taken: float | None = None,
) -> Callable[[Callable[[Stack], Strike]], Callable[[Stack], Strike]]:
    """Register a function as a fault; see `Fault`."""

    def why_not(choice: Choice) -> str | None:
        return next((reason for need in needs if (reason := need(choice))), None)

    def register(act: Callable[[Stack], Strike]) -> Callable[[Stack], Strike]:
        FAULTS.append(
            Fault(
                number=number,
                title=title,
                act=act,
                target=target,
                taken=taken if taken is not None or target is None else max(target, TAKEN),
                why_not=why_not,
                mixes=mixes,
                tier=tier,
                load=load,
            )
        )
        return act

    return register


def at_once(evidence: str) -> Strike:
    """A strike whose cause was gone as soon as it struck: now."""
    now = time.monotonic()
    return Strike(evidence=evidence, struck=now, gone=now)


class Broken(Exception):
    """A promise was broken that only this fault can see."""


class Missed(Exception):
    """The fault did not hit what it was meant to hit: nothing is shown by what came after."""
