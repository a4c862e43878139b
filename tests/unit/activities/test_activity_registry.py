from __future__ import annotations

import functools
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.activities.registry import Registry, activity, registry
from orchestrator.errors import ConfigurationError, UnknownActivity
from orchestrator.model.activity import name_of


def charge(amount: int) -> int:
    return amount + 1


async def charge_later(amount: int) -> int:
    return amount + 1


def test_the_decorator_returns_the_function_itself_and_registers_it_under_its_name() -> None:
    def pay_registry_test(amount: int) -> int:
        return amount * 2

    decorated = activity(pay_registry_test)
    assert decorated is pay_registry_test
    assert decorated(amount=2) == 4
    assert registry.get("pay_registry_test").function is pay_registry_test
    assert name_of(decorated) == "pay_registry_test"


def test_the_decorator_takes_a_name_and_whether_it_is_transactional() -> None:
    @activity(name="registry-test/pay", transactional=True)
    def pay(amount: int) -> int:
        return amount

    assert pay(3) == 3
    registered = registry.get("registry-test/pay")
    assert (registered.name, registered.transactional, registered.is_async) == ("registry-test/pay", True, False)


def test_an_async_function_is_known_as_one() -> None:
    class Caller:
        async def __call__(self) -> None: ...

    own = Registry()
    assert own.register(charge_later).is_async
    assert own.register(Caller(), name="caller").is_async
    assert not own.register(charge).is_async


def test_a_second_function_under_a_name_is_refused_naming_both_and_the_fix() -> None:
    own = Registry()
    own.register(charge)
    with pytest.raises(ConfigurationError) as caught:
        own.register(charge_later, name="charge")
    message = str(caught.value)
    assert f"{__name__}.charge and {__name__}.charge_later" in message
    assert '@activity(name="...")' in message
    assert own.get("charge").function is charge


@pytest.fixture
def module_of_activities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    source = """
        from orchestrator.activities.registry import activity

        @activity
        def registry_test_imported_again() -> int:
            return 1
    """
    (tmp_path / "registry_test_module.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "registry_test_module"
    sys.modules.pop("registry_test_module", None)


def test_a_module_that_is_imported_again_replaces_its_activities(module_of_activities: str) -> None:
    first = __import__(module_of_activities).registry_test_imported_again
    assert registry.get("registry_test_imported_again").function is first
    del sys.modules[module_of_activities]
    second = __import__(module_of_activities).registry_test_imported_again
    assert second is not first
    assert registry.get("registry_test_imported_again").function is second


def test_an_unknown_activity_is_told_with_close_names_and_what_to_do() -> None:
    own = Registry()
    own.register(charge)
    with pytest.raises(UnknownActivity, match=r'"chrge"; did you mean "charge"\?.*@activity.*ORCHESTRATOR_MODULES'):
        own.get("chrge")


def test_the_names_of_all_activities_are_known() -> None:
    own = Registry()
    own.register(charge_later)
    own.register(charge)
    assert own.names == ("charge", "charge_later")


def test_what_cannot_be_an_activity_is_refused_with_the_fix() -> None:
    own = Registry()

    def items() -> Iterator[int]:
        yield 1

    class Holder:
        def method(self) -> None: ...

    def refused(function: Any, **options: Any) -> str:
        with pytest.raises(ConfigurationError) as caught:
            own.register(function, **options)
        return str(caught.value)

    assert 'write @activity(name="...")' in refused("charge")
    assert "return a list" in refused(items)
    assert "give @activity(name=...)" in refused(lambda: 1)
    assert "give @activity(name=...)" in refused(charge, name="a name")
    assert "wrap it in one" in refused(Holder().method)
    assert "make it an ordinary parameter" in refused(lambda *args: args, name="positional")
    assert own.names == ()


def test_the_name_of_a_function_that_is_no_activity_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="stranger is no activity; decorate it with @activity"):
        name_of(_stranger)
    assert name_of("any_name") == "any_name"


def _stranger() -> None: ...


def test_a_wrapped_function_is_registered_with_the_parameters_of_the_inner_one() -> None:
    @functools.wraps(charge)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return charge(*args, **kwargs)

    own = Registry()
    assert own.register(wrapper).check({"amout": 1}) == [
        'activity charge: unknown parameter "amout"; did you mean "amount"?',
        'activity charge: parameter "amount" is missing; give it in the step\'s input',
    ]


@pytest.mark.parametrize(
    ("asked", "level"),
    [
        (None, "read committed"),
        ("read uncommitted", "read uncommitted"),
        ("REPEATABLE_READ", "repeatable read"),
        ("Serializable", "serializable"),
    ],
)
def test_a_transactional_activity_chooses_its_isolation_level(asked: str | None, level: str) -> None:
    assert Registry().register(charge, transactional=True, isolation=asked).isolation == level


def test_an_isolation_level_must_exist_and_needs_a_transaction() -> None:
    with pytest.raises(ConfigurationError, match=r"'snapshot' is no isolation level; give read uncommitted, .*serial"):
        Registry().register(charge, transactional=True, isolation="snapshot")
    with pytest.raises(ConfigurationError, match="add transactional=True"):
        Registry().register(charge, isolation="serializable")


def test_an_activity_may_bring_its_own_timeout() -> None:
    own = Registry()
    own.register(charge, timeout=2.5)
    own.register(charge_later)
    assert own.timeout("charge") == 2.5
    assert own.timeout("charge_later") is None
    assert own.timeout("unknown") is None


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_is_a_number_of_seconds(timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="is no number of seconds above 0"):
        Registry().register(charge, timeout=timeout)
