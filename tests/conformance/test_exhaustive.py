"""A ``match`` over operations, calls, steps or findings has a case for each: mypy names those that lack one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Final, get_args

import pytest

import conformance
from conformance.history.calls import Call
from conformance.history.findings import Finding
from conformance.history.steps import Step
from conformance.operations.ops import Operation

VALUES: Final[tuple[UnionType, ...]] = (Operation, Call, Step, Finding)
NAMES: Final = {one.__name__ for union in VALUES for one in get_args(union)}


def matches(source: str) -> Iterator[ast.Match]:
    """Those whose cases are classes of these values."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Match):
            patterns = [part for case in node.cases for part in alternatives(case.pattern)]
            classes = {ast.unparse(one.cls).split(".")[-1] for one in patterns if isinstance(one, ast.MatchClass)}
            if classes and classes <= NAMES:
                yield node


def alternatives(pattern: ast.pattern) -> Iterator[ast.pattern]:
    match pattern:
        case ast.MatchOr(patterns=found):
            for one in found:
                yield from alternatives(one)
        case ast.MatchAs(pattern=ast.pattern() as inner):
            yield from alternatives(inner)
        case _:
            yield pattern


def is_exhaustive(match: ast.Match) -> bool:
    """Whether the last case takes what is left, and passes it to assert_never, or to a function for these kinds."""
    last = match.cases[-1]
    if not (isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None):
        return False
    subject = ast.unparse(match.subject)
    called = [one for one in ast.walk(last) if isinstance(one, ast.Call)]
    return any(subject in map(ast.unparse, one.args) for one in called)


@pytest.mark.parametrize(
    ("cases", "exhaustive"),
    [
        ("case Get():\n  pass", False),
        ("case ops.Unlink() | ops.Chmod():\n  pass\n case _:\n  pass", False),
        ("case Get():\n  pass\n case _:\n  assert_never(x)", True),
        ("case Get(layer='a') as call:\n  pass\n case other:\n  assert_never(x)", True),
        ("case Get():\n  pass\n case _:\n  return rest(root, x)", True),
    ],
)
def test_what_is_exhaustive(cases: str, exhaustive: bool) -> None:
    (found,) = matches(f"match x:\n {cases}")
    assert is_exhaustive(found) is exhaustive


def test_matches_over_values_of_a_history_are_exhaustive() -> None:
    found, wrong = 0, []
    for path in sorted(Path(conformance.__file__).parent.rglob("*.py")):
        for match in matches(path.read_text(encoding="utf-8")):
            found += 1
            if not is_exhaustive(match):
                wrong.append(f"{path}:{match.lineno}")
    assert wrong == []
    assert found > 20
