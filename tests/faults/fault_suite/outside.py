"""What really happened, seen past the ledger: append-only files that activities and clients write, a line an event.

A line is one write with O_APPEND, so none is torn, and none is lost unless the machine itself goes down. Times are
those of the machine's monotonic clock, which every process shares and no fault moves.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Names the folder in the environment of every process of a suite.
FOLDER = "FAULTS_FOLDER"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A line of an activity's."""

    execution: str
    path: str
    attempt: int
    #: Whether it is a compensation.
    undo: bool
    #: begun, or ended: it is about to return or raise.
    phase: str
    pid: int
    #: Seconds, monotonic.
    at: float
    #: The process's own clock, in seconds since 1970.
    clock: float = 0.0
    #: Where it has the engine from.
    engine: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A line of a client's: what it was told, and when the answer came."""

    #: started, refused, signalled or cancelled.
    kind: str
    definition: str = ""
    execution: str = ""
    key: str | None = None
    reason: str = ""
    #: Seconds, monotonic.
    at: float
    #: The database's clock when a cancellation had returned, in seconds since 1970.
    database_at: float = 0.0


class Outside:
    """The folder that all of it is in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("calls", "answers", "traps", "sprung"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def note(self, mark: str, call: Call) -> None:
        """Write a call of an activity's, under the mark of the load that it belongs to."""
        _append(self.folder / "calls" / mark, asdict(call))

    def answer(self, mark: str, answer: Answer) -> None:
        """Write a client's answer."""
        _append(self.folder / "answers" / mark, asdict(answer))

    def calls(self, mark: str) -> list[Call]:
        """All calls under a mark, in the order in which they were written."""
        return [Call(**line) for line in _lines(self.folder / "calls" / mark)]

    def answers(self, mark: str) -> list[Answer]:
        """All answers under a mark, likewise."""
        return [Answer(**line) for line in _lines(self.folder / "answers" / mark)]

    # Traps: a process that reaches a point where one is laid, springs it.

    def lay(self, point: str, *, pid: int | None = None, deed: str = "kill") -> None:
        """Lay a trap at a point, for whoever comes first or for one process; `deed` is what happens to that."""
        trap = self.folder / "traps" / (point if pid is None else f"{point}.{pid}")
        staged = trap.with_name(f".{trap.name}")
        staged.write_text(deed)
        staged.rename(trap)

    def take_up(self, point: str) -> None:
        """Take a trap away again, if nobody came."""
        (self.folder / "traps" / point).unlink(missing_ok=True)

    def spring(self, point: str) -> str | None:
        """Called at a point: what the trap there does to this process. Of several processes one springs it."""
        for name in (point, f"{point}.{os.getpid()}"):
            trap = self.folder / "traps" / name
            if trap.exists():
                sprung = self.folder / "sprung" / f"{point}.{os.getpid()}.{time.monotonic_ns()}"
                try:
                    trap.rename(sprung)
                except FileNotFoundError:
                    continue
                return sprung.read_text()
        return None

    def sprung(self, point: str) -> list[tuple[int, float]]:
        """Process id and time, in monotonic seconds, of each trap that was sprung at a point."""
        found = []
        for file in (self.folder / "sprung").glob(f"{point}.*"):
            _, pid, at = file.name.rsplit(".", 2)
            found.append((int(pid), int(at) / 1e9))
        return sorted(found, key=lambda one: one[1])


def present() -> Outside:
    """That of this process's suite."""
    return Outside(Path(os.environ[FOLDER]))


def _append(path: Path, line: dict[str, Any]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{json.dumps(line)}\n".encode())
    finally:
        os.close(descriptor)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        # The last one may be half written at this moment.
        whole, _, _ = path.read_text().rpartition("\n")
        for line in whole.splitlines():
            yield json.loads(line)
