"""Generated mutants: the operators on small sources, the sample, the list of equivalent ones, and real trials."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections import Counter
from pathlib import Path

import click
import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reading import records
from rich.console import Console

from conformance.cli.generated import GeneratedFailed, GeneratedReport, Wanted, print_generated
from conformance.cli.generated import tried as tried_generated
from conformance.harness.events import GeneratedFate as Fate
from conformance.report import generatedfile
from conformance.report.generatedfile import About, BadGenerated, Results
from conformance.selftest.generated.equivalent import (
    BadEquivalents,
    Equivalent,
    equivalents_of,
    file_of,
    stale,
)
from conformance.selftest.generated.fates import Score, Tried, median_seconds, scores_by
from conformance.selftest.generated.mutants import (
    GeneratedMutant,
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
SMALL = '''"""A module."""

import os

LIMIT = 0x10


class Store:
    """A class."""

    size: int = 1

    def open(self, home: str, mode: int = 0o700) -> bool:
        """Open it."""
        if not home or (self.size + 1) * 2 > LIMIT:
            raise ValueError(f"no {home}")
        with self.lock:
            self.size += 1
            self.copy(home, mode)
        try:
            os.mkdir(home)
        except FileExistsError:
            self.log.warning("it is there")
            return home == "/"
        finally:
            self.close()
        for name in (one for one in os.listdir(home) if one):
            if name in ("a", "b"):
                continue
            break
        return mode == 0o700 and bool(self.size)
'''


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


def mutants() -> list[GeneratedMutant]:
    return mutants_of(Module("small", "small.py", SMALL))


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


# ---- Equivalent mutants.

ENTRY = """
[[equivalent]]
module = "small"
function = "Store.open"
operator = "lock"
before = "with self.lock:"
after = "if True:"
reason = "nobody else calls it"
"""


def test_an_entry_names_a_mutant_and_a_stale_one_none(tmp_path: Path) -> None:
    file = tmp_path / "equivalent.toml"
    file.write_text(ENTRY + ENTRY.replace("Store.open", "Store.gone"))
    entries = equivalents_of(file)
    assert [one.function for one in stale(entries, mutants())] == ["Store.gone"]
    assert [one.operator for one in mutants() if entries[0].is_of(one)] == ["lock"]
    assert not any(entries[1].is_of(one) for one in mutants())


@pytest.mark.parametrize(
    "text",
    ["[[equivalent]]\nmodule = 'a'\n", ENTRY.replace('"nobody else calls it"', '""'), "no toml", "equivalent = 1"],
)
def test_a_bad_list_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "equivalent.toml"
    file.write_text(text)
    with pytest.raises(BadEquivalents, match=r"equivalent\.toml"):
        equivalents_of(file)


def test_the_list_of_the_reference_driver_has_no_stale_entry() -> None:
    file = file_of("refdriver:Driver")
    assert file is not None
    assert file_of("json:JSONDecoder") is None
    there = [mutant for one in modules_of("refdriver:Driver") for mutant in mutants_of(one)]
    entries = equivalents_of(file)
    assert stale(entries, there) == []
    assert len(set(entries)) == len(entries)


# ---- The score and the file.


def tried(fate: Fate, number: int = 0, seconds: float = 1.0) -> Tried:
    return Tried(mutants()[number], fate, "test_it[host]", ("OVL-A-ONE",), "it was", 3, seconds)


def test_the_score_counts_neither_equivalent_nor_stillborn_mutants() -> None:
    found = [tried(Fate.KILLED), tried(Fate.KILLED), tried(Fate.KILLED), tried(Fate.SURVIVED)]
    found += [tried(Fate.STILLBORN), tried(Fate.EQUIVALENT)]
    score = Score.of(found)
    assert (score.killed, score.survived, score.stillborn, score.equivalent) == (3, 1, 1, 1)
    assert score.share == 0.75
    assert Score.of([]).share == 1.0
    assert scores_by(found, lambda one: one.mutant.module) == {"small": score}
    assert median_seconds([tried(Fate.KILLED, seconds=2.0), tried(Fate.SURVIVED, seconds=99.0)]) == 2.0


ABOUT = About(
    *("0.3.0", "0123456789ab", "small:Driver", "0123456789ab", "6.1.0", "x86_64", "standard"),
    examples=10,
    seed=1,
    call_timeout=15.0,
    mutants=60,
    started="2026-11-25T00:00:00+00:00",
)


def test_a_file_that_was_cut_is_continued(tmp_path: Path) -> None:
    file = tmp_path / "generated.jsonl"
    begun = Results.begun(ABOUT, file)
    begun.add(tried(Fate.KILLED, 0))
    begun.add(tried(Fate.SURVIVED, 1))
    file.write_text(file.read_text() + '{"record": "mutant", "id": "cut')
    again = Results.begun(ABOUT, file)
    assert list(again.tried.values()) == [tried(Fate.KILLED, 0), tried(Fate.SURVIVED, 1)]
    again.add(tried(Fate.STILLBORN, 2))
    again.finish(again.tried.values(), 2.5, 1)
    about, found = generatedfile.read(file)
    assert about == ABOUT
    assert [one.fate for one in found] == [Fate.KILLED, Fate.SURVIVED, Fate.STILLBORN]
    (end,) = records(file, "end")
    assert end["counts"] == {"killed": 1, "survived": 1, "stillborn": 1, "equivalent": 0}
    assert (end["share"], end["exit_code"]) == (0.5, 1)
    schema = json.loads(generatedfile.SCHEMA.read_text())
    for line in file.read_text().splitlines():
        jsonschema.validate(json.loads(line), schema)


def test_a_mutant_that_is_no_longer_listed_is_tried(tmp_path: Path) -> None:
    begun = Results.begun(ABOUT, tmp_path / "generated.jsonl")
    begun.add(tried(Fate.EQUIVALENT, 0))
    begun.add(tried(Fate.EQUIVALENT, 1))
    begun.add(tried(Fate.SURVIVED, 2))
    begun.forget([one.id for one in mutants()[1:]])
    assert list(begun.tried) == [mutants()[0].id, mutants()[2].id]


def test_a_file_of_another_question_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "generated.jsonl"
    Results.begun(ABOUT, file)
    with pytest.raises(BadGenerated, match="its seed is 1, and now it is 2"):
        Results.begun(dataclasses.replace(ABOUT, seed=2), file)
    file.write_text('{"record": "selftest", "format": 1}\n')
    with pytest.raises(BadGenerated, match="no result file of generated mutants"):
        Results.begun(ABOUT, file)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"line": "1"}, "line: expected a whole number, found '1'"),
        ({"statement": [1]}, "statement: expected a list of 2, found [1]"),
        ({"fate": "DEAD"}, "fate: expected one of KILLED,"),
        ({"colour": 1}, "there is no key colour"),
        ({"record": "trial"}, "a record called 'trial'"),
    ],
    ids=str,
)
def test_a_line_that_is_not_as_the_schema_says_is_refused(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    file = tmp_path / "generated.jsonl"
    Results.begun(ABOUT, file).add(tried(Fate.KILLED))
    about, mutant = file.read_text().splitlines()
    file.write_text(f"{about}\n{json.dumps({**json.loads(mutant), **change})}\n")
    with pytest.raises(BadGenerated, match=re.escape(complaint)):
        generatedfile.read(file)


# ---- Trials, on a driver of one module that refdriver does the work for.

TINY = '''
import time

from refdriver import Driver as _Driver


class Tiny:
    """Not in the package of the driver that it wraps."""

    def __init__(self, home, **asked):
        self._created = 0
        self._inner = _Driver(home, **asked)

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def create(self, layer_id, parent="", options=None):
        self._created += 1
        time.sleep(0 if self._created < 3 else self.nothing())
        self._inner.create(layer_id, parent, options)

    def nothing(self):
        return 0 * 3600

    def exists(self, layer_id):
        self.found = True
        found = self._inner.exists(layer_id)
        return bool(found)

    def nobody(self):
        return 1
'''
SELECTED = ("OVL-LIFE-CREATE", "OVL-LIFE-REUSE-ID", "OVL-LIFE-UNKNOWN-PARENT")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "tiny_driver.py").write_text(TINY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    return "tiny_driver:Tiny"


def wanted(tiny: str, results_file: Path | None, *names: str, **changes: object) -> Wanted:
    """Mutants of the tiny driver by the beginnings of their ids."""
    ids = tuple(f"tiny_driver:Tiny.{one}:" for one in names)
    asked = Wanted(1, 1, ids, "standard", tiny, 2, 120.0, None, results_file, call_timeout=4.0, selected=SELECTED)
    return dataclasses.replace(asked, **changes)  # type: ignore[arg-type]


def fates(report: GeneratedReport) -> dict[str, Fate]:
    return {one.mutant.id.removeprefix("tiny_driver:Tiny.").rpartition(":")[0]: one.fate for one in report.tried}


@pytest.mark.mounts
@pytest.mark.slow
def test_each_mutant_has_its_fate(tiny: str, scratch: Path) -> None:
    expected = {
        "exists:return:1": Fate.KILLED,
        "nothing:number:3": Fate.KILLED,  # it hangs
        "create:number:1": Fate.SURVIVED,
        "nobody:return:1": Fate.SURVIVED,
        "create:call:2": Fate.STILLBORN,
        "__init__:assignment:2": Fate.STILLBORN,
        "exists:assignment:1": Fate.EQUIVALENT,
    }
    equivalent = scratch / "equivalent.toml"
    equivalent.write_text(
        ENTRY.replace('"small"', '"tiny_driver"')
        .replace("Store.open", "Tiny.exists")
        .replace('"lock"', '"assignment"')
        .replace("with self.lock:", "self.found = True")
        .replace("if True:", "pass")
        + ENTRY
    )
    file = scratch / "generated.jsonl"
    asked = wanted(tiny, file, *expected, equivalent=equivalent)
    report = tried_generated(asked, scratch, Console(quiet=True))
    assert fates(report) == expected
    by_name = {one.mutant.function.removeprefix("Tiny."): one for one in report.tried}
    assert {one.reason for one in report.tried if one.fate is Fate.EQUIVALENT} == {"nobody else calls it"}
    assert "did not answer" in by_name["nothing"].reason
    assert by_name["nothing"].reached > 0
    assert by_name["nothing"].requirements
    assert (by_name["nobody"].reached, by_name["nobody"].seconds) == (0, 0.0)
    assert "RecursionError" in by_name["__init__"].reason
    assert [one.module for one in report.stale] == ["small"]
    assert report.exit_code == 1
    assert len(records(file, "end")) == 1


@pytest.mark.mounts
@pytest.mark.slow
def test_an_interrupted_run_is_continued(
    tiny: str, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "generated.jsonl"
    names = ("exists:return:1", "nobody:return:1")
    add = Results.add

    def added(self: Results, one: Tried) -> None:
        add(self, one)
        raise KeyboardInterrupt

    monkeypatch.setattr(Results, "add", added)
    with pytest.raises(KeyboardInterrupt):
        tried_generated(wanted(tiny, file, *names), scratch, Console(quiet=True))
    (kept,) = records(file, "mutant")
    assert records(file, "end") == []
    (scratch / "again").mkdir()
    began: list[str] = []

    def noted(self: Results, one: Tried) -> None:
        began.append(one.mutant.id)
        add(self, one)

    monkeypatch.setattr(Results, "add", noted)
    report = tried_generated(wanted(tiny, file, *names), scratch / "again", Console(quiet=True))
    assert len(began) == 1
    assert kept["id"] not in began
    assert fates(report) == {"exists:return:1": Fate.KILLED, "nobody:return:1": Fate.SURVIVED}
    assert kept in records(file, "mutant")


@pytest.mark.mounts
@pytest.mark.slow
def test_a_basis_that_is_wrong_itself_proves_nothing(tiny: str, scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny_driver.py").write_text(TINY.replace("return bool(found)", "return not found"))
    with pytest.raises(GeneratedFailed, match="fails without a mutation"):
        tried_generated(wanted(tiny, None, "exists:return:1"), scratch, Console(quiet=True))


def test_an_unknown_mutant_is_refused(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="no generated mutant"):
        tried_generated(wanted(tiny, None, "no_such"), tmp_path, Console(quiet=True))


def test_the_summary_shows_survivors_with_their_diff_and_the_scores(capsys: pytest.CaptureFixture[str]) -> None:
    survived = Tried(mutants()[0], Fate.SURVIVED, reached=3)
    wrong = tried(Fate.KILLED, 1)
    entry = Equivalent("small", "Store.gone", "lock", "with self.lock:", "if True:", "nobody else calls it")
    print_generated(GeneratedReport((survived, wrong, tried(Fate.STILLBORN, 30)), (entry,), (wrong,)))
    lines = capsys.readouterr().out.splitlines()
    assert f"SURVIVED  small.py:{survived.mutant.line}  {survived.mutant.id}" in lines
    assert "  executed by 3 tests" in lines
    for line in survived.mutant.diff.splitlines()[2:]:
        assert f"  {line}" in lines
    assert [line.split()[-1] for line in lines if line.startswith(("small ", "all 3"))] == ["50%", "50%"]
    assert any(line.startswith("stale: ") and "Store.gone" in line for line in lines)
    assert any(line.startswith("wrong: ") and wrong.mutant.id in line for line in lines)
    stillborn = [line for line in lines if line.startswith(mutants()[30].operator + " ")]
    assert [line.split()[-1] for line in stillborn] == ["-"]
