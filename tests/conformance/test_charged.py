"""One cause is one finding: a test that comes upon what another requirement judges charges that one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commanding import command
from reading import verdicts

from conformance.operations import ops
from conformance.suites.lattice import LATTICE

END = 2**63  # nanoseconds, in 2262
# A directory of an archive shows what a file of the layer below had hidden, as with fuse-overlayfs 1.4.
SHOWS = """
import os
from refdriver import Driver

class Shows(Driver):
    def __init__(self, home, **options):
        super().__init__(home, **options)
        self.home = home

    def apply_diff(self, layer_id, *arguments):
        done = super().apply_diff(layer_id, *arguments)
        directory = f"{self.home}/{layer_id}/diff/d"
        if os.path.exists(f"{directory}/new"):
            open(f"{directory}/a", "x").close()
        return done
"""

# Once, and never again, the files of a layer have another time after a second apply.
ONCE = """
import os
from refdriver import Driver

class Once(Driver):
    applied = set()

    def __init__(self, home, **options):
        super().__init__(home, **options)
        self.home = home

    def apply_diff(self, layer_id, *arguments):
        done = super().apply_diff(layer_id, *arguments)
        again = self.home, layer_id
        if again in Once.applied and "done" not in Once.applied:
            for place, _, names in os.walk(f"{self.home}/{layer_id}/diff"):
                for name in names:
                    os.utime(f"{place}/{name}", (0, 0), follow_symlinks=False)
                    Once.applied.add("done")
        Once.applied.add(again)
        return done
"""


@pytest.mark.mounts
@pytest.mark.parametrize(
    ("driver", "judged", "charged"),
    [
        ("refdriver.mutants.changes:ChangesFailOnFileBelowDirectory", "OVL-CHANGES-DIFF", "OVL-CHANGES-EXPLAIN"),
        (
            "refdriver.mutants.archives_apply:WhiteoutForgottenForNewDirectory",
            "OVL-APPLY-WHITEOUT-UNSEEN",
            "OVL-APPLY-WHITEOUT-BEFORE",
        ),
        ("conformance.selftest.mutants.life:CreateOverwritesLayer", "OVL-PARALLEL-SAME-ID", "OVL-LIFE-EXISTING-ID"),
        (
            "conformance.selftest.mutants.life:CreateOverwritesLayer",
            "OVL-LIFE-AFTER-REFUSAL",
            "OVL-LIFE-EXISTING-ID",
        ),
    ],
)
def test_what_another_requirement_judges_is_charged_to_it(
    driver: str, judged: str, charged: str, tmp_path: Path
) -> None:
    results = tmp_path / "results.jsonl"
    words = ["--requirement", judged, "--examples", "2", "--seed", "1", "--no-evidence", "--scratch", str(tmp_path)]
    basis = {**os.environ, "CONFORMANCE_MUTANT_BASIS": "refdriver:Driver"}
    done = command("run", f"python:{driver}", *words, "--results", str(results), env=basis)
    assert done.returncode == 1, done.stdout + done.stderr
    found = verdicts(results)
    assert found[charged] == "FAIL"
    assert found[judged] in {"PASS", "UNTESTED"}, "whether other tests of it ran"


@pytest.mark.mounts
def test_what_a_file_should_hide_is_no_error_of_the_harness(tmp_path: Path) -> None:
    (tmp_path / "shows.py").write_text(SHOWS)
    results = tmp_path / "results.jsonl"
    words = ["-k", "test_what_a_file_between_two_directories_hides_is_added", "--no-evidence"]
    words += ["--requirement", "OVL-CHANGES-EXPLAIN", "--scratch", str(tmp_path), "--results", str(results)]
    done = command("run", "python:shows:Shows", *words, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1, done.stdout + done.stderr
    assert verdicts(results)["OVL-TREE-KINDS-CHANGE"] == "FAIL"


@pytest.mark.mounts
def test_a_flaky_failure_is_charged_to_what_it_violated(tmp_path: Path) -> None:
    (tmp_path / "once.py").write_text(ONCE)
    results = tmp_path / "results.jsonl"
    words = ["-k", "test_applying_twice_is_applying_once and not once_of", "--seed", "1", "--no-evidence"]
    words += ["--requirement", "OVL-APPLY-TWICE", "--scratch", str(tmp_path), "--results", str(results)]
    done = command("run", "python:once:Once", *words, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1, done.stdout + done.stderr
    assert "flaky: failed, and passed when the same steps were repeated: layer-0, applied twice," in done.stdout
    assert verdicts(results)["OVL-APPLY-FILE-TIMES"] == "FAIL"


def test_only_times_that_a_text_names_are_a_must() -> None:
    """containers/storage and containerd set the epoch outside, on purpose (behaviour#early-times)."""
    times: dict[str, list[int]] = {}
    for case in LATTICE:
        done = [one for layer in case.chain for one in layer]
        times[case.requirement] = [one.mtime_ns for one in done if isinstance(one, ops.SetTimes)]
    assert all(0 <= one < END for one in times["OVL-META-TIMES"])
    assert min(times["OVL-META-TIMES-EARLY"]) < 0
    assert max(times["OVL-META-TIMES-EARLY"]) >= END
