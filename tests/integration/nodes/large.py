"""Workflows of hundreds of steps. Only the process that starts them loads this module: a worker checks all that it
loads when it starts, and reads a definition that it has not loaded from the ledger."""

from __future__ import annotations

from nodes.activities import echo, total
from nodes.workflows import fan
from orchestrator import parallel, step, workflow

fan_200 = fan("fan-200", 200)

#: 2,000 steps: each comes after two of the layer before, and is the parent of two.
LAYERS, WIDTH = 40, 50
mesh = workflow(
    "mesh",
    *[
        step(
            f"s{layer}_{n}",
            echo,
            {"value": 1 if not layer else f"{{{{ steps.s{layer - 1}_{n}.output }}}}"},
            after=[f"s{layer - 1}_{n}", f"s{layer - 1}_{(n + 1) % WIDTH}"] if layer else [],
        )
        for layer in range(LAYERS)
        for n in range(WIDTH)
    ],
    output="{{ steps.s39_0.output }}",
)

fan_600 = workflow(
    "fan-600",
    parallel(*[step(f"part_{n}", echo, {"value": n}) for n in range(600)]),
    step("body", total, {"values": [f"{{{{ steps.part_{n}.output }}}}" for n in range(600)]}),
)
