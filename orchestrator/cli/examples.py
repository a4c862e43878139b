"""examples: every example at work on real workers, its checks beside each other."""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypeAlias

import click
from rich.console import Console
from rich.markup import escape

from orchestrator import clock
from orchestrator.application import Orchestrator
from orchestrator.cli.exits import EXIT_CODES, FAILED
from orchestrator.cli.output import console, json_option, notes, progress_bar, span, table, write_json
from orchestrator.cli.reach import importable
from orchestrator.cli.stack import TWO_POOLS, Addresses, Stack
from orchestrator.embedded import Processes, Servers
from orchestrator.errors import ConfigurationError
from orchestrator.ledger import migrate
from orchestrator.ledger.verify import verify
from orchestrator.spelling import did_you_mean

#: The package whose packages are the examples. Each has a module `example`, whose checks are functions `check_...` with
#: a docstring; they get a Play of the package's module `play`, and raise AssertionError for what is not as promised.
PACKAGE = "definitions"
#: Checks at the same time: they mostly wait.
AT_ONCE = 8


class Player(Protocol):
    """What a check works with."""

    #: What was compared so far.
    compared: int


#: A promise; its docstring says which.
Check: TypeAlias = Callable[[Player], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a check has found."""

    example: str
    #: The promise, in words.
    check: str
    ok: bool
    #: What was compared, until the first difference.
    compared: int
    seconds: float
    error: str | None = None


@click.command("examples", epilog=EXIT_CODES)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def examples_command(names: tuple[str, ...], as_json: bool) -> None:
    """Carry out the examples on fresh embedded servers and real workers, their failures included, and check each.

    All of those in the package `definitions` of this folder, or the ones that are named. Needs no servers and no
    settings, and leaves no process and no data behind. Ends with 1 when one does not do what it promises.
    """
    out, begun = notes(), clock.elapsed()
    found = _chosen(names)
    findings = sorted(_carry_out(found, out), key=lambda finding: (finding.example, finding.check))
    seconds = clock.elapsed() - begun
    ok = all(finding.ok for finding in findings)
    if as_json:
        data = [asdict(finding) | {"seconds": round(finding.seconds, 3)} for finding in findings]
        write_json({"ok": ok, "seconds": round(seconds, 1), "checks": data})
    else:
        _print(console(), findings, seconds)
    if not ok:
        raise SystemExit(FAILED)


def _chosen(names: Sequence[str]) -> dict[str, ModuleType]:
    """The named examples, or all of them, by name."""
    found = dict(_examples())
    if not found:
        raise ConfigurationError(f"{PACKAGE} of this folder has no examples; `orchestrator new --list` shows some")
    chosen = [name.replace("_", "-") for name in names]
    for name in chosen:
        if name not in found:
            fix = did_you_mean(name, found) or f"; there are {', '.join(found)}"
            raise ConfigurationError(f'no example is named "{name}"{fix}')
    return {name: found[name] for name in chosen} if chosen else found


def _examples() -> Iterator[tuple[str, ModuleType]]:
    if not importable(PACKAGE):
        return
    for entry in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__):
        if entry.ispkg and importable(name := f"{PACKAGE}.{entry.name}.example"):
            yield entry.name.replace("_", "-"), importlib.import_module(name)


def _checks(module: ModuleType) -> list[Check]:
    return [value for name, value in vars(module).items() if name.startswith("check_") and callable(value)]


def _carry_out(found: dict[str, ModuleType], out: Console) -> list[Finding]:
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-examples-")))
        out.print("starting PostgreSQL, a broker, two worker pools and a beat on fresh data")
        own = stack.enter_context(Servers())
        processes = stack.enter_context(Processes(logs))
        addresses = Addresses(database_url=own.database_url, broker_url=own.broker_url)
        modules = tuple(module.__name__.rpartition(".")[0] for module in found.values())
        orchestrator = Orchestrator(
            database_url=own.database_url, broker_url=own.broker_url, modules=modules, pool_size=AT_ONCE + 2
        )
        stack.callback(orchestrator.core.database.dispose)
        programs = Stack(processes, addresses.environment(modules))
        _start(programs, orchestrator)
        for module in found.values():
            if prepare := getattr(module, "prepare", None):
                prepare(own.database_url)
        findings = _check_all(orchestrator, found, programs, out)
        return [*findings, _verified(orchestrator)]


def _start(programs: Stack, orchestrator: Orchestrator) -> None:
    orchestrator.catalog.raise_problems()
    migrate.migrate(orchestrator.core.database)
    workers = [programs.start_worker(name, pool) for name, pool in TWO_POOLS.items()]
    programs.start_beat("beat")
    with orchestrator.core.database.connect() as connection:
        programs.await_workers(connection, workers)


def _check_all(
    orchestrator: Orchestrator, found: dict[str, ModuleType], programs: Stack, out: Console
) -> list[Finding]:
    checks = [(name, check) for name, module in found.items() for check in _checks(module)]
    stopped, findings = threading.Event(), []
    with ThreadPoolExecutor(AT_ONCE) as pool, progress_bar(out) as progress:
        bar = progress.add_task("checks", total=len(checks))
        futures: list[Future[Finding]] = []
        try:
            futures += [pool.submit(_check, orchestrator, name, check, stopped) for name, check in checks]
            for done in as_completed(futures):
                findings.append(done.result())
                progress.advance(bar)
                programs.require_alive()
        finally:
            # Whoever waits stops waiting; what has not begun never does.
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
    return findings


def _check(orchestrator: Orchestrator, example: str, check: Check, stopped: threading.Event) -> Finding:
    play: Player = importlib.import_module(f"{PACKAGE}.play").Play(orchestrator, stopped)
    begun, error = clock.elapsed(), None
    try:
        check(play)
    except AssertionError as failed:
        error = str(failed)
    except Exception as failed:  # whatever it is, it is this check's, and the others go on
        error = f"{type(failed).__name__}: {failed}"
    return Finding(
        example=example,
        check=(check.__doc__ or check.__name__).strip(),
        ok=error is None,
        compared=play.compared,
        seconds=clock.elapsed() - begun,
        error=error,
    )


def _verified(orchestrator: Orchestrator) -> Finding:
    """What must hold of the ledger after all of them."""
    begun = clock.elapsed()
    with orchestrator.core.database.connect() as connection:
        checks = verify(connection)
    broken = [f"{check.name}: {'; '.join(check.sample)}" for check in checks if not check.ok]
    return Finding(
        example="ledger",
        check="every invariant of the ledger holds",
        ok=not broken,
        compared=len(checks),
        seconds=clock.elapsed() - begun,
        error="\n".join(broken) or None,
    )


def _print(out: Console, findings: Sequence[Finding], seconds: float) -> None:
    rows, shown = table("example", "", "it shows that", "compared", "time"), ""
    for finding in findings:
        mark = "[green]✓[/]" if finding.ok else "[red]✗[/]"
        name, shown = finding.example if finding.example != shown else "", finding.example
        text = escape(finding.check) + (f"\n[red]{escape(finding.error)}[/]" if finding.error else "")
        rows.add_row(name, mark, text, str(finding.compared), span(finding.seconds))
    out.print(rows)
    broken = sum(not finding.ok for finding in findings)
    verdict = f"[bold red]{broken} of {len(findings)} checks fail[/]" if broken else f"[bold green]all {len(findings)} "
    out.print(f"\n{verdict}{'' if broken else 'checks hold[/]'}, {span(seconds)} in all")
