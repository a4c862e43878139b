"""What the suite has found: a table for people, JSON for programs, a page for the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any

from rich.console import Console
from rich.table import Table

from fault_suite.checker import INVARIANTS, summary
from fault_suite.fault import FAULTS, Fault
from fault_suite.scenario import ALIVE, FEW_CONNECTIONS, HIT, IN_TIME, MIXED, NONE, OWN, TAKEN_UP, Result

#: Violations of one claim that are told in words.
_SAMPLE = 5


def line(result: Result) -> str:
    """One scenario, in a line."""
    back = ""
    if result.recovery is not None:
        seconds = result.recovery.seconds
        back = f", back after {seconds:.1f} s" if seconds is not None else ", not back yet"
        if result.recoveries:
            back += f" ({_each(found.seconds for found in result.recoveries)})"
    strikes = "; ".join(evidence for _, evidence in result.strikes) if len(result.strikes) < 2 else ""
    many = f"{len(result.strikes)} strikes of {len({number for number, _ in result.strikes})} kinds"
    verdict = "ok" if result.ok else f"{result.violations} VIOLATIONS"
    done = f"{result.completed} of {result.executions} executions"
    taken = "" if result.taken is None else f", all taken up after {result.taken:.1f} s"
    return f"{result.number:>5}  {verdict}: {result.title}: {strikes or many}; {done}{back}{taken}"


def tell(console: Console, result: Result) -> None:
    """A scenario as it ends, with its violations."""
    console.print(line(result), style=None if result.ok else "red", markup=False, highlight=False)
    for claim, violations in result.claims.items():
        for violation in violations[:_SAMPLE]:
            console.print(f"        {claim}: {violation}", style="red", markup=False, highlight=False)
        if (more := len(violations) - _SAMPLE) > 0:
            console.print(f"        {claim}: {more} more", style="red", markup=False, highlight=False)


def failures(console: Console, results: Sequence[Result], servers: str = "") -> None:
    """Once more what is broken, for the end: of a long output, some keep no more than that; each with what repeats it.

    Args:
        servers: what chooses them, to stand before the command.
    """
    for result in results:
        if not result.ok:
            tell(console, result)
            which = "--only '' --mixed 1" if result.number in {MIXED, NONE} else f"--only {result.number} --mixed 0"
            command = f'{servers}make faults SEED={result.seed} ARGS="{which}"'
            console.print(f"        again: {command}", style="red", markup=False, highlight=False)


def table(console: Console, results: Sequence[Result], not_run: Sequence[tuple[Fault, str]]) -> None:
    """Fault x invariants x figures."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    found.add_column("fault", no_wrap=True)
    for name in ("hit", "claims", "broken", "done", "calls/s", "lowest", "back after", "at most", "taken up", "conn."):
        found.add_column(name, justify="right", no_wrap=True)
    for result in results:
        found.add_row(f"{result.number} {result.title}"[:64], *_figures(result))
    for fault, _ in not_run:
        found.add_row(f"{fault.number} {fault.title}"[:64], "NOT RUN")
    console.print(found)
    broken = {name: sum(len(result.claims.get(name, [])) for result in results) for name in _names(results)}
    for name, count in broken.items():
        console.print(f"{count:>4} violations of: {name}", style="red" if count else None, highlight=False)


def left_out(console: Console, not_run: Sequence[tuple[Fault, str]]) -> None:
    """What was not run, and why: reasons that several share are told once."""
    reasons: dict[str, list[Fault]] = {}
    for fault, reason in not_run:
        reasons.setdefault(reason, []).append(fault)
    for reason, faults in reasons.items():
        which = faults[0].title if len(faults) == 1 else f"{len(faults)} faults"
        numbers = " ".join(fault.number for fault in faults)
        console.print(f"NOT RUN {numbers}: {which}: {reason}", markup=False, highlight=False)


