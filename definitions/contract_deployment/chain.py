"""A chain of blocks: what was sent to it is confirmed by every block that comes after, and cannot be undone."""

from __future__ import annotations

from hashlib import sha256

#: Seconds between two blocks.
BLOCK = 0.4
#: The explorer shows what lies so many blocks back.
EXPLORER_LAG = 6
#: Takes what is sent to it, and loses the first answer.
LOSSY = "lossy"
NETWORKS = ("testnet", LOSSY)


def compiled(source: str) -> str:
    """What a source is compiled to; the same for the same source."""
    return "0x" + sha256(source.encode()).hexdigest()


def address(deployment: str) -> str:
    """Where a deployment's contract lies."""
    return "0x" + sha256(deployment.encode()).hexdigest()[:40]


def confirmations(age: float) -> int:
    """The blocks that have come so many seconds after a transaction."""
    return int(age / BLOCK)
