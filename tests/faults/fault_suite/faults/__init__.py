"""The faults, a module a class; importing this registers them all, in order."""

from fault_suite.faults import nodes, messages, broker, database, network, clocks, volume, code  # isort: skip

__all__ = ["broker", "clocks", "code", "database", "messages", "network", "nodes", "volume"]
