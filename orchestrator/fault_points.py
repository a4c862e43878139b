"""Named places where a process may be made to fail on purpose, so that a test strikes exactly between two statements.

In production `reach` does nothing, and nothing in this package ever changes that: no setting, no variable. The fault
suite's own modules, loaded into the processes that it is going to hurt, bind it to something that does.
"""

from __future__ import annotations

#: A worker is about to claim a step.
CLAIM = "claim"
#: It has claimed one and is about to call the activity.
CLAIMED = "claimed"
#: A step is settled, and what that made ready is not published yet.
SETTLED = "settled"
#: Everything is published, and the message is not acknowledged yet.
PUBLISHED = "published"
#: A start is committed, and its root steps are not published yet.
STARTED = "started"


def reach(point: str, execution_id: str = "", path: str = "") -> None:
    """Called at each point; does nothing."""
