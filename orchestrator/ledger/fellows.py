"""Connections of one process to one database stand and fall together.

A process has several engines, and most failures break the connections of all of them at once: a server that went down,
a network that lost what it knew of them. A connection that nobody tells of this is noticed after some 10 s by whoever
waits on it. So that nobody waits so long once more for the next, none is used again that is older than a loss.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError

from orchestrator import clock

_MADE = "orchestrator_made"
#: By URL: when one of this process's connections was lost last. Children of a pool inherit it, which does no harm.
_lost: dict[str, float] = {}


def lost(engine: Engine) -> None:
    """One of its connections broke."""
    _lost[_name(engine)] = clock.elapsed()


def _name(engine: Engine) -> str:
    return engine.url.render_as_string()


def join(engine: Engine) -> None:
    """Have an engine's idle connections replaced, each when it is wanted next, after another's was lost."""
    url = _name(engine)

    def made(_: Any, record: Any) -> None:
        record.info[_MADE] = clock.elapsed()

    def wanted(_: Any, record: Any, __: Any) -> None:
        if url in _lost and record.info[_MADE] <= _lost[url]:
            raise DisconnectionError("another connection was lost since this one was made")

    def failed(context: ExceptionContext) -> None:
        # Not where none could be made: those that stand may be good.
        if context.is_disconnect and context.connection is not None:
            lost(engine)

    event.listen(engine, "connect", made)
    event.listen(engine, "checkout", wanted)
    event.listen(engine, "handle_error", failed)
