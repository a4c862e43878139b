"""Whether the checker catches engines that are broken on purpose: it must, each by the claim that is meant for it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fault_suite import report, scenario
from fault_suite.fault import FAULTS
from fault_suite.mutants import MUTANTS, Mutant
from fault_suite.scenario import Result
from fault_suite.stack import Choice, Stack

#: Mutants that a run must have.
LEAST = 10
#: Seconds of a load without faults.
_SECONDS = 8.0


def carry_out(choice: Choice, seed: int, rate: float, *, names: Sequence[str] | None, out: Console) -> int:
    """Try each mutant; the exit code: 1 if one goes free."""
    free, run = [], 0
    if names is None and not _control(choice, seed, rate, out):
        return 1
    for number, mutant in enumerate(MUTANTS.values()):
        if names is not None and str(number + 1) not in names:
            continue
        fault = next((fault for fault in FAULTS if fault.number == mutant.fault), None)
        if fault is not None and (reason := fault.why_not(choice)) is not None:
            out.print(f"{number + 1:>3}  NOT RUN  {mutant.name}: {reason}", markup=False, highlight=False)
            continue
        run += 1
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
    if names is None and run < LEAST:
        out.print(f"only {run} mutants could be run, where {LEAST} are asked for", style="red", highlight=False)
        return 1
    return 1 if free else 0


def _control(choice: Choice, seed: int, rate: float, out: Console) -> bool:
    """Whether an engine that is whole goes free under the same faults, in the same time: else they prove nothing."""
    wanted = dict.fromkeys(mutant.fault for mutant in MUTANTS.values())
    faults = [fault for fault in FAULTS if fault.number in wanted and fault.why_not(choice) is None]
    whole = True
    with tempfile.TemporaryDirectory(prefix="whole-") as folder, Stack(Path(folder), choice) as stack:
        results = [scenario.fair(stack, seed, rate, _SECONDS)]
        results += [scenario.alone(stack, fault, seed, rate) for fault in faults]
    for result in results:
        whole = whole and result.ok
        out.print(f"     {report.line(result)}", style=None if result.ok else "red", markup=False, highlight=False)
    out.print(f"an engine that is whole {'goes free' if whole else 'IS CAUGHT'}", highlight=False)
    return whole


def _one(choice: Choice, mutant: Mutant, seed: int, rate: float) -> Result:
    with (
        tempfile.TemporaryDirectory(prefix="mutant-") as folder,
        Stack(Path(folder), replace(choice, mutant=mutant.name)) as stack,
    ):
        if mutant.fault == "none":
            return scenario.fair(stack, seed, rate, _SECONDS)
        fault = next(fault for fault in FAULTS if fault.number == mutant.fault)
        return scenario.alone(stack, fault, seed, rate)
