"""The worker pools that this repository runs; `orchestrator dev` starts one worker for each."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import Settings


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Which queues a worker consumes, and with how many processes."""

    queues: tuple[str, ...]
    concurrency: int


_settings = Settings()

#: Steps of one's own pool cannot starve the sweeps: each pool takes those too, and any one of them is enough.
POOLS = {
    "worker-1": Pool(queues=(_settings.default_queue, _settings.sweep_queue), concurrency=2),
    "worker-2": Pool(queues=(_settings.default_queue, _settings.sweep_queue), concurrency=2),
}