def _figures(result: Result) -> tuple[str, ...]:
    rates = ("", "", "")
    if (back := result.recovery) is not None:
        rates = (
            f"{back.before:.0f}",
            f"{back.lowest:.0f}",
            "never" if back.seconds is None else f"{back.seconds:.1f} s",
        )
    target = "" if result.target is None else f"{result.target:g} s"
    hit = str(len(result.strikes))
    taken = "" if result.taken is None else f"{result.taken:.1f} s"
    held = f"{sum(not found for found in result.claims.values())}/{len(result.claims)}"
    broken = str(result.violations)
    return (hit, held, broken, f"{result.completed}", *rates, target, taken, str(result.connections))


def _names(results: Sequence[Result]) -> list[str]:
    known = dict.fromkeys([*INVARIANTS, HIT, IN_TIME, TAKEN_UP, ALIVE, FEW_CONNECTIONS, OWN])
    return list(known | dict.fromkeys(name for result in results for name in result.claims))


def as_data(
    results: Sequence[Result], not_run: Sequence[tuple[Fault, str]], made: Mapping[str, Any], commit: str
) -> dict[str, Any]:
    """Everything, for JSON; rates in calls a second, times in seconds.

    Args:
        commit: of the engine that was hurt.
    """
    return {
        **made,
        "violations": sum(result.violations for result in results),
        "scenarios": [_scenario(result, commit) for result in results],
        "not_run": [{"fault": fault.number, "title": fault.title, "reason": reason} for fault, reason in not_run],
    }


def as_text(data: Mapping[str, Any]) -> str:
    """The same as JSON, with a line for each scenario."""
    head = json.dumps({name: value for name, value in data.items() if name != "scenarios"}, indent=2)
    lines = ",\n".join(f"    {json.dumps(one)}" for one in data["scenarios"])
    return f'{head.removesuffix("}").rstrip()},\n  "scenarios": [\n{lines}\n  ]\n}}\n'


def _scenario(result: Result, commit: str) -> dict[str, Any]:
    back = result.recovery
    return {
        "commit": commit,
        "fault": result.number,
        "title": result.title,
        "seed": result.seed,
        "strikes": [{"fault": number, "evidence": evidence} for number, evidence in result.strikes],
        "claims": summary(result.claims),
        "executions": result.executions,
        "completed": result.completed,
        "rate_before": back.before if back else None,
        "rate_lowest": back.lowest if back else None,
        "recovery": back.seconds if back else None,
        "recoveries": [found.seconds for found in result.recoveries],
        "target": result.target,
        "taken_up": result.taken,
        "in_time": result.in_time,
        "lasted": round(result.lasted, 1) if result.lasted < inf else None,
        "connections": result.connections,
        "seconds": round(result.seconds, 1),
    }


def done(data: Mapping[str, Any] | None) -> set[tuple[str, int]]:
    """The scenarios that a run has carried out: numbers of faults, each with its seed."""
    return {(one["fault"], one["seed"]) for one in data["scenarios"]} if data is not None else set()


