"""Published results and what is missing: a run goes on from them, and a cell that is not whole is not published."""

from __future__ import annotations

import importlib.metadata
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.cli import main
from conformance.report import records
from conformance.report.records import BadResults, Part, Run
from conformance.spec import load_requirements
from conformance.spec.verdicts import TestOutcome, Verdict
from vm import timings
from vm.matrix import load
from vm.plan import Cell, Choice, cells_of
from vm.published import all_of, publish, take
from vm.status import Question, State, lines_of, state_of
from vm.timings import Timings

REQUIREMENTS = load_requirements()
QUESTION = Question("0.3.0", records.digest_of(REQUIREMENTS), "standard", 5, 1)
CHOICE = Choice(("6.1", "7.3"), ("ext4", "xfs"), ("default",), ("refdriver",))


def cells() -> list[Cell]:
    return cells_of(load(), CHOICE, REQUIREMENTS)


def judged(cell: Cell, output: Path, but: tuple[str, ...] = (), **other: object) -> Path:
    """A cell's result, in which all requirements but some pass."""
    run = Run(
        suite="0.3.0",
        specification=records.digest_of(REQUIREMENTS),
        connection=cell.driver.connection,
        driver="refdriver",
        version="0.3.0",
        kernel=f"{cell.kernel.release}.0",
        machine="x86_64",
        lane=cell.privilege,
        profile="standard",
        examples=5,
        seed=1,
        backings=(cell.backing.name,),
        selected=cell.requirements,
        started="2026-01-02T03:04:05+00:00",
        seconds=100.0,
    )
    run = replace(run, **other)  # type: ignore[arg-type]
    outcomes = [
        TestOutcome(f"test_{one}", (one,), Verdict.PASS, backing=cell.backing.name)
        for one in cell.requirements
        if one not in but
    ]
    file = output / "cells" / cell.name / "results.jsonl"
    (file.parent / "evidence" / "one").mkdir(parents=True, exist_ok=True)
    (file.parent / "evidence" / "one" / "repro.sh").write_text("#!/bin/sh\n")
    (file.parent / "evidence" / "one" / "lower.tar").write_bytes(b"large")
    records.write(file, [Part(run, tuple(outcomes))])
    Timings(output / "timings.json").add(cell.name, "suite", 100.0)
    return file


def of_all(output: Path) -> list[State]:
    return [state_of(cell, output / "cells" / cell.name / "results.jsonl", QUESTION) for cell in cells()]


def test_a_run_goes_on_from_published_cells(tmp_path: Path) -> None:
    there, data, here = tmp_path / "there", tmp_path / "data", tmp_path / "here"
    names = [cell.name for cell in cells()]
    for cell in cells():
        judged(cell, there)
    written = publish(there, names, data)
    assert [file.name for file in written] == ["k6-1.refdriver.tar.xz", "k7-3.refdriver.tar.xz"]
    assert all_of(data) == sorted(names)
    file = judged(cells()[0], here)
    file.write_text("its own")
    assert take(data, here, names[:3]) == sorted(names[1:3])
    assert file.read_text() == "its own"
    for name in names[1:3]:
        folder = here / "cells" / name
        assert (folder / "results.jsonl").read_text() == (there / "cells" / name / "results.jsonl").read_text()
        assert [path.name for path in (folder / "evidence" / "one").iterdir()] == ["repro.sh"]
        assert timings.read(here / "timings.json")[name]["suite"] == 100.0
    assert not (here / "cells" / names[3]).exists()


def test_equal_cells_make_equal_bytes_and_those_of_other_runs_stay(tmp_path: Path) -> None:
    first, second, *_ = [cell for cell in cells() if cell.kernel.name == "k6-1"]
    for cell in (first, second):
        judged(cell, tmp_path / "all")
    (whole,) = publish(tmp_path / "all", [first.name, second.name], tmp_path / "one")
    for cell in (second, first):  # in turn, in another order
        (joined,) = publish(tmp_path / "all", [cell.name], tmp_path / "two")
    assert whole.read_bytes() == joined.read_bytes()
    judged(first, tmp_path / "all", but=first.requirements[:1])
    publish(tmp_path / "all", [first.name], tmp_path / "two")
    assert whole.read_bytes() != joined.read_bytes()
    assert all_of(tmp_path / "two") == sorted([first.name, second.name])


