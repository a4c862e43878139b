"""What every part of the engine works with: settings, the ledger's connections, known definitions, the publisher."""

from __future__ import annotations

from copy import copy

from sqlalchemy import Connection, Engine

from orchestrator.compiler.graph import Graph
from orchestrator.compiler.own_tasks import Route
from orchestrator.config import Settings
from orchestrator.dispatch.publish import Publisher, SilentPublisher
from orchestrator.errors import UnknownDefinition
from orchestrator.ledger import definitions
from orchestrator.ledger.seals import Seals


class Graphs:
    """Graphs by definition id. Published definitions never change, so what is known stays known."""

    def __init__(self, default_queue: str, route: Route) -> None:
        self._default_queue, self._route = default_queue, route
        self._known: dict[str, Graph] = {}

    def get(self, connection: Connection, definition_id: str) -> Graph:
        """The graph of a definition, read from the ledger the first time; UnknownDefinition when it is not there."""
        return self._known.get(definition_id) or self._load(connection, definition_id)

    def cached(self, definition_id: str) -> Graph | None:
        """The graph if it was met before; no I/O."""
        return self._known.get(definition_id)

    def _load(self, connection: Connection, definition_id: str) -> Graph:
        definition = definitions.load(connection, definition_id)
        if definition is None:
            raise UnknownDefinition(f"no definition has the id {definition_id}; was it published to this database?")
        graph = self._known[definition_id] = Graph(definition, self._default_queue, self._route)
        return graph


class Core:
    """The engine's parts, made once a process."""

    def __init__(self, settings: Settings, database: Engine, publisher: Publisher) -> None:
        self.settings = settings
        self.database = database
        self.publisher = publisher
        self.seals = Seals(settings.secret_keys)
        self.graphs = Graphs(settings.default_queue, publisher.route)

    def silent(self) -> Core:
        """The same parts, but for a publisher that leaves everything to the sweeps."""
        found = copy(self)
        found.publisher = SilentPublisher(self.publisher)
        return found
