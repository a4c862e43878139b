"""A node's own row: under which name it goes, and which of its children it lists."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine, text

from ledger.clients import Client
from ledger.driver import Ledger
from ledger.races import until
from orchestrator.runtime.node import NodeLife, Surroundings
from orchestrator.runtime.owner import Node


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Process ids of a pool, which a test may add to."""
    found: list[int] = []
    with ExitStack() as processes:

        def fork() -> None:
            process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
            processes.callback(process.communicate)
            processes.callback(process.kill)
            found.append(process.pid)

        fork()
        fork()
        yield found


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def life(ledger: Ledger, client: Callable[[Engine], Client], node: Node, children: list[int]) -> NodeLife:
    around = Surroundings(name="node", children=lambda: children, queues=lambda: ["queue"])
    return NodeLife(client(ledger.engine).core, node, around, ledger.engine)


def test_a_node_goes_by_a_new_name_only_when_the_ledger_knows_it(ledger: Ledger, life: NodeLife, node: Node) -> None:
    """What is claimed under a name without a row is released by nobody."""
    before = node.boot_id
    with ledger.open() as connection:
        connection.execute(text("LOCK TABLE orchestrator.worker IN EXCLUSIVE MODE"))
        with ledger.behind(lambda _: life._register()):
            until(lambda: bool(ledger.sql("SELECT FROM pg_locks WHERE NOT granted")), "it waits for the lock")
            assert node.boot_id == before
            connection.commit()
    assert node.boot_id != before
    assert ledger.sql("SELECT name FROM orchestrator.worker WHERE boot_id = :boot", boot=node.boot_id) == [("node",)]


def test_a_child_that_was_forked_since_the_event_loop_last_looked_is_listed(
    life: NodeLife, children: list[int]
) -> None:
    """One that is not listed loses what it works on."""
    late = children.pop()
    life.watch_children()
    children.append(late)
    assert life._living() == sorted(children)
