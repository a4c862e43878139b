"""What the trade's steps do: accounts move in the ledger's own transaction, the exchange keeps books of its own."""

from __future__ import annotations

from definitions import books
from definitions.trade_execution.models import Position, Quote, Receipt, Trade
from orchestrator import BusinessError, StepContext, activity

#: What every account begins with, in cents.
OPENING = 1_000_000
#: Cents, when an order is sent and when it comes into a block.
MARKET = {"ACME": (1250, 1260), "VOLT": (4000, 4600)}
#: Seconds between two blocks.
BLOCK = 0.4


class InvalidTrade(BusinessError):
    """The exchange does not know the symbol, or the limit is not met."""


class InsufficientFunds(BusinessError):
    """The account does not hold what it gives."""


class TransactionReverted(BusinessError):
    """The price had passed the limit when the order came into a block."""


@activity
def validate_trade_params(trade: Trade) -> Quote:
    """Quote the trade; InvalidTrade if it cannot be made now."""
    if trade.symbol not in MARKET:
        raise InvalidTrade(f"there is no {trade.symbol}; there are {', '.join(MARKET)}")
    price, sign = MARKET[trade.symbol][0], 1 if trade.side == "buy" else -1
    if (trade.limit - price) * sign < 0:
        raise InvalidTrade(f"{trade.symbol} stands at {price}")
    # Set aside by the limit: what comes into the block may cost that much.
    return Quote(price=price, cash=-sign * trade.limit * trade.quantity, pieces=sign * trade.quantity)


@activity(transactional=True)
def check_balance(ctx: StepContext, account: str, symbol: str, cash: int, pieces: int) -> int:
    """Set aside what leaves the account; InsufficientFunds if it is not there. What is left, in cents."""
    with books.opened(f"account/{account}", ctx.connection) as book:
        leaving = {name: amount for name, amount in (("cash", cash), (symbol, pieces)) if amount < 0}
        known = book.found(ctx.idempotency_key) is not None
        for name, amount in leaving.items():
            if not known and book.total(name) + (OPENING if name == "cash" else 0) + amount < 0:
                raise InsufficientFunds(f"{account} has not enough {name}")
        book.post("set_aside", ctx.idempotency_key, leaving)
        return int(book.total("cash")) + OPENING


@activity(transactional=True)
def release_balance(ctx: StepContext, account: str) -> bool:
    """Give back what was set aside."""
    with books.opened(f"account/{account}", ctx.connection) as book:
        return book.take_back(ctx, "release")


@activity
def execute_trade(ctx: StepContext, account: str, symbol: str, pieces: int) -> str:
    """Send the order to the exchange; its transaction."""
    with books.opened(f"exchange/{symbol}") as orders:
        return orders.post("order", ctx.idempotency_key, {"account": account, "pieces": pieces}).key


@activity
def reverse_trade(ctx: StepContext, symbol: str) -> bool:
    """Take an order back: what is in a block is corrected by another entry, never deleted."""
    with books.opened(f"exchange/{symbol}") as orders:
        return orders.take_back(ctx, "reversal")


@activity
def read_receipt(symbol: str, transaction: str, pieces: int, limit: int) -> Receipt:
    """How far the order has come; TransactionReverted when its block could not take it."""
    with books.opened(f"exchange/{symbol}") as orders:
        found = orders.found(transaction)
    confirmations = 0 if found is None else int(found.age / BLOCK)
    price = MARKET[symbol][1]
    if confirmations and (limit - price) * pieces < 0:
        raise TransactionReverted(f"{symbol} was at {price} by then")
    return Receipt(confirmations=confirmations, price=price)


@activity(transactional=True)
def update_portfolio(
    ctx: StepContext, *, account: str, symbol: str, pieces: int, price: int, set_aside: int
) -> Position:
    """Enter what was bought or sold at its real price, and give back what was set aside beyond that."""
    paid = -pieces * price
    with books.opened(f"account/{account}", ctx.connection) as book:
        # What left the account when it was set aside has left it already.
        entry = {"cash": paid - set_aside, symbol: pieces} if pieces > 0 else {"cash": paid}
        book.post("trade", ctx.idempotency_key, entry)
        return Position(cash=int(book.total("cash")) + OPENING, pieces=int(book.total(symbol)))
