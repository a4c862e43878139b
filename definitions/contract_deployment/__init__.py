"""A contract is deployed to a chain, never twice for one request (contract_deployment.yaml)."""
