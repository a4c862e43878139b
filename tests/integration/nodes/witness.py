"""What activities really did, seen past the ledger: append-only files, a line a call, and gates that hold them.

Activities write here in worker processes, tests read. A line is one write with O_APPEND, so none is torn or lost.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator import StepContext

#: Names the folder in a worker's environment.
VARIABLE = "NODES_WITNESS"
#: An activity that a test forgot behind a gate ends with an error after this long, in seconds.
FORGOTTEN = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One line: an activity has begun or ended."""

    execution: str
    path: str
    attempt: int
    #: begun or ended.
    phase: str
    #: The process that it happened in.
    pid: int
    #: The step's idempotency key.
    key: str
    #: On this machine's monotonic clock, in seconds.
    at: float


class Witness:
    """A folder with the calls and the gates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("calls", "gates", "meetings"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def note(self, ctx: StepContext, phase: str = "begun") -> None:
        """Write a line about the present call."""
        call = Call(
            execution=ctx.execution_id,
            path=ctx.path,
            attempt=ctx.attempt,
            phase=phase,
            pid=os.getpid(),
            key=ctx.idempotency_key,
            at=time.monotonic(),
        )
        append(self.folder / "calls" / ctx.execution_id, json.dumps(asdict(call)))

    def calls(self, execution: str, path: str | None = None, phase: str = "begun") -> list[Call]:
        """Calls of an execution's steps, or of one, in the order in which they were written."""
        try:
            lines = (self.folder / "calls" / execution).read_text().splitlines()
        except FileNotFoundError:
            return []
        found = [Call(**json.loads(line)) for line in lines]
        return [call for call in found if call.phase == phase and path in {None, call.path}]

    def executions(self) -> list[str]:
        """Ids of the executions whose steps were called."""
        return [file.name for file in (self.folder / "calls").iterdir()]

    def open(self, gate: str) -> None:
        """Let those pass who wait at a gate now or come later."""
        (self.folder / "gates" / gate).touch()

    def pass_gate(self, gate: str) -> None:
        """Wait until a gate is open; TimeoutError when the test has forgotten about it."""
        deadline = time.monotonic() + FORGOTTEN
        while not (self.folder / "gates" / gate).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody opened {gate}")
            time.sleep(0.01)

    def meet(self, name: str, parties: int) -> None:
        """Wait until so many have come, and go on at the same moment: it spins."""
        place = self.folder / "meetings" / name
        append(place, "here")
        deadline = time.monotonic() + FORGOTTEN
        while place.stat().st_size < parties * len("here\n"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name}: not all have come")


def append(path: Path, line: str) -> None:
    """One line, in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def present() -> Witness:
    """The witness of this worker process."""
    return Witness(Path(os.environ[VARIABLE]))
