"""What the wheel brings into somebody else's project."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files of a wheel built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_the_wheel_installs_one_top_level_import(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"orchestrator"}


def test_the_wheel_contains_the_migrations_and_the_type_marker(names: list[str]) -> None:
    ours = {f"orchestrator/migrations/versions/{path.name}" for path in (ROOT / "migrations/versions").glob("*.py")}
    assert ours
    assert ours | {"orchestrator/migrations/env.py", "orchestrator/py.typed"} <= set(names)


def test_importing_the_facade_does_no_io() -> None:
    """No connection, no thread, no setting read: a web application imports it at boot."""
    code = (
        "import socket, threading, sys\n"
        "def refuse(*a, **k): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        "import orchestrator\n"
        "orchestrator.Orchestrator()\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert not any(name == 'definitions' or name.startswith('definitions.') for name in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
