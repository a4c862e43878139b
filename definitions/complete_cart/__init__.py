"""A cart becomes an order: payment, order, links, reservations and promotions, undone when any of it fails."""

from definitions.complete_cart.workflow import complete_cart

__all__ = ["complete_cart"]
