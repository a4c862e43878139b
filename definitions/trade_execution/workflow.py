"""The definition: whatever leaves an effect names the activity that undoes it.

The blocks are waited for by a loop with pauses, which the ledger keeps; no worker waits meanwhile. When the chain
reverts the order, it is corrected on the exchange, and what was set aside is given back.
"""

from __future__ import annotations

from definitions.trade_execution.activities import (
    check_balance,
    execute_trade,
    read_receipt,
    release_balance,
    reverse_trade,
    update_portfolio,
    validate_trade_params,
)
from definitions.trade_execution.models import Position, Trade
from orchestrator import RetryPolicy, compensation, repeat, step, workflow

_ACCOUNT, _SYMBOL = "{{ input.account }}", "{{ input.symbol }}"
_CASH = "{{ steps.validate_trade_params.output.cash }}"
_PIECES = "{{ steps.validate_trade_params.output.pieces }}"

trade_execution = workflow(
    "trade-execution",
    step("validate_trade_params", validate_trade_params, {"trade": "{{ input }}"}),
    step(
        "check_balance",
        check_balance,
        {"account": _ACCOUNT, "symbol": _SYMBOL, "cash": _CASH, "pieces": _PIECES},
        compensation=compensation(release_balance, {"account": "{{ undo.input.account }}"}),
    ),
    step(
        "execute_trade",
        execute_trade,
        {"account": _ACCOUNT, "symbol": _SYMBOL, "pieces": _PIECES},
        compensation=compensation(reverse_trade, {"symbol": "{{ undo.input.symbol }}"}),
    ),
    repeat(
        "confirm_transaction",
        step(
            "read_receipt",
            read_receipt,
            {
                "symbol": _SYMBOL,
                "transaction": "{{ steps.execute_trade.output }}",
                "pieces": _PIECES,
                "limit": "{{ input.limit }}",
            },
        ),
        until="{{ steps.read_receipt.output.confirmations >= 3 }}",
        max_iterations=120,
        pause="500ms",
    ),
    step(
        "update_portfolio",
        update_portfolio,
        {
            "account": _ACCOUNT,
            "symbol": _SYMBOL,
            "pieces": _PIECES,
            "price": "{{ steps.confirm_transaction.output.price }}",
            "set_aside": _CASH,
        },
    ),
    input=Trade,
    output_type=Position,
    retry=RetryPolicy(max_attempts=10, backoff=0.2, max_delay=5.0),
)
