"""The floors of the house, read from the imports: each folder imports lower floors only, floor-mates are strangers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Floor of each module or folder of `orchestrator`; docs/design.md draws the same house.
FLOORS = {
    "errors": 0,
    "config": 0,
    "clock": 0,
    "telemetry": 0,
    "current": 0,
    "spelling": 0,
    "durations": 0,
    "redaction": 0,
    "sealed": 0,
    "fault_points": 0,
    "model": 1,
    "expressions": 1,
    "kinds": 2,
    "authoring": 3,
    "compiler": 3,
    "ledger": 3,
    "activities": 3,
    "dispatch": 4,
    "engine": 5,
    "runtime": 6,
    "recovery": 6,
    "application": 7,
    "embedded": 7,
    "integrations": 8,
    "cli": 8,
}
#: Floor 0 files may know errors and nothing else of ours; everybody may know floor 0.
GROUND = {
    "errors",
    "config",
    "clock",
    "telemetry",
    "current",
    "spelling",
    "durations",
    "redaction",
    "sealed",
    "fault_points",
}


def modules(top: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / top).rglob("*.py")):
        yield path, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """Every imported module's dotted name, wherever in the file the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    return path.relative_to(ROOT / "orchestrator").parts[0].removesuffix(".py")


def test_every_room_has_a_floor() -> None:
    rooms = {room(path) for path, _ in modules("orchestrator")} - {"__init__"}
    assert rooms <= FLOORS.keys()


def test_imports_go_down_only() -> None:
    wrong = []
    for path, tree in modules("orchestrator"):
        here = room(path)
        if here == "__init__":
            continue
        for name in imported(tree):
            parts = name.split(".")
            if parts[0] != "orchestrator" or len(parts) < 2 or parts[1] == here or parts[1] not in FLOORS:
                continue
            allowed = parts[1] == "errors" if here in GROUND else FLOORS[parts[1]] < FLOORS[here]
            if not allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_nothing_inside_imports_the_facade() -> None:
    """`from orchestrator import X` inside the package would run the whole house to get one stone."""
    wrong = [
        f"{path.relative_to(ROOT)}: from orchestrator import {alias.name}"
        for path, tree in modules("orchestrator")
        if room(path) != "__init__"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "orchestrator"
        for alias in node.names
        if alias.name not in FLOORS
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("top", ["definitions", "examples"])
def test_the_applications_of_the_library_know_its_facade_only(top: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, tree in modules(top)
        for name in imported(tree)
        if name.startswith("orchestrator.")
        and not name.startswith("orchestrator.integrations")
        and name.removeprefix("orchestrator.").split(".")[0] in FLOORS
    ]
    assert not wrong, "\n".join(wrong)


def test_the_library_imports_neither_workers_nor_definitions() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, tree in modules("orchestrator")
        for name in imported(tree)
        if name.split(".")[0] in {"workers", "definitions", "tests", "benchmarks", "examples"}
    ]
    assert not wrong, "\n".join(wrong)


def test_celery_canvas_has_one_importer_and_publishing_one_place() -> None:
    canvas, senders = set(), set()
    for path, tree in modules("orchestrator"):
        where = str(path.relative_to(ROOT / "orchestrator"))
        if any(name.startswith("celery.canvas") for name in imported(tree)):
            canvas.add(where)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                own = isinstance(node.func.value, ast.Call) and isinstance(node.func.value.func, ast.Name)
                is_super = own and node.func.value.func.id == "super"  # type: ignore[attr-defined]
                if node.func.attr in {"apply_async", "send_task"} and not is_super:
                    senders.add(where)
    assert canvas <= {"dispatch/canvas.py", "dispatch/publish.py"}
    assert senders == {"dispatch/publish.py"}


def test_only_config_reads_the_environment_and_only_clock_the_time() -> None:
    wrong = []
    for path, tree in modules("orchestrator"):
        where = str(path.relative_to(ROOT / "orchestrator"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            name = f"{node.value.id}.{node.attr}"
            if name in {"os.environ", "os.getenv"} and where not in {"config.py", "embedded/processes.py"}:
                wrong.append(f"{where}: {name}")
            if name in {"time.time", "time.monotonic", "datetime.now", "time.sleep"} and where != "clock.py":
                wrong.append(f"{where}: {name}")
    assert not wrong, "\n".join(wrong)


def test_only_the_ledger_writes_its_tables() -> None:
    words = ("UPDATE orchestrator.", "INSERT INTO orchestrator.", "DELETE FROM orchestrator.")
    wrong = [
        str(path.relative_to(ROOT))
        for path, _ in modules("orchestrator")
        if room(path) != "ledger" and any(word in path.read_text() for word in words)
    ]
    assert not wrong


def test_files_and_functions_stay_small() -> None:
    large = []
    for top in ("orchestrator", "workers", "definitions"):
        for path, tree in modules(top):
            lines = path.read_text().count("\n")
            if lines > 350:
                large.append(f"{path.relative_to(ROOT)}: {lines} lines")
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                    size = node.end_lineno - node.lineno + 1
                    if size > 70:
                        large.append(f"{path.relative_to(ROOT)}:{node.name}: {size} lines")
    assert not large, "\n".join(large)
