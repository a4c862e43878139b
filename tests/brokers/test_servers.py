"""The servers of tests/servers: they serve, die when told with all that is theirs, and come back with their data."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kombu import Connection
from redis import RedisError
from servers import Authority, PgBouncer, RabbitMQ, RedisTls, Sentinels, debian
from sqlalchemy import make_url

from orchestrator.application import own_app
from orchestrator.config import load
from orchestrator.dispatch.publish import Publisher
from orchestrator.embedded import Postgres
from orchestrator.errors import BrokerUnavailable


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that servers with another account may enter."""
    return tmp_path_factory.mktemp("servers")


def of_session(pid: int) -> list[str]:
    """Names of the processes whose session is led by a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(rest.split()[3]) == pid and rest.split()[0] not in "ZX":
                found.append(name)
    return found


def names(directory: Path) -> list[str]:
    """Names of the processes that hold a server's lock, as all of its processes do."""
    inode, found = os.stat(directory / "lock").st_ino, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                held = [os.stat(descriptor).st_ino for descriptor in (entry / "fd").iterdir()]
                name = (entry / "comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if inode in held:
                found.append(name)
    return found


def ping(**settings: Any) -> None:
    """Reach a broker as our own applications do; BrokerUnavailable if they cannot."""
    with own_app(load(**settings)) as app:
        Publisher(app).ping()


def test_what_is_missing_is_named_with_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {"BROKER": "amqp", "POOLER": "1"}
    assert debian.missing(ours) is None
    monkeypatch.setattr(debian, "_PATH", str(folder))
    packages = "rabbitmq-server pgbouncer redis-server redis-sentinel"
    assert f"apt-get install --no-install-recommends {packages};" in str(debian.missing(ours))
    given = {"BROKER": "amqp://guest:guest@far//", "POOLER": "1"}
    assert "apt-get install --no-install-recommends pgbouncer; or name servers" in str(debian.missing(given))
    assert debian.missing({**given, "POOLER": "postgresql+psycopg://me@far/x"}) is None


def test_a_killed_rabbitmq_takes_its_epmd_along_and_keeps_its_messages(folder: Path) -> None:
    authority = Authority(folder / "ours")
    with RabbitMQ(folder / "rabbitmq", authority=authority) as rabbitmq:
        # What is not confirmed may not be on disk yet.
        with Connection(rabbitmq.url, transport_options={"confirm_publish": True}) as connection:
            queue = connection.SimpleQueue("kept")
            queue.put({"n": 1})
            queue.close()
        assert Path(f"/proc/{rabbitmq.pid}/comm").read_text().strip() == "beam.smp"
        assert {"beam.smp", "epmd"} <= set(names(rabbitmq.directory))
        ping(broker_url=rabbitmq.tls_url, broker_ca=str(authority.certificate))
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
            ping(broker_url=rabbitmq.tls_url)
        leader, url = rabbitmq.pid, rabbitmq.url
        rabbitmq.kill()
        assert not names(rabbitmq.directory)
        assert not of_session(leader)
        rabbitmq.restart()
        assert rabbitmq.url == url
        with Connection(rabbitmq.url) as connection:
            queue = connection.SimpleQueue("kept")
            message = queue.get(timeout=5)
            assert message.payload == {"n": 1}
            assert rabbitmq.unacknowledged() == 1
            message.ack()
            queue.close()
    assert not names(rabbitmq.directory)


def test_pgbouncer_gives_transactions_in_turn_to_its_connections(folder: Path) -> None:
    with Postgres(folder / "postgres") as postgres, PgBouncer(folder / "pooler", postgres) as pooler:
        url = make_url(pooler.url).set(drivername="postgresql").render_as_string(hide_password=False)
        asked = b"SELECT pg_backend_pid()"
        with ExitStack() as stack:
            clients = [stack.enter_context(psycopg.connect(url, prepare_threshold=None)) for _ in range(2)]
            at_once = {client.execute(asked).fetchone() for client in clients}
            clients[0].rollback()
            clients[1].rollback()
            one_by_one = set()
            for _ in range(4):
                one_by_one.add(clients[0].execute(asked).fetchone())
                clients[0].rollback()
        assert len(at_once) == 2
        assert one_by_one >= at_once, "the same client gets one after the other"
        with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter"):
            psycopg.connect(url, options="-c lock_timeout=1")
        pooler.kill()
        assert postgres.running
        pooler.restart()
        psycopg.connect(url).close()


def test_redis_by_tls_is_reached_by_those_only_who_trust_its_authority(folder: Path) -> None:
    ours, another = Authority(folder / "ours"), Authority(folder / "another", "another")
    with RedisTls(folder / "redis", ours) as redis:
        assert redis.url.startswith("rediss://")
        with redis.client() as client:
            client.set("kept", 1)
        redis.kill()
        redis.restart()
        with redis.client() as client:
            assert client.get("kept") == b"1"
        redis._authority = another
        with redis.client() as client, pytest.raises(RedisError, match="certificate verify failed"):
            client.ping()


def test_the_replica_becomes_master_and_the_old_master_its_replica(folder: Path) -> None:
    with Sentinels(folder) as sentinels:
        before = sentinels.master()
        with before.client() as client:
            client.set("kept", 1)
            client.wait(1, 5000)
        after = sentinels.fail_over()
        assert after is not before
        with after.client() as client:
            assert client.get("kept") == b"1"
        before.restart()
        assert sentinels.fail_over() is before
