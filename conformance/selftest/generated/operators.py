"""Mutation operators on Python source: each changes one place, as a mistake of a person could.

The operators work on the syntax tree (:mod:`ast`) and edit the text, so that a diff shows the mutation and nothing
else. A library would have been preferred. mutmut (3.8) and cosmic-ray (8.7) drive the project's own unit tests: one
compiles all mutants of a file into one module behind trampolines, the other writes the mutant over the file; here
each mutant is loaded in the process of the driver only. Neither has the operators that this suite is about (removed
calls, raises, locks and cleanup, swapped arguments), neither declares its operators as an interface, and they
bring libcst and textual, or SQLAlchemy, aiohttp and GitPython.

Text for people is left alone: what ``raise``, ``assert`` and logging calls hold, docstrings, annotations. So are
decorators, and what is inside of f-strings, whose positions Python 3.11 does not know.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

_COMPARISONS: Final[dict[type[ast.cmpop], tuple[str, str]]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_NEGATED: Final = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)  # where that is the negation
_ARITHMETIC: Final[dict[type[ast.operator], tuple[str, str]]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
}
_LOGGING: Final = frozenset(("debug", "info", "warning", "error", "exception", "critical", "log"))
# Calls that mean the same in either order, or are only a TypeError in the other one.
_ANY_ORDER: Final = frozenset(("min", "max", "isinstance", "issubclass"))
_FORMS: Final[dict[str, Callable[[int], str]]] = {"0o": oct, "0x": hex, "0b": bin}
_LOCKS: Final = ("lock", "mutex", "guard", "exclusive", "shared")


@dataclass(frozen=True, slots=True)
class Edit:
    """One mutation of a source: the lines ``first`` to ``last`` (from 1) become ``text``.

    ``function`` is the qualified name of what it is in, "" for the module itself. ``statement`` is the range of
    lines of the innermost statement, without the body of a compound one: where it is executed. ``imported`` says
    whether that is when the module is imported.
    """

    operator: str
    function: str
    first: int
    last: int
    text: str
    statement: tuple[int, int]
    imported: bool

    def applied(self, source: str) -> str:
        """The mutated source."""
        lines = source.splitlines(keepends=True)
        return "".join([*lines[: self.first - 1], self.text, *lines[self.last :]])


def edits_of(source: str) -> list[Edit]:
    """All mutations of a module, in the order of the source. Raises SyntaxError."""
    walk = _Walk(source)
    walk.body(ast.parse(source).body, "")
    # Two operators can come to the same text: a handler that only raises is that statement.
    found = {(one.first, one.last, one.text): one for one in reversed(walk.found)}
    return sorted(found.values(), key=lambda one: (one.first, one.last, one.operator, one.text))


class _Walk:
    """Visits the statements of a module and collects the mutations of each."""

    def __init__(self, source: str) -> None:
        self._lines = [line.encode() for line in source.splitlines(keepends=True)]
        self.found: list[Edit] = []
        self._function = ""
        self._statement = (1, 1)
        self._imported = True
        self._returns_bool = False

    # ---- Text

    def _source(self, node: ast.expr) -> str:
        return self._between(_start(node), _end(node))

    def _between(self, start: tuple[int, int], end: tuple[int, int]) -> str:
        if start[0] == end[0]:
            return self._lines[start[0] - 1][start[1] : end[1]].decode()
        between = self._lines[start[0] : end[0] - 1]
        return b"".join(
            [self._lines[start[0] - 1][start[1] :], *between, self._lines[end[0] - 1][: end[1]]]
        ).decode()

    def _add(
        self, operator: str, first: int, last: int, text: str, statement: tuple[int, int] | None = None
    ) -> None:
        edit = Edit(operator, self._function, first, last, text, statement or self._statement, self._imported)
        self.found.append(edit)

    def _replace(self, operator: str, node: ast.expr | ast.stmt, text: str) -> None:
        self._replace_between(operator, _start(node), _end(node), text)

    def _replace_between(self, operator: str, start: tuple[int, int], end: tuple[int, int], text: str) -> None:
        """Replace the text between two places, each a line from 1 and a column in bytes."""
        before, after = self._lines[start[0] - 1][: start[1]], self._lines[end[0] - 1][end[1] :]
        new = (before + text.encode() + after).decode()
        self._add(operator, start[0], end[0], new)

    def _replace_token(self, operator: str, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        """Replace the operator between two operands; parentheses around them stay."""
        start, end = _end(left), _start(right)
        said = self._between(start, end)
        found = re.search(re.escape(old).replace(r"\ ", r"\s+"), said)
        assert found is not None, "an operator is between its operands"
        self._replace_between(operator, start, end, said[: found.start()] + new + said[found.end() :])

    def _replace_body(self, operator: str, body: list[ast.stmt], text: str) -> None:
        """Replace the statements of a block, which begin on lines of their own."""
        first, last = body[0], body[-1]
        assert last.end_lineno is not None, "ast.parse sets it"
        line = self._lines[first.lineno - 1]
        if line[: first.col_offset].strip():
            return  # on the line of what they belong to
        statement = (first.lineno, first.end_lineno or first.lineno)
        new = line[: first.col_offset].decode() + text + "\n"
        self._add(operator, first.lineno, last.end_lineno, new, statement)

    # ---- Statements

    def body(self, statements: list[ast.stmt], function: str) -> None:
        """Visit statements of a function, a class or the module."""
        for number, one in enumerate(statements):
            if number == 0 and isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                continue  # a docstring
            self._function = function
            self._statement = (one.lineno, _end_of_header(one))
            self._visit(one, function)

    def _visit(self, one: ast.stmt, function: str) -> None:
        match one:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._visit_function(one, function)
            case ast.ClassDef():
                self.body(one.body, f"{function}.{one.name}".lstrip("."))
            case ast.Raise():
                self._replace("raise", one, "pass")
            case ast.Return(value=ast.expr() as value):
                self._visit_return(value)
            case ast.Expr(value=ast.Call() as call):
                if not _is_logging(call):
                    self._replace("call", one, "pass")
                    self._expression(call)
            case ast.Expr(value=value):
                self._expression(value)
            case ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ast.Delete():
                self._visit_assignment(one)
            case ast.Break():
                self._replace("loop", one, "continue")
            case ast.Continue():
                self._replace("loop", one, "break")
            case _:
                self._visit_compound(one, function)

    def _visit_assignment(self, one: ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete) -> None:
        match one:
            case ast.Assign(targets=targets, value=value):
                if any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets):
                    self._replace("assignment", one, "pass")
                if not _is_all(targets):
                    for target in targets:
                        self._expression(target)
                    self._expression(value)
            case ast.AugAssign(op=op, target=target, value=value):
                self._replace("assignment", one, "pass")
                if type(op) in _ARITHMETIC and not _is_text(value):
                    old, new = _ARITHMETIC[type(op)]
                    self._replace_token("arithmetic", target, value, f"{old}=", f"{new}=")
                self._expression(value)
            case ast.AnnAssign(value=ast.expr() as value):
                self._expression(value)
            case ast.Delete():
                self._replace("assignment", one, "pass")

    def _visit_function(self, one: ast.FunctionDef | ast.AsyncFunctionDef, function: str) -> None:
        for default in [*one.args.defaults, *one.args.kw_defaults]:
            if default is not None:
                self._expression(default)
        before = self._returns_bool, self._imported
        self._imported = False
        self._returns_bool = isinstance(one.returns, ast.Name) and one.returns.id == "bool"
        self.body(one.body, f"{function}.{one.name}".lstrip("."))
        self._returns_bool, self._imported = before

    def _visit_return(self, value: ast.expr) -> None:
        constant = isinstance(value, ast.Constant) and (value.value is None or isinstance(value.value, bool))
        if self._returns_bool and not constant and not _negated_by_comparison(value):
            self._replace("return", value, self._not(value))
        elif not self._returns_bool and not constant:
            self._replace("return", value, "None")
        self._expression(value)

    def _visit_compound(self, one: ast.stmt, function: str) -> None:
        match one:
            case ast.If(test=test, body=body, orelse=orelse) | ast.While(test=test, body=body, orelse=orelse):
                self._condition(test)
                self.body(body, function)
                self.body(orelse, function)
            case ast.For(iter=iterated, body=body, orelse=orelse):
                self._expression(iterated)
                self.body(body, function)
                self.body(orelse, function)
            case ast.With(items=items, body=body):
                self._visit_with(one, items)
                self.body(body, function)
            case ast.Try() | ast.TryStar():
                self._visit_try(one, function)
            case ast.Match(subject=subject, cases=cases):
                self._expression(subject)
                for case in cases:
                    if case.guard:
                        self._statement = (case.guard.lineno, case.guard.end_lineno or case.guard.lineno)
                        self._function = function
                        self._condition(case.guard)
                    self.body(case.body, function)
            case _:
                pass

    def _visit_with(self, one: ast.With, items: list[ast.withitem]) -> None:
        """Remove what a block holds, a lock most of all, and keep the block."""
        if all(item.optional_vars is None for item in items):
            said = "".join(self._source(item.context_expr) for item in items).lower()
            operator = "lock" if any(word in said for word in _LOCKS) else "with"
            header = self._lines[one.lineno - 1]
            if header.rstrip().endswith(b":") and one.body[0].lineno > one.lineno:
                new = (header[: one.col_offset] + b"if True:\n").decode()
                self._add(operator, one.lineno, one.lineno, new)
        for item in items:
            self._expression(item.context_expr)

    def _visit_try(self, one: ast.Try | ast.TryStar, function: str) -> None:
        self.body(one.body, function)
        for handler in one.handlers:
            self._function = function
            if not _is_only(handler.body, ast.Raise):
                self._replace_body("handler", handler.body, "raise")
            if not _is_only(handler.body, ast.Pass):
                self._replace_body("handler", handler.body, "pass")
            self.body(handler.body, function)
        self.body(one.orelse, function)
        if one.finalbody:
            self._function = function
            self._replace_body("cleanup", one.finalbody, "pass")
            self.body(one.finalbody, function)

    # ---- Expressions

    def _condition(self, test: ast.expr) -> None:
        """Negate what decides; where a comparison is negated by its own operator, that one does it."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            self._replace("condition", test, f"({self._source(test.operand)})")
        elif not _negated_by_comparison(test):
            self._replace("condition", test, self._not(test))
        self._expression(test)

    def _not(self, test: ast.expr) -> str:
        return f"(not ({self._source(test)}))"

    def _expression(self, node: ast.AST) -> None:
        """Collect the mutations of an expression and of what is in it."""
        match node:
            case ast.JoinedStr():
                return
            case ast.Call() if _is_logging(node):
                return
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self._condition(test)
                self._expression(body)
                self._expression(orelse)
                return
            case ast.comprehension(iter=iterated, ifs=ifs):
                self._expression(iterated)
                for test in ifs:
                    self._condition(test)
                return
        self._mutate(node)
        for child in ast.iter_child_nodes(node):
            self._expression(child)

    def _mutate(self, node: ast.AST) -> None:
        """Collect the mutations of an expression itself."""
        match node:
            case ast.Constant():
                self._constant(node)
            case ast.Compare(ops=[op], left=left, comparators=[right]):
                self._replace_token("comparison", left, right, *_COMPARISONS[type(op)])
            case ast.BoolOp(op=op, values=values):
                self._boolean(op, values)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _ARITHMETIC:
                if not _is_text(left) and not _is_text(right):
                    self._replace_token("arithmetic", left, right, *_ARITHMETIC[type(op)])
            case ast.Call(func=function, args=[first, second, *_]):
                if not (isinstance(function, ast.Name) and function.id in _ANY_ORDER):
                    self._swapped(first, second)

    def _constant(self, node: ast.Constant) -> None:
        match node.value:
            case bool():
                self._replace("flag", node, str(not node.value))
            case int():
                form = _FORMS.get(self._source(node)[:2].lower(), str)
                self._replace("number", node, form(node.value + 1))
                if node.value > 0:
                    self._replace("number", node, form(node.value - 1))
            case str():
                self._replace("string", node, repr("x" + node.value))
            case bytes():
                self._replace("string", node, repr(b"x" + node.value))

    def _boolean(self, op: ast.boolop, values: list[ast.expr]) -> None:
        """Exchange each ``and`` and ``or``, and leave each operand out."""
        old, new, neutral = ("and", "or", "True") if isinstance(op, ast.And) else ("or", "and", "False")
        for left, right in pairwise(values):
            self._replace_token("boolean", left, right, old, new)
        for one in values:
            if ast.unparse(one) != neutral:
                self._replace("operand", one, neutral)

    def _swapped(self, first: ast.expr, second: ast.expr) -> None:
        if isinstance(first, ast.Starred) or isinstance(second, ast.Starred):
            return
        one, other = self._source(first), self._source(second)
        if one != other:
            text = other + self._between(_end(first), _start(second)) + one
            self._replace_between("arguments", _start(first), _end(second), text)


