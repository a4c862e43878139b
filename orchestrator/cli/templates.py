"""The examples as templates of new projects: found in the installed package, or in a source checkout."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigurationError

#: The package that the examples are in, here and in a new project: `orchestrator dev` looks for it.
PACKAGE = "definitions"
#: The module of an example that tells of it, and holds its checks.
EXAMPLE = "example"
#: Data that an example's modules read, beside the packages that they import.
_DATA = {"order_fulfilment": ("data",)}
#: What an example tells of itself in constants.
_TOLD = frozenset({"WORKFLOW", "SAMPLE", "KEY", "FIRST_EVENT"})
_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """An example that a project can start from."""

    #: The name of its workflow.
    name: str
    #: Its package, inside of `definitions`.
    package: str
    root: Path
    #: What it is, in a sentence.
    title: str
    #: An input of its workflow.
    sample: Any
    #: The idempotency key to start that under, if it is for the starter to give one.
    key: str | None
    #: The event that moves it on, for machines: event, payload, actor and role.
    first_event: Mapping[str, Any] | None
    #: Whether something must be prepared in its database before.
    is_prepared: bool

    def copy(self, folder: Path) -> None:
        """Copy the example, and what it needs of its neighbours, to `definitions` in a folder."""
        goal = folder / PACKAGE
        goal.mkdir(parents=True)
        (goal / "__init__.py").touch()
        shutil.copytree(self.root / self.package, goal / self.package, ignore=_IGNORED)
        for name in sorted(_neighbours(self.root, self.package)):
            source = self.root / f"{name}.py"
            if source.is_file():
                shutil.copyfile(source, goal / source.name)
            else:
                shutil.copytree(self.root / name, goal / name, ignore=_IGNORED)


def templates() -> dict[str, Template]:
    """Every template by its name; ConfigurationError when the package has none."""
    root = _root()
    found = (_template(root, path.parent) for path in sorted(root.glob(f"*/{EXAMPLE}.py")))
    return {template.name: template for template in found}


def _root() -> Path:
    """The folder of examples: inside the installed package, or at the top of a source checkout."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "templates", package.parent / PACKAGE):
        if any(place.glob(f"*/{EXAMPLE}.py")):
            return place
    raise ConfigurationError(f"the templates are missing beside {package}; install the package again")


def _template(root: Path, folder: Path) -> Template:
    tree, package = _parsed(folder / f"{EXAMPLE}.py"), _parsed(folder / "__init__.py")
    values = dict(_constants(tree))
    return Template(
        name=values["WORKFLOW"],
        package=folder.name,
        root=root,
        title=(ast.get_docstring(package) or "").splitlines()[0],
        sample=values.get("SAMPLE"),
        key=values.get("KEY"),
        first_event=values.get("FIRST_EVENT"),
        is_prepared="prepare" in {target.id for target in _targets(tree)},
    )


def _parsed(path: Path) -> ast.Module:
    # Read, not imported: in an installed package the imports of an example lead nowhere.
    return ast.parse(path.read_text(encoding="utf-8"))


def _targets(tree: ast.Module) -> Iterator[ast.Name]:
    for node in tree.body:
        names = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (name for name in names if isinstance(name, ast.Name))


def _constants(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """The names in capital letters that stand for plain values."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            names = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in names:
                if isinstance(name, ast.Name) and name.id in _TOLD:
                    yield name.id, ast.literal_eval(node.value)


def _neighbours(root: Path, package: str) -> set[str]:
    """Modules and packages of `definitions` that a package needs, in turn, and data that it reads."""
    found, waiting = set[str](), [package]
    while waiting:
        name = waiting.pop()
        paths = [*(root / name).rglob("*.py"), *([module] if (module := root / f"{name}.py").is_file() else [])]
        needed = {imported for path in paths for imported in _imported(_parsed(path))} | set(_DATA.get(name, ()))
        waiting += needed - found
        found |= needed
    return found - {package}


def _imported(tree: ast.Module) -> Iterator[str]:
    """What is imported from `definitions`, by its first name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            yield str(node.module).split(".")[1]
