"""What the documentation shows is written to a folder and used: with real servers, workers and the real command line."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import click
import pytest
from pages import GUIDE, PAGES, README, REFERENCE, ROOT, Block, Page
from sqlalchemy import create_engine, make_url, text

from orchestrator import Settings
from orchestrator.cli.main import cli
from orchestrator.embedded import Processes, Servers

#: Generous, so that a busy machine fails no test; in seconds.
PATIENCE = 60.0
#: Databases of the broker, so that one page's messages are no other's.
README_BROKER, SHOP_BROKER, SHOP_RESULTS, GUIDE_BROKER = "1", "2", "3", "4"
ANY_ID = str(UUID(int=7))


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder to work in, with an environment, on servers."""

    folder: Path
    processes: Processes
    environment: Mapping[str, str] = field(default_factory=dict)

    def shell(self, command: str, *, expect: int = 0) -> str:
        """Both outputs of a command line; AssertionError if it does not end with the expected code."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == expect, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}{self._logs()}"
        return done.stdout + done.stderr

    def start(self, name: str, command: str, prompt: str) -> None:
        """Start a command line as a background process; returns when its log has the prompt."""
        argv = ["bash", "-c", f"cd {shlex.quote(str(self.folder))} && exec env {command}"]
        log = self.processes.start(name, argv, self._environment).log
        eventually(lambda: prompt in log.read_text(errors="replace"), lambda: f"{command}: {self._logs()}")

    @property
    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **self.environment}

    def _logs(self) -> str:
        names = [path.stem for path in (self.processes.root / "logs").glob("*.log")]
        return "".join(f"\n--- {name}\n{self.processes.log_tail(name)}" for name in names)


def eventually(ask: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait until it holds; AssertionError after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not ask():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """What the pages start in the background."""
    with Processes(tmp_path_factory.mktemp("docs")) as processes:
        yield processes


def environment(servers: Servers, broker: str, modules: str) -> dict[str, str]:
    """Settings with a database of its own."""
    name = f"docs_{uuid4().hex[:12]}"
    engine = create_engine(servers.database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return {
        "ORCHESTRATOR_DATABASE_URL": make_url(servers.database_url).set(database=name).render_as_string(False),
        "ORCHESTRATOR_BROKER_URL": broker_url(servers, broker),
        "ORCHESTRATOR_MODULES": modules,
    }


def broker_url(servers: Servers, number: str) -> str:
    """One of the broker's databases."""
    return servers.broker_url.rpartition("/")[0] + f"/{number}"


@pytest.fixture(scope="module")
def tea(servers: Servers, processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The guide's package with its stock, a worker and a beat, all started as the guide says."""
    place = Place(
        folder=tmp_path_factory.mktemp("guide"),
        processes=processes,
        environment=environment(servers, GUIDE_BROKER, "tea"),
    )
    write_guide(place.folder)
    migrate, worker, beat = operating()[:3]
    assert "at revision" in place.shell(migrate)
    with create_engine(place.environment["ORCHESTRATOR_DATABASE_URL"]).begin() as connection:
        connection.execute(text((place.folder / "stock.sql").read_text()))
    place.start("guide-worker", worker, "node registered")
    place.start("guide-beat", beat, "beat: Starting")
    return place


def write_guide(folder: Path) -> None:
    GUIDE.write_files(folder)
    (folder / "tea/__init__.py").touch(exist_ok=False)


def operating() -> list[str]:
    """The commands under Operating."""
    return GUIDE.block("## Operating").commands


def ids(blocks: list[tuple[Page, Block]]) -> list[str]:
    return [f"{page.name}:{block.line}" for page, block in blocks]


PYTHON = [(page, block) for page in PAGES for block in page.of("python")]


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=ids(PYTHON))
def test_every_python_block_compiles(page: Page, block: Block) -> None:
    compile(block.text, f"{page.name}:{block.line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Page) -> None:
    assert [link for link in page.links if not (page.path.parent / link).exists()] == []


def test_every_command_line_shown_is_one_that_the_programs_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_guide(tmp_path)
    monkeypatch.chdir(tmp_path)
    lines = [line for page in PAGES for block in page.of("console") for line in block.commands]
    spoken = [code for page in PAGES for code in page.code if code.startswith(("orchestrator ", "make "))]
    assert len(lines) > 15
    assert [problem for line in lines for problem in problems_of(line)] == []
    assert [problem for line in spoken for problem in problems_of(line, whole=False)] == []


def problems_of(line: str, *, whole: bool = True) -> Iterator[str]:
    """What is wrong with a command line; one that is not `whole` may leave out what a command requires."""
    words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=.*|&", word)]
    if words[0] == "orchestrator":
        try:
            parse(cli, [ANY_ID if word == "EXECUTION_ID" else word for word in words[1:]], None)
        except click.MissingParameter as error:
            if whole:
                yield f"{line}: {error.format_message()}"
        except click.UsageError as error:
            yield f"{line}: {error.format_message()}"
    elif words[0] == "make":
        if not re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE):
            yield f"{line}: no such target"
    elif words[0] not in {".", "celery"}:  # what is shown of celery's is started below
        yield f"{line}: nothing checks this"


