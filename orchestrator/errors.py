"""Every error that the orchestrator raises.

    OrchestratorError
    |- ConfigurationError            a setting is missing or wrong
    |- Unavailable                   a server does not answer
    |  |- DatabaseUnavailable
    |  `- BrokerUnavailable
    |- SchemaNotMigrated             the database is not at the release's schema
    |- DefinitionError               a definition cannot be loaded; carries every problem found
    |- DefinitionConflict            a published version's content has changed; carries the diff
    |- UnknownDefinition
    |- UnknownActivity
    |- ExpressionError               a {{ }} value cannot be computed
    |- InvalidInput                  a payload does not fit its schema
    |- PayloadError                  a value is not JSON, or too large
    |- IdempotencyConflict           the key was used with another input
    |- IdempotencyKeyHeld            somebody's open transaction has just used the key
    |- LedgerBusy                    another transaction holds what this needs for too long; nothing was done
    |- AttemptInProgress             a guarded task's key is being worked on
    |- ExecutionNotFound
    |- ControlRefused                an execution cannot be commanded so as it stands; says what can be done
    |- IncidentNotFound
    |- WorkersAlive
    |- SignalRefused                 an execution does not take a signal or event now; says what it takes
    |- ExecutionFailed               result() of an execution that did not succeed
    |- ResultTimeout
    |- ResultPurged                  result() of an execution that ended too long ago
    `- ActivityError                 raised by activities to say what kind of failure it is
       |- BusinessError              the answer is no; never retried
       |- TransientError             worth another attempt
       |- SystemFailure              something is broken; retried by the policy
       |- DeadlineError              it took too long; retried by the policy
       `- CancelledFailure           somebody has called it off; never retried
    AttemptInterrupted               raised inside an activity that must end now; no Exception, which code may catch
    |- AttemptTimedOut               it took longer than its timeout
    |- AttemptCancelled              its execution was cancelled, or has passed its deadline
    `- AttemptFenced                 its step was given to another attempt: whatever it returns is dropped

The first line of a class's docstring is its default message; its facts are attributes. `args` are what a class is
called with, because pickle and Celery's results make errors anew from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime


class OrchestratorError(Exception):
    """The orchestrator cannot do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        self._message = message or (type(self).__doc__ or "").splitlines()[0]
        super().__init__(self._message)

    def __str__(self) -> str:
        return self._message


class ConfigurationError(OrchestratorError):
    """A setting is missing or wrong."""


class Unavailable(OrchestratorError):
    """A server does not answer."""


class DatabaseUnavailable(Unavailable):
    """The ledger's database does not answer; check ORCHESTRATOR_DATABASE_URL and that the server is up."""


class BrokerUnavailable(Unavailable):
    """The broker does not answer; check ORCHESTRATOR_BROKER_URL and that the server is up."""


class SchemaNotMigrated(OrchestratorError):
    """The database does not have this release's schema; apply it with `orchestrator migrate`."""


