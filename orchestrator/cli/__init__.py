"""The command line: `orchestrator --help`."""

from orchestrator.cli.main import call, main

__all__ = ["call", "main"]
