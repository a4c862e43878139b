"""What the reward's steps do: points are entered in the ledger's own transaction, so exactly once."""

from __future__ import annotations

from definitions import books
from orchestrator import BusinessError, StepContext, activity

#: Points by achievement.
REWARDS = {"first-steps": 10, "dragon-slayer": 250, "cartographer": 75}


class UnknownAchievement(BusinessError):
    """The game has no such achievement."""


@activity
def price_reward(achievement: str) -> int:
    """The points for an achievement."""
    if achievement not in REWARDS:
        raise UnknownAchievement(f"{achievement} is none of {', '.join(REWARDS)}")
    return REWARDS[achievement]


@activity(transactional=True)
def grant_reward(ctx: StepContext, player: str, achievement: str, points: int) -> int:
    """Enter the points on the player's account; their balance."""
    with books.opened(f"player/{player}", ctx.connection) as account:
        account.post("grant", ctx.idempotency_key, {"achievement": achievement, "points": points})
        return int(account.total("points"))


@activity
def notify_player(ctx: StepContext, player: str, text: str) -> str:
    """Leave a message for the player."""
    with books.opened(f"inbox/{player}") as inbox:
        return str(inbox.post("message", ctx.idempotency_key, {"text": text}).data["text"])
