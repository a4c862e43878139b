"""Workflows on Redis by TLS, and on Redis under Sentinels, each with its own site: steps go on through a broker's
restart and through a failover, and what it lost on the way is found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes.redis_broker import RedisBroker
from nodes.site import Pool, Site, settled_once
from servers import Authority, RedisTls, Sentinels
from servers.sentinel import MASTER

from orchestrator import Orchestrator
from orchestrator.embedded import Processes, Servers
from orchestrator.errors import BrokerUnavailable

#: What runs on each: one step, five in one segment, a chord, and a retry by a timer.
SHAPES = ("quick", "steady", "fan-20", "flaky")
POOL = Pool(name="worker", concurrency=4)
#: A failover: the Sentinels' second, their vote, and Celery's way back; in seconds.
RECOVERED = 40.0


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that servers with another account may enter."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture
def authority(folder: Path) -> Authority:
    return Authority(folder / "authority")


@pytest.fixture
def redis(folder: Path, authority: Authority) -> Iterator[RedisTls]:
    with RedisTls(folder / "redis", authority) as running:
        yield running


@pytest.fixture
def encrypted(servers: Servers, redis: RedisTls, authority: Authority, folder: Path) -> Iterator[Site]:
    """A site whose broker speaks TLS only."""
    trusted = str(authority.certificate)
    with Processes(folder / "site", grace=5) as processes:
        broker = RedisBroker(redis.url, ssl_ca_certs=trusted)
        site = Site(servers, processes, broker, broker_url=redis.url, broker_ca=trusted)
        yield site
        site.close()


def test_workflows_go_on_by_tls_through_the_restart_of_their_broker(encrypted: Site, redis: RedisTls) -> None:
    worker, *_ = encrypted.running(POOL)
    carry_out(encrypted)
    held = encrypted.start("plain-hold")
    encrypted.call(held, "work")
    redis.kill()
    encrypted.open(held)
    # Started while there is no broker: the ledger has it, and the sweep publishes it.
    meanwhile = encrypted.start("quick")
    redis.restart()
    for handle in (held, meanwhile):
        handle.result(RECOVERED)
        settled_once(encrypted, handle)
    carry_out(encrypted)
    assert worker.alive


def test_a_broker_whose_certificate_nobody_vouches_for_is_none(redis: RedisTls) -> None:
    trusting = Orchestrator(broker_url=redis.url, database_url="postgresql://127.0.0.1:1/none", modules=())
    with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
        trusting.core.publisher.ping()
    trusting.app.close()


@pytest.fixture
def sentinels(folder: Path) -> Iterator[Sentinels]:
    with Sentinels(folder / "sentinels") as running:
        yield running


@pytest.fixture
def watched(servers: Servers, sentinels: Sentinels, folder: Path) -> Iterator[Site]:
    """A site whose broker is whatever the Sentinels say."""
    with Processes(folder / "site", grace=5) as processes:
        broker = RedisBroker(sentinels.master().url)
        options = {"master_name": MASTER}
        site = Site(servers, processes, broker, broker_url=sentinels.url, broker_options=options)
        yield site
        site.close()


def test_workflows_go_on_while_the_sentinels_make_another_server_master(watched: Site, sentinels: Sentinels) -> None:
    worker, *_ = watched.running(POOL)
    carry_out(watched)
    held = [watched.start("plain-hold") for _ in range(2)]
    for handle in held:
        watched.call(handle, "work")
    begun = time.monotonic()
    sentinels.fail_over()
    for handle in held:
        watched.open(handle)
    # What the old master had taken and not passed on yet is lost, and found by the sweep.
    meanwhile = [watched.start("fan-20"), watched.start("flaky")]
    for handle in (*held, *meanwhile):
        handle.result(RECOVERED)
        settled_once(watched, handle)
    assert all(len(watched.witness.calls(handle.id)) == 1 for handle in held)
    assert time.monotonic() - begun < RECOVERED
    carry_out(watched)
    assert worker.alive


def carry_out(site: Site) -> None:
    """Some of every shape, to the end."""
    handles = [site.start(name) for name in SHAPES for _ in range(2)]
    for handle in handles:
        handle.result(30)
        settled_once(site, handle)