def test_what_is_not_disclosed_yet_has_neither_words_nor_evidence(tmp_path: Path) -> None:
    """That it fails is said. Another failure of the same cell has its evidence."""
    cell = cells()[0]
    secret, told, *_ = cell.requirements
    file = judged(cell, tmp_path / "all", but=(secret, told))
    (part,) = records.read(file)
    found = [
        TestOutcome(f"test_{one}", (one,), Verdict.FAIL, "reason", ("step",), evidence=f"evidence/{one}")
        for one in (secret, told)
    ]
    for one in (secret, told):
        (file.parent / "evidence" / one).mkdir()
        (file.parent / "evidence" / one / "repro.sh").write_text("#!/bin/sh\n")
    records.write(file, [replace(part, outcomes=(*part.outcomes, *found))])
    (archive,) = publish(tmp_path / "all", [cell.name], tmp_path / "data", lambda _: {secret})
    with tarfile.open(archive) as packed:
        names = packed.getnames()
        inside = packed.extractfile(f"cells/{cell.name}/results.jsonl")
        assert inside is not None
        (kept,) = records.parts_of(inside.read().decode().splitlines(), str(archive))
    assert [name for name in names if f"evidence/{secret}/" in name] == []
    assert [name for name in names if f"evidence/{told}/" in name] == [
        f"cells/{cell.name}/evidence/{told}/repro.sh"
    ]
    said = {
        one.requirements[0]: (one.verdict, one.reason, one.steps)
        for one in kept.outcomes
        if one.steps or one.reason
    }
    assert said == {
        secret: (Verdict.FAIL, "not published yet (SECURITY.md)", ()),
        told: (Verdict.FAIL, "reason", ("step",)),
    }


@pytest.mark.parametrize("name", ["../escape", "cells/a/../../../b", "/etc/c", "cells/alone", "other/a/b"])
def test_an_archive_of_another_form_is_refused(tmp_path: Path, name: str) -> None:
    cell = cells()[0]
    with tarfile.open(tmp_path / "k6-1.refdriver.tar.xz", "w:xz") as archive:
        about = tarfile.TarInfo(name)
        about.size = 1
        archive.addfile(about, io.BytesIO(b"x"))
    with pytest.raises(BadResults, match="is no part of a cell"):
        take(tmp_path, tmp_path / "out" / "in", [cell.name])
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".xz"]


def test_missing_results_are_named_by_cell_and_requirement(tmp_path: Path) -> None:
    first, second, third, *rest = cells()
    missing = first.requirements[1]
    judged(first, tmp_path, but=(missing,))
    judged(second, tmp_path)
    judged(third, tmp_path, examples=9)
    states = of_all(tmp_path)
    assert states[0].missing == {missing: "UNTESTED"}
    assert (states[1].missing, states[1].judged) == ({}, len(second.requirements))
    said = list(lines_of(states, {second.name: 60.0}))
    row = next(line for line in said if line.split()[:3] == ["k6-1", "refdriver", "root"])
    assert row.split()[3:] == [
        f"{len(first.requirements) - 1}/{len(first.requirements)}",
        f"{len(second.requirements)}/{len(second.requirements)}",
    ]
    assert f"  {first.name}: {missing}: UNTESTED" in said
    assert any(line.startswith("  its result is of another suite") and third.name in line for line in said)
    assert any(line.startswith(f"  not run: {len(rest)} cells: {rest[0].name}") for line in said)
    left = sum(len(one.missing) for one in states)
    assert any(line.startswith(f"{left} of ") for line in said)


def test_a_lost_machine_and_an_error_are_missing(tmp_path: Path) -> None:
    cell = cells()[0]
    file = judged(cell, tmp_path, failure="it hung\nits console")
    assert set(state_of(cell, file, QUESTION).missing.values()) == {"the machine was lost: it hung"}
    judged(cell, tmp_path)
    (part,) = records.read(file)
    broken = (replace(part.outcomes[0], verdict=Verdict.ERROR), *part.outcomes[1:])
    records.write(file, [Part(part.run, broken)])
    assert set(state_of(cell, file, QUESTION).missing.values()) == {"ERROR"}


def verb(directory: Path, *words: str) -> tuple[int, str]:
    choice = ["--kernel", "6.1", "--backing", "xfs", "--privilege", "root", "--driver", "refdriver"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        done = CliRunner().invoke(main, ["matrix", *words, *choice], prog_name="overlay-conformance")
    return done.exit_code, done.output


def test_the_page_is_made_of_the_published_cells_alone(tmp_path: Path) -> None:
    choice = Choice(("6.1",), ("xfs",), drivers=("refdriver",), privileges=("root",))
    (cell,) = cells_of(load(), choice, REQUIREMENTS)
    output = tmp_path / "overlay-conformance-matrix"
    version = importlib.metadata.version("overlay-conformance")
    assert verb(tmp_path, "status")[0] == 1
    code, said = verb(tmp_path, "publish", "--data", "data", "--page", "page.md")
    assert (code, "no cell of" in said) == (2, True), said
    judged(cell, output, suite=version, but=cell.requirements[:1])
    assert "left out: 1 requirements" in verb(tmp_path, "publish", "--data", "data", "--page", "page.md")[1]
    judged(cell, output, suite=version)
    assert verb(tmp_path, "status") == (0, verb(tmp_path, "status")[1])
    code, said = verb(tmp_path, "publish", "--data", "data", "--page", "page.md", "--html", "page.html")
    assert code == 0, said
    once = (tmp_path / "page.md").read_text()
    assert "### refdriver 0.3.0" in once
    assert "<html" in (tmp_path / "page.html").read_text()
    assert verb(tmp_path, "status", "data") == (0, verb(tmp_path, "status", "data")[1])
    (output / "cells" / cell.name / "results.jsonl").unlink()
    assert verb(tmp_path, "publish", "--data", "data", "--page", "page.md")[0] == 0
    assert (tmp_path / "page.md").read_text() == once
