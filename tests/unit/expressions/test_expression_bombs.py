"""Authors who mean harm: every bomb ends with an ExpressionError, soon, and without filling the memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from stopwatch import processor_seconds

from orchestrator.errors import ExpressionError
from orchestrator.expressions import compile_value
from orchestrator.expressions.budget import SIZE, Evaluation, Fault
from orchestrator.expressions.parser import MAX_NESTING, MAX_NODES
from orchestrator.expressions.template import MAX_EXPRESSIONS, MAX_PARTS
from orchestrator.expressions.tokens import MAX_TEXT

#: Processor seconds that compiling and resolving an expression may take.
PATIENCE = 0.5
#: Bytes that a resolve may hold at once: what the budget allows to build, and its working space.
MEMORY = 64 * 1024 * 1024


def doubled(times: int = 90) -> Any:
    """A small value that is written with 2**times words."""
    value: Any = ["x"]
    for _ in range(times):
        value = [value, value]
    return value


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def knot() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


SCOPE: dict[str, Any] = {
    "big": "a" * 900_000,
    "twin": "a" * 900_000,
    "numbers": list(range(90_000)),
    "floats": [1.5e300] * 90_000,
    "words": [str(number) * 3 for number in range(60_000)],
    "long_words": ["a" * 50_000 + str(number) for number in range(20)] * 50,
    "objects": [{"a": 1, "b": [{}]} for _ in range(30_000)],
    "doubled": doubled(),
    "doubled_too": doubled(),
    "wide": {str(number): doubled(20) for number in range(10)},
    "knot": knot(),
    "deep": nested(5_000),
    "deep_too": nested(5_000),
    "huge": 10**5_000,
    "control": "\0" * 400_000,
    "hay": "a" * 29_000,
    "needle": "a" * 49 + "b" + "a" * 49,
    "brackets": "[" * 900_000,
    "pairs": "[" + "[]," * 90_000 + "1]",
    "quotes": '"' + '\\"' * 400_000,
    "digits": "9" * 800_000,
    "spaces": " " * 900_000,
    "percents": "%d" * 400_000,
    "small": "ab",
}


def again(part: str, times: int, sign: str) -> str:
    """The part so many times with the sign between; braces are for the caller."""
    return f" {sign} ".join([part] * times)


BOMBS = {
    "strings joined": again("big", 100, "+"),
    "strings joined in a list": f"[{again('big + small', 100, ',')}]",
    "lists joined": again("numbers", 100, "+"),
    "ranges": f"[{again('range(10000)', 200, ',')}]",
    "a range of ranges": "range(range(10000))",
    "a huge range": "range(99999999999)",
    "a range far away": "range(99999999999, 99999999999 + 1)",
    "replace grows": "replace(big, 'a', big)",
    "replace grows from within": again("length(replace(big, 'a', 'aa'))", 2, "+"),
    "nested replace": "replace(replace(replace(replace(big, 'a', 'aa'), 'a', 'aa'), 'a', 'aa'), 'a', 'aa')",
    "nested small replaces": "replace(" * 30 + "'aa'" + ", 'a', 'aaaa')" * 30,
    "join on itself": "join([big, big], big)",
    "join of pieces": "join(split(big, 'a'), big)",
    "split to pieces": "split(big, 'a') + split(big, 'a')",
    "upper of much": "upper(big) + upper(twin)",
    "sorted again and again": again("sorted(numbers)[0]", 20, "+"),
    "sorted words": again("length(sorted(words))", 20, "+"),
    "sorted long words": f"[{again('sorted(long_words)', 100, ',')}]",
    "sum again and again": again("sum(numbers)", 100, "+"),
    "sum beyond floats": "sum(floats) + sum(floats)",
    "max again and again": again("max(words) == 'x'", 100, "or"),
    "in, again and again": again("0 - 1 in numbers", 100, "or"),
    "equal again and again": again("objects == objects", 100, "and"),
    "long strings compared": again("big == twin", 300, "and"),
    "long strings ordered": again("big <= twin", 300, "and"),
    "json of a doubled value": "json(doubled)",
    "json of doubled values": "json(wide)",
    "string of a doubled value": "string([doubled, doubled])",
    "join of doubled values": "join([doubled], '')",
    "doubled values compared": "doubled == doubled_too",
    "doubled values looked for": "doubled in [doubled_too]",
    "json of a knot": "json(knot)",
    "a knot compared": "knot == knot",
    "json of a deep value": "json(deep)",
    "deep values compared": "deep == deep_too",
    "json of control characters": "json(control)",
    "json of json of json": "json(json(json(json(json(json(json(json(json([big]))))))))) ",
    "small json that doubles": "json(" * 40 + "'\"'" + ")" * 40,
    "objects in objects": "json({'a': [big, big]})",
    "a product": again("9999999999999999", 100, "*"),
    "a sum of products": "(99999999999999999999 * 9999999999) * (99999999999999999999 * 9999999999)",
    "a huge number": "huge + 1",
    "a huge number, negated": "-huge",
    "a huge number as text": "string(huge)",
    "a huge number, rounded": "round(huge, 30)",
    "a huge index": "numbers[huge]",
    "a huge negative index": "numbers[0 - 999999999999]",
    "a literal index": f"numbers[{'9' * 5_000}]",
    "a literal number": "9" * 9_000,
    "a literal exponent": "1e" + "9" * 5_000,
    "no power operator": "10**10**10",
    "strings times numbers": "'a' * 1000000000",
    "formats": "'%1000000000d' % 1",
    "parsed brackets": "parse_json(brackets)",
    "parsed pairs": "parse_json(pairs)",
    "parsed quotes": "parse_json(quotes)",
    "parsed digits": "parse_json(digits)",
    "a number of digits": "number(digits)",
    "a number of spaces": "number(spaces)",
    "a duration of digits": "add_time(now(), digits)",
    "a moment of digits": "add_time(digits, 1)",
    "formatted moments": "format_time(now(), percents)",
    "parentheses": "(" * 4_000 + "1" + ")" * 4_000,
    "10,000 parentheses": "(" * 10_000 + "1" + ")" * 10_000,
    "lists in lists": "[" * 4_000 + "]" * 4_000,
    "objects in literals": "{'a': " * 1_200 + "1" + "}" * 1_200,
    "subscripts in subscripts": "numbers[" * 1_000 + "0" + "]" * 1_000,
    "calls in calls": "length(" * 1_000 + "big" + ")" * 1_000,
    "minus minus": "- " * 4_000 + "1",
    "not not": "not " * 2_000 + "true",
    "choices": again("1 if true else", 600, "") + " 1",
    "left-leaning brackets": "(" * 200 + "1" + " * 1 + 1)" * 200,
    "many items": f"[{again('1', 3_000, ',')}]",
    "a long name": "a" * 20_000,
    "a long string": f"'{'a' * 20_000}'",
    "a long path": "small" + ".a" * 3_000,
    "nothing closed": "'{{" * 3_000,
    "braces": "{" * 9_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_with_an_expression_error_in_good_time(name: str) -> None:
    def explode() -> None:
        with pytest.raises(ExpressionError) as caught:
            compile_value(f"{{{{ {BOMBS[name]} }}}}").resolve(SCOPE)
        assert len(str(caught.value)) < 10_000

    assert processor_seconds(explode) < PATIENCE


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_amid_text_and_in_lists_too(name: str) -> None:
    def explode() -> None:
        with pytest.raises(ExpressionError):
            compile_value(["a", f"text {{{{ {BOMBS[name]} }}}}"]).resolve(SCOPE)

    assert processor_seconds(explode) < PATIENCE


@pytest.mark.parametrize(
    "value",
    [
        "{{ big }}{{ big }}",
        "x{{ doubled }}",
        "x{{ knot }}",
        "x{{ deep }}",
        "x{{ huge }}",
        "{{ small }}" * (MAX_EXPRESSIONS + 1),
        ["{{ small }}"] * (MAX_EXPRESSIONS + 1),
        ["{{ json(objects) }}"] * 20,
        ["{{ sum(numbers) }}"] * 20,
        "{{ small }}" + "a" * SIZE,
        [1] * MAX_PARTS,
        doubled(),
        knot(),
        nested(101),
        "{{",
        "\\" * 1_000_000 + "{{",
        "{" * 1_000_000,
        "{{" + "\\'" * 1_000_000,
        '{{ "' + "a" * 1_000_000,
        '{{ "' + '\\"' * 1_000_000,
        "{{" + " " * 1_000_000,
        "{{ a" + "-" * 1_000_000,
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else type(value).__name__,
)
def test_a_value_that_is_a_bomb_ends_in_good_time(value: Any) -> None:
    def explode() -> None:
        with pytest.raises(ExpressionError):
            compile_value(value).resolve(SCOPE)

    # 20,000 expressions take their time to compile, once.
    assert processor_seconds(explode) < 4 * PATIENCE


@pytest.mark.parametrize(
    "name", ["replace grows", "json of a doubled value", "strings joined", "lists joined", "ranges"]
)
def test_a_bomb_does_not_fill_the_memory(name: str) -> None:
    template = compile_value(f"{{{{ {BOMBS[name]} }}}}")
    tracemalloc.start()
    try:
        with pytest.raises(ExpressionError, match="the budget of"):
            template.resolve(SCOPE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY


def test_the_same_values_spend_the_same_whether_parts_of_them_are_shared_or_not() -> None:
    item = {"a": ["x", 1]}
    shared, apart = [item] * 1_000, [{"a": ["x", 1]} for _ in range(1_000)]
    for expression in ("json(v)", "v == w", "w in [v]", "join(v, ',')"):
        template = compile_value([f"{{{{ {expression} }}}}"] * 10)
        outcomes = set()
        for scope in ({"v": shared, "w": shared}, {"v": apart, "w": apart}, {"v": shared, "w": apart}):
            outcomes.add(str(template.resolve(scope)))
        assert len(outcomes) == 1
    template = compile_value(["{{ v == w }}"] * 100)
    for scope in ({"v": shared, "w": shared}, {"v": apart, "w": shared}):
        with pytest.raises(ExpressionError, match="evaluation steps is spent"):
            template.resolve(scope)


def test_the_budget_is_one_for_a_whole_value_and_new_for_every_resolve() -> None:
    most = "{{ big + 'a' }}"
    template = compile_value(most)
    assert template.resolve(SCOPE) == template.resolve(SCOPE)
    with pytest.raises(ExpressionError, match="the budget of 1,000,000 characters and elements is spent"):
        compile_value([most, most]).resolve(SCOPE)


def test_work_is_charged_before_it_is_done() -> None:
    evaluation = Evaluation(steps=10, size=10)
    evaluation.spend(10)
    evaluation.build(10)
    with pytest.raises(Fault, match="evaluation steps"):
        evaluation.spend(1)
    with pytest.raises(Fault, match="characters and elements"):
        evaluation.build(1)


@pytest.mark.parametrize(
    ("largest", "beyond"),
    [
        (f"'{'a' * (MAX_TEXT - 4)}'", f"'{'a' * (MAX_TEXT - 1)}'"),
        (f"[{', '.join(['1'] * (MAX_NODES - 1))}]", f"[{', '.join(['1'] * MAX_NODES)}]"),
        (
            "[" * (MAX_NESTING - 1) + "1" + "]" * (MAX_NESTING - 1),
            "[" * MAX_NESTING + "1" + "]" * MAX_NESTING,
        ),
        ("-" + " -" * (MAX_NESTING - 2) + "1", "-" + " -" * MAX_NESTING + "1"),
        (" + ".join(["1"] * (MAX_NODES - 1)), " + ".join(["1"] * (MAX_NODES + 1))),
        (" and ".join(["true"] * (MAX_NODES - 1)), " and ".join(["true"] * (MAX_NODES + 1))),
        ("1 if false else " * (MAX_NODES // 2 - 1) + "2", "1 if false else " * MAX_NODES + "2"),
    ],
)
def test_an_expression_just_within_the_limits_is_computed_and_one_beyond_them_refused(
    largest: str, beyond: str
) -> None:
    compile_value(f"{{{{ {largest} }}}}").resolve({})
    with pytest.raises(ExpressionError, match=r"longer than|more than"):
        compile_value(f"{{{{ {beyond} }}}}")


def test_what_the_limits_allow_fits_on_the_stack_of_a_deep_caller() -> None:
    """The deepest value, with the deepest expression, of the deepest data, called from 400 frames down."""
    value: Any = "{{ " + "[" * 40 + "json(data) + string(data == data)" + "]" * 40 + " }}"
    for _ in range(99):
        value = [value]
    data: Any = 1
    for _ in range(99):
        data = [data]

    def descend(frames: int) -> Any:
        return descend(frames - 1) if frames else compile_value(value).resolve({"data": data})

    result = descend(400)
    while isinstance(result, list):
        result = result[0]
    assert result == "[" * 99 + "1" + "]" * 99 + "true"
