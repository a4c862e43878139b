"""A trade: money is set aside, the order is sent to a chain, and the portfolio changes once it is confirmed."""

from definitions.trade_execution.workflow import trade_execution

__all__ = ["trade_execution"]
