from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.activities.registry import Registry, registry
from orchestrator.authoring.discovery import Catalog, discover
from orchestrator.errors import ConfigurationError, DefinitionError, UnknownDefinition

Write = Callable[[dict[str, str]], None]

WORKFLOW = """
from orchestrator.authoring.builder import step, workflow

{name} = workflow("{name}", step("a", "act"), version={version})
"""
MACHINE = """
name: door
machine: {initial: OPEN, states: [OPEN], final: SHUT, transitions: [{from: OPEN, to: SHUT, event: SHUT}]}
"""
FILE = "name: {name}\nsteps:\n  - {{id: a, activity: act}}\n"


def python(name: str, version: int = 1) -> str:
    return WORKFLOW.format(name=name, version=version)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes files into a folder that modules are imported from; what was imported is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(catalog: Catalog) -> list[str]:
    return [each.name for each in catalog.definitions]


def test_a_module_gives_its_workflows(write: Write) -> None:
    write({"disco_one.py": python("first") + python("second")})
    catalog = discover(["disco_one"], None)
    assert names(catalog) == ["first", "second"]
    catalog.raise_problems()


def test_a_package_gives_those_of_its_submodules_and_the_files_in_its_folders(write: Write) -> None:
    write(
        {
            "disco_pack/__init__.py": "from disco_pack.inner.deep import deep",
            "disco_pack/__main__.py": "raise SystemExit('a program must not be started')",
            "disco_pack/order.yaml": FILE.format(name="order"),
            "disco_pack/inner/__init__.py": "",
            "disco_pack/inner/deep.py": python("deep"),
            "disco_pack/inner/refund.yml": FILE.format(name="refund"),
            "disco_pack/inner/ship.json": '{"name": "ship", "steps": [{"id": "a", "activity": "act"}]}',
            "disco_pack/inner/door.yaml": MACHINE,
            "disco_pack/inner/hosts.yaml": "machine: !Ref thing",
            "disco_pack/inner/arm.yaml": "machine: arm64\ntransitions: none",
            "disco_pack/inner/notes.txt": FILE.format(name="notes"),
            "disco_pack/inner/settings.yaml": "debug: true",
            "disco_pack/inner/stack.yaml": "Resources: !Ref thing",
            "disco_pack/inner/list.json": '["steps"]',
            "disco_pack/data/sample.yaml": FILE.format(name="sample"),
        }
    )
    catalog = discover(["disco_pack"], None)
    assert names(catalog) == ["deep", "door", "order", "refund", "ship"]
    assert catalog.problems == ()


def test_one_bad_definition_does_not_stop_the_others(write: Write) -> None:
    write(
        {
            "disco_bad/__init__.py": "",
            "disco_bad/broken.py": python("broken").replace('"a"', '"not an id"'),
            "disco_bad/cyclic.yaml": FILE.format(name="cyclic").replace("act}", "act, after: [a]}"),
            "disco_bad/garbled.yaml": "steps: [",
            "disco_bad/good.py": python("good"),
            "disco_bad/typo.json": '{"name": "typo", "step": [], "steps": [{"id": "a", "activity": "act"}]}',
            "disco_bad/user.py": "from disco_bad.broken import broken",
        }
    )
    catalog = discover(["disco_bad"], None)
    assert names(catalog) == ["good"]
    assert sorted(Path(each.source).name for each in catalog.problems) == [
        "cyclic.yaml",
        "garbled.yaml",
        "typo.json",
        "workflow broken",
    ]
    with pytest.raises(DefinitionError) as caught:
        catalog.raise_problems()
    for part in (
        "workflow broken: step not an id",
        "it comes after itself",
        'unknown key "step"; did you mean "steps"',
    ):
        assert part in str(caught.value)


def test_definitions_are_checked_against_activities_of_whichever_module(write: Write) -> None:
    activities = """
        from orchestrator.activities.registry import activity

        @activity
        def disco_activity(amount: int) -> None: ...
    """
    write(
        {
            "disco_early.py": """
                from orchestrator.authoring.builder import step, workflow

                good = workflow("good", step("a", "disco_activity", {"amount": 1}))
                bad = workflow("bad", step("a", "disco_activty", {"amount": 1}))
            """,
            "disco_later.py": activities,
        }
    )
    catalog = discover(["disco_early", "disco_later"], registry)
    assert names(catalog) == ["good"]
    (problem,) = catalog.problems
    assert problem.source == "disco_early:bad"
    assert 'did you mean "disco_activity"?' in str(problem)
    with pytest.raises(DefinitionError, match="disco_early:bad"):
        catalog.raise_problems()
    assert names(discover(["disco_early"], Registry())) == []


def test_a_module_that_cannot_be_imported_is_named_with_its_setting(write: Write) -> None:
    write({"disco_fails/__init__.py": "", "disco_fails/inner.py": "1 / 0"})
    with pytest.raises(ConfigurationError, match=r"module disco_missing cannot .* remove disco_missing from ORCH"):
        discover(["disco_missing"], None)
    with pytest.raises(ConfigurationError) as caught:
        discover(["disco_fails"], None)
    assert "module disco_fails.inner of disco_fails cannot be imported: ZeroDivisionError" in str(caught.value)
    assert "ORCHESTRATOR_MODULES" in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_highest_version_is_given_unless_another_is_asked_for(write: Write) -> None:
    write({"disco_v2.py": python("order", 2), "disco_v10.py": python("order", 10)})
    catalog = discover(["disco_v10", "disco_v2"], None)
    assert [each.version for each in catalog.definitions] == [2, 10]
    assert catalog.get("order").version == 10
    assert catalog.get("order", 2).version == 2
    with pytest.raises(UnknownDefinition, match='"order" has no version 3; there is 2, 10'):
        catalog.get("order", 3)
    with pytest.raises(UnknownDefinition, match='"ordr"; did you mean "order"'):
        catalog.get("ordr")
    with pytest.raises(UnknownDefinition, match="add its module to ORCHESTRATOR_MODULES"):
        catalog.get("zzz")


def test_different_definitions_under_one_name_and_version_are_both_left_out(write: Write) -> None:
    write(
        {
            "disco_twin/__init__.py": "",
            "disco_twin/code.py": python("order"),
            "disco_twin/order.yaml": FILE.format(name="order").replace("id: a", "id: b"),
            "disco_twin/other.yaml": FILE.format(name="other"),
        }
    )
    catalog = discover(["disco_twin"], None)
    assert names(catalog) == ["other"]
    (problem,) = catalog.problems
    assert problem.source.endswith("order.yaml")
    assert "order version 1 differs from that of disco_twin.code:order; change the version of one" in str(problem)


def test_equal_definitions_from_several_places_are_one(write: Write) -> None:
    write(
        {
            "disco_same/__init__.py": "from disco_same.code import order",
            "disco_same/code.py": python("order"),
            "disco_same/order.yaml": FILE.format(name="order"),
        }
    )
    catalog = discover(["disco_same", "disco_same.code"], None)
    assert names(catalog) == ["order"]
    assert catalog.problems == ()
