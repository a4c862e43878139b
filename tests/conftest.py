"""Real servers for the whole test session: embedded ones, or those that ORCHESTRATOR_TEST_* name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.embedded import Servers


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL and a broker on fresh data."""
    with Servers() as running:
        yield running


@pytest.fixture(scope="session")
def database_url(servers: Servers) -> str:
    """An empty database."""
    return servers.database_url


@pytest.fixture(scope="session")
def broker_url(servers: Servers) -> str:
    """A broker with nothing in it."""
    return servers.broker_url
