"""pytest-celery's fixtures on local processes; a module's tests share its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from nodes.process_nodes import BeatNode, BrokerContainer, BrokerNode, ProcessContainer, WorkerNode
from nodes.site import SWEEPER, Pool, Site
from pytest_celery import CeleryBrokerCluster, CeleryWorkerCluster

from orchestrator.embedded import Processes, Servers


@pytest.fixture(scope="module")
def modules() -> Sequence[str]:
    """What the test process loads."""
    return ("nodes.workflows",)


@pytest.fixture(scope="module")
def site(servers: Servers, tmp_path_factory: pytest.TempPathFactory, modules: Sequence[str]) -> Iterator[Site]:
    """A database and an emptied broker for one module."""
    with Processes(tmp_path_factory.mktemp("site"), grace=5) as processes:
        site = Site(servers, processes, modules)
        yield site
        site.witness.open("gate")
        site.close()


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    """The worker nodes of a module, beside the one that sweeps."""
    return [Pool(name="worker")]


@pytest.fixture(scope="session")
def default_worker_container_session_cls() -> type[ProcessContainer]:
    """Processes in place of containers."""
    return ProcessContainer


@pytest.fixture
def default_worker_container_cls() -> type[ProcessContainer]:
    """Processes in place of containers."""
    return ProcessContainer


@pytest.fixture(scope="module")
def celery_broker_cluster(site: Site) -> CeleryBrokerCluster:
    """The site's broker."""
    return CeleryBrokerCluster(BrokerNode(BrokerContainer(site.servers.broker)))


@pytest.fixture(scope="module")
def celery_backend_cluster() -> None:
    """The ledger keeps the results."""


@pytest.fixture(scope="module")
def celery_worker_cluster(site: Site, pools: Sequence[Pool], beat: BeatNode) -> Iterator[CeleryWorkerCluster]:
    """The module's nodes, then the one that sweeps."""
    cluster = CeleryWorkerCluster(*[site.worker(pool) for pool in (*pools, SWEEPER)])
    assert cluster.ready()
    assert beat.ready()
    yield cluster
    site.open("gate")
    for node in cluster:
        node.container.kill("SIGTERM")
    for node in cluster:
        node.teardown()


@pytest.fixture(scope="module")
def beat(site: Site) -> Iterator[BeatNode]:
    """The site's beat."""
    node = site.beat("beat")
    yield node
    node.teardown()


@pytest.fixture(scope="module")
def worker(celery_worker_cluster: CeleryWorkerCluster) -> WorkerNode:
    """The module's first node."""
    found: WorkerNode = celery_worker_cluster[0]
    return found
