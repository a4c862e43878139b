"""The exits that the engine itself knows; authors name others (a choice's cases, a catch's exit)."""

from __future__ import annotations

from typing import Final

#: It counts as succeeded although it failed: `on_error: continue`.
OK: Final = "ok"
#: Nothing led here.
SKIPPED: Final = "skipped"
#: It failed, or was skipped because of a failure, where a join behind it bears that.
FAILED: Final = "failed"
#: Its join can never be met: all that is left to it is to fail.
UNMET: Final = "unmet"
#: The name of the error that it then fails with.
JOIN_UNMET: Final = "JoinUnmet"
#: Any of them: the edge is live once the step has ended.
ENDED: Final = "ended"

RESERVED: Final = frozenset({OK, SKIPPED, FAILED, UNMET, ENDED})
