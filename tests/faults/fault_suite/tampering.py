"""Messages doubled, dropped or delayed on their way into the broker, in every process where this is installed."""

from __future__ import annotations

import os
import pickle
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Producer

from fault_suite import outside
from fault_suite.outside import Outside

#: Of messages that are dropped or delayed, one in so many is.
_ONE_IN = {"doubled": 1, "dropped": 10, "delayed": 2}
#: Which argument of `Producer._publish` says what is to be declared before.
_DECLARE = 10
#: Seconds for which a process goes by what it was told before.
_PACE = 0.1

_lock = threading.Lock()
_known: tuple[float, str] = (0.0, "")


def install() -> None:
    """Have this process's messages tampered with as the suite says."""
    deliver_one = Producer._publish

    def publish(self: Producer, *args: Any, **options: Any) -> Any:
        deed = _deed()
        if deed and random.randrange(_ONE_IN[deed]) == 0:
            _count(deed)
            if deed == "dropped":
                return None
            if deed == "delayed":
                _keep(args, options)
                return None
            copied = pickle.dumps(_portable(args))  # before the channel writes into it
            deliver_one(self, *args, **options)
            return deliver_one(self, *pickle.loads(copied), **options)
        return deliver_one(self, *args, **options)

    Producer._publish = publish


def _deed() -> str:
    """Of this moment; looked up a few times a second."""
    global _known  # noqa: PLW0603 - one for the process, as the publisher that asks is
    now = time.monotonic()
    with _lock:
        if now - _known[0] > _PACE:
            file = outside.present().folder / "tampering"
            _known = (now, file.read_text() if file.exists() else "")
        return _known[1]


def _count(deed: str) -> None:
    file = outside.present().folder / f"{deed}.count"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, b".")
    finally:
        os.close(descriptor)


def _portable(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What `Producer._publish` was called with, but for what is to be declared before: it is, by now."""
    return (*args[:_DECLARE], [], *args[_DECLARE + 1 :])


def _keep(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    folder = outside.present().folder / "delayed"
    folder.mkdir(exist_ok=True)
    name = f"{time.monotonic_ns()}-{os.getpid()}-{random.getrandbits(32):x}"
    staged = folder / f".{name}"
    staged.write_bytes(pickle.dumps((_portable(args), options)))
    staged.rename(folder / name)


@contextmanager
def tampered(place: Outside, deed: str) -> Iterator[Callable[[], int]]:
    """Messages suffer the deed until the end; gives how many have so far."""
    counted, order = place.folder / f"{deed}.count", place.folder / "tampering"
    before = _size(counted)
    staged = order.with_name(".tampering")
    staged.write_text(deed)
    staged.rename(order)
    try:
        yield lambda: _size(counted) - before
    finally:
        order.unlink()


def deliver(place: Outside, app: Celery) -> int:
    """Deliver what was delayed; how many messages."""
    delivered = 0
    for file in sorted((place.folder / "delayed").glob("[0-9]*")):
        args, options = pickle.loads(file.read_bytes())
        with app.producer_or_acquire() as producer:
            producer._publish(*args, **options)
        file.unlink()
        delivered += 1
    return delivered


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
