"""Real servers for the whole test session, as BROKER and POOLER choose them (servers/chosen.py)."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from servers.chosen import ChosenServers

from orchestrator.embedded import Servers


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tests log texts that are no UTF-8, on purpose; reports of them must get to the process that prints them."""
    report = yield
    report.sections = [
        (title, content.encode(errors="backslashreplace").decode()) for title, content in report.sections
    ]
    return report


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
