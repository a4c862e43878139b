"""What an installation lets scripts do. The operator's word, which no author of definitions can change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ScriptPolicy:
    """The settings about scripts."""

    #: Whether a script that asks for it may be executed where the kernel cannot isolate it.
    allow_unisolated: bool = False
    #: Folders shown read-only besides the system's programs and libraries.
    folders: tuple[str, ...] = ()