def resumed(earlier: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """What a run found until it was broken off, and what it found when it went on. Where that was in a mixed run, the
    comparison without faults was made again."""
    again = done(data)
    kept = [one for one in earlier["scenarios"] if (one["fault"], one["seed"]) not in again]
    scenarios = [*kept, *data["scenarios"]]
    return {**data, "violations": _violations(scenarios), "scenarios": scenarios}


def _violations(scenarios: Iterable[Mapping[str, Any]]) -> int:
    return sum(claim["violations"] for one in scenarios for claim in one["claims"].values())


def amended(earlier: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier run found, but for the faults that were run again by themselves."""
    again = {one["fault"]: one | {"amends": True} for one in data["scenarios"]}
    scenarios = [again.pop(one["fault"], one) for one in earlier["scenarios"]] + list(again.values())
    places = {fault.number: place for place, fault in enumerate(FAULTS)}
    scenarios.sort(key=lambda one: places.get(one["fault"], len(places)))
    done = {one["fault"] for one in scenarios}
    return {
        **earlier,
        "violations": _violations(scenarios),
        "scenarios": scenarios,
        "not_run": [one for one in earlier["not_run"] if one["fault"] not in done],
    }


_COLUMNS = (
    "fault",
    "what shows that it hit",
    "executions",
    "violations",
    "calls/s before",
    "lowest",
    "back to 90 % after",
    "allowed",
    "all taken up after",
)


def page(data: Mapping[str, Any]) -> str:
    """docs/crash-matrix.md, or that of another broker."""
    lines = [
        "# Crash matrix",
        "",
        f"What the fault suite found; `{data['command']}` writes this page. How it is done, and how to",
        "read it, is in [faults.md](faults.md).",
        "",
        f"- made of: {data['made_of']}",
        f"- commit {', '.join(dict.fromkeys(one['commit'] for one in data['scenarios']))}",
        f"- seed {data['seed']}, {data['load']}{_again(data)}",
        f"- violations: {data['violations']}",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"| {' | '.join(['---', '---', *['---:'] * (len(_COLUMNS) - 2)])} |",
    ]
    for one in data["scenarios"]:
        strikes = one["strikes"]
        evidence = strikes[0]["evidence"] if len(strikes) == 1 else _kinds(strikes)
        violations = sum(claim["violations"] for claim in one["claims"].values())
        figures = (
            one["executions"],
            violations,
            _whole(one["rate_before"]),
            _whole(one["rate_lowest"]),
            _back(one),
            "" if one["target"] is None else f"{one['target']:g} s",
            "" if one["taken_up"] is None else f"{one['taken_up']:.1f} s",
        )
        lines.append(f"| {one['fault']} {one['title']} | {evidence} | {' | '.join(map(str, figures))} |")
    lines += ["", "## Not run", ""]
    lines += [f"- {one['fault']} {one['title']}: {one['reason']}" for one in data["not_run"]] or ["Nothing."]
    lines += ["", "## Invariants", "", *_by_invariant(data["scenarios"])]
    return "\n".join([*lines, ""])


def _by_invariant(scenarios: Sequence[Mapping[str, Any]]) -> list[str]:
    """Fault x invariant: how many violations each has of each; a dot stands for none, a blank for not asked."""
    names = list(INVARIANTS | dict.fromkeys(name for one in scenarios for name in one["claims"]))
    lines = [f"{number}. {name}" for number, name in enumerate(names, 1)]
    lines += ["", f"| | {' | '.join(map(str, range(1, len(names) + 1)))} |"]
    lines += [f"| --- | {' | '.join([':-:'] * len(names))} |"]
    for one in scenarios:
        found = [one["claims"].get(name) for name in names]
        cells = ["" if claim is None else str(claim["violations"] or "·") for claim in found]
        lines.append(f"| {one['fault']} | {' | '.join(cells)} |")
    return lines


def _again(data: Mapping[str, Any]) -> str:
    """Which faults were run by themselves, for the first time or once more."""
    others = [f"{one['fault']} (seed {one['seed']})" for one in data["scenarios"] if one.get("amends")]
    return f"; run by themselves: {', '.join(others)}" if others else ""


def _kinds(strikes: Sequence[Mapping[str, str]]) -> str:
    return f"{len(strikes)} strikes: {' '.join(dict.fromkeys(strike['fault'] for strike in strikes))}"


def _back(one: Mapping[str, Any]) -> str:
    back = "" if one["recovery"] is None else f"{one['recovery']:.1f} s"
    several = one.get("recoveries")
    return f"{back} ({_each(several)})" if several else back


def _each(recoveries: Iterable[float | None]) -> str:
    """What was measured more than once; the one in the middle is what counts."""
    return "measured " + ", ".join("never" if one is None else f"{one:.1f} s" for one in recoveries)


def _whole(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.0f}"
