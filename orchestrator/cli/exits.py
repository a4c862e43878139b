"""Exit codes, the same for every command."""

from __future__ import annotations

from typing import Final

#: The command could not do what was asked.
FAILED: Final = 1
#: `start --wait`: the execution ended without success.
EXECUTION_FAILED: Final = 3
#: `verify`, `replay`, `demo`: something that must hold does not.
VIOLATED: Final = 4
#: Ctrl-C, as shells count: 128 and the signal's number.
INTERRUPTED: Final = 130

#: For --help, which wraps all but what follows \b.
EXIT_CODES: Final = """\b
Exit codes:
  0    done, and all is well
  1    the orchestrator could not do what was asked; the message says why
  2    the command line is wrong
  3    start --wait: the execution ended without success
  4    verify, replay, demo: an invariant is violated
  130  interrupted by Ctrl-C
"""
