"""What a demonstration found, as figures and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

from orchestrator.cli.kill import Killed
from orchestrator.cli.output import table
from orchestrator.cli.scenario import ScenarioCheck
from orchestrator.cli.timeline import name
from orchestrator.ledger.figures import Done, Held
from orchestrator.ledger.verify import Check

#: The claim that the demonstration itself adds.
RELEASED = "the killed worker's claims were released to others"


@dataclass(frozen=True, kw_only=True, slots=True)
class Halfway:
    """The kill, and how far things were."""

    killed: Killed
    #: Executions that had ended by then.
    executions: int
    #: Seconds since the first was enqueued.
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One invariant."""

    #: scenario, ledger or demo: whose claim it is
    source: str
    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that was found."""

    workflow: str
    inputs: int
    seed: int | None
    #: Executions by status.
    statuses: Mapping[str, int]
    #: The scenario's own.
    figures: Mapping[str, int]
    done: Done
    halfway: Halfway
    #: The attempts that were taken from the killed worker.
    released: Sequence[Held]
    scenario_checks: Sequence[ScenarioCheck]
    ledger_checks: Sequence[Check]

    @property
    def verdicts(self) -> list[Verdict]:
        """Every invariant, the scenario's, the ledger's and our own."""
        return [
            *(Verdict(source="scenario", name=c.name, ok=c.ok, detail=c.detail) for c in self.scenario_checks),
            *(Verdict(source="ledger", name=c.name, ok=c.ok, detail="; ".join(c.sample)) for c in self.ledger_checks),
            Verdict(
                source="demo",
                name=RELEASED,
                ok=bool(self.released),
                detail=f"{len(self.halfway.killed.held)} claims held, {len(self.released)} released",
            ),
        ]

    @property
    def ok(self) -> bool:
        """Whether every invariant holds."""
        return all(verdict.ok for verdict in self.verdicts)

    def as_data(self) -> dict[str, Any]:
        """The figures as JSON data."""
        seconds, killed = self.done.seconds or 1.0, self.halfway.killed
        return {
            "ok": self.ok,
            "workflow": self.workflow,
            "inputs": self.inputs,
            "seed": self.seed,
            "statuses": dict(self.statuses),
            "figures": dict(self.figures),
            "steps": self.done.steps,
            "attempts": self.done.attempts,
            "seconds": round(self.done.seconds, 3),
            "executions_per_second": round(self.inputs / seconds, 1),
            "steps_per_second": round(self.done.steps / seconds, 1),
            "killed": {
                "worker": killed.worker,
                "pid": killed.pid,
                "boot_id": killed.boot_id,
                "after_executions": self.halfway.executions,
                "executions_per_second_before": round(self.halfway.executions / (self.halfway.seconds or 1.0), 1),
                "held": [asdict(found) for found in killed.held],
                "released": [asdict(found) for found in self.released],
            },
            "invariants": [asdict(verdict) for verdict in self.verdicts],
        }


def print_report(out: Console, report: Report) -> None:
    """The summary for people."""
    data = report.as_data()
    _print_figures(out, report, data)
    _print_kill(out, report)
    out.print()
    for verdict in report.verdicts:
        mark = "[green]✓[/]" if verdict.ok else "[red]✗[/]"
        detail = f"  [dim]{escape(verdict.detail)}[/]" if verdict.detail else ""
        out.print(f"{mark} {escape(verdict.name)}{detail}", soft_wrap=True)
    out.print()
    broken = sum(not verdict.ok for verdict in report.verdicts)
    if broken:
        out.print(f"[bold red]{broken} of {len(report.verdicts)} invariants are violated[/]")
    else:
        out.print(f"[bold green]all {len(report.verdicts)} invariants hold[/]")


def _print_figures(out: Console, report: Report, data: Mapping[str, Any]) -> None:
    rows = table("", "")
    rows.show_header = False
    rows.columns[0].justify = "right"
    for label, value in report.figures.items():
        rows.add_row(f"[bold]{value}[/]", label.replace("_", " "))
    out.print()
    out.print(rows)
    ended = ", ".join(f"{count} {status}" for status, count in sorted(report.statuses.items()))
    out.print(f"\n{report.inputs} executions of {report.workflow}: {ended}")
    out.print(
        f"[bold]{data['executions_per_second']}[/] executions/s, [bold]{data['steps_per_second']}[/] steps/s over "
        f"{report.done.seconds:.1f} s, the time to notice the killed worker included "
        f"({data['killed']['executions_per_second_before']} executions/s before)"
    )


def _print_kill(out: Console, report: Report) -> None:
    killed = report.halfway.killed
    out.print(
        f"{killed.worker} (process {killed.pid}) was killed after {report.halfway.executions} executions; "
        f"{len(report.released)} claims released from it:"
    )
    for found in report.released:
        attempt = f"attempt {found.attempt}"
        out.print(f"    {escape(name(found.path))} of execution {found.execution_id}, {attempt}")
