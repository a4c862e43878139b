"""What the example does, checked on real workers by `orchestrator examples`."""

from __future__ import annotations

from typing import Any

from definitions import books
from definitions.play import Play

WORKFLOW = "contract-deployment"
SAMPLE = {"request_id": "request-1", "network": "testnet", "source": "contract Token { uint supply = 1000; }"}


#: One deployment for one request.
KEY = "request-1"


def _request(play: Play, **changes: Any) -> dict[str, Any]:
    return SAMPLE | {"request_id": f"request-{play.tag}"} | changes


def _sent(network: str, request: dict[str, Any]) -> list[books.Entry]:
    """The contracts that stand on a chain for a request."""
    standing = books.read(f"chain/{network}").standing
    return [entry for entry in standing if entry.data.get("request") == request["request_id"]]


def check_deployed_once(play: Play) -> None:
    """two starts for one request deploy one contract, verified and listed"""
    request = _request(play)
    first, second = (play.start(WORKFLOW, request, idempotency_key=request["request_id"]) for _ in range(2))
    play.same(second.id, first.id, "the second start's execution")
    output = play.output(first)
    play.true(output["confirmations"] >= 3, "confirmations")
    sent = _sent("testnet", request)
    play.same([entry.data["address"] for entry in sent], [output["address"]], "contracts on the chain")
    listed = [e.data["name"] for e in books.read("contracts/testnet").entries if e.data["address"] == output["address"]]
    play.same(listed, ["Token"], "entries of the index")


def check_answer_lost(play: Play) -> None:
    """an answer that is lost after the deployment brings no second deployment"""
    request = _request(play, network="lossy")
    handle = play.start(WORKFLOW, request, idempotency_key=request["request_id"])
    output = play.output(handle)
    play.same(play.attempts(handle, "deploy_contract"), 2, "attempts to deploy")
    sent = _sent("lossy", request)
    play.same([entry.data["address"] for entry in sent], [output["address"]], "contracts on the chain")


def check_another_execution(play: Play) -> None:
    """an execution under another key is refused by the chain, and takes nothing from the first"""
    request = _request(play)
    play.output(play.start(WORKFLOW, request, idempotency_key=request["request_id"]))
    again = play.start(WORKFLOW, request, idempotency_key=f"again-{play.tag}")
    play.same(play.error(again, "compensated")["name"], "AlreadyDeployed", "the error")
    play.same(len(_sent("testnet", request)), 1, "contracts that stand")


def check_code_rejected(play: Play) -> None:
    """code that is not fit is never sent"""
    request = _request(play, source="contract Bomb { function end() { selfdestruct(owner); } }")
    handle = play.start(WORKFLOW, request)
    play.same(play.error(handle, "failed")["name"], "CodeRejected", "the error")
    play.same(play.begun(handle), ["validate_contract_code"], "steps")


def check_not_verified(play: Play) -> None:
    """a contract that is not what was published is marked as not to be used"""
    request = _request(play, published_source="contract Other { }")
    handle = play.start(WORKFLOW, request)
    play.same(play.error(handle, "compensated")["name"], "VerificationFailed", "the error")
    deprecated = books.read("chain/testnet").found(f"{handle.id}/undo:deploy_contract")
    play.same(deprecated and deprecated.action, "deprecate", "the last entry of the chain")
    play.same(_sent("testnet", request), [], "contracts that stand")
