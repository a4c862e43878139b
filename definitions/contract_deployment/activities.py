"""What the deployment's steps do, on a chain and an explorer whose books are in PostgreSQL."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

from definitions import books
from definitions.contract_deployment import chain
from orchestrator import BusinessError, StepContext, TransientError, activity

_CONTRACT = re.compile(r"\bcontract\s+([A-Z]\w*)\s*\{")
_FORBIDDEN = ("selfdestruct", "delegatecall")


class CodeRejected(BusinessError):
    """The source is not fit to be deployed."""


class AlreadyDeployed(BusinessError):
    """Another execution has deployed a contract for this request."""


class VerificationFailed(BusinessError):
    """What was published is not what was deployed."""


class Code(BaseModel):
    """A source found valid."""

    model_config = ConfigDict(frozen=True)

    name: str
    bytecode: str


class Deployment(BaseModel):
    """A contract on the chain."""

    model_config = ConfigDict(frozen=True)

    address: str
    transaction: str
    bytecode: str


@activity
def validate_contract_code(source: str) -> Code:
    """Compile the source; CodeRejected if it is no contract, or calls what must not be called."""
    found = _CONTRACT.search(source)
    if found is None or source.count("{") != source.count("}"):
        raise CodeRejected("there is no whole contract in the source")
    for word in _FORBIDDEN:
        if word in source:
            raise CodeRejected(f"the source uses {word}")
    return Code(name=found[1], bytecode=chain.compiled(source))


@activity
def deploy_contract(ctx: StepContext, request_id: str, network: str, bytecode: str) -> Deployment:
    """Send the contract to the chain. Another attempt finds its transaction; AlreadyDeployed for another execution."""
    with books.opened(f"chain/{network}") as sent:
        for entry in sent.standing:
            if entry.data.get("request") == request_id and entry.key != ctx.idempotency_key:
                raise AlreadyDeployed(f"request {request_id} has its contract at {entry.data['address']}")
        data = {"request": request_id, "address": chain.address(ctx.idempotency_key), "bytecode": bytecode}
        made = sent.post("deploy", ctx.idempotency_key, data)
    if network == chain.LOSSY and ctx.attempt == 1:
        raise TransientError("the node's answer was lost")
    return Deployment(address=made.data["address"], transaction=made.key, bytecode=made.data["bytecode"])


@activity
def deprecate_contract(ctx: StepContext, network: str) -> bool:
    """Nothing is undone on a chain: the contract is marked as not to be used, by another transaction."""
    with books.opened(f"chain/{network}") as sent:
        return sent.take_back(ctx, "deprecate")


@activity
def count_confirmations(network: str, transaction: str) -> int:
    """The blocks behind a transaction."""
    with books.opened(f"chain/{network}") as sent:
        found = sent.found(transaction)
    return 0 if found is None else chain.confirmations(found.age)


@activity
def verify_contract(network: str, transaction: str, source: str) -> dict[str, bool]:
    """Have the explorer compare the source with the chain; TransientError while it lags behind."""
    with books.opened(f"chain/{network}") as sent:
        found = sent.found(transaction)
    if found is None or chain.confirmations(found.age) < chain.EXPLORER_LAG:
        raise TransientError("the explorer has not come to this block yet")
    if found.data["bytecode"] != chain.compiled(source):
        raise VerificationFailed
    return {"verified": True}


@activity
def index_contract(ctx: StepContext, network: str, name: str, address: str) -> dict[str, int]:
    """List the contract, so that others find it."""
    with books.opened(f"contracts/{network}") as index:
        index.post("index", ctx.idempotency_key, {"name": name, "address": address})
        return {"listed": len(index.standing)}
