"""What the documentation shows is written to a folder and used, with real servers, workers and the command line."""

from __future__ import annotations

import ast
import inspect
import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import pytest
from pages import GUIDE, PAGES, README, REFERENCE, ROOT, Block, Page
from places import Place, broker_url, eventually, settings
from sqlalchemy import Engine, create_engine, text

from orchestrator import Settings, errors
from orchestrator.cli.main import cli
from orchestrator.embedded import Processes, Servers

#: The broker's databases that the pages use.
SHOP, SHOP_RESULTS, TEA, POST = 1, 2, 3, 4
ANY_ID = str(UUID(int=7))
AN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
PYTHON = [(page, block) for page in PAGES for block in page.of("python")]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """What the pages start in the background."""
    with Processes(tmp_path_factory.mktemp("docs")) as processes:
        yield processes


@pytest.fixture(scope="module")
def tea(servers: Servers, processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The guide's package and its stock, with a worker and a beat started as the guide says."""
    folder = tmp_path_factory.mktemp("guide")
    place = Place(folder=folder, processes=processes, environment=settings(servers, TEA, "tea"))
    write_guide(folder)
    migrate, worker, beat = operating()[:3]
    assert "at revision" in place.shell(migrate)
    engine = create_engine(place.environment["ORCHESTRATOR_DATABASE_URL"])
    with engine.begin() as connection:
        connection.execute(text((folder / "stock.sql").read_text()))
    engine.dispose()
    place.start("guide-worker", f"{worker} --concurrency 2", "node registered")
    place.start("guide-beat", beat, "beat: Starting")
    return place


@pytest.fixture(scope="module")
def ledger(tea: Place) -> Iterator[Engine]:
    """The database that the guide's executions are in."""
    engine = create_engine(tea.environment["ORCHESTRATOR_DATABASE_URL"])
    yield engine
    engine.dispose()


def write_guide(folder: Path) -> None:
    """The guide's files, and the empty one that it mentions."""
    GUIDE.write_files(folder)
    (folder / "tea/__init__.py").touch(exist_ok=False)


def operating() -> list[str]:
    """The commands under Operating."""
    return GUIDE.block("## Operating").commands


# --- without servers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=[f"{page.name}:{block.line}" for page, block in PYTHON])
def test_every_python_block_compiles(page: Page, block: Block) -> None:
    compile(block.text, f"{page.name}:{block.line}", "exec")


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
    assert len(lines) > 20
    assert len(spoken) > 5
    assert [problem for line in lines for problem in problems_of(line)] == []
    assert [problem for line in spoken for problem in problems_of(line, whole=False)] == []


def problems_of(line: str, *, whole: bool = True) -> Iterator[str]:
    """What is wrong with a command line; one that is not `whole` may leave out what a command requires."""
    words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=.*|&", word)]
    if words[0] == "orchestrator":
        try:
            parse(cli, [ANY_ID if word == "EXECUTION_ID" else word for word in words[1:]])
        except click.exceptions.Exit:
            pass  # --help
        except click.UsageError as error:
            if whole or not isinstance(error, click.MissingParameter):
                yield f"{line}: {error.format_message()}"
    elif words[0] == "make":
        if not re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE):
            yield f"{line}: no such target"
    elif words[0] not in {".", "celery"}:  # those are used below
        yield f"{line}: nothing checks this"


def parse(command: click.Command, arguments: list[str], parent: click.Context | None = None) -> None:
    """Parse a command line down to the last subcommand, without carrying it out."""
    context = command.make_context(command.name, arguments, parent=parent)
    if isinstance(command, click.Group) and (rest := [*context._protected_args, *context.args]):
        _, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        parse(inner, rest, context)


def test_the_reference_has_the_settings_commands_keys_and_errors_of_the_code() -> None:
    build = runpy.run_path(str(ROOT / "docs/build_reference.py"))
    assert sorted(re.findall(r"<!-- begin: ([\w ]+) -->", REFERENCE.text)) == sorted(build["PARTS"])
    assert build["render"](REFERENCE.text) == REFERENCE.text, "make it anew: python docs/build_reference.py"
    assert {*build["MEANINGS"]} <= build["fields"]()
    ours = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert ours == set(re.findall(r"^\W*(\w+)", build["error_tree"](), re.MULTILINE))


