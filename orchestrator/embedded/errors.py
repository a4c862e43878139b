"""What can go wrong with servers and programs that this process owns.

EmbeddedError
|- AlreadyRunning     a program of that name runs
|- BinaryMissing      the `embedded` extra is not installed, or a program is not on PATH
|- DirectoryForeign   the directory holds something else than a server's data
|- DirectoryInUse     another process serves the same directory
|- NotStarted         the server has no port, password or process yet
|- StartFailed        a server did not become ready; carries the tail of its log
`- WrongThread        a process was started from another thread than the main one
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import OrchestratorError


class EmbeddedError(OrchestratorError):
    """An embedded server or program cannot do what was asked."""


class AlreadyRunning(EmbeddedError):
    """A program of that name runs already.

    Attributes:
        name: the name it was started under.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name} runs already; end it first, or use another name")


class BinaryMissing(EmbeddedError):
    """A program is not installed.

    Attributes:
        program: the file that was looked for.
    """

    def __init__(self, program: str, remedy: str) -> None:
        self.program = program
        super().__init__(f"{program} is not installed; {remedy}")


class DirectoryForeign(EmbeddedError):
    """The directory holds something else than a server's data.

    Attributes:
        directory: the directory in question.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        super().__init__(f"{directory} holds other files; use an empty directory, or one that was served before")


class DirectoryInUse(EmbeddedError):
    """Another process serves the same directory.

    Attributes:
        directory: the directory in question.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        super().__init__(f"{directory} is served by another process; stop it first, or use another directory")


class NotStarted(EmbeddedError):
    """The server is not running; call start() or enter its context."""


class StartFailed(EmbeddedError):
    """A server did not become ready.

    Attributes:
        program: which server.
        reason: what was seen from outside.
        log_tail: the last lines that it logged.
    """

    def __init__(self, program: str, reason: str, log_tail: str) -> None:
        self.program, self.reason, self.log_tail = program, reason, log_tail
        super().__init__(f"{program} {reason}; its log ends with:\n{log_tail or '(nothing was logged)'}")


class WrongThread(EmbeddedError):
    """Start servers and programs from the main thread: they are killed when the thread that started them ends."""
