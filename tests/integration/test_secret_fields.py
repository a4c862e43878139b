"""Fields that a schema marks as secret go through all that may happen to an execution, and are nowhere in the clear."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from app_support import Place, eventually, place
from pydantic import BaseModel, SecretStr
from sqlalchemy import text

from orchestrator import ExecutionFailed, ExecutionHandle, IdempotencyConflict, InvalidInput, Orchestrator
from orchestrator.cli import call
from orchestrator.embedded import Servers
from orchestrator.errors import ConfigurationError
from orchestrator.ledger import secrets

CARD, CODE, FORGED = "4111-SECRET-1111", "code-SECRET-4711", {"$sealed": "gAAAAA-no-token-of-ours"}
SOON = 30.0
#: `charge` does with the card whatever a careless activity might; its hashes show that it saw what was given.
WORKFLOWS = """
import hashlib, logging
from pydantic import BaseModel, SecretStr
from sqlalchemy import text
from orchestrator import RetryPolicy, StepContext, activity, compensation, step, subworkflow, task, wait, workflow
def known(value):
    return hashlib.sha256(value.encode()).hexdigest()
class Order(BaseModel):
    item: str
    card: SecretStr
class Receipt(BaseModel):
    number: int
    token: SecretStr
class Code(BaseModel):
    code: SecretStr
@activity
def charge(ctx: StepContext, card: str, header: str) -> dict:
    logging.getLogger("shop").warning("charging %s", card, extra={"card": card})
    ctx.log("info", "charging", card=card, header=header)
    ctx.heartbeat({"card": card})
    again = ctx.side_effect("card", lambda: card)
    return {"seen": [known(card), known(header), known(again)], "echo": card, "told": f"paid with {card}"}
@activity
def receipt() -> Receipt:
    return Receipt(number=7, token="token-SECRET-0815")
@activity
def look(value: str) -> str:
    return known(value)
@activity
def refund(card: str, seen: str) -> str:
    print(f"refunding {known(card)} {card == seen}")
    return card
@activity
def refuse(card: str) -> None:
    raise ValueError(f"the card {card} is refused")
@activity(transactional=True)
def spoil(ctx: StepContext, card: str) -> None:
    ctx.connection.execute(text("SELECT CAST(:card AS int)"), {"card": card})
CARD = {"card": "{{ input.card }}", "header": "Bearer {{ input.card }}"}
twice, once = RetryPolicy(max_attempts=2, backoff=0), RetryPolicy(max_attempts=1)
undo = compensation(refund, {"card": "{{ undo.input.card }}", "seen": "{{ undo.output.echo }}"})
paid = workflow(
    "paid",
    step("charge", charge, CARD),
    step("receipt", receipt),
    step("look", look, {"value": "{{ steps.receipt.output.token }}"}),
    subworkflow("child", "paid-child", {"card": "{{ input.card }}", "told": "{{ steps.charge.output.told }}"}),
    wait("code", "code"),
    step("check", look, {"value": "{{ steps.code.output.code }}"}),
    task("own", "secret_field_app.own", {"card": "{{ input.card }}"}),
    input=Order,
    signals={"code": Code},
    output={
        "charge": "{{ steps.charge.output }}",
        "look": "{{ steps.look.output }}",
        "receipt": "{{ steps.receipt.output }}",
        "child": "{{ steps.child.output }}",
        "check": "{{ steps.check.output }}",
        "own": "{{ steps.own.output }}",
        "input": "{{ input }}",
    },
)
child = workflow("paid-child", step("look", look, {"value": "{{ input.told }}"}),
    input={"type": "object", "properties": {"card": {"type": "string", "writeOnly": True}, "told": {"type": "string"}}})
refused = workflow("refused", step("charge", charge, CARD, compensation=undo),
    step("refuse", refuse, {"card": "{{ input.card }}"}, retry=twice), input=Order)
spoiled = workflow("spoiled", step("spoil", spoil, {"card": "{{ input.card }}"}, retry=once), input=Order)
judged = workflow("judged", step("look", look, {"value": "{{ 'a' if input.card == '4111' else 'b' }}"}, retry=once),
    input=Order)
"""
APP = """
from orchestrator import Orchestrator
app = Orchestrator().app
@app.task(bind=True, name="secret_field_app.own")
def own(self, card, extra=None):
    if not self.request.retries:
        raise self.retry(kwargs={"card": card, "extra": card}, countdown=0, exc=ValueError(f"not yet {card}"))
    print(f"own has {extra == card}")
    return [card, extra]
