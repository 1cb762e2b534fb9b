"""The branches that no test executes, and the list of those that no test can execute.

``refdriver/mutants/uncovered.toml`` is that list::

    [[uncovered]]
    module = "refdriver.probes"
    function = "in_user_namespace"
    line = "except FileNotFoundError:"
    target = "return False"
    kind = "kernel"
    reason = "A kernel without user namespaces."

``line`` is the statement that branches, up to its colon, with single spaces and without comments. ``target`` is the
first line of the statement to which it goes, ``exit`` where the function ends. Without ``target``, all branches of
the statement that no test executes are listed. Line numbers play no part, so an entry survives changes elsewhere.
Only an entry of kind ``machine`` may leave out ``line`` (all of the function) and ``function`` (all of the module).
An entry that names no branch of the present source is stale.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from conformance.spec.errors import BadFile
from conformance.spec.values import BadValue, from_plain

EXIT: Final = "exit"
_SHOWN: Final = 40  # characters of a statement in a table
_COMMENT: Final = re.compile(r"(^|\s+)#( .*)?$")
Kind = Literal["kernel", "filesystem", "machine", "failure"]


class BadUncovered(BadFile):
    """A file that is no list of branches; the text names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One way out of a statement that has several; ``number`` is the line of the statement."""

    module: str
    function: str
    line: str
    target: str
    number: int
    executed: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.number} {self.function or '-'}: {self.line} -> {self.target}"


@dataclass(frozen=True, slots=True)
class Uncovered:
    """One entry of the list."""

    module: str
    kind: Kind
    reason: str
    function: str = ""
    line: str = ""
    target: str = ""

    def lists(self, branch: Branch) -> bool:
        """Whether the entry is of this branch."""
        return self.module == branch.module and all(
            wanted in ("", found)
            for wanted, found in (
                (self.function, branch.function),
                (self.line, branch.line),
                (self.target, branch.target),
            )
        )


@dataclass(frozen=True, slots=True)
class _File:
    """The whole file."""

    uncovered: tuple[Uncovered, ...] = ()


def listed_in(file: Path) -> tuple[Uncovered, ...]:
    """The entries of a file; raises BadUncovered."""
    try:
        entries = from_plain(_File, tomllib.loads(file.read_text())).uncovered
    except (OSError, ValueError, BadValue) as error:
        raise BadUncovered(f"{file}: this is no list of branches ({error}); see docs/selftest.md") from error
    for number, one in enumerate(entries, start=1):
        if not one.reason.strip():
            raise BadUncovered(f"{file}: entry {number} needs text for reason")
        if one.kind != "machine" and not (one.function and one.line):
            raise BadUncovered(f"{file}: entry {number} needs function and line; only kind 'machine' may lack them")
        if one.target and not one.line:
            raise BadUncovered(f"{file}: entry {number} has a target without a line")
    return entries


def branches_of(
    module: str, source: str, executed: Iterable[Sequence[int]], missing: Iterable[Sequence[int]]
) -> list[Branch]:
    """The branches of a module by coverage.py's pairs of line numbers, of which a negative one is an exit."""
    places = _Places(source)
    found = [(pair, True) for pair in executed] + [(pair, False) for pair in missing]
    return [
        Branch(
            module,
            places.function(first),
            places.text(first),
            places.text(to) if to > 0 else EXIT,
            first,
            was_executed,
        )
        for (first, to), was_executed in sorted((tuple(pair), was) for pair, was in found)
    ]


def table_of(entries: Iterable[Uncovered]) -> str:
    """The list as a table of docs/selftest.md: the branches of each function, their kinds and reasons."""
    rows = ["| function | branch | kind | what would execute it |", "|---|---|---|---|"]
    for one in entries:
        place = f"{one.module.removeprefix('refdriver.')}: {one.function}" if one.function else one.module
        to = f" to `{_shown(one.target)}`" if one.target else ""
        branch = f"`{_shown(one.line)}`{to}" if one.line else "all"
        rows.append(f"| `{place}` | {branch} | {one.kind} | {one.reason} |")
    return "\n".join(rows) + "\n"


def _shown(statement: str) -> str:
    short = statement if len(statement) <= _SHOWN else f"{statement[:_SHOWN]}..."
    return short.replace("|", "\\|").replace("`", "'")


def statements_of(source: str) -> frozenset[tuple[str, str]]:
    """The statements of a module: the function of each, and the text that entries name it by."""
    places = _Places(source)
    return frozenset((places.function(line), places.text(line)) for line in range(1, len(source.splitlines()) + 1))


def stale(entries: Iterable[Uncovered], branches: Sequence[Branch]) -> list[Uncovered]:
    """The entries that are of no branch."""
    return [one for one in entries if not any(one.lists(branch) for branch in branches)]


def unexplained(entries: Sequence[Uncovered], branches: Iterable[Branch]) -> list[Branch]:
    """The branches that are neither executed nor listed."""
    return [one for one in branches if not one.executed and not any(entry.lists(one) for entry in entries)]


class _Places:
    """Functions and statements of a source by their lines."""

    def __init__(self, source: str) -> None:
        self._lines = [_COMMENT.sub("", line) for line in source.splitlines()]
        self._ends: dict[int, int] = {}  # the last line of the head of a statement, by its first one
        self._functions: dict[int, str] = {}
        self._enter(ast.parse(source), ())

    def function(self, line: int) -> str:
        """The qualified name of the function, empty outside of any."""
        return self._functions.get(line, "")

    def text(self, line: int) -> str:
        """The head of the statement that begins in a line, with single spaces."""
        lines = self._lines[line - 1 : self._ends.get(line, line)]
        return " ".join(" ".join(lines).split())

    def _enter(self, node: ast.AST, names: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            inner = names
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = (*names, child.name)
                assert child.end_lineno is not None, "parsed from text"
                self._functions.update(dict.fromkeys(range(child.lineno, child.end_lineno + 1), ".".join(inner)))
            if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                self._note(child)
            self._enter(child, inner)

    def _note(self, node: ast.stmt | ast.ExceptHandler | ast.match_case) -> None:
        first = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
        body = node.cases if isinstance(node, ast.Match) else getattr(node, "body", None)
        if body:
            begin = body[0].pattern if isinstance(body[0], ast.match_case) else body[0]
            last = max(first, begin.lineno - 1)
            while last > first and not self._lines[last - 1].endswith(":"):
                last -= 1  # comments and decorators come before the first statement
            self._ends.setdefault(first, last)