def test_settings_named_in_the_prose_exist_and_have_the_defaults_it_tells() -> None:
    told = re.findall(r"(\d+(?:\.\d+)?) s\b[\w\s]*\(`(\w+)`\)", GUIDE.text)
    assert {name for _, name in told} == {"segment_budget", "dead_after"}
    assert [Settings.model_fields[name].default for _, name in told] == [float(figure) for figure, _ in told]
    named = {name for page in PAGES for name in re.findall(r"ORCHESTRATOR_([A-Z_]+)", page.text)}
    assert named - {name.upper() for name in Settings.model_fields} == set()


def test_every_definition_shown_passes_its_checks_and_python_and_yaml_say_the_same(
    tmp_path: Path, processes: Processes
) -> None:
    """Fragments become definitions of the guide's package. Where two forms differ, discovery refuses both."""
    write_guide(tmp_path)
    module = ["from orchestrator import *"]
    expected = {"order", "restock", "gift", "one-of-everything", "one-machine"}
    for before, block in zip(GUIDE.blocks, GUIDE.blocks[1:], strict=False):
        if block.language == "yaml" and block.file is None:
            name = f"fragment-{block.line}"
            assert before.language == "python", f"{name} has no Python form before it"
            star = "*" if isinstance(ast.parse(f"({before.text})", mode="eval").body, ast.Tuple) else ""
            module.append(f"fragment_{block.line} = workflow({name!r}, {star}({before.text}))")
            (tmp_path / f"tea/{name}.yaml").write_text(f"name: {name}\nsteps:\n{block.text}")
            expected.add(name)
    (tmp_path / "tea/fragments.py").write_text("\n".join(module))
    for number, whole in enumerate(REFERENCE.of("yaml")):
        (tmp_path / f"tea/whole_{number}.yaml").write_text(whole.text)
    assert len(expected) > 6
    place = Place(folder=tmp_path, processes=processes, environment={"ORCHESTRATOR_MODULES": "tea"})
    told = json.loads(place.shell("orchestrator definitions --json 2> problems || cat problems"))
    assert told["problems"] == []
    assert {row["name"] for row in told["definitions"]} == expected


def test_the_whole_example_of_the_reference_has_every_key() -> None:
    shown = {key for whole in REFERENCE.of("yaml") for key in re.findall(r"\b(\w+):", whole.text)}
    assert set(re.findall(r"^\| `(\w+)` ", REFERENCE.text.partition("## Definitions")[2], re.MULTILINE)) <= shown


# --- with servers, workers and beats --------------------------------------------------------------------------------


def test_the_first_workflow_of_the_readme_succeeds_and_is_compensated(tmp_path: Path, processes: Processes) -> None:
    README.write_files(tmp_path)
    place = Place(folder=tmp_path, processes=processes)
    (dev,) = README.block("In one terminal, start servers, two worker pools and a beat that know the module:").commands
    assert re.search(r"^dev:.*\n\t@\$\(BIN\)/orchestrator dev", (ROOT / "Makefile").read_text(), re.MULTILINE)
    place.start("readme-dev", dev.replace("make dev", "orchestrator dev"), "Ctrl-C stops")
    enter, bought, declined, show = README.block("In another, with `.venv` activated:").commands
    told = place.shell(f"{enter} && {bought}")
    assert "succeeded" in told
    assert "paid 30 for 2 x tea" in told
    told = place.shell(f"{enter} && {declined}", expect=3)
    assert "ended compensated: BusinessError: card declined" in told
    (found,) = set(AN_ID.findall(told))
    assert re.search(r"↩ reserve +succeeded", place.shell(f"{enter} && {show.replace('EXECUTION_ID', found)}"))
    (tmp_path / "code.py").write_text(README.block("Or from your code:").text)
    assert place.shell(f"{enter} && python code.py") == "paid 30 for 2 x tea\n"
    processes.terminate("readme-dev", 20)


def test_the_existing_application_of_the_readme_works_and_keeps_its_own_tasks(
    servers: Servers, processes: Processes, tmp_path: Path
) -> None:
    environment = settings(servers, SHOP, "")
    shown = README.block("## In an existing Celery application").text
    for stands_for, number in (("redis://localhost/0", SHOP), ("redis://localhost/1", SHOP_RESULTS)):
        assert stands_for in shown
        shown = shown.replace(stands_for, broker_url(servers, number))
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").write_text(shown)
    (hello,) = [block for block in README.blocks if block.file == "hello.py"]
    own_task = "\n\nfrom shop import app\n\n\n@app.task\ndef add(a, b):\n    return a + b\n"
    (tmp_path / "shop/workflows.py").write_text(hello.text + own_task)
    place = Place(folder=tmp_path, processes=processes, environment=environment)
    place.shell("orchestrator migrate")
    worker, beat = [code for code in README.code if code.startswith("celery -A shop")]
    place.start("shop-worker", f"{worker} --concurrency 2", "[queues]")
    place.start("shop-beat", beat, "beat v")
    used = place.python("""
from shop import orchestrator
from shop.workflows import add
print(orchestrator.start("buy", {"sku": "tea", "amount": 30}).result(timeout=30))
print(add.delay(1, 2).get(timeout=30))
""")
    assert used == "paid 30 for 2 x tea\n3\n"
    for name in ("shop-beat", "shop-worker"):
        processes.terminate(name)


