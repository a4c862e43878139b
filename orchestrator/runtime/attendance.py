"""Ending an attempt from outside, in the main thread of a pool's process.

    the node signals the process -> its handler wakes a thread -> that asks the ledger for the attempt's own claim
    -> unwanted or lost: it signals the main thread -> the handler raises inside the activity

The signal says "look" and no more, so it may come late, twice, or by mistake: what is raised was found for the attempt
that is under way, by its token. SIGURG is ignored where nobody listens, and neither Celery nor billiard uses it.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator import clock
from orchestrator.errors import AttemptCancelled, AttemptFenced, AttemptInterrupted
from orchestrator.ledger import heartbeats
from orchestrator.ledger.claims import Claim
from orchestrator.runtime.alarm import time_limit
from orchestrator.runtime.presence import Presence, token_of

logger = logging.getLogger("orchestrator.attempt")

SIGNAL = signal.SIGURG
#: An attempt that has swallowed its interruption, or still cleans up, is interrupted again after so many seconds.
AGAIN = 15.0


def interruption(unwanted: bool | None) -> AttemptInterrupted | None:
    """What the ledger's answer about an attempt means to it."""
    if unwanted is None:
        return AttemptFenced()
    return AttemptCancelled() if unwanted else None


@dataclass(kw_only=True, slots=True, eq=False)
class _Underway:
    """The attempt that the main thread is in."""

    held: Claim
    #: To be raised in the main thread.
    reason: AttemptInterrupted | None = None
    #: When that was done.
    raised_at: float | None = None


class Attendance:
    """What may end the attempts of this process before they end by themselves."""

    def __init__(self, presence: Presence, ledger: Engine) -> None:
        self.presence = presence
        self._ledger = ledger
        self._underway: _Underway | None = None
        # Its `put` may be called by a signal handler.
        self._woken: queue.SimpleQueue[_Underway] = queue.SimpleQueue()

    def listen(self, index: int) -> None:
        """Called in the main thread of a new process of a pool, with its place there: it can be interrupted now."""
        self.presence.take(index)
        signal.signal(SIGNAL, self._signalled)
        threading.Thread(target=self._look_on, name="orchestrator-attendance", daemon=True).start()

    @contextmanager
    def within(
        self, held: Claim, *, timeout: float | None, patience: float | None, interruptible: bool
    ) -> Iterator[None]:
        """The call of an activity: inside, and only there, it may be interrupted. Elsewhere than in a main thread no
        signal reaches it, and only what it calls itself can tell it.

        Args:
            timeout: seconds until AttemptTimedOut is raised; None never does.
            patience: seconds until the attempt is overdue, which has to be heard before; None is never.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        limits = [limit for limit in (timeout, patience) if limit is not None]
        deadline = clock.elapsed() + min(limits) if limits else None
        self.presence.enter(token_of(held), deadline, interruptible=interruptible)
        try:
            with time_limit(timeout):
                self._underway = _Underway(held=held) if interruptible else None
                try:
                    yield
                finally:
                    self._underway = None
        finally:
            # Once more: an interruption may have come within the other `finally`.
            self._underway = None
            self.presence.leave()

    def _signalled(self, _signal: int, _frame: FrameType | None) -> None:
        underway = self._underway
        if underway is None:
            return
        if underway.reason is not None:
            reason, underway.reason = underway.reason, None
            underway.raised_at = clock.elapsed()
            raise reason
        if underway.raised_at is None or clock.elapsed() - underway.raised_at > AGAIN:
            self._woken.put(underway)

    def _look_on(self) -> None:
        # Signals are the main thread's: where an activity blocks them, they wait.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            underway = self._woken.get()
            if underway is not self._underway:
                continue
            try:
                with self._ledger.connect() as connection:
                    reason = interruption(heartbeats.ask(connection, underway.held))
            except SQLAlchemyError as error:
                # The node asks again, and signals again.
                logger.warning("cannot ask whether the attempt is still wanted", extra={"reason": str(error)})
                continue
            if reason is not None and underway is self._underway:
                underway.reason = reason
                signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)
