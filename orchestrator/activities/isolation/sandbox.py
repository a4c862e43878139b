"""The worker's side: start a program in a sandbox, feed it, watch over it, and leave nothing behind."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import IO, Any

from orchestrator import clock
from orchestrator.activities.isolation.launcher import HEADER
from orchestrator.activities.isolation.limits import Limits
from orchestrator.activities.isolation.namespaces import WORK

#: Loads the launcher without the rest of the package, whose imports take longer than the whole script.
_BOOTSTRAP = (
    "import sys, types; package = types.ModuleType('orchestrator'); package.__path__ = [sys.argv[1]]; "
    "sys.modules['orchestrator'] = package; "
    "from orchestrator.activities.isolation import launcher; launcher.main(*map(int, sys.argv[2:]))"
)
_PACKAGE = str(Path(__file__).parents[2])
#: The interpreter itself: one of a virtual environment only refers to it.
INTERPRETER: str = getattr(sys, "_base_executable", None) or sys.executable
#: What the interpreter needs, wherever it is installed.
_INTERPRETER_FOLDERS = (sys.base_prefix, sys.base_exec_prefix)
_CHUNK = 65_536


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to execute."""

    argv: Sequence[str]
    #: Its standard input.
    stdin: bytes
    #: Bytes that are kept of each stream: stdout, stderr, and answer, the descriptor for results.
    keep: Mapping[str, int]
    #: The stream of which no byte may be lost: one too many ends the program.
    bounded: str
    limits: Limits = field(default_factory=Limits)
    #: Seconds it may take in all.
    timeout: float = 10.0
    #: Folders shown read-only, besides the system's programs.
    folders: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Ending:
    """How a program ended."""

    #: Its exit code; None when it was killed.
    exit: int | None = None
    #: The signal that killed it.
    signal: int | None = None
    #: Whether it was killed for taking too long, or for the stream that had more bytes than are kept.
    timed_out: bool = False
    overflowed: str | None = None
    #: The step of the isolation that the kernel refused, and why; the program was not started then.
    refused: str | None = None
    reason: str = ""
    #: Why it cannot be executed.
    unstarted: str | None = None
    #: What it wrote, as far as it was kept.
    streams: dict[str, bytearray] = field(default_factory=dict)

    def text(self, stream: str) -> str:
        """What it wrote to a stream, as text."""
        return self.streams.get(stream, b"").decode(errors="replace")


def execute(program: Program, *, isolated: bool = True) -> Ending:
    """Start a program, and wait until it and all that it started are gone.

    Without isolation it is limited in time, memory and files, but sees and may do what the worker may.
    """
    if not sys.platform.startswith("linux"):
        return Ending(refused="Linux", reason=f"this is {sys.platform}")
    with ExitStack() as stack:
        work = WORK if isolated else stack.enter_context(_folder())
        orders = json.dumps(
            {
                "argv": list(program.argv),
                "isolated": isolated,
                "folders": [*_INTERPRETER_FOLDERS, *program.folders],
                "limits": asdict(program.limits),
                "work": work,
            }
        ).encode()
        launched = stack.enter_context(_launch())
        deadline = clock.elapsed() + program.timeout
        words = len(orders).to_bytes(HEADER, "big") + orders + program.stdin
        return _Conversation(program, launched).hold(words, deadline)


@contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="script-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Pipe:
    """A pipe whose writing end is for the launcher. A file knows that it is closed; a bare number may by then be
    somebody else's."""

    def __init__(self, stack: ExitStack) -> None:
        reading, writing = os.pipe()
        self.reading = stack.enter_context(FileIO(reading, "rb"))
        self.writing = stack.enter_context(FileIO(writing, "wb"))


@dataclass(frozen=True, kw_only=True)
class _Launched:
    process: subprocess.Popen[bytes]
    #: What the launcher and the program write, by name.
    streams: dict[str, IO[bytes] | FileIO]


