"""`orchestrator new`: a project from each template, from an installed wheel, that loads and really works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from places import Place

from orchestrator.embedded import Processes

REPOSITORY = Path(__file__).parents[2]
TEMPLATES = sorted(path.parent.name.replace("_", "-") for path in REPOSITORY.glob("definitions/*/example.py"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel of this checkout installs."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    zipfile.ZipFile(wheel).extractall(site)
    return site


def orchestrator(installed: Path, folder: Path, *arguments: str, modules: str = "") -> tuple[int, str, str]:
    """Exit code and both outputs of a command of the installed package, in a folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(installed), "ORCHESTRATOR_MODULES": modules},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def made(installed: Path, folder: Path, template: str) -> Path:
    """A new project."""
    code, _, told = orchestrator(installed, folder, "new", "project", "--template", template)
    assert code == 0, told
    return folder / "project"


@pytest.fixture(scope="module")
def projects(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a new project from each template, of its name; made by one process, as that takes time to load."""
    folder = tmp_path_factory.mktemp("projects")
    code = (
        "import sys; from orchestrator.cli import call; sys.exit(any(call(['new', n, '-t', n]) for n in sys.argv[1:]))"
    )
    subprocess.run(
        [sys.executable, "-c", code, *TEMPLATES],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
    )
    return folder


def test_every_example_is_listed_with_what_it_is(installed: Path, tmp_path: Path) -> None:
    code, out, told = orchestrator(installed, tmp_path, "new", "--list", "--json")
    assert code == 0, told
    listed: list[dict[str, Any]] = json.loads(out)
    assert [found["template"] for found in listed] == TEMPLATES
    assert all(found["title"].endswith(".") for found in listed)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_project_from_each_template_loads_by_itself(installed: Path, projects: Path, template: str) -> None:
    project = projects / template
    assert not list(project.rglob("*.pyc"))
    code, out, told = orchestrator(installed, project, "definitions", "--json", modules="definitions")
    assert code == 0, told
    assert [found["name"] for found in json.loads(out)["definitions"]] == [template]
    for name in ("README.md", "pyproject.toml", "Makefile", "sample.json", ".gitignore"):
        assert (project / name).read_text()
    assert template in (project / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (("full",), "full exists and is not empty; choose another name"),
        (("a-file",), "a-file exists and is not empty; choose another name"),
        (("fine", "--template", "complete-crat"), 'did you mean "complete-cart"?; there are ai-processing, '),
        (("fine", "--template", "?"), f"there are {', '.join(TEMPLATES)}"),
        (("my project",), "no name for a project"),
    ],
)
def test_what_cannot_be_made_is_one_error_and_makes_nothing(
    installed: Path, tmp_path: Path, arguments: tuple[str, ...], fix: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    (tmp_path / "a-file").write_text("mine")
    code, _, told = orchestrator(installed, tmp_path, "new", *arguments)
    assert code == 1
    assert fix in told.replace("\n", " ")
    assert {path.name for path in tmp_path.iterdir()} == {"full", "a-file"}
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"notes"}


def test_a_project_without_a_name_is_a_wrong_command_line(installed: Path, tmp_path: Path) -> None:
    code, _, told = orchestrator(installed, tmp_path, "new")
    assert code == 2
    assert "orchestrator new NAME" in told


def test_an_empty_folder_may_become_the_project(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    assert (made(installed, tmp_path, "greeting") / "definitions" / "greeting" / "greeting.yaml").is_file()


@pytest.fixture
def place(installed: Path, tmp_path: Path) -> Iterator[Place]:
    """A new project's folder, in an environment with the installed package."""
    with Processes(tmp_path / "processes") as processes:
        yield Place(folder=tmp_path / "project", processes=processes, environment={"PYTHONPATH": str(installed)})


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("contract-deployment", ["contract-deployment v1", '"confirmations": ']),
        ("invoice-approval", ["invoice-approval v1", "accepted", "CreateInvoice"]),
    ],
)
def test_the_commands_of_a_new_project_do_what_its_readme_says(
    installed: Path, tmp_path: Path, place: Place, template: str, told: list[str]
) -> None:
    project = made(installed, tmp_path, template)
    readme = (project / "README.md").read_text()
    place.start("dev", "orchestrator dev", "in another terminal")
    commands = readme.split("```console\n")[2].split("```")[0]
    out = place.shell(f"set -e\n{commands}") + (place.processes.root / "logs" / "dev.log").read_text()
    for text in told:
        assert text in out
    assert place.shell("make --silent try")
