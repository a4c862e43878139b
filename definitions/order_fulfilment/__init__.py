"""A wholesaler's orders, from validation to the letter to the customer, on a shop of its own in PostgreSQL."""

from definitions.order_fulfilment.workflow import order_fulfilment

__all__ = ["order_fulfilment"]
