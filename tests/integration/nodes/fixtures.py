"""pytest-celery's fixtures on local processes: one site a session, and a module's own nodes on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from pytest_celery import CeleryBrokerCluster, CeleryWorkerCluster

from nodes.process_nodes import BrokerContainer, BrokerNode, ProcessContainer, WorkerNode
from nodes.site import Pool, Site
from orchestrator.embedded import Processes, Servers


@pytest.fixture(scope="session")
def site(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A database of its own and the emptied broker."""
    with Processes(tmp_path_factory.mktemp("site"), grace=5) as processes:
        site = Site(servers, processes)
        yield site
        told = site.differences()
        site.close()
        assert not told, "\n".join(["histories do not fold to their rows:", *told])


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    """The worker nodes of a module, beside the one that sweeps."""
    return [Pool(name="worker", concurrency=4)]


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
def celery_worker_cluster(site: Site, pools: Sequence[Pool]) -> Iterator[CeleryWorkerCluster]:
    """The module's nodes, and last the one that sweeps."""
    yield CeleryWorkerCluster(*site.running(*pools))
    site.open_all()


@pytest.fixture
def worker(celery_worker_cluster: CeleryWorkerCluster) -> WorkerNode:
    """The module's first node."""
    found: WorkerNode = celery_worker_cluster[0]
    return found
