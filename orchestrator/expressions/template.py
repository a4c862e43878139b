"""Compiles values with expressions into closures, once, so that resolving them for a step is a few look-ups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from orchestrator.errors import ExpressionError
from orchestrator.expressions.budget import Evaluation, Fault
from orchestrator.expressions.evaluator import evaluator, references
from orchestrator.expressions.lookup import Evaluator, Scope
from orchestrator.expressions.parser import parse
from orchestrator.expressions.syntax import Expression, Path, Reference
from orchestrator.expressions.tokens import error_at
from orchestrator.expressions.values import MAX_DEPTH, text
from orchestrator.sealed import composed, is_sealed

Resolver: TypeAlias = Callable[[Scope], Any]

#: Expressions of one value.
MAX_EXPRESSIONS = 20_000
#: Lists, objects and what is in them, of one value; what aliases repeat counts as often as it is repeated.
MAX_PARTS = 200_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Template:
    """A value whose expressions are compiled; see `compile_value`."""

    #: Every place that the value refers to, each once, in order of appearance; computed keys end a place before them.
    references: tuple[Path, ...]
    #: Those of them that may be missing, because they stand as the first argument of `default` and nowhere else.
    optional: frozenset[Path]
    #: First names of the references.
    roots: frozenset[str]
    #: Ids of the steps referred to, as in `steps.<id>.output`.
    steps: frozenset[str]
    #: The result when there are no expressions.
    constant: Any
    #: Computes the result; None when there are no expressions.
    resolver: Resolver | None

    @property
    def is_constant(self) -> bool:
        """Whether there are no expressions, so that every scope gives the same value."""
        return self.resolver is None

    def resolve(self, scope: Scope) -> Any:
        """The value with its expressions computed from the scope.

        The result shares its parts with the template and with the scope: do not change it in place.

        Raises:
            ExpressionError: a path that does not exist (names the path, the part that is missing and what there is),
                operands that do not fit, or a budget that is spent.
        """
        return self.constant if self.resolver is None else self.resolver(scope)


def compile_value(value: Any) -> Template:
    """Compile a string, list or object, however deep, or anything else, which then is its own result.

    Raises:
        ExpressionError: an expression that cannot be read; names the text and the position.
    """
    compiler = _Compiler()
    constant, compute = compiler.value(value, ())
    return compiler.template(constant, compute)


class _Compiler:
    """Compiles one value; what it meets on its way describes the template."""

    def __init__(self) -> None:
        self._parts = self._expressions = 0
        #: Places in order of appearance, and whether each may be missing.
        self._found: dict[Path, bool] = {}
        #: Whether there is anything but paths, which cost nothing.
        self._metered = False

    def template(self, constant: Any, compute: Evaluator | None) -> Template:
        """The template that the compiled value makes."""
        return Template(
            references=tuple(self._found),
            optional=frozenset(path for path, optional in self._found.items() if optional),
            roots=frozenset(path.root for path in self._found),
            steps=frozenset(path.step for path in self._found if path.step is not None),
            constant=constant,
            resolver=None if compute is None else _resolver(compute, self._metered),
        )

    def value(self, value: Any, where: tuple[str | int, ...]) -> tuple[Any, Evaluator | None]:
        """The value with `None` for an evaluator, or a placeholder and its evaluator."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise ExpressionError(f"the value has more than {MAX_PARTS:,} parts")
        if len(where) > MAX_DEPTH:
            raise ExpressionError(f"the value is nested more than {MAX_DEPTH} deep")
        if isinstance(value, str):
            return self._text(value, where) if "{{" in value else (value, None)
        if isinstance(value, dict):
            return self._container(value, value.items(), where)
        if isinstance(value, list):
            return self._container(value, enumerate(value), where)
        return value, None

    def expression(self, source: str, found: Expression) -> Evaluator:
        """What computes one expression of a string."""
        for path, optional in references(found):
            self._found[path] = self._found.get(path, True) and optional
        self._metered = self._metered or not isinstance(found, Reference)
        return evaluator(source, found)

    def _container(self, value: Any, items: Any, where: Any) -> tuple[Any, Evaluator | None]:
        compiled = [(key, item, *self.value(item, (*where, key))) for key, item in items]
        if all(constant is item and compute is None for _, item, constant, compute in compiled):
            return value, None
        base = value.copy()
        for key, _, constant, _ in compiled:
            base[key] = constant
        dynamic = tuple((key, compute) for key, _, _, compute in compiled if compute is not None)

        def fill(scope: Scope, evaluation: Evaluation) -> Any:
            result = base.copy()
            for key, compute in dynamic:
                result[key] = compute(scope, evaluation)
            return result

        return base, fill if dynamic else None

    def _text(self, source: str, where: tuple[str | int, ...]) -> tuple[Any, Evaluator | None]:
        try:
            parts = list(self._split(source))
        except ExpressionError as error:
            if not where:
                raise
            place = Path(root=str(where[0]), keys=where[1:])
            raise ExpressionError(f"{place}: {error}") from None
        if all(isinstance(part, str) for part in parts):
            return "".join(str(part) for part in parts), None
        if len(parts) == 1 and not isinstance(parts[0], str):
            return None, self.expression(source, parts[0])
        self._metered = True
        written = tuple(part if isinstance(part, str) else self._part(source, part) for part in parts)
        return None, _joiner(source, written)

    def _split(self, source: str) -> Iterator[str | Expression]:
        """The parts of a text, as long as there are not too many expressions."""
        for part in split(source):
            self._expressions += not isinstance(part, str)
            if self._expressions > MAX_EXPRESSIONS:
                raise ExpressionError(f"the value has more than {MAX_EXPRESSIONS:,} expressions; split it")
            yield part

    def _part(self, source: str, found: Expression) -> Evaluator:
        """What computes the text of an expression that stands amid text; a sealed value stays one."""
        compute = self.expression(source, found)

        def write(scope: Scope, evaluation: Evaluation) -> Any:
            value = compute(scope, evaluation)
            if is_sealed(value):
                evaluation.build(1)
                return value
            try:
                return text(value, evaluation)
            except Fault as fault:
                if isinstance(found, Reference):
                    raise ExpressionError(f"{{{{ {found.path} }}}}: {fault.problem}") from None
                raise error_at(source, found.position, fault.problem) from None

        return write