"""


class Order(BaseModel):
    item: str
    card: SecretStr


def known(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


@pytest.fixture(scope="module")
def home(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A worker and a beat that know the workflows and have two keys."""
    folder = tmp_path_factory.mktemp("secret_fields")
    (folder / "secret_field_workflows.py").write_text(WORKFLOWS)
    (folder / "secret_field_app.py").write_text(APP)
    settings = {
        "ORCHESTRATOR_SECRET_KEYS": f"{secrets.new_key()},{secrets.new_key()}",
        "ORCHESTRATOR_MODULES": "secret_field_workflows",
        "ORCHESTRATOR_LOG_LEVEL": "DEBUG",
    }
    with place(servers, folder, "secret_fields", number=14, env=settings) as found:
        found.env["PYTHONPATH"] = str(folder)
        found.worker("secret_field_app")
        found.beat("secret_field_app")
        yield found


@contextmanager
def orchestrator(home: Place, keys: str | None = None) -> Iterator[Orchestrator]:
    keys = home.env["ORCHESTRATOR_SECRET_KEYS"] if keys is None else keys
    made = Orchestrator(database_url=home.database_url, broker_url=home.broker_url, modules=(), secret_keys=keys)
    yield made
    made.core.database.dispose()


@contextmanager
def overheard(home: Place) -> Iterator[list[str]]:
    """Every command that the broker gets, as text."""
    heard: list[str] = []
    with home.redis() as client, client.monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                heard.append(str(command["command"]))
                if "end-of-listening" in heard[-1]:
                    return

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield heard
        finally:
            with home.redis() as other:
                other.publish("nobody", "end-of-listening")
            listener.join(SOON)


def everything(home: Place) -> str:
    """Every row of every table of the ledger, as text."""
    with home.engine.connect() as connection:
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'orchestrator'")).scalars()
        return "\n".join(
            str(row)
            for table in tables.all()
            for row in connection.execute(text(f'SELECT to_jsonb(t)::text FROM orchestrator."{table}" t')).scalars()
        )


def ended(handle: ExecutionHandle, *statuses: str) -> None:
    eventually(lambda: handle.status() in statuses, within=SOON)