def test_the_starts_of_the_guide_do_what_it_says(tea: Place, ledger: Engine) -> None:
    told = tea.shell("python start.py").splitlines()
    assert told[0] == "{'parcel': 'assam-1', 'receipt': '8 paid for order 1'}"
    assert "use another key for another input" in told[1]
    assert told[2] == "compensated Declined"
    assert {"step_failed", "execution_compensating", "execution_compensated"} <= set(ast.literal_eval(told[3]))
    assert told[4:] == ["5 created", "{'parcel': 'assam-5', 'receipt': '8 paid for order 5'}"]
    # Five orders and five in one transaction, one of which waits and one of which was declined; a gift; two restocks.
    wanted = {"order": {"succeeded": 3 + 5, "compensated": 1, "created": 1}}
    wanted |= {"gift": {"succeeded": 1}, "restock": {"succeeded": 2}}
    eventually(lambda: statuses(ledger) == wanted, lambda: statuses(ledger))
    with ledger.connect() as connection:
        stock = {row.sku: row.quantity for row in connection.execute(text("SELECT sku, quantity FROM stock"))}
    assert stock == {"assam": 100 + 100 - 2 - 1 - 5 * 2 - 2, "sencha": 100}


def statuses(ledger: Engine) -> dict[str, dict[str, Any]]:
    """How many executions of each definition are in each status."""
    found: dict[str, dict[str, Any]] = {}
    with ledger.connect() as connection:
        for name, status, count in connection.execute(
            text("SELECT definition_name, status, count(*) FROM orchestrator.execution GROUP BY 1, 2")
        ):
            found.setdefault(name, {})[status] = count
    return found


def test_the_operators_commands_of_the_guide_answer(tea: Place) -> None:
    started = tea.shell('orchestrator start restock --input \'{"sku": "sencha"}\' --wait')
    (found,) = set(AN_ID.findall(started))
    plan = GUIDE.block("See what Celery will be given, before anything starts:").commands
    versions = GUIDE.block(
        "While you develop, `ORCHESTRATOR_DEV_MODE=1` gives changed content the next version by itself."
    ).commands
    looks = [command.replace("EXECUTION_ID", found) for command in operating()[3:]]
    by_name, by_file, defined, published, failed, shown, events, verified, replayed = tea.each(
        [*plan, *versions, *looks]
    )
    assert "chord" in by_name
    assert by_file == by_name
    assert "changed" not in defined
    assert "order v1 is published" in published
    assert "no executions" in failed
    assert "restock v1" in shown
    assert "step_retrying ask" in events  # the supplier was busy
    assert verified.count("✓") > 5
    assert "✗" not in verified
    assert "no difference" in replayed


def test_the_guarded_task_of_the_guide_is_carried_out_once_for_each_key(tea: Place, servers: Servers) -> None:
    environment = {**tea.environment, "ORCHESTRATOR_BROKER_URL": broker_url(servers, POST)}
    post = Place(folder=tea.folder, processes=tea.processes, environment=environment)
    (shown,) = [block for block in GUIDE.of("console") if "celery -A post" in block.text]
    worker, beat = shown.commands
    assert beat.replace("post", "shop") in README.code  # started there
    post.start("post-worker", worker, "[queues]")
    used = post.python("""
from post import orchestrator, send_invoice
first = send_invoice.delay(1).get(timeout=30)
print(first.partition(" by ")[0], first == send_invoice.delay(order=1).get(timeout=30))
print(send_invoice.delay(2).get(timeout=30).partition(" by ")[0])
print(orchestrator.start("gift", {"order": 9, "sku": "assam"}).result(timeout=30))
""")
    assert used == "invoice 1 sent True\ninvoice 2 sent\nassam-9\n"
    tea.processes.terminate("post-worker")


def test_the_tests_of_the_guide_pass(tmp_path: Path, processes: Processes) -> None:
    write_guide(tmp_path)
    place = Place(folder=tmp_path, processes=processes)
    assert "3 passed" in place.shell("python -m pytest -q -p no:cacheprovider test_tea.py")
