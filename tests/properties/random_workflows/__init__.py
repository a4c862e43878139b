"""Random workflows on real workers, held against a reference interpreter of the documented semantics."""

from __future__ import annotations

import sys
from pathlib import Path

# The nodes of the integration tests are used here too.
_NODES = str(Path(__file__).parents[2] / "integration")
if _NODES not in sys.path:
    sys.path.append(_NODES)