def parse(command: click.Command, arguments: list[str], parent: click.Context | None) -> None:
    """Parse a command line down to the last subcommand, without carrying it out."""
    if not isinstance(command, click.Group):
        command.make_context(command.name, arguments, parent=parent)
        return
    context = command.make_context(command.name, [*arguments] or ["--"], parent=parent)
    rest = [*context._protected_args, *context.args]
    if rest:
        _, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        parse(inner, rest, context)


def test_defaults_in_the_prose_are_those_in_force() -> None:
    told = re.findall(r"(\d+(?:\.\d+)?) s[\w ]*\(`(\w+)`\)", GUIDE.text)
    assert {name for _, name in told} >= {"segment_budget", "dead_after"}
    assert {name: float(figure) for figure, name in told} == {
        name: Settings.model_fields[name].default for _, name in told
    }
    named = {name for page in PAGES for name in re.findall(r"ORCHESTRATOR_([A-Z_]+)", page.text)}
    assert named <= {name.upper() for name in Settings.model_fields} | {"TEST_"}


def test_every_definition_shown_passes_its_checks_and_python_and_yaml_say_the_same(tmp_path: Path) -> None:
    """Fragments become definitions of the guide's package. Where two forms differ, discovery refuses both."""
    write_guide(tmp_path)
    source = ["from orchestrator import *"]
    expected = {"order", "restock", "gift"}
    for before, block in zip(GUIDE.blocks, GUIDE.blocks[1:], strict=False):
        if block.language == "yaml" and block.file is None:
            name = f"fragment-{block.line}"
            assert before.language == "python", f"{name}: no Python form before it"
            nodes = ast.parse(f"({before.text})", mode="eval").body
            star = "*" if isinstance(nodes, ast.Tuple) else ""
            source.append(f"f{block.line} = workflow({name!r}, {star}({before.text}))")
            (tmp_path / f"tea/{name}.yaml").write_text(f"name: {name}\nsteps:\n{block.text}")
            expected.add(name)
    for block in REFERENCE.of("yaml"):
        (tmp_path / f"tea/reference-{block.line}.yaml").write_text(block.text)
        expected.add(block.text.splitlines()[0].removeprefix("name: "))
    assert len(expected) >= 8
    (tmp_path / "tea/fragments.py").write_text("\n".join(source))
    command = [sys.executable, "-m", "orchestrator.cli", "definitions", "--json"]
    without = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    done = subprocess.run(
        command, cwd=tmp_path, env={**without, "ORCHESTRATOR_MODULES": "tea"}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert told["problems"] == []
    assert {row["name"] for row in told["definitions"]} == expected


def test_the_first_workflow_of_the_readme_succeeds_and_is_compensated(tmp_path: Path, processes: Processes) -> None:
    README.write_files(tmp_path)
    place = Place(folder=tmp_path, processes=processes, environment={"ORCHESTRATOR_MODULES": ""})
    (dev,) = README.block("In one terminal, start servers, two worker pools and a beat that know the module:").commands
    assert re.search(r"^dev:.*\n\t@\$\(BIN\)/orchestrator dev", (ROOT / "Makefile").read_text(), re.MULTILINE)
    place.start("readme-dev", dev.replace("make dev", "orchestrator dev"), "Ctrl-C stops")
    enter, bought, declined, show = README.block("In another, with `.venv` activated:").commands
    told = place.shell(f"{enter} && {bought}")
    assert "succeeded" in told
    assert "paid 30 for 2 x tea" in told
    told = place.shell(f"{enter} && {declined}", expect=3)
    assert "ended compensated: BusinessError: card declined" in told
    (found,) = set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", told))
    shown = place.shell(f"{enter} && {show.replace('EXECUTION_ID', found)}")
    assert re.search(r"↩ reserve +succeeded", shown)
    (place.folder / "code.py").write_text(README.block("Or from your code:").text)
    assert place.shell(f"{enter} && python code.py") == "paid 30 for 2 x tea\n"
    processes.terminate("readme-dev", 20)


def test_the_existing_application_of_the_readme_works_and_keeps_its_own_tasks(
    servers: Servers, processes: Processes, tmp_path: Path
) -> None:
    settings = environment(servers, README_BROKER, "")
    del settings["ORCHESTRATOR_BROKER_URL"]
    place = Place(folder=tmp_path, processes=processes, environment=settings)
    shown = README.block("## In an existing Celery application").text
    for stands_for, number in (("redis://localhost/0", SHOP_BROKER), ("redis://localhost/1", SHOP_RESULTS)):
        assert stands_for in shown
        shown = shown.replace(stands_for, broker_url(servers, number))
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").write_text(shown)
    (hello,) = [block for block in README.blocks if block.file == "hello.py"]
    own_task = "\n\nfrom shop import app\n\n@app.task\ndef add(a, b):\n    return a + b\n"
    (tmp_path / "shop/workflows.py").write_text(hello.text + own_task)
    place.shell("orchestrator migrate")
    worker, beat = [code for code in README.code if code.startswith("celery -A shop")]
    place.start("shop-worker", f"{worker} --concurrency 2", " ready.")
    place.start("shop-beat", beat, "beat: Starting")
    script = (
        "from shop import orchestrator\n"
        "from shop.workflows import add\n"
        "print(orchestrator.start('buy', {'sku': 'tea', 'amount': 30}).result(timeout=30))\n"
        "print(add.delay(1, 2).get(timeout=30))\n"
    )
    (tmp_path / "use.py").write_text(script)
    assert place.shell("python use.py") == "paid 30 for 2 x tea\n3\n"
    for name in ("shop-beat", "shop-worker"):
        processes.terminate(name)


def test_the_starts_of_the_guide_do_what_it_says(tea: Place) -> None:
    told = tea.shell("python start.py").splitlines()
    assert told[0] == "{'parcel': 'assam-1', 'receipt': '8 paid for order 1'}"
    assert "use another key for another input" in told[1]
    assert told[2] == "compensated Declined"
    assert {"step_failed", "execution_compensating", "execution_compensated"} <= set(ast.literal_eval(told[3]))
    assert told[4] == "5 created"
    assert told[5] == "{'parcel': 'assam-5', 'receipt': '8 paid for order 5'}"
    assert len(told) == 6
    # What was started and not waited for: the supplier is asked twice, the gift is sent, the stock is right.
    script = (
        "from orchestrator import Orchestrator\n"
        "from orchestrator.ledger import views\n"
        "with Orchestrator().core.database.connect() as connection:\n"
        "    print(views.counts(connection, tenant='default', name=None))\n"
    )
    (tea.folder / "counts.py").write_text(script)
    wanted = {"succeeded": 1 + 1 + 1 + 1 + 1 + 5 + 1, "compensated": 1, "created": 1}
    eventually(
        lambda: ast.literal_eval(tea.shell("python counts.py")) == wanted, lambda: tea.shell("orchestrator list")
    )
    with create_engine(tea.environment["ORCHESTRATOR_DATABASE_URL"]).connect() as connection:
        stock = {row.sku: row.quantity for row in connection.execute(text("SELECT sku, quantity FROM stock"))}
    assert stock == {"assam": 100 + 100 - 2 - 1 - 5 * 2 - 2, "sencha": 100}


def test_the_operators_commands_of_the_guide_answer(tea: Place) -> None:
    told = tea.shell("orchestrator start restock --input '{\"sku\": \"sencha\"}' --wait")
    (found,) = set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", told))
    failed, show, events, verify = [command.replace("EXECUTION_ID", found) for command in operating()[3:]]
    assert "no executions" in tea.shell(failed)
    assert "restock v1" in tea.shell(show)
    # The first attempt met a busy supplier.
    assert "step_retrying" in tea.shell(events)
    assert "✗" not in tea.shell(verify)
    compiled = [tea.shell(command) for command in GUIDE.block(COMPILE).commands]
    assert compiled[0] == compiled[1]
    assert "chord" in compiled[0]
    listed, published = [tea.shell(command) for command in GUIDE.block(PUBLISH).commands]
    assert "changed" not in listed
    assert "order v1 is published" in published


COMPILE = "See what Celery will be given, before anything starts:"
PUBLISH = "While you develop, `ORCHESTRATOR_DEV_MODE=1` gives changed content the next version by itself."


def test_the_guarded_task_of_the_guide_is_carried_out_once_for_each_key(tea: Place, servers: Servers) -> None:
    settings = {**tea.environment, "ORCHESTRATOR_BROKER_URL": broker_url(servers, SHOP_BROKER)}
    post = Place(folder=tea.folder, processes=tea.processes, environment=settings)
    worker, beat = GUIDE.block("```").commands if False else celery_of_the_guide()
    post.start("post-worker", worker, " ready.")
    post.start("post-beat", beat, "beat: Starting")
    script = (
        "from post import orchestrator, send_invoice\n"
        "first = send_invoice.delay(1).get(timeout=30)\n"
        "print(first.partition(' sent by ')[0], first == send_invoice.delay(order=1).get(timeout=30))\n"
        "print(send_invoice.delay(2).get(timeout=30).partition(' sent by ')[0])\n"
        "print(orchestrator.start('gift', {'order': 9, 'sku': 'assam'}).result(timeout=30))\n"
    )
    (tea.folder / "use_post.py").write_text(script)
    assert post.shell("python use_post.py") == "invoice 1 True\ninvoice 2\nassam-9\n"
    for name in ("post-beat", "post-worker"):
        tea.processes.terminate(name)


def celery_of_the_guide() -> list[str]:
    (found,) = [block for block in GUIDE.of("console") if "celery -A post" in block.text]
    return found.commands


def test_the_tests_of_the_guide_pass(tmp_path: Path, processes: Processes) -> None:
    write_guide(tmp_path)
    place = Place(folder=tmp_path, processes=processes)
    told = place.shell("python -m pytest -q -p no:cacheprovider test_tea.py")
    assert "3 passed" in told
