"""An order with every way to fail: the order's number says where it does (order_saga.yaml)."""
