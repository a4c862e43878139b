"""`@idempotent`: the guard for plain Celery tasks."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from celery import Task
from sqlalchemy import Connection

from orchestrator import clock
from orchestrator.current import get_current
from orchestrator.errors import AttemptInProgress, ConfigurationError, IdempotencyConflict
from orchestrator.ledger import database, records
from orchestrator.ledger.records import Key
from orchestrator.model.payload import digest, encode
from orchestrator.runtime.worker import Worker

#: How long a key that is being worked on is waited for, in seconds, before AttemptInProgress.
RELEASE_PATIENCE = 1.0

P = ParamSpec("P")
R = TypeVar("R")


def idempotent(
    *, key: str | Callable[..., str], scope: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function run to success once per key; later calls get the first one's result.

    Put it below the task decorator. The claim is made in the ledger before the function is called; a worker that dies
    gives it back, so that the redelivered message makes another attempt. An error gives it back too and is raised, so
    Celery's own retries keep working. The result must be JSON, and is what later calls return.

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
    settings, engine, owner = worker.core.settings, worker.core.database, worker.node.owner()
    name = Key(tenant=settings.tenant, scope=scope, key=text)
    input_hash = digest(json.loads(encode(arguments, limit=settings.max_payload, what=f"arguments of {scope}")))

    def ask(statement: Callable[[Connection], R]) -> R:
        def attempt() -> R:
            with engine.connect() as connection:
                return statement(connection)

        return database.persist(attempt)

    def take() -> int | None:
        return ask(lambda connection: records.take(connection, name, input_hash=input_hash, owner=owner))

    # The message of a killed child may be here again before its parent has released the key.
    given_up = clock.elapsed() + RELEASE_PATIENCE
    while (attempt := take()) is None:
        record = ask(lambda connection: records.read(connection, name))
        if (
            record is None
            or record.status == "succeeded"
            or record.input_hash != input_hash
            or clock.elapsed() > given_up
        ):
            return _known(record, name, input_hash)
        clock.pause(0.1)
    try:
        result = call()
        output = encode(result, limit=settings.max_payload, what=f"result of {scope}")
    except BaseException:
        ask(lambda connection: records.give_back(connection, name, attempt=attempt, owner=owner))
        raise
    if not ask(lambda c: records.settle(c, name, attempt=attempt, owner=owner, output=output)):
        return _known(ask(lambda connection: records.read(connection, name)), name, input_hash)
    return result


def _known(record: records.Record | None, key: Key, input_hash: str) -> Any:
    """What an earlier call under the key has left."""
    if record is not None and record.input_hash != input_hash:
        raise IdempotencyConflict(key.scope, key.key, "of an earlier call")
    if record is None or record.status != "succeeded":
        raise AttemptInProgress(f"{key.scope}: key {key.key!r} is being worked on; ask again later")
    return record.output