class DefinitionError(OrchestratorError):
    """A definition cannot be loaded.

    Attributes:
        source: the file or module that it came from.
        problems: one sentence each, naming the step and the fix.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        lines = [f"{source}: {problem}" for problem in self.problems]
        super().__init__("\n".join(lines))
        self.args = (source, self.problems)


class DefinitionConflict(OrchestratorError):
    """A published definition's content has changed under the same version.

    Attributes:
        name, version: the published definition.
        diff: unified diff from the published content to the new one.
    """

    def __init__(self, name: str, version: int, diff: str) -> None:
        self.name, self.version, self.diff = name, version, diff
        super().__init__(
            f"definition {name} version {version} is published with other content; "
            f"raise its version to {version + 1}, or set ORCHESTRATOR_DEV_MODE=1 to have that done for you.\n{diff}"
        )
        self.args = (name, version, diff)


class UnknownDefinition(OrchestratorError):
    """No definition of that name and version is known."""


class UnknownActivity(OrchestratorError):
    """No activity of that name is registered; add its module to ORCHESTRATOR_MODULES."""


class ExpressionError(OrchestratorError):
    """A {{ }} value cannot be computed."""


class InvalidInput(OrchestratorError):
    """A payload does not fit its schema."""


class PayloadError(OrchestratorError):
    """A value is not JSON, or is larger than the limit."""


class IdempotencyConflict(OrchestratorError):
    """The idempotency key was used before with another input.

    Attributes:
        key: the idempotency key.
        execution_id: the execution that holds it.
    """

    def __init__(self, definition: str, key: str, execution_id: str) -> None:
        self.key, self.execution_id = key, execution_id
        super().__init__(
            f"{definition}: idempotency key {key!r} belongs to execution {execution_id} with another input; "
            "use another key for another input"
        )
        self.args = (definition, key, execution_id)


class IdempotencyKeyHeld(OrchestratorError):
    """The idempotency key is held by a transaction that is still open; try again when it has ended."""


class LedgerBusy(OrchestratorError):
    """Another transaction holds what this needs, for longer than ORCHESTRATOR_LOCK_TIMEOUT; nothing was done."""


class AttemptInProgress(OrchestratorError):
    """A guarded task with this key is being worked on by a living owner; ask again later."""


class ExecutionNotFound(OrchestratorError):
    """No execution has that id; `orchestrator list` shows those that exist."""


class ControlRefused(OrchestratorError):
    """A command does not fit the execution as it stands.

    Attributes:
        execution_id: which one.
        reason: why, and what can be done instead.
    """

    def __init__(self, execution_id: str, reason: str) -> None:
        self.execution_id, self.reason = execution_id, reason
        super().__init__(f"execution {execution_id}: {reason}")
        self.args = (execution_id, reason)


class IncidentNotFound(OrchestratorError):
    """No such incident is open; `orchestrator incidents list --all` shows those that exist."""


class WorkersAlive(OrchestratorError):
    """What must be done before any worker works was asked for while one does.

    Attributes:
        node: the one that was heard last.
        silent: how long ago, in seconds.
    """

    def __init__(self, node: str, silent: float, dead_after: float) -> None:
        self.node, self.silent = node, silent
        super().__init__(
            f"worker node {node} was heard {silent:.1f} s ago: end all workers, and ask again {dead_after:g} s later"
        )
        self.args = (node, silent, dead_after)


class SignalRefused(OrchestratorError):
    """A signal or event is refused.

    Attributes:
        execution_id: who refused it.
        reason: why, and what is allowed now.
        allowed: names of the events that are allowed now.
    """

    def __init__(self, execution_id: str, reason: str, allowed: Sequence[str] = ()) -> None:
        self.execution_id, self.reason, self.allowed = execution_id, reason, tuple(allowed)
        super().__init__(f"execution {execution_id}: {reason}")
        self.args = (execution_id, reason, self.allowed)


class ExecutionFailed(OrchestratorError):
    """The execution ended without success.

    Attributes:
        execution_id, status: which one, and its final status.
        error: the error as recorded, a mapping with category, name and message; None when there was none.
    """

    def __init__(self, execution_id: str, status: str, error: dict[str, object] | None) -> None:
        self.execution_id, self.status, self.error = execution_id, status, error
        reason = f": {error.get('name')}: {error.get('message')}" if error else ""
        super().__init__(f"execution {execution_id} ended {status}{reason}")
        self.args = (execution_id, status, error)


class ResultTimeout(OrchestratorError):
    """The execution did not end in time; it goes on, ask again later."""


class ResultPurged(OrchestratorError):
    """The execution ended so long ago that only its idempotency key is kept.

    Attributes:
        execution_id: its id.
        status: how it ended.
        purged_at: when the rest was deleted.
    """

    def __init__(self, execution_id: str, status: str, purged_at: datetime) -> None:
        self.execution_id, self.status, self.purged_at = execution_id, status, purged_at
        when = f"{purged_at:%Y-%m-%d %H:%M:%S %Z}"
        super().__init__(f"execution {execution_id} ended {status}, and its result was purged on {when}")


class ActivityError(OrchestratorError):
    """An activity failed.

    Attributes:
        category: business, transient, system, timeout or cancelled; decides whether another attempt is made.
        name: a stable name that definitions may refer to; the class's own name by default.
    """

    category = "system"

    def __init__(self, message: str | None = None, *, name: str | None = None) -> None:
        self.name = name or type(self).__name__
        super().__init__(message)


class BusinessError(ActivityError):
    """The answer is no: another attempt would get the same one."""

    category = "business"


class TransientError(ActivityError):
    """The outside world is busy or away: another attempt may succeed.

    Attributes:
        retry_after: seconds that the service asks to be left alone for; None when it does not say.
    """

    category = "transient"

    def __init__(
        self, message: str | None = None, *, name: str | None = None, retry_after: float | None = None
    ) -> None:
        # Beside args, like the name: pickle gives both back from the instance's own dictionary.
        self.retry_after = retry_after
        super().__init__(message, name=name)


class AttemptInterrupted(BaseException):
    """The attempt must end now: clean up and raise this on.

    Not an Exception: user code and libraries catch those, and would go on.
    """

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").splitlines()[:1]))


class AttemptTimedOut(AttemptInterrupted):
    """The attempt has passed its timeout."""


class AttemptCancelled(AttemptInterrupted):
    """The attempt's execution was cancelled, or has passed its deadline."""


class AttemptFenced(AttemptInterrupted):
    """The step was given to another attempt, or to nobody: whatever this one returns is dropped."""


class SystemFailure(ActivityError):
    """Something that should work is broken: another attempt may succeed once it is mended."""

    category = "system"


class DeadlineError(ActivityError):
    """It took too long: another attempt may be faster."""

    category = "timeout"


class CancelledFailure(ActivityError):
    """Somebody has called it off: another attempt is not wanted."""

    category = "cancelled"
