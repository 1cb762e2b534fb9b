"""Tests that are skipped where all are to run (CI=true) fail the run, but for those of tests/allowed-skips.toml."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from skips import LIST, Skip, allowed_skips, forbidden

ROOT = LIST.parent.parent
# Of packages that every Debian has; another name for what is installed.
OF_EVERY_SYSTEM = {"sleep", "stat", "dpkg-deb", "ldd", "chromium-browser"}
TESTS = """\
import pytest


def test_that_lacks_a_program():
    pytest.skip("needs containerd; apt-get install containerd")


@pytest.mark.xfail
def test_that_is_known_to_fail():
    assert False
"""


def test_the_list_names_tests_that_are_there() -> None:
    for skip in allowed_skips():
        file, _, name = skip.test.partition("::")
        text = "".join(path.read_text() for path in ROOT.glob(file))
        assert text
        assert name == "*" or f"def {name.rstrip('*')}(" in text
        assert skip.why


def test_the_command_for_the_tests_installs_each_program_that_they_look_for() -> None:
    script = (ROOT / ".ci/bootstrap").read_text()
    branch = script[script.index("\ntest)\n") :]
    installed = set(re.findall(r"([\w.-]+):[\w.-]+", branch))
    sought = {
        program: path.name
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for program in re.findall(r'shutil\.which\("([\w.-]+)"\)', path.read_text())
    }
    assert len(sought) > len(OF_EVERY_SYSTEM)
    assert {one: where for one, where in sought.items() if one not in installed | OF_EVERY_SYSTEM} == {}


def test_a_skip_is_allowed_by_test_and_reason() -> None:
    allowed = [Skip("tests/a.py::test_b*", "this kernel has no *", "kernel", "")]
    reason = "this kernel has no xfs"
    assert forbidden([("tests/a.py::test_b[one]", reason)], allowed) == []
    assert forbidden([("tests/a.py::test_c", reason)], allowed) == [f"tests/a.py::test_c: {reason}"]
    assert forbidden([("tests/a.py::test_b", "needs curl")], allowed) == ["tests/a.py::test_b: needs curl"]


def test_a_program_is_no_reason_to_skip(tmp_path: Path) -> None:
    file = tmp_path / "list.toml"
    file.write_text('[[skip]]\ntest = "t"\nsays = "s"\nlacks = "program"\nwhy = "w"\n')
    with pytest.raises(ValueError, match="neither 'kernel' nor 'machine'"):
        allowed_skips(file)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["0", "1"])
@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_a_skip_that_is_not_in_the_list_fails_the_run(tmp_path: Path, ci: str, status: int, jobs: str) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    words = ["-p", "conftest", "-p", "no:cacheprovider", "--assert=plain", "-n", jobs]
    words += ["--rootdir", str(tmp_path), str(tmp_path)]
    path = os.pathsep.join((str(ROOT / "tests"), str(ROOT / "tests/support"), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        env={**os.environ, "CI": ci, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert ("test_that_lacks_a_program: needs containerd" in done.stdout) is bool(status)
