from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field

from orchestrator.activities.context import StepContext
from orchestrator.activities.registry import Activity, Registry
from orchestrator.errors import ConfigurationError, InvalidInput

if TYPE_CHECKING:
    from fractions import Fraction

CONTEXT = StepContext(tenant="t", execution_id="e", definition="d", version=1, path="p", attempt=1, idempotency_key="k")


class Line(BaseModel):
    sku: str
    qty: int = 1


class Size(Enum):
    SMALL = "s"


@dataclass
class Point:
    x: int


def registered(function: Callable[..., Any], name: str = "act") -> Activity:
    return Registry().register(function, name=name)


def typed(
    *,
    line: Line,
    lines: list[Line],
    price: Decimal,
    day: date,
    size: Size,
    point: Point,
    few: Annotated[int, Field(le=3)] = 2,
    maybe: str | None = None,
) -> dict[str, Any]:
    return locals()


def test_json_is_coerced_to_the_annotated_types() -> None:
    bound = registered(typed).bind(
        {
            "line": {"sku": "A"},
            "lines": [{"sku": "B", "qty": 2}],
            "price": "1.10",
            "day": "2026-02-28",
            "size": "s",
            "point": {"x": 1},
            "maybe": None,
        },
        CONTEXT,
    )
    assert bound == {
        "line": Line(sku="A"),
        "lines": [Line(sku="B", qty=2)],
        "price": Decimal("1.10"),
        "day": date(2026, 2, 28),
        "size": Size.SMALL,
        "point": Point(x=1),
        "maybe": None,
    }
    assert typed(**bound)["few"] == 2


def test_every_parameter_that_does_not_fit_is_named_with_the_fix() -> None:
    with pytest.raises(InvalidInput) as caught:
        registered(typed, "fulfil").bind(
            {
                "line": {"sku": 1},
                "lines": [{"sku": "B", "qty": "x"}],
                "price": "1",
                "day": "2026-02-28",
                "few": 4,
                "siz": 1,
            },
            CONTEXT,
        )
    message = str(caught.value)
    assert message.startswith("activity fulfil: ")
    for part in (
        'parameter "line.sku": Input should be a valid string; correct it',
        'parameter "lines[0].qty": Input should be a valid integer',
        'parameter "few": Input should be less than or equal to 3',
        'parameter "size" is missing; give it in the step\'s input',
        'parameter "point" is missing',
        'unknown parameter "siz"; did you mean "size"?',
    ):
        assert part in message
    assert 'parameter "price"' not in message


def test_the_context_is_given_to_the_parameter_annotated_with_it_whatever_its_name() -> None:
    def plain(amount: int, anything: StepContext) -> None: ...
    def optional(*, ctx: StepContext | None = None) -> None: ...
    def only(context: StepContext) -> None: ...

    assert registered(plain).bind({"amount": 1}, CONTEXT) == {"amount": 1, "anything": CONTEXT}
    assert registered(optional).bind({}, CONTEXT) == {"ctx": CONTEXT}
    assert registered(only).bind({}, CONTEXT) == {"context": CONTEXT}


def test_a_step_cannot_give_the_context() -> None:
    def plain(context: StepContext) -> None: ...

    with pytest.raises(InvalidInput, match=r'"context" is the step\'s context, .*remove it'):
        registered(plain).bind({"context": {}}, CONTEXT)


def test_a_function_without_parameters_takes_none() -> None:
    def nothing() -> None: ...

    assert registered(nothing).bind({}, CONTEXT) == {}
    with pytest.raises(InvalidInput, match='unknown parameter "x"; it takes none'):
        registered(nothing).bind({"x": 1}, CONTEXT)


def test_parameters_without_annotation_take_anything() -> None:
    def anything(a, b=2):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, RUF100
        ...

    assert registered(anything).bind({"a": [1]}, CONTEXT) == {"a": [1]}


def test_parameters_may_have_names_that_models_reserve() -> None:
    def odd(copy: int, json: int, model_config: int, _private: int, self: int = 0) -> None: ...

    values = {"copy": "1", "json": 2, "model_config": 3, "_private": 4}
    assert registered(odd).bind(values, CONTEXT) == {"copy": 1, "json": 2, "model_config": 3, "_private": 4}


def test_keyword_arguments_take_what_has_no_parameter_of_its_own() -> None:
    def loose(a: int, **rest: Any) -> None: ...

    assert registered(loose).bind({"a": "1", "b": [2]}, CONTEXT) == {"a": 1, "b": [2]}
    assert registered(loose).check({"b": 1}) == ['activity act: parameter "a" is missing; give it in the step\'s input']


def test_changing_what_an_activity_was_given_changes_no_one_elses_value() -> None:
    def anything(items: Any, nested: dict[str, Any]) -> None: ...

    params = {"items": [{"a": [1]}], "nested": {"deep": [1]}}
    before = copy.deepcopy(params)
    bound = registered(anything).bind(params, CONTEXT)
    bound["items"][0]["a"].append(2)
    bound["nested"]["deep"].append(2)
    assert params == before


def test_an_annotation_may_name_a_class_further_down_the_module() -> None:
    source = "from __future__ import annotations\ndef act(order: Order) -> Missing: ...\n"
    module: dict[str, Any] = {"__name__": "later"}
    exec(source, module)
    own = Registry().register(module["act"])
    assert own.check({"order": 1})[0].startswith("activity act: its annotations name what is not defined")
    module["Order"] = Line
    assert own.bind({"order": {"sku": "A"}}, CONTEXT) == {"order": Line(sku="A")}


def test_an_annotation_for_type_checkers_only_is_told_when_the_activity_is_used() -> None:
    def unresolved(amount: Fraction) -> None: ...

    own = registered(unresolved)
    with pytest.raises(ConfigurationError, match="not under TYPE_CHECKING"):
        own.bind({"amount": 1}, CONTEXT)


def test_a_type_that_json_cannot_give_is_refused_at_registration() -> None:
    with pytest.raises(ConfigurationError, match=r"activity act: a parameter's type .*Registry.*pydantic model"):
        registered(_takes_a_registry)


def _takes_a_registry(registry: Registry) -> None: ...


@pytest.mark.parametrize(
    ("template", "problems"),
    [
        ({"sku": "{{ input.sku }}", "qty": "{{ input.qty }}"}, []),
        ({"sku": "A", "qty": 2, "tags": ["{{ input.tag }}", 1]}, []),
        ({"sku": r"\{{ A }}"}, []),
        ({"qty": 1}, ['parameter "sku" is missing; give it in the step\'s input']),
        ({"sku": "A", "qyt": "{{ x }}"}, ['unknown parameter "qyt"; did you mean "qty"?']),
        ({"sku": "A", "zzz": 1}, ['unknown parameter "zzz"; it takes qty, sku, tags']),
        (
            {"sku": "{{ x }}", "qty": "many"},
            [
                (
                    'parameter "qty": Input should be a valid integer, unable to parse string as an integer; '
                    "correct it in the step's input"
                )
            ],
        ),
        ({"sku": "{{ x", "qty": 1}, []),
    ],
)
def test_what_can_be_known_of_an_input_without_its_values_is_checked(
    template: dict[str, Any], problems: list[str]
) -> None:
    def pick(sku: str, qty: int = 1, tags: list[str] | None = None, *, context: StepContext) -> None: ...

    assert registered(pick).check(template) == [f"activity act: {problem}" for problem in problems]
