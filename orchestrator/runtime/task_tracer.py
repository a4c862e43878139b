"""Where a message of a task of the application's own is met by Celery's worker: its tracer.

Celery keeps for every task a function that calls it with all that belongs to that: hooks, signals, retries, results.
Ours stands before it. A message that is no step's goes through untouched. For a step's it puts the true arguments in
place, lets Celery's tracer work, and reads from what that reports how the attempt has ended.

`self.retry` and `autoretry_for` both publish what `Task.signature_from_request` makes. In a step's call that is a note
for the ledger instead.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from celery import states
from celery.app.task import Context, Task
from celery.app.trace import ExceptionInfo, TraceInfo, trace_ok_t
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded
from celery.utils.time import maybe_make_aware

from orchestrator.activities.context import StepContext
from orchestrator.activities.current_step import entered
from orchestrator.dispatch.own_task import HEADER, StepRef
from orchestrator.errors import AttemptInterrupted, AttemptTimedOut
from orchestrator.model.outcome import Failure
from orchestrator.runtime import guard
from orchestrator.runtime.holding import holding
from orchestrator.runtime.message import Message
from orchestrator.runtime.task_steps import Again, Arguments, Returned, TaskStep
from orchestrator.runtime.worker import Worker

logger = logging.getLogger("orchestrator.task")

#: A message that its task puts back is taken up again after so many seconds.
PUT_BACK = 1.0
#: Celery kills a process at its task's hard limit; the attempt is ended this much before, as a share of the limit, and
#: in seconds at most.
BEFORE_KILL, BEFORE_KILL_MOST = 0.1, 1.0

Tracer = Callable[..., Any]


class StepTracer:
    """Stands before a task's tracer."""

    def __init__(self, task: Any, tracer: Tracer, worker: Callable[[], Worker]) -> None:
        self._task, self._tracer, self._worker = task, tracer, worker

    def __call__(self, uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        """What Celery's tracer returns: result, info, seconds, text."""
        step = StepRef.of(request or {}, uuid)
        if step is None:
            return self._tracer(uuid, args, kwargs, request)
        return self._work(step, request)

    def _work(self, step: StepRef, request: dict[str, Any]) -> Any:
        worker = self._worker()
        message = Message(execution_id=step.execution_id, definition_id=step.definition_id, head=step.path)
        with holding(worker) as link:
            graph = link.call(lambda connection: worker.core.graphs.get(connection, step.definition_id))
            with _soft_limit_waits() as soft_limit:
                call = TracedCall(task=self._task, tracer=self._tracer, request=request, soft_limit=soft_limit)
                TaskStep(worker, link, graph, message, call, limit=_hard_limit(self._task, request)).work()
        return call.report if call.report is not None else _nothing_to_do()


@dataclass(kw_only=True)
class TracedCall:
    """Calls a task for a step."""

    task: Any
    tracer: Tracer
    #: The message's.
    request: dict[str, Any]
    #: Within it Celery's soft limit may strike.
    soft_limit: Callable[[], Any]
    #: What Celery is told; None until the task was called.
    report: Any = None
    #: The retry that the task has asked for.
    asked: Asked | None = None
    arguments: Arguments = field(default_factory=lambda: Arguments(kwargs={}))

    def __call__(
        self, arguments: Arguments, context: StepContext, within: AbstractContextManager[None]
    ) -> Returned | Again | Failure:
        self.arguments = arguments
        misfit = _misfit(self.task, arguments)
        request = self._true_request()
        if misfit is not None:
            self.report = self._failed(request, misfit)
            return _refused("InvalidInput", f"{self.task.name}: {misfit}")
        token = _present.set(self)
        try:
            with entered(context), within, self.soft_limit():
                self.report = self.tracer(request["id"], arguments.args, dict(arguments.kwargs), request)
        except AttemptInterrupted as error:
            if self.report is None:
                late = isinstance(error, AttemptTimedOut)
                told = TimeLimitExceeded(context.timeout) if late else TaskRevokedError(str(error))
                self.report = self._failed(request, told)
                return guard.classify(error)
        except BaseException as error:
            guard.go_if_told(error)
            # Of a task that has failed by SystemExit Celery ends the whole worker.
            self.report = self._failed(request, RuntimeError(f"{type(error).__name__}: {error}"))
            return guard.classify(error)
        finally:
            _present.reset(token)
        return self._told()

    def _true_request(self) -> dict[str, Any]:
        """The message as the task may see it: without what is ours, and as often retried as the ledger says."""
        request = {key: value for key, value in self.request.items() if key not in {HEADER, "ignore_result"}}
        request |= {"retries": self.arguments.retries, "errbacks": None}
        if self.task.app.conf.worker_deduplicate_successful_tasks:
            # The ledger knows whether it is to be called.
            request["delivery_info"] = {**(request.get("delivery_info") or {}), "redelivered": False}
        return request

    def _told(self) -> Returned | Again | Failure:
        """How the call ended, from what Celery's tracer says."""
        value, info, _, shown = self.report
        if info is None:
            return Returned(value=value) if shown is not None else _refused("NotCalled", "Celery did not call it")
        error = info.retval
        if info.state == states.RETRY:
            return self._again(error)
        if isinstance(error, Reject) and error.requeue:
            return Again(arguments=self.arguments, seconds=PUT_BACK, reason="it was put back")
        if isinstance(error, Reject):
            return _refused("TaskRejected", f"{self.task.name} rejected its message: {error.reason}")
        if isinstance(error, Ignore):
            return _refused(
                "TaskIgnored",
                f"{self.task.name} raised Ignore, as self.replace does too, and so has no outcome: {error}",
            )
        failure = guard.classify(error)
        return replace(failure, category="timeout") if isinstance(error, SoftTimeLimitExceeded) else failure

    def _again(self, retry: Any) -> Again:
        arguments = self.asked.arguments if self.asked else replace(self.arguments, retries=self.arguments.retries + 1)
        reason = str(retry)[:500]
        if isinstance(retry.when, datetime):
            at = maybe_make_aware(retry.when, self.task.app.timezone)
            return Again(arguments=arguments, until=at.isoformat(), reason=reason)
        seconds = self.task.default_retry_delay if retry.when is None else retry.when
        return Again(arguments=arguments, seconds=max(float(seconds), 0.0), reason=reason)

    def _failed(self, request: dict[str, Any], error: Exception) -> Any:
        """Have Celery treat the task as failed by this error, which did not come out of it."""
        context = Context(request, args=self.arguments.args, kwargs=self.arguments.kwargs, called_directly=False)
        self.task.push_request(**vars(context))
        try:
            raise error
        except type(error):
            info = TraceInfo(states.FAILURE, error)
            return trace_ok_t(info.handle_error_state(self.task, context), info, 0.0, None)
        finally:
            self.task.pop_request()


@dataclass(kw_only=True)
class Asked:
    """Stands for the message that a retry would publish."""

    arguments: Arguments

    @property
    def args(self) -> tuple[Any, ...]:
        """As Celery's errors show them."""
        return self.arguments.args

    @property
    def kwargs(self) -> dict[str, Any]:
        """As Celery's errors show them."""
        return dict(self.arguments.kwargs)

    def apply_async(self) -> None:
        """The ledger's timers publish it."""


_present: ContextVar[TracedCall | None] = ContextVar("orchestrator_traced_call", default=None)


def stand_before(task: Any, worker: Callable[[], Worker]) -> None:
    """Put ours before a task's tracer, once it has one; again does no harm."""
    tracer = task.__trace__
    if tracer is None or isinstance(tracer, StepTracer):
        return
    task.__trace__ = StepTracer(task, tracer, worker)
    if "signature_from_request" not in vars(task):
        task.signature_from_request = _noting(task, task.signature_from_request)


def _noting(task: Task, original: Callable[..., Any]) -> Callable[..., Any]:
    def signature_from_request(
        request: Any = None, args: Any = None, kwargs: Any = None, queue: Any = None, **options: Any
    ) -> Any:
        call = _present.get()
        own = task.request if request is None else request
        if call is None or call.task is not task or own.is_eager or own.id != call.request["id"]:
            return original(request, args, kwargs, queue, **options)
        before = call.arguments
        call.asked = Asked(
            arguments=Arguments(
                args=before.args if args is None else tuple(args),
                kwargs=before.kwargs if kwargs is None else kwargs,
                retries=options.get("retries", before.retries + 1),
                chosen=before.chosen or args is not None or kwargs is not None,
            )
        )
        return call.asked

    return signature_from_request


def _misfit(task: Any, arguments: Arguments) -> TypeError | None:
    """Why the task cannot be called with these arguments, if its parameters are known and are checked."""
    check = getattr(task, "__header__", None) if task.typing else None
    try:
        if check is not None:
            check(*arguments.args, **arguments.kwargs)
    except TypeError as error:
        return error
    return None


def _refused(name: str, message: str) -> Failure:
    return Failure(category="system", name=name, message=message, classes=(name,))


def _hard_limit(task: Any, request: dict[str, Any]) -> float | None:
    """A little less than the limit at which Celery kills the process: then nobody would tell how the attempt ended."""
    limit = (request.get("timelimit") or (None,))[0] or task.time_limit or task.app.conf.task_time_limit
    return None if limit is None else limit - min(limit * BEFORE_KILL, BEFORE_KILL_MOST)


def _nothing_to_do() -> Any:
    """What Celery is told of a message that was late or doubled."""
    try:
        raise Ignore("its step is not to be called now")
    except Ignore as error:
        return trace_ok_t(ExceptionInfo(internal=True), TraceInfo(states.IGNORED, error), 0.0, None)


@contextmanager
def _soft_limit_waits() -> Iterator[Callable[[], Any]]:
    """Keep Celery's soft limit, a signal, away from our own statements; what is given lets it strike."""
    if threading.current_thread() is not threading.main_thread():
        yield _unchanged
        return
    handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    @contextmanager
    def strikes() -> Iterator[None]:
        signal.signal(signal.SIGUSR1, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    try:
        yield strikes
    finally:
        signal.signal(signal.SIGUSR1, handler)


@contextmanager
def _unchanged() -> Iterator[None]:
    yield