def test_a_secret_field_goes_through_success_failure_retry_undo_child_and_fork_and_is_found_nowhere(
    home: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with overheard(home) as heard, orchestrator(home) as made:
        paid = made.start("paid", Order(item="tea", card=SecretStr(CARD)), idempotency_key="order-1")
        made.signal(paid.id, "code", {"code": CODE})
        steps = paid.result(timeout=SOON)
        # Whoever was called saw what was given, from the step's input, a text around it, and an output.
        assert steps["charge"]["seen"] == [known(CARD), known(f"Bearer {CARD}"), known(CARD)]
        assert steps["look"] == known("token-SECRET-0815")
        assert steps["child"] == known(f"paid with {CARD}")
        assert steps["check"] == known(CODE)
        # What came back is sealed again, and nothing else is.
        assert set(steps["charge"]["echo"]) == set(steps["charge"]["told"]) == {"$sealed"}
        assert [set(each) for each in steps["own"]] == [{"$sealed"}, {"$sealed"}]
        assert (steps["receipt"]["number"], set(steps["receipt"]["token"])) == (7, {"$sealed"})
        assert set(steps["input"]["card"]) == {"$sealed"}
        refused = made.start("refused", {"item": "tea", "card": CARD})
        with pytest.raises(ExecutionFailed, match=r"the card \*\*\* is refused"):
            refused.result(timeout=SOON)
        ended(refused, "compensated")
        spoiled = made.start("spoiled", {"item": "tea", "card": CARD})
        ended(spoiled, "failed")
        made.retry(spoiled.id, actor="ops", input={"item": "tea", "card": CARD + "2"})
        ended(spoiled, "failed")
        fork = made.fork(paid.id, "look", actor="ops")
        made.signal(fork.id, "code", {"code": CODE})
        fork.result(timeout=SOON)
        shown = [str(each.result(timeout=SOON)) for each in (paid, fork)]
    for name in ("DATABASE_URL", "BROKER_URL", "MODULES"):
        monkeypatch.setenv(f"ORCHESTRATOR_{name}", home.env.get(f"ORCHESTRATOR_{name}", ""))
    monkeypatch.setenv("ORCHESTRATOR_MODULES", "")
    for each in (paid, refused, spoiled, fork):
        for command in ("show", "events", "timeline", "logs", "attempts", "explain"):
            for option in ((), ("--json",)):
                call((command, each.id, *option))
                told = capfd.readouterr()
                shown.append(told.out + told.err)
    assert "[secret]" in "".join(shown)
    log = "".join(home.processes.log_tail(name, 5000) for name in ("worker", "beat"))
    assert "charging ***" in log
    assert f"refunding {known(CARD)} True" in log
    assert "own has True" in log
    found = {"log": log, "ledger": everything(home), "broker": "\n".join(heard), "answers": "".join(shown)}
    assert [name for name, where in found.items() if "SECRET" in where] == []


def test_the_same_secret_under_one_key_is_one_execution_also_after_a_change_of_keys(home: Place) -> None:
    first, second = home.env["ORCHESTRATOR_SECRET_KEYS"].split(",")
    given = {"item": "tea", "card": CARD}
    with orchestrator(home) as made, orchestrator(home, f"{second},{first}") as changed:
        one = made.start("refused", given, idempotency_key="same")
        assert made.start("refused", given, idempotency_key="same").id == one.id
        assert changed.start("refused", given, idempotency_key="same").id == one.id
        for other in (made, changed):
            with pytest.raises(IdempotencyConflict):
                other.start("refused", given | {"card": CARD + "2"}, idempotency_key="same")
    hashed = home.value("SELECT input_hash FROM orchestrator.execution WHERE id = :id", id=one.id)
    canonical = json.dumps(given, sort_keys=True, separators=(",", ":"))
    assert hashed != known(canonical)


def test_without_its_key_a_step_fails_and_says_what_is_missing(home: Place) -> None:
    with orchestrator(home, secrets.new_key()) as made:
        lost = made.start("spoiled", {"item": "tea", "card": CARD})
        ended(lost, "failed")
    with home.engine.connect() as connection:
        error = connection.execute(
            text("SELECT error FROM orchestrator.step WHERE execution_id = :id"), {"id": lost.id}
        ).scalar_one()
    assert (error["category"], error["name"]) == ("system", "ConfigurationError")
    assert "none of ORCHESTRATOR_SECRET_KEYS" in error["message"]


def test_a_start_without_any_key_is_refused_and_names_the_setting(home: Place) -> None:
    with orchestrator(home, "") as made:
        with pytest.raises(ConfigurationError, match="set ORCHESTRATOR_SECRET_KEYS"):
            made.start("paid", {"item": "tea", "card": CARD})
        with pytest.raises(InvalidInput, match="orchestrator's own"):
            made.emit("event", FORGED, correlation="c")


def test_what_claims_to_be_sealed_and_is_not_by_us_is_refused_wherever_it_comes_in(home: Place) -> None:
    with orchestrator(home) as made:
        waiting = made.start("paid", {"item": "tea", "card": CARD})
        composed = {"$sealed": ["Bearer ", FORGED]}
        for forged in (FORGED, composed, {"$sealed": 1}, {"$sealed": "x", "more": 1}, {"$sealed": [{"a": "b"}]}):
            refusals: list[Callable[[], object]] = [
                partial(made.start, "paid", {"item": "tea", "card": forged}),
                partial(made.start, "paid-child", {"told": "x", "more": [forged]}),
                partial(made.signal, waiting.id, "code", {"code": forged}),
                partial(made.signal, waiting.id, "other", forged),
                partial(made.emit, "event", forged, correlation="c"),
                partial(made.skip, waiting.id, "code", actor="ops", output=forged),
            ]
            for refusal in refusals:
                with pytest.raises(InvalidInput, match="orchestrator's own"):
                    refusal()
        made.cancel(waiting.id, actor="ops")


def test_an_input_that_does_not_fit_is_refused_without_showing_it(home: Place) -> None:
    with orchestrator(home) as made:
        for wrong in ({"item": 4711, "card": CARD}, {"item": "tea", "card": [CARD]}, CARD, {"item": "tea"}):
            with pytest.raises(InvalidInput) as refused:
                made.start("paid", wrong)
            assert "SECRET" not in str(refused.value)
            assert "4711" not in str(refused.value)


def test_an_expression_that_would_judge_a_secret_fails_the_step(home: Place) -> None:
    with orchestrator(home) as made, pytest.raises(ExecutionFailed, match="a sealed secret is equal to nothing"):
        made.start("judged", {"item": "tea", "card": CARD}).result(timeout=SOON)
