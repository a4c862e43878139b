"""Application code, as the tests of the ledger have it."""

from __future__ import annotations

from orchestrator.engine.core import Core
from orchestrator.engine.service import Service


class Client(Service):
    """Application code."""

    def __init__(self, core: Core) -> None:
        self.core = core
