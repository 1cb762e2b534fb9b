"""Observing builds: a column of docs/divergence.md for each build that names one."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from conformance.cli import main
from conformance.observing.table import read
from vm.drivers.builds import DIRECTORY, FILES, load
from vm.drivers.data import of_no_machine
from vm.drivers.observing import DATA, column_file

ROOT: Final = Path(__file__).parents[2]
BUILDS: Final = """
format = 1

[question]
profile = "standard"
examples = 2
seed = 1
why = "A test."

[[build]]
name = "reference"
line = "a driver"
roots = []
connection = "CONNECTION"
column = "a driver, 1.0"

[[build]]
name = "no-column"
line = "another"
roots = []
connection = "python:refdriver:Driver"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "builds.toml").write_text(BUILDS.replace("CONNECTION", "python:refdriver:Driver"))
    return tmp_path


def observe(place: Path, *words: str) -> Result:
    options = ["--file", str(place / "builds.toml"), "--data", str(place / "data"), "--scratch", str(place)]
    return CliRunner().invoke(main, ["drivers", "observe", *words, *options])


@pytest.mark.mounts
def test_a_build_is_observed_once_and_its_file_names_nothing_of_this_machine(place: Path) -> None:
    done = observe(place)
    assert done.exit_code == 0, done.output
    file = place / "data" / "a-driver-1.0.jsonl.xz"
    assert list((place / "data").iterdir()) == [file]
    column = read(file)
    assert (column.about.name, column.about.driver) == ("a driver, 1.0", "python:refdriver:Driver")
    assert column.about.lane == "root"
    assert column.answers["same-name-twice"].value == "last"
    assert re.fullmatch(r"[0-9.]+", column.about.kernel), "without what a host adds to the release"
    assert column.answers["name-outside"].detail
    assert not any(str(place) in one.detail for one in column.answers.values())
    assert "its observations are in" in observe(place).stderr
    # What cannot be observed does not take away what was.
    (place / "builds.toml").write_text(BUILDS.replace("CONNECTION", "unpacker:exit 3; {layout} {directory}"))
    before = file.read_bytes()
    done = observe(place, "reference", "--again")
    assert done.exit_code == 2
    assert "reference: it was not observed" in done.stderr
    assert file.read_bytes() == before


def test_a_text_names_roots_directories_and_the_library_of_python_as_the_file_of_builds_does() -> None:
    said = (
        f"/a/drivers/tool-1/bin/x /b/{DIRECTORY}k3/y {sysconfig.get_path('stdlib')}/tarfile.py 6.1.0-of-a-host /c/d"
    )
    assert of_no_machine(said, "6.1.0-of-a-host") == "{root:tool-1}/bin/x {dir}/y {python}/tarfile.py 6.1.0 /c/d"


@pytest.mark.mounts
def test_in_a_user_namespace_nothing_is_given_away(place: Path) -> None:
    done = observe(place, "--user-namespace")
    assert done.exit_code == 0, done.output
    column = read(place / "data" / "a-driver-1.0-user-namespace.jsonl.xz")
    assert column.about.lane == "user-namespace"
    assert column.answers["owner"].value != "kept"
    assert "set-user-id" not in column.answers, "only root can do that"


def test_a_build_without_a_column_is_refused_by_its_name(place: Path) -> None:
    done = observe(place, "no-column")
    assert done.exit_code == 2
    assert "no-column has no column: add column =" in done.stderr


def test_each_column_of_the_files_of_builds_is_in_the_data_and_its_own() -> None:
    builds = [one for file in FILES for one in load(file).build if one.column]
    files = [column_file(one, ROOT / DATA, user_namespace=False) for one in builds]
    assert len(set(files)) == len(files) >= 20
    assert [file.name for file in files if not file.exists()] == []
