"""Whether the checker catches engines that are broken on purpose: it must, each by the claim that is meant for it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fault_suite import scenario
from fault_suite.fault import FAULTS
from fault_suite.mutants import MUTANTS, Mutant
from fault_suite.scenario import Result
from fault_suite.stack import Choice, Stack

#: Seconds of a load without faults.
_SECONDS = 8.0


def carry_out(choice: Choice, seed: int, rate: float, *, names: Sequence[str] | None, out: Console) -> int:
    """Try each mutant; the exit code: 1 if one goes free."""
    free = []
    for number, mutant in enumerate(MUTANTS.values()):
        if names is not None and str(number + 1) not in names:
            continue
        fault = next((fault for fault in FAULTS if fault.number == mutant.fault), None)
        if fault is not None and (reason := fault.why_not(choice)) is not None:
            out.print(f"{number + 1:>3}  NOT RUN  {mutant.name}: {reason}", markup=False, highlight=False)
            continue
        result = _one(choice, mutant, seed, rate)
        caught = {name: found for name, found in result.claims.items() if found}
        meant = [name for name in caught if mutant.caught_by in name]
        if not meant:
            free.append(mutant.name)
        verdict = "caught" if meant else "WENT FREE"
        by = "; ".join(f"{name} ({len(caught[name])})" for name in (*meant, *(caught.keys() - set(meant))))
        style = None if meant else "red"
        out.print(
            f"{number + 1:>3}  {verdict}: {mutant.name}, under {mutant.fault}: {by}", style=style, highlight=False
        )
        for name in meant[:1]:
            out.print(f"     such as: {caught[name][0][:200]}", markup=False, highlight=False)
    return 1 if free else 0


def _one(choice: Choice, mutant: Mutant, seed: int, rate: float) -> Result:
    with (
        tempfile.TemporaryDirectory(prefix="mutant-") as folder,
        Stack(Path(folder), replace(choice, mutant=mutant.name)) as stack,
    ):
        if mutant.fault == "none":
            return scenario.fair(stack, seed, rate, _SECONDS)
        fault = next(fault for fault in FAULTS if fault.number == mutant.fault)
        return scenario.alone(stack, fault, seed, rate)
