"""Finds the definitions of configured modules: workflows in Python, and the YAML and JSON files beside them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

from orchestrator.authoring.checks import check
from orchestrator.authoring.documents import parse
from orchestrator.authoring.loader import load_document, read_text
from orchestrator.authoring.step_checks import Activities
from orchestrator.authoring.workflow import Workflow
from orchestrator.errors import ConfigurationError, DefinitionError, UnknownDefinition
from orchestrator.model.definition import Definition
from orchestrator.spelling import did_you_mean

_SUFFIXES = {".yaml", ".yml", ".json"}


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The definitions that were found."""

    #: Sorted by name and version.
    definitions: tuple[Definition, ...]
    #: What is wrong with those that were left out.
    problems: tuple[DefinitionError, ...] = ()

    def get(self, name: str, version: int | None = None) -> Definition:
        """The definition of that name and version, by default the highest.

        Raises:
            UnknownDefinition: there is none; suggests close names, or tells the versions.
        """
        versions = self._by_name.get(name)
        if versions is None:
            fix = did_you_mean(name, self._by_name) or "; add its module to ORCHESTRATOR_MODULES"
            raise UnknownDefinition(f'no definition is named "{name}"{fix}')
        if version is None:
            return versions[max(versions)]
        if version not in versions:
            known = ", ".join(map(str, sorted(versions)))
            raise UnknownDefinition(f'definition "{name}" has no version {version}; there is {known}')
        return versions[version]

    def raise_problems(self) -> None:
        """Raise the DefinitionError of what was left out, all in one; nothing when all is well."""
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems:
            sentences = [f"{error.source}: {problem}" for error in self.problems for problem in error.problems]
            raise DefinitionError(f"{len(self.problems)} definitions", sentences)

    @cached_property
    def _by_name(self) -> dict[str, dict[int, Definition]]:
        found: dict[str, dict[int, Definition]] = {}
        for definition in self.definitions:
            found.setdefault(definition.name, {})[definition.version] = definition
        return found


def discover(modules: Sequence[str], registry: Activities | None) -> Catalog:
    """Import modules and packages, with their submodules, and collect their definitions.

    Those are the `Workflow` objects that modules hold, and the YAML and JSON files with `steps` or a `machine` that lie
    directly in a package's folder. One that is wrong is left out and told in the catalog's problems.

    Args:
        registry: the activities that steps may call, which the imports fill; None leaves them unchecked.

    Raises:
        ConfigurationError: a module cannot be imported.
    """
    problems: list[DefinitionError] = []
    imported = dict.fromkeys(module for name in modules for module in _import_tree(name, name, problems))
    # All modules first: a step may call an activity of a module that comes later.
    found = [*_workflows(imported), *_files(imported, problems)]
    good = [entry for entry in found if _checked(*entry, registry, problems)]
    kept = _without_conflicts(good, problems)
    kept.sort(key=lambda definition: (definition.name, definition.version))
    return Catalog(definitions=tuple(kept), problems=_each_once(problems))


def _import_tree(name: str, configured: str, problems: list[DefinitionError]) -> Iterator[ModuleType]:
    """Import a module and, when it is a package, all that is in it."""
    try:
        module = importlib.import_module(name)
    except DefinitionError as error:
        problems.append(error)
        return
    except Exception as error:
        inside = "" if name == configured else f" of {configured}"
        raise ConfigurationError(
            f"module {name}{inside} cannot be imported: {type(error).__name__}: {error}; "
            f"mend it, or remove {configured} from ORCHESTRATOR_MODULES"
        ) from error
    yield module
    for entry in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        # A package's __main__ is a program: importing it would start it.
        if not entry.name.endswith(".__main__"):
            yield from _import_tree(entry.name, configured, problems)


def _workflows(modules: Iterable[ModuleType]) -> Iterator[tuple[str, Definition]]:
    seen: set[int] = set()
    for module in modules:
        for name, value in list(vars(module).items()):
            # Modules may import each other's workflows.
            if isinstance(value, Workflow) and id(value) not in seen:
                seen.add(id(value))
                yield f"{module.__name__}:{name}", value.definition


def _files(modules: Iterable[ModuleType], problems: list[DefinitionError]) -> Iterator[tuple[str, Definition]]:
    folders = [Path(folder) for module in modules for folder in getattr(module, "__path__", ())]
    for folder in dict.fromkeys(folders):
        # A package imported from an archive has no folder.
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix in _SUFFIXES and path.is_file():
                try:
                    yield from _file(path)
                except DefinitionError as error:
                    problems.append(error)


def _file(path: Path) -> Iterator[tuple[str, Definition]]:
    """The definition in a file; nothing for files of another kind."""
    text = read_text(path)
    # Other files may well be no YAML of ours, with tags or several documents: they need not even be parsed.
    if "steps" in text or ("machine" in text and "transitions" in text):
        document = parse(text, str(path))
        data = document.data if isinstance(document.data, dict) else {}
        if "steps" in data or isinstance(data.get("machine"), dict):
            yield str(path), load_document(document)


def _checked(source: str, definition: Definition, registry: Activities | None, problems: list[DefinitionError]) -> bool:
    try:
        check(definition, source, registry)
    except DefinitionError as error:
        problems.append(error)
        return False
    return True


def _without_conflicts(found: Iterable[tuple[str, Definition]], problems: list[DefinitionError]) -> list[Definition]:
    """Each definition once. Of different ones under the same name and version none is kept: either could be meant."""
    kept: dict[tuple[str, int], tuple[str, Definition]] = {}
    conflicts: set[tuple[str, int]] = set()
    for source, definition in found:
        key = (definition.name, definition.version)
        first, known = kept.setdefault(key, (source, definition))
        if known.checksum() != definition.checksum():
            conflicts.add(key)
            problem = f"{known.name} version {known.version} differs from that of {first}; change the version of one"
            problems.append(DefinitionError(source, [problem]))
    return [definition for key, (_, definition) in kept.items() if key not in conflicts]


def _each_once(problems: list[DefinitionError]) -> tuple[DefinitionError, ...]:
    """A module that cannot be loaded fails once for everyone who imports it."""
    return tuple({str(problem): problem for problem in problems}.values())
