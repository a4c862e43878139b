"""Reads expressions: a descent by binding power, whose depth is that of the brackets.

expression := choice
choice     := rank0 ( "if" rank0 "else" rank0 )*
rank0      := operands of "or", above them "and", "not", comparison and membership, + and -, * / // %, unary minus
operand    := atom ( "." NAME | "[" expression "]" )*
atom       := NUMBER | STRING | true | false | null | NAME | NAME "(" list ")" | "(" expression ")"
            | "[" list "]" | "{" STRING ":" expression, ... "}"
"""

from __future__ import annotations

import math
import re

from orchestrator.errors import ExpressionError
from orchestrator.expressions.arithmetic import LARGEST
from orchestrator.expressions.functions import FUNCTIONS
from orchestrator.expressions.lookup import LARGEST_INDEX
from orchestrator.expressions.syntax import (
    Call,
    Chain,
    Choice,
    Expression,
    ListOf,
    Literal,
    Lookup,
    Node,
    ObjectOf,
    Path,
    Prefixed,
    Reference,
)
from orchestrator.expressions.tokens import Token, error_at, tokens
from orchestrator.spelling import did_you_mean

#: Nodes of one expression.
MAX_NODES = 1_000
#: How deep brackets and operators may be nested, far below what Python's stack holds.
MAX_NESTING = 50

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "r": "\r"}
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
#: Words that are no names, unless they stand behind a dot.
RESERVED = frozenset({"and", "or", "not", "in", "if", "else", *_CONSTANTS})
_PYTHON = {"True": "true", "False": "false", "None": "null", "AND": "and", "OR": "or", "NOT": "not"}

#: How strongly operators bind; those of one power form a chain.
_IF, _OR, _AND, _NOT, _COMPARE, _ADD, _MULTIPLY, _NEGATE = range(1, 9)
_POWERS = {
    "if": _IF,
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in", "not in"), _COMPARE),
    **dict.fromkeys(("+", "-"), _ADD),
    **dict.fromkeys(("*", "/", "//", "%"), _MULTIPLY),
}


def parse(text: str, start: int) -> tuple[Expression, int]:
    """Read the expression that begins at `start`, just behind `{{`.

    Returns:
        The expression, and the index just behind its `}}`.

    Raises:
        ExpressionError: the text and the position of what is not understood.
    """
    parser = _Parser(text, tuple(tokens(text, start)))
    expression = parser.expression()
    end = parser.close()
    _check_size(text, expression)
    return expression, end


def _check_size(text: str, expression: Expression) -> None:
    """Refuse what has too many nodes or is too deep to be walked by functions that call themselves."""
    found = 0
    waiting = [(expression, 1)]
    while waiting:
        node, depth = waiting.pop()
        found += 1
        if found > MAX_NODES:
            raise error_at(text, node.position, f"the expression has more than {MAX_NODES:,} parts; split it")
        if depth > MAX_NESTING:
            raise _too_deep(text, node.position)
        waiting += ((part, depth + 1) for part in node.parts)


def _too_deep(text: str, position: int) -> ExpressionError:
    return error_at(text, position, f"the expression is nested more than {MAX_NESTING} deep; split it")


