"""An invoice is created, approved by one manager or two, and paid: a state machine (invoice_approval.yaml)."""
