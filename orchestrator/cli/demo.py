"""demo: a real workload, a worker killed in the middle of it, and proof that nothing was lost or done twice."""

from __future__ import annotations

import random
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from sqlalchemy import Connection

from orchestrator import clock
from orchestrator.application import Orchestrator
from orchestrator.cli.exits import EXIT_CODES, VIOLATED
from orchestrator.cli.kill import Killed, kill_holder
from orchestrator.cli.output import console, json_option, notes, progress_bar, write_json
from orchestrator.cli.report import Halfway, Report, print_report
from orchestrator.cli.scenario import Scenario, load_scenario
from orchestrator.cli.stack import TWO_POOLS, Addresses, Stack
from orchestrator.embedded import Process, Processes, Servers
from orchestrator.errors import OrchestratorError
from orchestrator.ledger import figures, migrate, views
from orchestrator.ledger.verify import verify
from orchestrator.model.state import FINAL_EXECUTIONS

SCENARIO = "definitions.order_fulfilment.demo"
#: Seconds without an execution's end that mean it hangs; after the kill, the dead are noticed after 10.
PATIENCE = 60.0
#: Seconds between looks at the progress, and between tries to catch the worker with claims in its hands.
_POLL, _TRY_AGAIN = 0.1, 0.02
VICTIM, REPLACEMENT = "worker-1", "worker-3"


@click.command("demo", epilog=EXIT_CODES)
@click.option("--scenario", default=SCENARIO, show_default=True, metavar="MODULE", help="What to carry out.")
@click.option("--seed", type=int, help="Shuffle the inputs, the same way for the same number.")
@json_option
def demo_command(scenario: str, seed: int | None, as_json: bool) -> None:
    """Carry out the 830 Northwind orders on fresh embedded servers, kill a worker half-way, check every invariant.

    Needs nothing but this project: no servers, no settings. Leaves no process and no data behind.
    """
    out = notes()
    report = _carry_out(scenario, seed, out)
    if as_json:
        write_json(report.as_data())
    else:
        print_report(console(), report)
    if not report.ok:
        raise SystemExit(VIOLATED)


def _carry_out(name: str, seed: int | None, out: Console) -> Report:
    scenario = load_scenario(name)
    begun = clock.elapsed()
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-demo-")))
        out.print("starting PostgreSQL and a broker on fresh data")
        own = stack.enter_context(Servers())
        processes = stack.enter_context(Processes(logs))
        addresses = Addresses(database_url=own.database_url, broker_url=own.broker_url)
        try:
            report = _Demo(
                scenario,
                package=name.rpartition(".")[0] or name,
                seed=seed,
                addresses=addresses,
                processes=processes,
                out=out,
            ).carry_out()
        except OrchestratorError:
            _keep(logs, out)
            raise
        if not report.ok:
            _keep(logs, out)
    out.print(f"everything is stopped after {clock.elapsed() - begun:.0f} s")
    return report


def _keep(logs: Path, out: Console) -> None:
    """What the programs logged is worth reading now."""
    kept = Path(".orchestrator") / logs.name
    shutil.copytree(logs, kept, dirs_exist_ok=True)
    out.print(f"the logs are kept in {kept}")


class _Demo:
    """One demonstration, on servers that run."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        package: str,
        seed: int | None,
        addresses: Addresses,
        processes: Processes,
        out: Console,
    ) -> None:
        self._scenario, self._seed, self._out = scenario, seed, out
        self._database_url = addresses.database_url
        self._stack = Stack(processes, addresses.environment([package]))
        self._orchestrator = Orchestrator(
            database_url=addresses.database_url, broker_url=addresses.broker_url, modules=(package,)
        )
        self._engine = self._orchestrator.core.database

    def carry_out(self) -> Report:
        try:
            migrate.migrate(self._engine)
            self._scenario.prepare(self._database_url)
            with self._engine.connect() as connection:
                victim = self._start(connection)
                total = self._enqueue()
                halfway = self._await_end(connection, victim, total)
                return self._report(connection, total, halfway)
        finally:
            self._engine.dispose()

    def _start(self, connection: Connection) -> Process:
        self._out.print("starting two worker pools and two beats")
        workers = {name: self._stack.start_worker(name, pool) for name, pool in TWO_POOLS.items()}
        for name in ("beat-1", "beat-2"):
            self._stack.start_beat(name)
        self._stack.await_workers(connection, list(workers.values()))
        return workers[VICTIM]

    def _enqueue(self) -> int:
        items = list(self._scenario.inputs())
        if self._seed is not None:
            random.Random(self._seed).shuffle(items)  # noqa: S311 - repeatable is what it shall be
        started = self._orchestrator.start_many(self._scenario.WORKFLOW, items)
        self._out.print(f"{len(started)} executions of {self._scenario.WORKFLOW} are enqueued")
        return len(started)

    def _await_end(self, connection: Connection, victim: Process, total: int) -> Halfway:
        """Watch until every execution is final; half-way, kill the victim and start another worker."""
        begun = latest = clock.elapsed()
        final = 0
        killed: Halfway | None = None
        with progress_bar(self._out) as progress:
            bar = progress.add_task("executions", total=total)
            while final < total:
                before, final = final, self._final(connection)
                progress.update(bar, completed=final)
                if killed is None and final * 2 >= total:
                    killed = self._kill(connection, victim, begun, total)
                self._stack.require_alive(but=[VICTIM] if killed else [])
                latest = clock.elapsed() if final > before else latest
                if clock.elapsed() - latest > PATIENCE:
                    raise OrchestratorError(f"{total - final} executions hang: none has ended for {PATIENCE:g} s")
                clock.pause(_POLL)
        if killed is None:
            raise OrchestratorError("all was done before a worker could be killed; use more inputs")
        return killed

    def _kill(self, connection: Connection, victim: Process, begun: float, total: int) -> Halfway:
        while True:
            final, seconds = self._final(connection), clock.elapsed() - begun
            killed = kill_holder(connection, victim)
            if killed is not None:
                break
            if final == total:
                raise OrchestratorError(f"{victim.name} was never caught with claims in its hands")
            self._stack.require_alive()
            clock.pause(_TRY_AGAIN)
        self._stack.start_worker(REPLACEMENT, TWO_POOLS[VICTIM])
        self._tell(killed)
        return Halfway(killed=killed, executions=final, seconds=seconds)

    def _tell(self, killed: Killed) -> None:
        self._out.print(
            f"{killed.worker} (process {killed.pid}) is killed with {len(killed.held)} claims in its hands; "
            f"{REPLACEMENT} takes its place. The dead are noticed after "
            f"{self._orchestrator.settings.dead_after:g} s of silence."
        )

    def _final(self, connection: Connection) -> int:
        counts = views.counts(connection, tenant=self._orchestrator.settings.tenant, name=self._scenario.WORKFLOW)
        return sum(count for status, count in counts.items() if status in FINAL_EXECUTIONS)

    def _report(self, connection: Connection, total: int, halfway: Halfway) -> Report:
        self._out.print("checking every invariant in SQL")
        tenant = self._orchestrator.settings.tenant
        return Report(
            workflow=self._scenario.WORKFLOW,
            inputs=total,
            seed=self._seed,
            statuses=views.counts(connection, tenant=tenant, name=self._scenario.WORKFLOW),
            figures=self._scenario.figures(self._database_url),
            done=figures.done(connection),
            halfway=halfway,
            released=figures.released(connection, halfway.killed.boot_id),
            scenario_checks=list(self._scenario.checks(self._database_url)),
            ledger_checks=verify(connection, final=True),
        )
