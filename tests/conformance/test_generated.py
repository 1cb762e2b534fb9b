"""Generated mutants: the operators on small sources, and the sample."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from smallsource import SMALL, mutants

from conformance.selftest.generated.mutants import (
    Module,
    NoSources,
    as_mutation,
    digest_of,
    modules_of,
    mutants_of,
    sample,
)
from conformance.selftest.generated.operators import OPERATORS, edits_of

ROOT = Path(__file__).parents[2]
CORE = [one for one in sorted(ROOT.glob("refdriver/**/*.py")) if one.parent.name != "mutants"]


def changes(source: str, operator: str) -> set[tuple[str, str]]:
    """The lines that mutations of one operator take out and put in, with single spaces."""
    module = Module("small", "small.py", source)
    return {(one.before, one.after) for one in mutants_of(module) if one.operator == operator}


# ---- The operators.


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (
            "number",
            {("LIMIT = 0x10", "LIMIT = 0x11"), ("LIMIT = 0x10", "LIMIT = 0xf"), ("size: int = 1", "size: int = 2")},
        ),
        (
            "comparison",
            {
                ('return home == "/"', 'return home != "/"'),
                ('if name in ("a", "b"):', 'if name not in ("a", "b"):'),
            },
        ),
        ("operand", {("if not home or (self.size + 1) * 2 > LIMIT:", "if not home or False:")}),
        (
            "boolean",
            {("if not home or (self.size + 1) * 2 > LIMIT:", "if not home and (self.size + 1) * 2 > LIMIT:")},
        ),
        (
            "condition",
            {
                (
                    "if not home or (self.size + 1) * 2 > LIMIT:",
                    "if (not (not home or (self.size + 1) * 2 > LIMIT)):",
                ),
                (
                    "for name in (one for one in os.listdir(home) if one):",
                    "for name in (one for one in os.listdir(home) if (not (one))):",
                ),
            },
        ),
        ("arithmetic", {("self.size += 1", "self.size -= 1")}),
        ("raise", {('raise ValueError(f"no {home}")', "pass")}),
        ("call", {("self.copy(home, mode)", "pass"), ("os.mkdir(home)", "pass")}),
        ("arguments", {("self.copy(home, mode)", "self.copy(mode, home)")}),
        ("lock", {("with self.lock:", "if True:")}),
        ("cleanup", {("self.close()", "pass")}),
        ("handler", {('self.log.warning("it is there") return home == "/"', "raise")}),
        ("loop", {("continue", "break"), ("break", "continue")}),
        ("assignment", {("self.size += 1", "pass")}),
        (
            "return",
            {("return mode == 0o700 and bool(self.size)", "return (not (mode == 0o700 and bool(self.size)))")},
        ),
        ("string", {('if name in ("a", "b"):', "if name in ('xa', \"b\"):")}),
    ],
)
def test_an_operator_changes_what_it_is_named_for(operator: str, expected: set[tuple[str, str]]) -> None:
    assert expected <= changes(SMALL, operator)


def test_text_for_people_is_left_alone() -> None:
    touched = {before for operator in OPERATORS for before, _ in changes(SMALL, operator)}
    assert not any("A module" in before or "Open it" in before for before in touched)
    assert not any("warning" in before for before, _ in changes(SMALL, "string") | changes(SMALL, "call"))
    assert not any("raise" in before for before, _ in changes(SMALL, "string"))


def test_parentheses_around_operands_stay() -> None:
    source = "def f(a, b, c):\n    return (a == b) == (c := b)\n"
    assert ("return (a == b) == (c := b)", "return (a == b) != (c := b)") in changes(source, "comparison")


@pytest.mark.parametrize("file", CORE, ids=lambda one: str(one.relative_to(ROOT)))
def test_a_mutant_compiles_and_differs_in_one_place(file: Path) -> None:
    source = file.read_text()
    tree, lines = ast.dump(ast.parse(source)), source.splitlines(keepends=True)
    edits = edits_of(source)
    for edit in edits[:: max(1, len(edits) // 25)]:
        mutated = edit.applied(source)
        assert ast.dump(ast.parse(mutated)) != tree, edit
        compile(mutated, str(file), "exec")
        new = mutated.splitlines(keepends=True)
        assert new[: edit.first - 1] == lines[: edit.first - 1]
        tail = len(new) - (len(lines) - edit.last)
        assert new[tail:] == lines[edit.last :]
        assert "".join(new[edit.first - 1 : tail]) == edit.text


_NAMES = st.sampled_from(["a", "b", "lock"])
_EXPRESSIONS = st.recursive(
    _NAMES | st.integers(0, 300).map(str) | st.sampled_from(["True", "'é'", "b'x'", "a.b", "f'{a} and {b}'"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "<<", "and", "or", "==", "is not", "not in", "<="]), inner).map(
            lambda found: f"({found[0]}) {found[1]} ({found[2]})"
        ),
        st.tuples(inner, inner).map(lambda found: f"f({found[0]}, ({found[1]}))"),
        inner.map(lambda one: f"not ({one})"),
        st.tuples(inner, inner).map(lambda found: f"[({found[0]}) for a in (b) if ({found[1]})]"),
        st.tuples(inner, inner, inner).map(lambda found: f"({found[0]}) if ({found[1]}) else (\n {found[2]})"),
    ),
    max_leaves=6,
)
_STATEMENTS = _EXPRESSIONS.flatmap(
    lambda one: st.sampled_from(
        [
            f"return {one}",
            f"if {one}:\n        a.b = {one}\n    else:\n        del a.b",
            f"with {one}:\n        g({one}, a)",
            f"try:\n        g({one})\n    except OSError:\n        a += {one}\n    finally:\n        g()",
            f"while {one}:\n        break",
            f"match a:\n        case b if {one}:\n            raise OSError({one})",
            f"x: int = {one}",
        ]
    )
)


@settings(deadline=None, max_examples=60)
@given(st.lists(_STATEMENTS, min_size=1, max_size=4))
@example(["return (a) and (True)", "return False or (a)"])
def test_any_source_has_mutants_that_compile(statements: list[str]) -> None:
    source = "def é(a, b=1) -> bool:\n" + "".join(f"    {one}\n" for one in statements)
    tree = ast.dump(ast.parse(source))
    edits = edits_of(source)
    assert edits
    for edit in edits:
        assert ast.dump(ast.parse(edit.applied(source))) != tree, edit
        assert edit.operator in OPERATORS


# ---- Mutants and samples.


def test_ids_are_unique_and_stable_under_changes_elsewhere() -> None:
    ids = [one.id for one in mutants()]
    assert len(set(ids)) == len(ids)
    twice = mutants_of(Module("twice", "twice.py", "def f():\n    g()\n    g()\n"))
    assert len({one.id for one in twice}) == 2
    moved = SMALL.replace("import os\n", "import os\nimport sys\n\n\ndef other():\n    return sys.path\n")
    assert set(ids) <= {one.id for one in mutants_of(Module("small", "small.py", moved))}


def test_a_diff_shows_the_change_and_a_mutation_applies_it() -> None:
    (found,) = (one for one in mutants() if one.operator == "lock")
    assert found.diff.splitlines() == [
        "--- a/small.py",
        "+++ b/small.py",
        "@@ -16,3 +16,3 @@",
        '             raise ValueError(f"no {home}")',
        "-        with self.lock:",
        "+        if True:",
        "             self.size += 1",
    ]
    mutated = as_mutation(found, SMALL)
    assert mutated["module"] == "small"
    assert mutated["source"] == SMALL.replace("with self.lock:", "if True:")
    with pytest.raises(LookupError):
        found.applied("pass\n")


def test_a_sample_is_the_same_for_a_seed_and_grows() -> None:
    everything = mutants()
    first = sample(everything, 10, 1)
    assert first == sample(list(reversed(everything)), 10, 1)
    assert first != sample(everything, 10, 2)
    assert sample(everything, 20, 1)[:10] == first
    assert sorted(sample(everything, 10_000, 1), key=lambda one: one.id) == sorted(
        everything, key=lambda one: one.id
    )


def test_each_operator_and_module_has_its_share() -> None:
    everything = [one for name in ("one", "two", "three") for one in mutants_of(Module(name, f"{name}.py", SMALL))]
    half = sample(everything, len(everything) // 2, 1)
    for module in ("one", "two", "three"):
        share = sum(one.module == module for one in half) / len(half)
        assert abs(share - 1 / 3) < 0.1
    there = Counter((one.module, one.operator) for one in everything)
    taken = Counter((one.module, one.operator) for one in half)
    assert all(abs(taken[stratum] - number / 2) <= 1.5 for stratum, number in there.items())


def test_the_modules_are_those_that_the_class_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [one.name for one in modules_of("refdriver:Driver")]
    assert {"refdriver.driver", "refdriver.archive.pack", "refdriver.linux.libc"} <= set(names)
    assert not {"refdriver.plugin", "refdriver.unixhttp", "refdriver.cli", "refdriver.mutants"} & set(names)
    (tmp_path / "mine.py").write_text("class Driver: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = modules_of("mine:Driver")
    assert (found.name, found.path, found.source) == ("mine", "mine.py", "class Driver: ...\n")
    assert digest_of([found]) != digest_of([])
    with pytest.raises(NoSources, match="no_such_module"):
        modules_of("no_such_module:Driver")
