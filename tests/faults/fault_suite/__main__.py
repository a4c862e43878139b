"""The suite's command line."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import fault_suite.faults  # noqa: F401 - registers them
from fault_suite import hosts, machine, mutation, report, scenario
from fault_suite.fault import FAULTS, Fault, Tier
from fault_suite.scenario import Result
from fault_suite.stack import Choice, Stack

#: Seconds without faults, for comparison.
FAIR = 20.0
#: Kinds of fault that one mixed run chooses from all.
KINDS = 8
#: Where the logs of a run that failed are kept.
KEPT = Path(".faults")
#: What the last run found, unless it was told another place.
LAST = KEPT / "last.json"


@click.command("faults")
@click.option("--seed", type=int, help="The same faults and load for the same number; by default a new one, told.")
@click.option("--only", "wanted", metavar="A,B", help="Numbers of faults, or classes: 4, 5c. None: an empty text.")
@click.option("--mixed", "mixed_runs", default=1, show_default=True, help="How many runs of faults at random.")
@click.option("--seconds", default=60.0, show_default=True, help="Of each of these.")
@click.option(
    "--rate",
    type=float,
    help=f"Executions a second.  [default: {machine.MOST:g}, or fewer, as this machine carries]",
)
@click.option("--tier", type=click.Choice([tier.name.lower() for tier in Tier]), default="quick", show_default=True)
@click.option("--broker", type=click.Choice(["redis", "amqp", "tls", "sentinel"]), default="redis", envvar="BROKER")
@click.option("--pooler", is_flag=True, envvar="POOLER", help="Workers reach PostgreSQL through a PgBouncer.")
@click.option("--defaults", is_flag=True, help="The product's own timings, in place of quicker ones.")
@click.option("--json", "as_json", is_flag=True, help="Everything found, as JSON, on standard output.")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    help="Write the same JSON into a file, after each fault anew.  [default: .faults/last.json]",
)
@click.option("--resume", is_flag=True, help="Go on with the run that --into holds: only what it has not yet is run.")
@click.option("--page", type=click.Path(path_type=Path), help="Write a page for the docs, its data beside it.")
@click.option(
    "--amend",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON that an earlier run wrote: what is run now takes the place of the same faults in it.",
)
@click.option("--mutants", is_flag=True, help="Broken engines in the place of ours: each must be caught.")
@click.option("--list", "listed", is_flag=True, help="List the faults and end.")
def main(
    *,
    seed: int | None,
    wanted: str | None,
    mixed_runs: int,
    seconds: float,
    rate: float | None,
    tier: str,
    broker: str,
    pooler: bool,
    defaults: bool,
    as_json: bool,
    into: Path | None,
    resume: bool,
    page: Path | None,
    amend: Path | None,
    mutants: bool,
    listed: bool,
) -> None:
    """Hurt a working stack in every way, and check from outside that no promise is broken. Exits with 1 if one is."""
    choice = Choice(broker=broker, pooler=pooler, defaults=defaults, hosts=hosts.why_no_hosts() is None)
    if not choice.proxied:
        # Only through a proxy does another host reach a server of this one.
        choice = replace(choice, hosts=False)
    run, not_run = _chosen(choice, wanted, Tier[tier.upper()])
    console = Console(stderr=True, soft_wrap=True, width=None if sys.stderr.isatty() else 160)
    if listed:
        for fault in FAULTS:
            reason = fault.why_not(choice)
            click.echo(f"{fault.number:>4}  {fault.title}" + (f"  NOT RUN: {reason}" if reason else ""))
        return
    commit = _commit()
    made: dict[str, Any] = {"made_of": _made_of(choice), "command": _command(choice)}
    if resume and amend is not None:
        raise click.UsageError("--resume goes on with a run, and --amend puts one in the place of another: choose one")
    earlier = _earlier(into, seed, rate, made) if resume else None
    if earlier is not None:
        seed, rate = int(earlier["seed"]), float(earlier["rate"])
    before = json.loads(amend.read_text()) if amend is not None else None
    if before is not None:
        # One page, one load.
        rate = rate or float(before["rate"])
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    console.print(f"SEED={seed}", highlight=False)
    if mutants:
        sys.exit(
            mutation.carry_out(
                choice, seed, rate or machine.MOST, names=(wanted or "").split(",") if wanted else None, out=console
            )
        )
    with _kept_if_failed() as folder, Stack(folder, choice) as stack:
        rate = rate or machine.fitting(stack)
        made |= {"rate": rate, "load": f"{rate:g} executions/s"}
        console.print(made["load"], highlight=False)
        load = Load(seed=seed, rate=rate, mixed_runs=mixed_runs, seconds=seconds, done=report.done(earlier))
        results: list[Result] = []

        def found() -> dict[str, Any]:
            data = report.as_data(results, not_run, {"seed": seed, **made}, commit)
            if earlier is not None:
                return report.resumed(earlier, data)
            return data if before is None else report.amended(before, data)

        # A run of hours may be broken off.
        for result in _carry_out(stack, choice, run, load, console):
            results.append(result)
            _write(into or LAST, found())
        data = found()
        report.left_out(console, not_run)
        report.table(console, results, not_run)
        if as_json:
            click.echo(json.dumps(data, indent=2))
        if page is not None:
            page.write_text(report.page(data))
            _write(page.with_suffix(".json"), data)
        if data["violations"] if resume else any(not result.ok for result in results):
            report.failures(console, results, _servers(choice))
            if earlier is not None and earlier["violations"]:
                console.print(f"{earlier['violations']} violations were in {into} before", style="red", highlight=False)
            console.print(f"SEED={seed}; the logs are kept in {KEPT}", style="red", highlight=False)
            sys.exit(1)
    # What an amended run keeps may have some.
    count = len(results) if before is not None else len(data["scenarios"])
    console.print(f"no violation in {count} scenarios; SEED={seed}", highlight=False)


def _earlier(into: Path | None, seed: int | None, rate: float | None, made: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a run that is to go on has found; None when it has not begun.

    Args:
        made: what the stack of this run is made of; it, and the load, are the same in all parts of one run.
    """
    if into is None:
        raise click.UsageError("--resume needs --into FILE, which the run to go on with has written")
    if not into.exists():
        return None
    found: dict[str, Any] = json.loads(into.read_text())
    if seed not in {None, found["seed"]}:
        raise click.UsageError(f"{into} holds a run of seed {found['seed']}")
    if rate not in {None, found["rate"]}:
        raise click.UsageError(f"{into} holds a run with {found['load']}")
    for name, value in made.items():
        if found[name] != value:
            raise click.UsageError(f"{into} holds a run of another make: {found[name]}; this one: {value}")
    return found


