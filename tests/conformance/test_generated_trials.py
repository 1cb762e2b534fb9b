"""Generated mutants: the list of equivalent ones, the score, the file, and real trials."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import click
import jsonschema
import pytest
from click.testing import CliRunner
from reading import records
from rich.console import Console
from smallsource import mutants

from conformance.cli import main
from conformance.cli.generated import GeneratedFailed, GeneratedReport, Wanted, print_generated
from conformance.cli.generated import tried as tried_generated
from conformance.harness.events import GeneratedFate as Fate
from conformance.report import generatedfile
from conformance.report.generatedfile import About, BadGenerated, Results
from conformance.report.generatedpage import page
from conformance.selftest.generated.equivalent import (
    BadEquivalents,
    Equivalent,
    equivalents_of,
    file_of,
    stale,
)
from conformance.selftest.generated.fates import Score, Tried, median_seconds, scores_by
from conformance.selftest.generated.mutants import (
    modules_of,
    mutants_of,
)
from conformance.selftest.generated.survivors import NAME as SURVIVORS
from conformance.selftest.generated.survivors import BadSurvivors, explained_of, explanation_of, without_mutant

ROOT = Path(__file__).parents[2]
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
    assert end["counts"] == {"killed": 1, "survived": 1, "stillborn": 1, "equivalent": 0, "undecided": 0}
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


def test_what_is_undecided_is_tried_again_and_what_survived_if_that_is_asked(tmp_path: Path) -> None:
    begun = Results.begun(ABOUT, tmp_path / "generated.jsonl")
    begun.add(tried(Fate.UNDECIDED, 0))
    begun.add(tried(Fate.SURVIVED, 1))
    begun.add(tried(Fate.KILLED, 2))
    ids = [one.id for one in mutants()]
    begun.forget(ids)
    assert list(begun.tried) == ids[1:3]
    assert Score.of([tried(Fate.UNDECIDED), tried(Fate.KILLED)]).share == 0.5
    begun.forget(ids, survived=True)
    assert list(begun.tried) == [ids[2]]
    grown = dataclasses.replace(ABOUT, specification="ba9876543210")
    with pytest.raises(BadGenerated, match="specification"):
        Results.begun(grown, tmp_path / "generated.jsonl")
    assert Results.begun(grown, tmp_path / "generated.jsonl", grown=True).about == grown


EXPLAINED = """
[[survivor]]
module = "small"
function = "Store.open"
kind = "machine"
reason = "Only another machine has it."
"""


def test_a_survivor_is_explained_by_the_first_entry_that_is_of_it(tmp_path: Path) -> None:
    file = tmp_path / "survivors.toml"
    file.write_text(EXPLAINED + EXPLAINED.replace("Store.open", "Store.gone"))
    entries = explained_of(file)
    assert {one.function for one in mutants() if explanation_of(entries, one)} == {"Store.open"}
    assert [one.function for one in without_mutant(entries, mutants())] == ["Store.gone"]
    for text in ("[[survivor]]\nmodule = 'a'\n", EXPLAINED.replace("machine", "moon"), "no toml"):
        file.write_text(text)
        with pytest.raises(BadSurvivors, match=r"survivors\.toml"):
            explained_of(file)


def test_the_survivors_of_the_reference_driver_are_mutants_of_it() -> None:
    file = file_of("refdriver:Driver", SURVIVORS)
    assert file is not None
    there = [mutant for one in modules_of("refdriver:Driver") for mutant in mutants_of(one)]
    assert without_mutant(explained_of(file), there) == []


def test_the_page_has_both_scores_and_every_survivor() -> None:
    explained = dataclasses.replace(tried(Fate.SURVIVED, 1), kind="machine", reason="Only another machine has it.")
    found = [tried(Fate.KILLED, 0), explained, tried(Fate.UNDECIDED, 2)]
    text = page(ABOUT, found)
    assert "1 of 3 mutants are killed (33.3%)" in text
    assert "another host could show: 1 of 2 (50.0%)" in text
    assert "### Machine: 1" in text
    assert "Only another machine has it." in text
    assert "### Not listed: 1" in text
    for one in found[1:]:
        for line in one.mutant.diff.splitlines()[3:]:
            assert line in text


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
def test_the_tests_are_run_on_the_filesystem_that_is_named(tiny: str, scratch: Path) -> None:
    asked = wanted(tiny, None, "exists:return:1", backings=("tmpfs",))
    (found,) = tried_generated(asked, scratch, Console(quiet=True)).tried
    assert (found.fate, found.test.partition("[")[2]) == (Fate.KILLED, "tmpfs]")


def test_a_filesystem_is_for_generated_mutants_only() -> None:
    told = CliRunner().invoke(main, ["selftest", "--mutant", "ExistsIsAlwaysTrue", "--backing", "tmpfs"])
    assert told.exit_code == 2
    assert "--equivalent, --again and --backing need --generated" in told.stderr


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
def test_a_kill_by_a_test_that_the_correct_driver_fails_is_undecided(
    tiny: str, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the correct driver begins to fail when a mutant was killed, as it could under load."""
    load = scratch / "load"
    fails = f"return bool(found) != __import__('os').path.exists({str(load)!r})"
    (tmp_path / "tiny_driver.py").write_text(TINY.replace("return bool(found)", fails))
    add = Results.add

    def added(self: Results, one: Tried) -> None:
        add(self, one)
        load.touch()

    monkeypatch.setattr(Results, "add", added)
    report = tried_generated(wanted(tiny, None, "exists:return:1"), scratch, Console(quiet=True))
    assert set(fates(report).values()) == {Fate.UNDECIDED}
    assert "the correct driver fails" in report.tried[0].reason
    assert report.exit_code == 1


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
    print_generated(GeneratedReport(ABOUT, (survived, wrong, tried(Fate.STILLBORN, 30)), (entry,), (wrong,)))
    lines = capsys.readouterr().out.splitlines()
    assert f"SURVIVED  small.py:{survived.mutant.line}  {survived.mutant.id}" in lines
    assert "  executed by 3 tests" in lines
    for line in survived.mutant.diff.splitlines()[2:]:
        assert f"  {line}" in lines
    assert [line.split()[-1] for line in lines if line.startswith(("small ", "all 3"))] == ["50.0%", "50.0%"]
    assert any(line.startswith("stale: ") and "Store.gone" in line for line in lines)
    assert any(line.startswith("wrong: ") and wrong.mutant.id in line for line in lines)
    stillborn = [line for line in lines if line.startswith(mutants()[30].operator + " ")]
    assert [line.split()[-1] for line in stillborn] == ["-"]
