"""Evidence that convinces: what an archive holds, how the host was changed, and failures as a file of pytest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from commanding import command
from reading import records

from conformance.evidence.exporting import Exported, pytest_file
from conformance.harness.entries import listing_of
from conformance.history.calls import Diff
from conformance.history.case import Case
from conformance.history.findings import InWords
from conformance.history.steps import Called, Noted, Opened
from conformance.history.trace import trace
from conformance.operations import archives
from conformance.spec import load_requirements

SUPPORT = Path(__file__).parents[1] / "support"


def test_the_entries_of_an_archive_are_listed_with_size_type_and_target(tmp_path: Path) -> None:
    entries = [
        archives.file("a", b"four"),
        archives.directory("d"),
        archives.symlink("d/s", "../a"),
        archives.hard_link("h", "a"),
        archives.Entry("n", tarfile.CHRTYPE, device=(1, 3), owner=(5, 6)),
        archives.Entry("x", records={"SCHILY.xattr.user.colour": "red"}),
    ]
    assert listing_of(archives.write(tmp_path / "one.tar", entries)) == (
        "file 'a' 4 bytes mode=0644",
        "directory 'd' mode=0755",
        "symlink 'd/s' -> '../a' mode=0777",
        "hard link 'h' -> 'a' mode=0644",
        "character device 'n' 1:3 mode=0644 owner=5:6",
        "file 'x' 0 bytes mode=0644 xattrs=user.colour",
    )


def test_a_listing_is_limited_and_says_where_an_archive_ends_badly(tmp_path: Path) -> None:
    many = archives.write(tmp_path / "many.tar", [archives.file(f"f{number}") for number in range(30)])
    assert listing_of(many)[-1] == "and more entries"
    assert len(listing_of(many)) == 21
    many.write_bytes(many.read_bytes()[:600])
    assert listing_of(many)[0].startswith("file 'f0'")
    assert "cannot be read" in listing_of(many)[-1]
    with many.open("wb") as file:
        file.truncate(5 << 20)
    assert "too large" in listing_of(many)[0]
    empty = tmp_path / "empty.tar"
    with tarfile.open(empty, "w"):
        pass
    assert listing_of(empty) == ("no entries",)


def test_the_listing_of_a_diff_is_in_its_trace_and_in_its_case() -> None:
    call = Called("store", Diff("a", "", "store-a.tar"), listing=("file 'x' 1 bytes mode=0644",))
    assert trace([Opened("store"), call])[-2:] == (
        "diff a against nothing into store-a.tar",
        "  file 'x' 1 bytes mode=0644",
    )
    case = Case(
        "test_x", ("OVL-TREE-MODEL",), "host", "python:a:B", "wrong", (), (Opened("store"), call), InWords()
    )
    assert Case.from_json(json.loads(json.dumps(case.as_json()))) == case


def test_no_word_of_a_driver_becomes_code_in_an_exported_file() -> None:
    hostile = "\"\"\"'''\n\\\u202e\x1b[2J}{\nimport os; os.abort()"
    case = Case(hostile, ("OVL-TREE-MODEL",), "host", hostile, hostile, (), (Noted(hostile),), InWords())
    text = pytest_file([Exported(case.as_json(), hostile)], hostile, hostile, load_requirements())
    assert text.isascii()
    found: dict[str, object] = {}
    # Only the definitions are run; what they would call is replaced.
    exec(compile(text.replace("from conformance.evidence.replaying import check", "", 1), "x", "exec"), found)
    called: list[tuple[object, object]] = []
    found["check"] = lambda said, driver: called.append((said, driver))
    run = found["test_ovl_tree_model_1"]
    assert callable(run)
    run()
    assert called == [(case.as_json(), hostile)]


@pytest.mark.slow
@pytest.mark.mounts
def test_failures_become_a_file_of_pytest_that_fails_while_the_driver_deviates(tmp_path: Path) -> None:
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}

    def done(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=tmp_path, env={**environment, **more}, capture_output=True, text=True, check=False
        )

    ids = ("OVL-DIFF-EMPTY", "OVL-HOSTILE-ABSOLUTE")
    chosen = [word for one in ids for word in ("--requirement", one)]
    words = [*chosen, "--examples", "1", "--results", "r.jsonl"]
    run = command("run", "python:naive:Driver", *words, env=environment, cwd=tmp_path)
    assert run.returncode == 1, run.stdout + run.stderr
    outcomes = [one for one in records(tmp_path / "r.jsonl", "outcome") if one["verdict"] == "FAIL"]
    outside = next(one for one in outcomes if one["requirements"] == ["OVL-HOSTILE-ABSOLUTE"])
    assert re.search(r"/outside/\S+: (it was created|.* became )", outside["reason"]), outside["reason"]
    listed = next(one for one in outcomes if one["requirements"] == ["OVL-DIFF-EMPTY"])
    diff = next(number for number, step in enumerate(listed["steps"]) if step.startswith("diff "))
    assert re.match(r"  (file|directory|symlink|no entries)", listed["steps"][diff + 1])

    written = command("report", "r.jsonl", "--export-pytest", "test_driver.py", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--assert=plain"]
    words.append("test_driver.py")
    deviating = done(*words)
    assert deviating.returncode == 1, deviating.stdout
    assert f"{len(outcomes)} failed" in deviating.stdout
    assert "AssertionError: OVL-DIFF-EMPTY: " in deviating.stdout
    conforming = done(*words, OVERLAY_CONFORMANCE_DRIVER="python:refdriver:Driver")
    assert conforming.returncode == 0, conforming.stdout


@pytest.mark.mounts
@pytest.mark.parametrize("more", [[], ["-n", "2"], ["--conformance-evidence", ""]], ids=["one", "xdist", "none"])
def test_a_run_by_pytest_leaves_the_same_evidence(tmp_path: Path, more: list[str]) -> None:
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--assert=plain", "--pyargs", "conformance", *more]
    words += ["--driver=python:naive:Driver", "--requirement=OVL-DIFF-EMPTY", f"--conformance-scratch={scratch}"]
    done = subprocess.run(
        [sys.executable, *words, "--conformance-examples=1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    folders = sorted((tmp_path / "overlay-conformance-failures").glob("OVL-DIFF-EMPTY*"))
    if "" in more:
        assert not folders
        return
    assert "evidence: " in done.stdout
    assert folders
    assert {"case.json", "environment.json", "failure.md", "kernel.log"} <= {
        one.name for one in folders[0].iterdir()
    }
    failure = (folders[0] / "failure.md").read_text()
    assert "repro.sh` reproduces the failure" in failure, failure