def _write(into: Path, data: dict[str, Any]) -> None:
    """All or nothing: whoever breaks the run off must find what it had."""
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = into.with_name(f"{into.name}.partial")
    partial.write_text(report.as_text(data))
    partial.replace(into)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the faults strike."""

    seed: int
    rate: float
    mixed_runs: int
    seconds: float
    #: What is done already: numbers of faults, each with its seed.
    done: Collection[tuple[str, int]]


def _carry_out(stack: Stack, choice: Choice, run: Sequence[Fault], load: Load, console: Console) -> Iterator[Result]:
    seed, rate, seconds = load.seed, load.rate, load.seconds
    for number, fault in enumerate(run):
        if (fault.number, seed + number) in load.done:
            continue
        result = scenario.alone(stack, fault, seed + number, rate)
        report.tell(console, result)
        yield result
    for number in range(load.mixed_runs):
        own = seed + 1_000 * number
        if (scenario.MIXED, own) in load.done:
            continue
        without = scenario.fair(stack, own, rate, FAIR)
        kinds = [fault for fault in FAULTS if fault.mixes and fault.why_not(choice) is None]
        chosen = random.Random(own).sample(kinds, min(KINDS, len(kinds)))
        result = scenario.mixed(stack, chosen, own, rate, seconds)
        scenario.require_half(result, without, seconds)
        for each in (without, result):
            report.tell(console, each)
            yield each


def _chosen(choice: Choice, wanted: str | None, most: Tier) -> tuple[list[Fault], list[tuple[Fault, str]]]:
    run, not_run = [], []
    names = None if wanted is None else [name for name in wanted.split(",") if name]
    for fault in FAULTS:
        if names is not None and not any(fault.number == name or fault.number[:-1] == name for name in names):
            continue
        if (reason := fault.why_not(choice)) is not None:
            not_run.append((fault, reason))
        elif fault.tier > most and names is None:
            not_run.append((fault, f"left to longer runs: make faults ARGS='--tier {fault.tier.name.lower()}'"))
        else:
            run.append(fault)
    return run, not_run


def _command(choice: Choice) -> str:
    """What makes the whole matrix with the same servers."""
    return f"{_servers(choice)}make faults-matrix"


def _servers(choice: Choice) -> str:
    """What chooses the servers, to stand before a command."""
    broker = "" if choice.broker == "redis" else f"BROKER={choice.broker} "
    return f"{broker}{'POOLER=1 ' if choice.pooler else ''}"


def _commit() -> str:
    """Of this checkout, and whether something in it is otherwise."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--dirty= and changes", "--abbrev=9"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return asked.stdout.strip() or "unknown"


def _made_of(choice: Choice) -> str:
    timings = "the product's own timings" if choice.defaults else "quicker timings than the product's"
    where = "two workers, one in a network namespace of its own" if choice.hosts else "two workers on one host"
    pooler = ", PgBouncer" if choice.pooler else ""
    return f"PostgreSQL{pooler}, {choice.broker} as broker, {where}, two beats, {timings}"


@contextmanager
def _kept_if_failed() -> Iterator[Path]:
    """A temporary folder; the logs of a run that failed stay."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        try:
            yield Path(name)
        except BaseException:
            logs = Path(name) / "processes" / "logs"
            if logs.exists():
                shutil.copytree(logs, KEPT, dirs_exist_ok=True)
            raise


if __name__ == "__main__":
    main()
