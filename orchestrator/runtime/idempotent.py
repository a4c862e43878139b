"""`@idempotent`: the guard for plain Celery tasks."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from celery import Task
from sqlalchemy import Connection, Engine

from orchestrator import clock
from orchestrator.current import get_current
from orchestrator.errors import AttemptInProgress, ConfigurationError, IdempotencyConflict
from orchestrator.ledger import database, records
from orchestrator.ledger.records import Key
from orchestrator.model.payload import digest, encode
from orchestrator.runtime.worker import Worker

#: How long a key that is being worked on is waited for, in seconds, before AttemptInProgress.
RELEASE_PATIENCE = 1.0

#: What calls of this process have in hand: under which owner's name, which key. One thread has one name.
_at_work: set[tuple[str, Key]] = set()

P = ParamSpec("P")
R = TypeVar("R")


def idempotent(
    *, key: str | Callable[..., str], scope: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function run to success once per key; later calls get the first one's result.

    Put it below the task decorator. The claim is made in the ledger before the function is called; a worker that dies
    gives it back, so that the redelivered message makes another attempt. An error gives it back too and is raised, so
    Celery's own retries keep working. The result must be JSON, and is what later calls return.

    Only workers are known to be alive or dead. In any other process, a call that is killed keeps its key for good: have
    such functions called by a worker.

    Args:
        key: a format over the arguments, such as "order-{order_id}", or a function of them.
        scope: keys are unique within it; by default the function's module and name.

    Raises (when called):
        IdempotencyConflict: the key was used with other arguments.
        AttemptInProgress: a living owner is at work on the key.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        name = scope or f"{function.__module__}.{function.__qualname__}"

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            # A bound task gets itself first, which is no argument of the call.
            arguments = {name: value for name, value in bound.arguments.items() if not isinstance(value, Task)}
            text = key.format_map(arguments) if isinstance(key, str) else key(*args, **kwargs)
            return cast("R", _guarded(lambda: function(*args, **kwargs), _worker(), name, text, arguments))

        return guarded

    return decorate


def _worker() -> Worker:
    worker = getattr(get_current(), "worker", None)
    if not isinstance(worker, Worker):
        raise ConfigurationError("@idempotent needs an Orchestrator; create one, and init_app your Celery application")
    return worker


def _guarded(call: Callable[[], Any], worker: Worker, scope: str, text: str, arguments: Mapping[str, Any]) -> Any:
    settings, owner = worker.core.settings, worker.node.owner()
    name = Key(tenant=settings.tenant, scope=scope, key=text)
    input_hash = digest(json.loads(encode(arguments, limit=settings.max_payload, what=f"arguments of {scope}")))
    ask = _asking(worker.core.database)
    with _in_hand(owner, name) as is_outermost:
        attempt, record = _take(ask, name, input_hash, owner, adopts=is_outermost)
        if attempt is None:
            return _known(record, name, input_hash)
        try:
            result = call()
            output = encode(result, limit=settings.max_payload, what=f"result of {scope}")
            is_settled = ask(records.settle, name, attempt=attempt, owner=owner, output=output)
        except BaseException:
            # A settle that was refused, or broken off by a signal, leaves the key with us too, or writes it: then this
            # writes nothing.
            ask(records.give_back, name, attempt=attempt, owner=owner)
            raise
    return result if is_settled else _known(ask(records.read, name), name, input_hash)


class _Ask(Protocol):
    def __call__(
        self, statement: Callable[Concatenate[Connection, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...


def _asking(engine: Engine) -> _Ask:
    """Sends statements that are safe to send twice until they are answered, each on a connection for itself."""

    def ask(statement: Callable[Concatenate[Connection, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        def attempt() -> R:
            with engine.connect() as connection:
                return statement(connection, *args, **kwargs)

        return database.persist(attempt)

    return ask


@contextmanager
def _in_hand(owner: str, key: Key) -> Iterator[bool]:
    """Have a key in hand; whether no call further up this thread has it already."""
    held = (owner, key)
    if held in _at_work:
        yield False
        return
    _at_work.add(held)
    try:
        yield True
    finally:
        _at_work.discard(held)


def _take(
    ask: _Ask, key: Key, input_hash: str, owner: str, *, adopts: bool
) -> tuple[int | None, records.Record | None]:
    """The attempt that is ours; or None, and how the key stands.

    A key that runs under our own name may be ours already: the reply to a take was lost, or a signal broke a call off
    while it took the key. Nobody else would ever take it up, as this process lives. So it is adopted, unless a call
    further up this thread has it in hand: one name is one thread's, so no other call can. The lost take itself is over
    by then, as the one sent again has waited for it; one that arrives later still finds the key running, or takes it
    for the next call here. And if the key is released in between, the attempt's number is the fence as ever.
    """
    # The message of a killed child may be here again before its parent has released the key.
    given_up = clock.elapsed() + RELEASE_PATIENCE
    while (attempt := ask(records.take, key, input_hash=input_hash, owner=owner)) is None:
        record = ask(records.read, key)
        if record is None or record.status == "succeeded" or record.input_hash != input_hash:
            return None, record
        if adopts and record.owner == owner:
            return record.attempt, record
        if clock.elapsed() > given_up:
            return None, record
        clock.pause(0.1)
    return attempt, None


def _known(record: records.Record | None, key: Key, input_hash: str) -> Any:
    """What an earlier call under the key has left."""
    if record is not None and record.input_hash != input_hash:
        raise IdempotencyConflict(key.scope, key.key, "of an earlier call")
    if record is None or record.status != "succeeded":
        raise AttemptInProgress(f"{key.scope}: key {key.key!r} is being worked on; ask again later")
    return record.output