def split(source: str) -> Iterator[str | Expression]:
    """Literal text and expressions in turn; no part is empty.

    Raises:
        ExpressionError: an expression that cannot be read.
    """
    position = 0
    while (braces := source.find("{{", position)) >= 0:
        plain = source[position:braces].rstrip("\\")
        backslashes = braces - position - len(plain)
        escaped = backslashes % 2 == 1
        literal = plain + "\\" * (backslashes // 2) + ("{{" if escaped else "")
        if literal:
            yield literal
        position = braces + 2
        if not escaped:
            expression, position = parse(source, position)
            yield expression
    if position < len(source):
        yield source[position:]


def _resolver(compute: Evaluator, metered: bool) -> Resolver:
    if metered:
        return lambda scope: compute(scope, Evaluation())
    # Paths alone cost nothing, so they share one evaluation and no step pays for making one.
    free = Evaluation()
    return lambda scope: compute(scope, free)


def _joiner(source: str, parts: tuple[str | Evaluator, ...]) -> Evaluator:
    size = sum(len(part) for part in parts if isinstance(part, str))

    def join(scope: Scope, evaluation: Evaluation) -> Any:
        try:
            evaluation.build(size)
        except Fault as fault:
            raise error_at(source, 0, fault.problem) from None
        found = [part if isinstance(part, str) else part(scope, evaluation) for part in parts]
        try:
            return "".join(found)
        except TypeError:
            # A part is sealed, and so is the text then.
            return composed(found)

    return join
