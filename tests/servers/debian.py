"""Programs that Debian's packages have installed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.embedded import BinaryMissing

#: Where daemons are, which may be missing in a user's PATH.
_PATH = "/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(name: str, package: str) -> Path:
    """The program's file. Raises BinaryMissing, naming the package."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise BinaryMissing(name, f"apt-get install {package}")
    return Path(found)


def alone(environment: Mapping[str, str], argv: Sequence[str]) -> list[str]:
    """A command line with this environment and nothing of ours."""
    return ["/usr/bin/env", "-i", f"PATH={_PATH}", *(f"{name}={value}" for name, value in environment.items()), *argv]
