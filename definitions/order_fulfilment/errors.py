"""What the shop and its services say no to.

BusinessError
|- InvalidOrder         the order contradicts itself or the shop's catalogue
|- OutOfStock           a product is not in stock in the quantity ordered
|- PaymentClosed        the payment was voided or refunded, or was never authorised
|- OrderClosed          the order was cancelled
|- DuplicateOrder       another purchase holds the order's number
|- CarrierRefused       the carrier cannot deliver in time
|- ShipmentClosed       the shipment was cancelled
`- NoticeWithdrawn      the notice was withdrawn
TransientError
`- ServiceUnavailable   the service's database does not answer
"""

from __future__ import annotations

from orchestrator import BusinessError, TransientError


class InvalidOrder(BusinessError):
    """The order contradicts itself or the shop's catalogue."""


class OutOfStock(BusinessError):
    """A product is not in stock in the quantity ordered.

    Attributes:
        product_id: the product.
        quantity: units ordered.
    """

    def __init__(self, product_id: int, quantity: int) -> None:
        self.product_id, self.quantity = product_id, quantity
        super().__init__(f"product {product_id} is not in stock in the quantity ordered, {quantity}")


class PaymentClosed(BusinessError):
    """The payment was voided or refunded, or was never authorised for this amount."""


class OrderClosed(BusinessError):
    """The order was cancelled."""


class DuplicateOrder(BusinessError):
    """Another purchase holds the order's number."""


class CarrierRefused(BusinessError):
    """The carrier cannot deliver the order in time."""


class ShipmentClosed(BusinessError):
    """The shipment was cancelled."""


class NoticeWithdrawn(BusinessError):
    """The notice was withdrawn before it was sent."""


class ServiceUnavailable(TransientError):
    """The service's database does not answer."""
