"""verify: what must hold of the ledger at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click

from orchestrator.cli.exits import EXIT_CODES, VIOLATED
from orchestrator.cli.output import console, json_option, write_json
from orchestrator.cli.reach import ledger
from orchestrator.ledger.verify import Check, verify


@click.command("verify", epilog=EXIT_CODES)
@click.option("--final", is_flag=True, help="Claim also that every execution is final, as after the work is done.")
@json_option
def verify_command(final: bool, as_json: bool) -> None:
    """Check the ledger's invariants, on all tenants; changes nothing. Safe beside working workers."""
    with ledger() as connection:
        checks = verify(connection, final=final)
    held = all(check.ok for check in checks)
    if as_json:
        write_json({"ok": held, "checks": [asdict(check) for check in checks]})
    else:
        _print(checks)
    if not held:
        raise SystemExit(VIOLATED)


def _print(checks: Sequence[Check]) -> None:
    out = console()
    for check in checks:
        mark = "[green]✓[/]" if check.ok else "[red]✗[/]"
        out.print(f"{mark} {check.name}" + ("" if check.ok else f": [red]{check.violations} violations[/]"))
        for found in check.sample:
            out.print(f"    {found}", markup=False)
