"""Real servers for the whole test session, as BROKER and POOLER choose them (servers/chosen.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers.chosen import ChosenServers

from orchestrator.embedded import Servers


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL and a broker on fresh data."""
    with ChosenServers() as running, pytest.MonkeyPatch.context() as patch:
        if running.is_pooled:
            patch.setenv("ORCHESTRATOR_POOLER", "true")
        yield running


@pytest.fixture(scope="session")
def database_url(servers: Servers) -> str:
    """An empty database."""
    return servers.database_url


@pytest.fixture(scope="session")
def broker_url(servers: Servers) -> str:
    """A broker with nothing in it."""
    return servers.broker_url