@contextmanager
def _launch() -> Iterator[_Launched]:
    """A launcher that waits for its orders. One that gets none, because we were interrupted here, ends by itself."""
    with ExitStack() as stack:
        status, answer = _Pipe(stack), _Pipe(stack)
        passed = (status.writing.fileno(), answer.writing.fileno())
        process = subprocess.Popen(  # noqa: S603 - the launcher is ours
            [INTERPRETER, "-I", "-S", "-c", _BOOTSTRAP, _PACKAGE, str(os.getpid()), *map(str, passed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=passed,
            env={},
            cwd="/",
            start_new_session=True,
        )
        stack.callback(_bury, process)
        status.writing.close()
        answer.writing.close()
        assert process.stdout is not None
        assert process.stderr is not None
        streams = {"status": status.reading, "answer": answer.reading, "stdout": process.stdout}
        yield _Launched(process=process, streams={**streams, "stderr": process.stderr})


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the launcher, and with it by the kernel's hand all that is in its namespaces; without isolation, its
    process group."""
    if process.returncode is None:  # until then nobody else has its number
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _bury(process: subprocess.Popen[bytes]) -> None:
    _kill(process)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
    process.wait()


class _Conversation:
    """Feeds a program and listens to it, all at once: whoever does one after the other may wait for ever."""

    def __init__(self, program: Program, launched: _Launched) -> None:
        self._program, self._launched = program, launched
        self._ending = Ending(streams={name: bytearray() for name in launched.streams})
        self._selector = selectors.DefaultSelector()

    def hold(self, words: bytes, deadline: float) -> Ending:
        """Say `words` on standard input and listen until all is said or the deadline has come."""
        stdin = self._launched.process.stdin
        assert stdin is not None
        rest = memoryview(words)
        with self._selector:
            for name, stream in self._launched.streams.items():
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream, selectors.EVENT_READ, name)
            os.set_blocking(stdin.fileno(), False)
            self._selector.register(stdin, selectors.EVENT_WRITE, "stdin")
            while self._is_awaited():
                left = deadline - clock.elapsed()
                if left <= 0:
                    self._ending.timed_out = True
                    break
                for key, _ in self._selector.select(left):
                    if key.data == "stdin":
                        rest = self._feed(stdin, rest)
                    else:
                        self._hear(key)
                if self._ending.overflowed:
                    break
            _kill(self._launched.process)
            self._hear_the_rest()
        return self._conclude()

    def _is_awaited(self) -> bool:
        """The launcher's own end comes last: it waits for the whole process namespace."""
        return any(key.data == "status" for key in self._selector.get_map().values())

    def _feed(self, stdin: IO[bytes], rest: memoryview) -> memoryview:
        try:
            rest = rest[os.write(stdin.fileno(), rest[:_CHUNK]) :]
        except BrokenPipeError:
            rest = rest[:0]  # the program wants no more
        if not rest:
            self._selector.unregister(stdin)
            stdin.close()
        return rest

    def _hear(self, key: selectors.SelectorKey) -> bool:
        """Take what a stream has; False when it had nothing."""
        try:
            part = os.read(key.fd, _CHUNK)
        except BlockingIOError:
            return False
        if not part:
            self._selector.unregister(key.fileobj)
            return False
        heard = self._ending.streams[key.data]
        room = self._program.keep.get(key.data, _CHUNK) - len(heard)
        if len(part) > room and key.data == self._program.bounded:
            self._ending.overflowed = key.data
        heard += part[:room]
        return True

    def _hear_the_rest(self) -> None:
        """What was written before the end and not yet heard; a pipe that a survivor holds open is not waited for."""
        for key in list(self._selector.get_map().values()):
            if key.data != "stdin":
                while self._hear(key) and not self._ending.overflowed:
                    pass

    def _conclude(self) -> Ending:
        lines = self._ending.streams.pop("status").splitlines()
        facts: dict[str, Any] = json.loads(lines[0]) if lines else {}
        for name, value in facts.items():
            setattr(self._ending, name, value)
        return self._ending