def _start(node: ast.expr | ast.stmt) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.expr | ast.stmt) -> tuple[int, int]:
    assert node.end_lineno is not None, "ast.parse sets it"
    assert node.end_col_offset is not None, "ast.parse sets it"
    return node.end_lineno, node.end_col_offset


def _end_of_header(one: ast.stmt) -> int:
    """The last line of a statement, without the blocks of a compound one."""
    body: list[ast.stmt] = getattr(one, "body", [])
    if isinstance(one, ast.Match):
        return one.subject.end_lineno or one.lineno
    return max(one.lineno, body[0].lineno - 1) if body else one.end_lineno or one.lineno


def _is_only(body: list[ast.stmt], kind: type[ast.stmt]) -> bool:
    return len(body) == 1 and isinstance(body[0], kind) and getattr(body[0], "exc", None) is None


def _is_all(targets: list[ast.expr]) -> bool:
    return any(isinstance(one, ast.Name) and one.id in ("__all__", "__slots__") for one in targets)


def _is_logging(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in _LOGGING


def _is_text(node: ast.expr) -> bool:
    """Whether an operand is text or a list: ``-`` in place of ``+`` is only a TypeError."""
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp)) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    )


def _negated_by_comparison(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], _NEGATED)


OPERATORS: Final = (
    *("arguments", "arithmetic", "assignment", "boolean", "call", "cleanup", "comparison", "condition"),
    *("flag", "handler", "lock", "loop", "number", "operand", "raise", "return", "string", "with"),
)
