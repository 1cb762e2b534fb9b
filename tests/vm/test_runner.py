"""What the runner makes of cells: progress, a lost machine, times, and what is left to do. Without a machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.report import records
from conformance.report.markers import between
from conformance.report.matrix import matrix_of
from conformance.report.records import Part, Run
from conformance.spec import load_requirements
from conformance.spec.verdicts import TestOutcome, Verdict
from vm import table, timings
from vm.lost import recognised, unheard, write_lost
from vm.matrix import load
from vm.plan import Cell, Choice, cells_of
from vm.runner import Asked, Last, _follow, left_to_do, results_of
from vm.timings import Timings

REQUIREMENTS = load_requirements()
PANIC = """\
[   41.093471] sysrq: Trigger a crash
[   41.094410] Kernel panic - not syncing: sysrq triggered crash
[   41.095310] CPU: 0 PID: 214 Comm: sh Not tainted 6.1.0-50-cloud-amd64 #1  Debian 6.1.180-1
[   41.099127] Call Trace:
[   41.099904]  dump_stack_lvl+0x5c/0x80
"""


def a_cell(kernel: str = "6.1", backing: str = "xfs") -> Cell:
    (cell,) = cells_of(load(), Choice((kernel,), (backing,), ("default",), ("refdriver",), ("root",)), REQUIREMENTS)
    return cell


def asked(output: Path, limit: float = 3600) -> Asked:
    (output / "cells").mkdir(exist_ok=True)
    kernels = {"k6-1": "6.1.0-50-cloud-amd64", "k7-3": "7.3.4-cloud-amd64"}
    packages = {name: f"{release} 1-1" for name, release in kernels.items()}
    digest = records.digest_of(REQUIREMENTS)
    times = Timings(output / "timings.json")
    return Asked("standard", 5, limit, output, digest, "0", kernels, packages, times, "uml")


def a_run(cell: Cell, kernel: str, **other: object) -> Run:
    made = Run(
        suite="0",
        specification=records.digest_of(REQUIREMENTS),
        connection=cell.driver.connection,
        driver="refdriver",
        version="0.3.0",
        kernel=kernel,
        machine="x86_64",
        lane="root",
        profile="standard",
        examples=5,
        seed=1,
        backings=(cell.backing.name,),
        selected=cell.requirements,
        started="2026-01-02T03:04:05+00:00",
        seconds=100.0,
    )
    return replace(made, **other)  # type: ignore[arg-type]


def lose(cell: Cell, output: Path, console: str, why: str) -> Part:
    file = output / "console"
    file.write_text(console)
    results = results_of(cell, asked(output))
    known = {"suite": "0", "specification": records.digest_of(REQUIREMENTS), "profile": "standard", "examples": 5}
    write_lost(unheard(cell, kernel="6.1.0-50-cloud-amd64", **known), results, file, why)
    (part,) = records.read(results)
    return part


def test_a_machine_that_hung_is_one_red_cell_with_its_console(tmp_path: Path) -> None:
    cell = a_cell()
    part = lose(cell, tmp_path, "udhcpc: lease obtained\n", "it was not done in time")
    assert part.run.failure.splitlines() == ["it was not done in time", "udhcpc: lease obtained"]
    (outcome,) = part.outcomes
    assert (outcome.verdict, set(outcome.requirements)) == (Verdict.ERROR, set(cell.requirements))
    folder = results_of(cell, asked(tmp_path)).parent / outcome.evidence
    assert (folder / "console.log").read_text() == "udhcpc: lease obtained\n"
    assert "it was not done in time" in (folder / "failure.md").read_text()
    assert part.exit_code == 2


def test_a_kernel_that_panicked_is_a_finding_of_its_own(tmp_path: Path) -> None:
    cell = a_cell()
    part = lose(cell, tmp_path, "lease\n" + PANIC, "the connection to the machine ended (255)")
    by_test = {one.test: one for one in part.outcomes}
    finding = by_test["the_kernel_stays_well"]
    assert (finding.verdict, finding.requirements) == (Verdict.FAIL, ("OVL-KERNEL-WELL",))
    assert finding.kernel[0].endswith("sysrq triggered crash")
    assert "Kernel panic - not syncing: sysrq triggered crash" in finding.reason
    assert "OVL-KERNEL-WELL" not in by_test["the_machine"].requirements
    folder = results_of(cell, asked(tmp_path)).parent / finding.evidence
    assert "dump_stack_lvl" in (folder / "kernel.log").read_text()
    verdicts = {one.requirement: one.verdict for one in part.results()}
    assert set(verdicts.values()) == {Verdict.FAIL, Verdict.ERROR}


def test_an_error_is_of_one_place_and_a_lost_cell_has_the_name_of_its_driver(tmp_path: Path) -> None:
    lost, other = a_cell(), a_cell("7.3")
    everywhere = "OVL-LIFE-BAD-ID"
    assert not REQUIREMENTS[everywhere].varies
    parts = [
        lose(lost, tmp_path, "", "gone"),
        Part(
            a_run(other, "7.3.4", selected=("OVL-MOUNT-ONCE",)),
            (TestOutcome("test_once", ("OVL-MOUNT-ONCE",), Verdict.PASS, backing="xfs"),),
        ),
    ]
    parts = [part for (part,) in recognised([[one] for one in parts])]
    assert {(part.run.driver, part.run.version) for part in parts} == {("refdriver", "0.3.0")}
    matrix = matrix_of(records.merge([("a", parts[:1]), ("b", parts[1:])]), REQUIREMENTS)
    verdicts = {(column.kernel, name): cell.verdict for (name, column), cell in matrix.cells.items()}
    assert verdicts["6.1.0-50-cloud-amd64", everywhere] is Verdict.ERROR
    assert ("7.3.4", everywhere) not in verdicts
    assert verdicts["7.3.4", "OVL-MOUNT-ONCE"] is Verdict.PASS


def test_what_is_left_to_do_is_what_has_no_answer_to_this_question(tmp_path: Path) -> None:
    cell, question = a_cell(), asked(tmp_path)
    assert left_to_do([cell], question) == [cell]
    file = results_of(cell, question)
    file.parent.mkdir()
    outcomes = tuple(TestOutcome(f"test_{one}", (one,), Verdict.PASS, backing="xfs") for one in cell.requirements)
    records.write(file, [Part(a_run(cell, "6.1.0-50-cloud-amd64"), outcomes[1:])])
    assert left_to_do([cell], question) == [cell]  # one is UNTESTED
    assert left_to_do([cell], replace(question, budget=180)) == []
    records.write(file, [Part(a_run(cell, "6.1.0-50-cloud-amd64"), outcomes)])
    assert left_to_do([cell], question) == []
    done = a_run(cell, "6.1.0-50-cloud-amd64")
    others = [replace(done, kernel="6.1.0-51"), replace(done, examples=9), replace(done, seed=2)]
    for other in (*others, replace(done, failure="lost"), replace(done, selected=cell.requirements[1:])):
        records.write(file, [Part(other, outcomes if len(other.selected) == len(outcomes) else outcomes[1:])])
        assert left_to_do([cell], question) == [cell], other
    file.write_text(file.read_text()[:-20])
    assert left_to_do([cell], question) == [cell]


def test_progress_follows_the_events_of_the_machine(tmp_path: Path) -> None:
    events = [
        {"event": "run", "format": 1},
        {"event": "collected", "tests": 2},
        {"event": "test", "number": 1, "test": "test_a"},
        {"event": "outcome", "test": "test_a", "verdict": "FAIL", "seconds": 1},
        {"event": "something new"},
        {"event": "test", "number": 2, "test": "test_b"},
        {"event": "outcome", "test": "test_b", "verdict": "PASS", "seconds": 1},
        {"event": "test", "number": 3, "test": "test_b"},
    ]
    text = "".join(json.dumps(event) + "\n" for event in events) + '{"event": "te'
    told: list[tuple[str, str]] = []
    with subprocess.Popen([sys.executable, "-c", f"print({text!r}, end='')"], stdout=subprocess.PIPE) as process:
        last = Last("", 0)
        _follow(process, a_cell(), lambda cell, what: told.append((cell, what)), tmp_path / "events", last)
    assert (tmp_path / "events").read_text() == text
    assert last.at == " at test_b"
    assert last.heard > 0
    assert {cell for cell, _ in told} == {"k6-1.refdriver.xfs.default"}
    assert [what for _, what in told] == [
        "starting the suite",
        "1/2 tests, test_a",
        "2/2 tests, 1 FAIL, test_b",
        "3 tests, 1 PASS, 1 FAIL, test_b",
    ]


def test_times_are_kept_over_runs(tmp_path: Path) -> None:
    file = tmp_path / "timings.json"
    first = Timings(file)
    first.add("one", "up", 40.0)
    first.add("one", "suite", 180.0)
    first.add("one", "reset", 27.0)
    first.add("two", "suite", 90.0)
    later = Timings(file)
    later.begin("two")
    later.add("two", "fetch", 1.5)
    found = timings.read(file)
    assert found["one"] == {**dict.fromkeys(timings.STEPS, 0.0), "up": 40.0, "reset": 27.0, "suite": 180.0}
    assert found["two"] == {**dict.fromkeys(timings.STEPS, 0.0), "fetch": 1.5}
    assert timings.overhead(found["one"]) == 40.0
    assert json.loads(file.read_text())["format"] == 1


def a_table(tmp_path: Path, scripts: Collection[str] = ()) -> str:
    parts: list[Part] = []
    for kernel, release, verdict in (("6.1", "6.1.0-50", Verdict.PASS), ("7.3", "7.3.4", Verdict.FAIL)):
        for backing in ("ext4", "xfs"):
            cell = a_cell(kernel, backing)
            once = TestOutcome("test_once", ("OVL-MOUNT-ONCE",), verdict, reason="because", backing=backing)
            found = [replace(once, evidence="cells/f" if verdict is Verdict.FAIL else "")]
            quota = Verdict.PASS if backing == "xfs" else Verdict.NOT_APPLICABLE
            found.append(TestOutcome("test_quota", ("OVL-QUOTA-ENFORCED",), quota, backing=backing))
            ids = ("OVL-MOUNT-ONCE", "OVL-QUOTA-ENFORCED", "OVL-MOUNT-AGAIN")
            notes = (f"kernel package linux-image {release}", "machine of uml")
            run = a_run(cell, release, selected=ids, notes=notes, seed=len(parts))
            parts.append(Part(run, tuple(found)))
    times = Timings(tmp_path / "timings.json")
    times.add("k6-1.refdriver.xfs.default", "suite", 100)
    times.add("k6-1.refdriver.xfs.default", "up", 33)
    measured = timings.read(tmp_path / "timings.json")
    return table.as_markdown(matrix_of(parts, REQUIREMENTS), measured, scripts)


@pytest.mark.parametrize(
    "line",
    [
        "## Results of 2026-01-02",
        "| 6.1.0-50 | linux-image 6.1.0-50 | uml | 0.1 |",
        "### refdriver 0.3.0",
        "| kernel | ext4 | xfs |",
        "| 6.1 | 1 pass, 1 untested | 2 pass, 1 untested |",
        "| 7.3 | **1 FAIL**, 1 untested | **1 FAIL**, 1 pass, 1 untested |",
        "| OVL-MOUNT-ONCE | FAIL: 7.3; PASS: 6.1 | ext4, xfs | refdriver 0.3.0 | because | `cells/f/failure.md` |",
        "| OVL-QUOTA-ENFORCED | PASS: xfs; NOT-APPLICABLE: ext4 | all |",
        "| OVL-MOUNT-ONCE | FAIL | because | 7.3 ext4, 7.3 xfs |",
        "| up | 1 | 33.0 | 33.0 |",
        "| python:refdriver:Driver | 7.3 | xfs | 3 | 100 | 3 |",
    ],
)
def test_the_table_says(tmp_path: Path, line: str) -> None:
    assert line in a_table(tmp_path).splitlines()


def test_the_bare_kernel_is_one_driver_of_all_kernels() -> None:
    """Its version is its release, and it has one table, in which kernels are compared."""
    parts = []
    for kernel, release, verdict in (("6.1", "6.1.176", Verdict.PASS), ("7.3", "7.3.4", Verdict.FAIL)):
        run = a_run(a_cell(kernel, "ext4"), release, selected=("OVL-MOUNT-ONCE",))
        run = replace(run, driver="mounter:kernel", version=release)
        parts.append(Part(run, (TestOutcome("test_once", ("OVL-MOUNT-ONCE",), verdict, backing="ext4"),)))
    lines = table.as_markdown(matrix_of(parts, REQUIREMENTS), {}).splitlines()
    assert [one for one in lines if one.startswith("### mounter")] == ["### mounter:kernel"]
    assert any(one.startswith("| OVL-MOUNT-ONCE | FAIL: 7.3; PASS: 6.1 | ext4 | mounter:kernel |") for one in lines)


def test_the_table_names_the_script_of_a_difference(tmp_path: Path) -> None:
    assert "| because | `cells/f/repro.sh` |" in a_table(tmp_path, {"cells/f"})


def test_the_table_replaces_the_one_that_was_there(tmp_path: Path) -> None:
    page = "# Kernels\n\nProse.\n"
    once = between(page, table.BEGIN, "## Old\n")
    assert between(once, table.BEGIN, "## New\n") == once.replace("Old", "New")
    assert once.startswith(page)
    assert between(once + "\nMore prose.\n", table.BEGIN, "## New\n").endswith("\nMore prose.\n")
    made = a_table(tmp_path)
    assert made in between(page, table.BEGIN, made)


@pytest.mark.slow
def test_what_ran_apart_is_joined_as_if_it_had_run_together(tmp_path: Path) -> None:
    """Two shards of a plan, collected where they ran and merged: the file of the run of both."""
    releases = {"k6-1": "6.1.0-50-cloud-amd64", "k7-3": "7.3.4-cloud-amd64"}
    choice = Choice(tuple(releases), ("ext4", "xfs"), drivers=("refdriver",), privileges=("root",))
    places: dict[str, list[Cell]] = {"both": cells_of(load(), choice, REQUIREMENTS)}
    for name in releases:
        places[name] = cells_of(load(), replace(choice, shard=name), REQUIREMENTS)
    for place, cells in places.items():
        for cell in cells:
            file = results_of(cell, asked_in(tmp_path / place))
            file.parent.mkdir(parents=True)
            verdict = Verdict.FAIL if cell.name == "k7-3.refdriver.xfs.default" else Verdict.PASS
            outcomes = [TestOutcome(f"test_{one}", (one,), verdict, backing="xfs") for one in cell.requirements]
            run = a_run(cell, releases[cell.kernel.name], seed=places["both"].index(cell))
            records.write(file, [Part(run, tuple(outcomes))])
        code = 0 if place == "k6-1" else 1
        assert verb(tmp_path, "matrix", "collect", place) == code
    assert verb(tmp_path, "merge", "k6-1/results.jsonl", "k7-3/results.jsonl", "-o", "joined.jsonl") == 0
    assert (tmp_path / "joined.jsonl").read_text() == (tmp_path / "both" / "results.jsonl").read_text()


def asked_in(output: Path) -> Asked:
    output.mkdir(exist_ok=True)
    return asked(output)


def verb(directory: Path, *words: str) -> int:
    command = [sys.executable, "-m", "conformance", *words]
    return subprocess.run(command, cwd=directory, capture_output=True, check=False).returncode