class _Parser:
    """The last token is always `close`, so there is always a next one."""

    def __init__(self, text: str, found: tuple[Token, ...]) -> None:
        self._text = text
        self._tokens = found
        self._at = 0
        self._nesting = 0

    def expression(self, power: int = 0) -> Expression:
        """An operand and the operators behind it that bind more strongly than `power`."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise _too_deep(self._text, self._peek().position)
        left = self._operand()
        while (found := _POWERS.get(self._operator(), 0)) > power:
            left = self._choice(left) if found == _IF else self._chain(left, found)
        self._nesting -= 1
        return left

    def close(self) -> int:
        """The index behind `}}`."""
        return self._take("close", 'an operator or "}}"').position + 2

    def _operator(self) -> str:
        """The operator that comes next; empty when there is none."""
        token = self._peek()
        if token.kind == "name" and token.text == "not" and self._is_word(self._peek(1), "in"):
            return "not in"
        return token.text if token.kind in {"name", "symbol"} else ""

    def _chain(self, left: Expression, power: int) -> Chain:
        rest: list[tuple[str, int, Expression]] = []
        while _POWERS.get(operator := self._operator(), 0) == power:
            position = self._peek().position
            if rest and power == _COMPARE:
                raise error_at(self._text, position, 'comparisons do not chain; write "a < b and b < c"')
            self._at += 2 if operator == "not in" else 1
            rest.append((operator, position, self.expression(power)))
        return Chain(position=rest[0][1], first=left, rest=tuple(rest))

    def _choice(self, value: Expression) -> Choice:
        branches: list[tuple[Expression, int, Expression]] = []
        while self._is_word(self._peek(), "if"):
            position = self._take("name", "if").position
            condition = self.expression(_IF)
            if not self._is_word(self._peek(), "else"):
                raise self._expected('"else", as in a if condition else b')
            self._at += 1
            branches.append((value, position, condition))
            value = self.expression(_IF)
        return Choice(position=branches[0][1], branches=tuple(branches), otherwise=value)

    def _operand(self) -> Expression:
        token = self._peek()
        if self._is_word(token, "not"):
            self._at += 1
            return Prefixed(position=token.position, operator="not", operand=self.expression(_NOT))
        if self._skip("-"):
            return Prefixed(position=token.position, operator="-", operand=self.expression(_NEGATE))
        return self._keys(self._atom())

    def _atom(self) -> Expression:
        token = self._peek()
        match token.kind:
            case "name":
                return self._name()
            case "number":
                self._at += 1
                return Literal(position=token.position, value=self._number(token))
            case "string":
                self._at += 1
                return Literal(position=token.position, value=self._unquoted(token))
        if self._skip("("):
            inner = self.expression()
            self._close_with(")")
            return inner
        if self._skip("["):
            return ListOf(position=token.position, items=self._list("]"))
        if self._skip("{"):
            return ObjectOf(position=token.position, entries=self._entries())
        raise self._expected("a value, or a name such as input or steps")

    def _name(self) -> Expression:
        token = self._take("name", "a name")
        name, position = token.text, token.position
        if name in _CONSTANTS:
            return Literal(position=position, value=_CONSTANTS[name])
        if name in RESERVED:
            problem = f'expected a value, found the word "{name}"; a key of that name is quoted, as in x["{name}"]'
            raise error_at(self._text, position, problem)
        if name in _PYTHON:
            raise error_at(self._text, position, f'"{name}" is written "{_PYTHON[name]}"')
        if self._skip("("):
            return self._call(name, position)
        return Reference(position=position, path=Path(root=name))

    def _call(self, name: str, position: int) -> Call:
        function = FUNCTIONS.get(name)
        if function is None:
            fix = did_you_mean(name, FUNCTIONS) or f"; there are {', '.join(FUNCTIONS)}"
            raise error_at(self._text, position, f'there is no function "{name}"{fix}')
        arguments = self._list(")")
        if not function.fewest <= len(arguments) <= function.most:
            problem = f"{name} is called as {function.usage}, here with {len(arguments)} arguments"
            raise error_at(self._text, position, problem)
        if function.takes_path and not isinstance(arguments[0], Reference | Lookup):
            problem = f"{name} takes a path first, as in {name}(input.note, 0)"
            raise error_at(self._text, arguments[0].position, problem)
        return Call(position=position, name=name, arguments=arguments)

    def _keys(self, value: Expression) -> Expression:
        """What stands behind a value: keys after a dot, indexes and keys in brackets."""
        keys: list[str | int | Expression] = []
        while True:
            if self._skip("."):
                keys.append(self._take("name", _AFTER_DOT).text)
            elif self._skip("["):
                keys.append(self._subscript())
            elif keys and self._is_symbol(self._peek(), "("):
                problem = 'there are no methods, only functions by name, as in upper(x); "(" cannot follow a key'
                raise error_at(self._text, self._peek().position, problem)
            else:
                break
        known = 0
        if isinstance(value, Reference):
            while known < len(keys) and not isinstance(keys[known], Node):
                known += 1
            begin = tuple(key for key in keys[:known] if isinstance(key, str | int))
            path = Path(root=value.path.root, keys=value.path.keys + begin)
            value = Reference(position=value.position, path=path)
        return Lookup(position=value.position, base=value, keys=tuple(keys[known:])) if keys[known:] else value

    def _subscript(self) -> str | int | Expression:
        token = self._peek()
        if self._is_symbol(token, "-") and self._peek(1).kind == "number":
            problem = "indexes count from 0, from the front; the last item is x[length(x) - 1]"
            raise error_at(self._text, token.position, problem)
        key = self.expression()
        self._close_with("]")
        if not isinstance(key, Literal):
            return key
        if isinstance(key.value, str):
            return key.value
        if not isinstance(key.value, int) or isinstance(key.value, bool):
            raise error_at(self._text, key.position, "expected an index such as 0 or a quoted key")
        if key.value > LARGEST_INDEX:
            raise error_at(self._text, key.position, "the index is too large")
        return key.value

    def _list(self, end: str) -> tuple[Expression, ...]:
        """Expressions between commas, up to and with the closing bracket."""
        if self._skip(end):
            return ()
        items = [self.expression()]
        while self._skip(","):
            items.append(self.expression())
        self._close_with(end, '"," or ')
        return tuple(items)

    def _entries(self) -> tuple[tuple[str, Expression], ...]:
        if self._skip("}"):
            return ()
        entries: dict[str, Expression] = {}
        while True:
            token = self._take("string", 'a quoted key, as in {"key": 1}')
            key = self._unquoted(token)
            if key in entries:
                raise error_at(self._text, token.position, f"the object has the key {token.text} twice")
            if not self._skip(":"):
                raise self._expected('":" after a key')
            entries[key] = self.expression()
            if not self._skip(","):
                self._close_with("}", '"," or ')
                return tuple(entries.items())

    def _number(self, token: Token) -> int | float:
        if token.text.isdigit():
            if len(token.text) > len(str(LARGEST)) or (whole := int(token.text)) > LARGEST:
                raise error_at(self._text, token.position, "the number is too large")
            return whole
        if math.isinf(number := float(token.text)):
            raise error_at(self._text, token.position, "the number is too large")
        return number

    def _unquoted(self, token: Token) -> str:
        for match in _ESCAPE.finditer(token.text):
            if match[1] not in _ESCAPED:
                problem = f"{match[0]} is no escape; there are only \\\\, \\\", \\', \\n, \\t and \\r"
                raise error_at(self._text, token.position + match.start(), problem)
        return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], token.text[1:-1])

    def _close_with(self, bracket: str, wanted: str = "") -> None:
        if not self._skip(bracket):
            raise self._expected(f'{wanted}"{bracket}"')

    def _skip(self, symbol: str) -> bool:
        """Pass the symbol if it comes next."""
        found = self._is_symbol(self._peek(), symbol)
        self._at += found
        return found

    def _take(self, kind: str, wanted: str) -> Token:
        token = self._peek()
        if token.kind != kind:
            raise self._expected(wanted)
        self._at += 1
        return token

    def _peek(self, ahead: int = 0) -> Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    @staticmethod
    def _is_word(token: Token, word: str) -> bool:
        return token.kind == "name" and token.text == word

    @staticmethod
    def _is_symbol(token: Token, symbol: str) -> bool:
        return token.kind == "symbol" and token.text == symbol

    def _expected(self, wanted: str) -> Exception:
        token = self._peek()
        before = self._tokens[self._at - 1] if self._at else token
        hint = ""
        if before.kind == "name" and before.text.endswith("-"):
            hint = '; "-" belongs to the name before it: to subtract, write a - b'
        elif token.text in {":", "{"} and token.kind == "symbol":
            hint = "; the text {{ is written \\{{"
        return error_at(self._text, token.position, f"expected {wanted}, found {token.text[:60]!r}{hint}")


_AFTER_DOT = 'a name after ".", such as .id; other keys are quoted, as in ["a key"] or [0]'
