"""A folder to follow the documentation in: command lines by a real shell, background processes, scripts."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from sqlalchemy import create_engine, make_url

from orchestrator.embedded import Processes, Servers

#: Generous, so that a busy machine fails no test; in seconds.
PATIENCE = 90.0

#: Carries out several of our command lines in one process, as each has a second's worth of imports.
_EACH = """
import shlex, sys
from orchestrator.cli import call
for command in sys.stdin.read().splitlines():
    code = call(shlex.split(command)[1:])
    print(f"\\n--- {code}", flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder, with an environment."""

    folder: Path
    processes: Processes
    #: Added to the process's own, from which our settings are taken away.
    environment: Mapping[str, str] = field(default_factory=dict)

    def shell(self, command: str, *, expect: int = 0, stdin: str = "") -> str:
        """Both outputs of a command line; AssertionError if it does not end with the expected code."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == expect, f"{command}: {done.returncode}\n{done.stdout}{self._logs()}"
        return done.stdout

    def python(self, script: str) -> str:
        """What a script prints."""
        return self.shell("python -", stdin=script)

    def each(self, commands: Sequence[str]) -> list[str]:
        """What each of our command lines prints; AssertionError if one fails."""
        (self.folder / "each.py").write_text(_EACH, encoding="utf-8")
        told = self.shell("python each.py", stdin="\n".join(commands)).split("\n--- ")
        outputs = [told[0], *(after.partition("\n")[2] for after in told[1:-1])]
        codes = [after.partition("\n")[0] for after in told[1:]]
        assert codes == ["0"] * len(commands), dict(zip(commands, zip(codes, outputs, strict=True), strict=True))
        return outputs

    def start(self, name: str, command: str, prompt: str) -> None:
        """Start a command line in the background; returns when its log has the prompt."""
        argv = ["bash", "-c", f"cd {shlex.quote(str(self.folder))} && exec env {command}"]
        log = self.processes.start(name, argv, self._environment).log
        eventually(lambda: prompt in log.read_text(errors="replace"), lambda: f"{command}: {self._logs()}")

    @property
    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**inherited, "PATH": path, "PYTHONUNBUFFERED": "1", **self.environment}

    def _logs(self) -> str:
        names = [path.stem for path in (self.processes.root / "logs").glob("*.log")]
        return "".join(f"\n--- {name}\n{self.processes.log_tail(name)}" for name in names)


def eventually(ask: Callable[[], bool], what: Callable[[], object]) -> None:
    """Wait until it holds; AssertionError after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not ask():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def settings(servers: Servers, broker: int, modules: str) -> dict[str, str]:
    """Variables for a database of its own and one of the broker's, so that one page's messages are no other's."""
    name = f"docs_{uuid4().hex[:12]}"
    engine = create_engine(servers.database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return {
        "ORCHESTRATOR_DATABASE_URL": make_url(servers.database_url).set(database=name).render_as_string(False),
        "ORCHESTRATOR_BROKER_URL": broker_url(servers, broker),
        "ORCHESTRATOR_MODULES": modules,
    }


def broker_url(servers: Servers, number: int) -> str:
    """One of the broker's databases."""
    return f"{servers.broker_url.rpartition('/')[0]}/{number}"
