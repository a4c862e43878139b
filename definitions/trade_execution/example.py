"""What the example does, checked on real workers by `orchestrator examples`."""

from __future__ import annotations

from typing import Any

from definitions import books
from definitions.play import Play

WORKFLOW = "trade-execution"
SAMPLE = {"account": "ann", "symbol": "ACME", "side": "buy", "quantity": 10, "limit": 1300}


def _trade(play: Play, **changes: Any) -> dict[str, Any]:
    return SAMPLE | {"account": f"ann-{play.tag}"} | changes


def check_bought_and_sold(play: Play) -> None:
    """a trade is confirmed by three blocks and changes the portfolio at its real price; so does the sale"""
    handle = play.start(WORKFLOW, _trade(play))
    play.same(play.output(handle), {"cash": 1_000_000 - 12_600, "pieces": 10}, "the account")
    last = books.read("exchange/ACME").found(f"{handle.id}/execute_trade")
    play.true(last is not None and last.age >= 3 * 0.4, "three blocks have come by")
    sale = play.start(WORKFLOW, _trade(play, side="sell", quantity=4, limit=1200))
    play.same(play.output(sale), {"cash": 1_000_000 - 12_600 + 5_040, "pieces": 6}, "the account after the sale")


def check_no_funds(play: Play) -> None:
    """what the account does not hold is not spent"""
    handle = play.start(WORKFLOW, _trade(play, quantity=1000))
    play.same(play.error(handle, "failed")["name"], "InsufficientFunds", "the error")
    play.same(play.begun(handle), ["validate_trade_params", "check_balance"], "steps")
    play.same(books.read(f"account/ann-{play.tag}").entries, [], "entries of the account")


def check_invalid(play: Play) -> None:
    """a symbol that is not traded is refused at once"""
    handle = play.start(WORKFLOW, _trade(play, symbol="NONE"))
    play.same(play.error(handle, "failed")["name"], "InvalidTrade", "the error")


def check_reverted(play: Play) -> None:
    """an order that the chain reverts is corrected on the exchange, and the money is given back"""
    handle = play.start(WORKFLOW, _trade(play, symbol="VOLT", limit=4100))
    play.same(play.error(handle, "compensated")["name"], "TransactionReverted", "the error")
    undone = [name for name in play.begun(handle) if name.startswith("undo ")]
    play.same(undone, ["undo execute_trade", "undo check_balance"], "compensations")
    actions = [entry.action for entry in books.read(f"account/ann-{play.tag}").entries]
    play.same(actions, ["set_aside", "release"], "entries of the account")
    play.same(books.read(f"account/ann-{play.tag}").total("cash"), 0.0, "money that is gone")
    last = books.read("exchange/VOLT").found(f"{handle.id}/undo:execute_trade")
    play.same(last and last.action, "reversal", "the correction")
