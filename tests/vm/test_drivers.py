"""Builds of real drivers: the file of builds, roots, judging with one question, and pages that the data give."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from conformance.cli import main
from vm.debian import NoPackage
from vm.drivers import judging, roots
from vm.drivers.builds import FILES, PYPI, BadBuilds, Root, load
from vm.drivers.data import all_of, why_not_whole

DOCS: Final = Path(__file__).parent.parent.parent / "docs"
FILE_IDS: Final = [file.stem for file in FILES]
ONE: Final = """
format = 1

[question]
profile = "standard"
examples = 2
seed = 1
why = "A test."
requirements = ["OVL-LIFE-REMOVE-MISSING"]

[[build]]
name = "reference"
line = "reference driver"
roots = []
connection = "python:refdriver:Driver"
"""
JUDGED: Final = """
format = 1

[[deviation]]
name = "one"
title = "One"
judgement = "disputable"
by = "a test"
why = "It is a test."
requirements = ["OVL-LIFE-REMOVE-MISSING"]
lines = ["reference *"]
"""
ROOT: Final = Root("true-1", "sid", "true", "1", "0" * 64, "https://example.org/true")


# ---- The file of builds.


@pytest.mark.parametrize("file", FILES, ids=FILE_IDS)
def test_the_file_of_builds_names_versions_from_the_oldest_to_the_newest(file: Path) -> None:
    builds = load(file)
    assert len(builds.build) >= 16
    for line, same in builds.lines().items():
        versions = [
            [int(number) for root in builds.roots_of([one]) for number in root.name.rpartition("-")[2].split(".")]
            for one in same
        ]
        assert versions == sorted(versions), line


def test_a_name_of_a_build_or_a_root_is_in_one_file() -> None:
    files = [load(file) for file in FILES]
    for names in (
        [one.name for each in files for one in each.build],
        [one.name for each in files for one in each.root],
    ):
        assert len(names) == len(set(names))
    assert len({each.page for each in files}) == len(files)


def test_a_variable_names_a_directory_of_a_root(tmp_path: Path) -> None:
    builds = load(FILES[1])
    (one,) = builds.chosen(["charliecloud-0.45"])
    assert one.env_in(Path("/roots"), tmp_path) == {
        "CHARLIECLOUD_LIB": "/roots/charliecloud-0.45/usr/lib/charliecloud"
    }
    assert not one.is_alone


def test_a_connection_names_a_command_of_a_root() -> None:
    builds = load()
    (one,) = builds.chosen(["containers-storage-1.64-fuse-1.14"])
    assert one.connection_in(Path("/roots")).endswith(
        "mount_program=/roots/fuse-overlayfs-1.14/usr/bin/fuse-overlayfs"
    )
    assert [root.name for root in builds.roots_of([one, one])] == ["containers-storage-1.64", "fuse-overlayfs-1.14"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("roots = []", 'roots = ["nowhere"]', "names the root nowhere, which the file does not have"),
        ("format = 1", "format = 2", "format"),
        ("examples = 2", "example = 2", "example"),
        ('["OVL-LIFE-REMOVE-MISSING"]\n', '["OVL-LIFE-REMOVE-MISSING"]\nmore = 1\n', "more"),
    ],
)
def test_a_wrong_file_of_builds_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    file = tmp_path / "builds.toml"
    file.write_text(ONE.replace(old, new))
    with pytest.raises(BadBuilds, match=says):
        load(file)


def test_an_unknown_build_is_named_with_the_next_step() -> None:
    done = CliRunner().invoke(main, ["drivers", "list", "containers-storage-1.64-overlai"])
    assert done.exit_code == 2
    assert "no build containers-storage-1.64-overlai" in done.output
    assert "containers-storage-1.64-overlay" in done.output


# ---- Roots.


def test_a_command_of_a_root_uses_its_own_loader_and_libraries(tmp_path: Path) -> None:
    if not shutil.which("patchelf"):
        pytest.skip("there is no command patchelf")
    made, target = tmp_path / "made", tmp_path / "target"
    library = made / "usr/lib/x86_64-linux-gnu"
    library.mkdir(parents=True)
    (made / "usr/bin").mkdir()
    command = shutil.which("stat")
    assert command
    shutil.copy2(command, made / "usr/bin/stat")
    listed = subprocess.run(["ldd", command], capture_output=True, text=True, check=True).stdout
    for word in listed.split():
        if word.startswith("/"):
            shutil.copy2(word, library)
    roots._relocate(made, target)
    made.rename(target)
    # As ldd(1), with the loader that the command names itself.
    env = {**os.environ, "LD_TRACE_LOADED_OBJECTS": "1"}
    done = subprocess.run([target / "usr/bin/stat"], env=env, capture_output=True, text=True, check=True)
    found = [word for word in done.stdout.split() if word.startswith("/")]
    assert found
    assert all(word.startswith(str(target)) for word in found)
    subprocess.run([target / "usr/bin/stat", "/"], check=True, capture_output=True)


def test_a_package_with_another_digest_is_removed_and_refused(tmp_path: Path) -> None:
    file = tmp_path / "true.deb"
    file.write_bytes(b"another")
    with pytest.raises(NoPackage, match=r"has the digest .*, and the file of builds 0000"):
        roots._check(ROOT, file)
    assert not file.exists()
    file.write_bytes(b"the one")
    roots._check(replace(ROOT, sha256=hashlib.sha256(b"the one").hexdigest()), file)


def test_a_root_is_here_if_it_was_unpacked_of_this_package(tmp_path: Path) -> None:
    (tmp_path / "true-1" / "usr/bin").mkdir(parents=True)
    assert not roots.is_here(ROOT, tmp_path)
    (tmp_path / "true-1" / ".unpacked").write_text(f"{ROOT.sha256}\n")
    assert roots.is_here(ROOT, tmp_path)
    assert not roots.is_here(replace(ROOT, sha256="1" * 64), tmp_path)
    assert roots.paths_of(ROOT, tmp_path) == [str(tmp_path / "true-1/usr/bin")]


def test_a_root_of_pypi_is_an_environment_with_the_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []

    def run(*words: str) -> None:
        ran.append(words)
        if "venv" in words:
            Path(words[-1], "bin").mkdir(parents=True)
        if "download" in words:
            Path(words[words.index("-d") + 1], "true-1.whl").write_bytes(b"the one")

    monkeypatch.setattr(roots, "_run", run)
    there, cache = tmp_path / "roots", tmp_path / "cache"
    one = replace(ROOT, suite=PYPI, sha256=hashlib.sha256(b"the one").hexdigest())
    roots.fetch(one, there, cache, print)
    assert roots.is_here(one, there)
    assert roots.paths_of(one, there) == [str(there / "true-1/bin")]
    assert "true==1" in ran[1]
    assert Path(ran[2][-1]).name == "true-1.whl"
    assert list((cache / "packages").iterdir()) == []
    other = replace(one, name="true-2", sha256="1" * 64)
    with pytest.raises(NoPackage, match="has the digest"):
        roots.fetch(other, there, cache, print)
    assert not roots.is_here(other, there)


# ---- Judging.


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "builds.toml").write_text(ONE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/deviations.toml").write_text("format = 1\n")
    return tmp_path


def drivers(place: Path, *words: str) -> Result:
    options = ["--file", str(place / "builds.toml"), "--data", str(place / "data")]
    return CliRunner().invoke(main, ["drivers", *words, *options])


def test_the_newest_build_has_reproducers_and_the_commands_of_its_roots_come_first(tmp_path: Path) -> None:
    builds = load()
    old, new = builds.chosen(["containers-storage-1.43-overlay", "containers-storage-1.64-overlay"])
    commands = tmp_path / "containers-storage-1.64/usr/bin"
    commands.mkdir(parents=True)
    there = judging.Place(tmp_path, tmp_path)
    assert judging.environment(new, builds, there.roots)["PATH"].startswith(f"{commands}:")
    assert {"--no-evidence", "--no-shrink"} <= set(judging._command(old, builds, there, tmp_path))
    words = judging._command(new, builds, there, tmp_path)
    assert "--evidence" in words
    assert "--no-shrink" not in words
    asked = [words[at + 1] for at, word in enumerate(words) if word == "--requirement"]
    assert tuple(asked) == builds.question.requirements


@pytest.mark.mounts
def test_a_build_is_judged_once_and_its_result_is_data(place: Path) -> None:
    first = drivers(place, "judge", "--output", str(place / "output"))
    assert first.exit_code == 0, first.output
    assert "[1/1] reference: 1 PASS" in first.output
    again = drivers(place, "judge", "--output", str(place / "other"))
    assert again.exit_code == 0, again.output
    assert "its result is in" in again.output
    assert not (place / "other").exists()
    # A result in the output is an answer, too, as long as the requirements are the same.
    (place / "data/reference.tar.xz").unlink()
    result = place / "output/reference/results.jsonl"
    written = result.stat().st_mtime_ns
    assert drivers(place, "judge", "--output", str(place / "output")).exit_code == 0
    assert result.stat().st_mtime_ns == written
    assert "here  1 PASS" in drivers(place, "list").output
    builds = load(place / "builds.toml")
    (judged,) = all_of(builds, place / "data")
    assert why_not_whole(judged.part, builds.question) == ""
    assert judged.cpu > 0


def test_a_build_whose_root_is_not_here_says_what_to_do(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLAY_CONFORMANCE_CACHE", str(place / "cache"))
    text = ONE.replace("roots = []", 'roots = ["true-1"]') + "".join(
        ["\n[[root]]\n", *(f'{name} = "{getattr(ROOT, name)}"\n' for name in Root.__slots__ if name != "also")]
    )
    (place / "builds.toml").write_text(text)
    done = drivers(place, "judge", "--output", str(place / "output"))
    assert done.exit_code == 2
    assert "reference: true-1 is not here; run 'overlay-conformance drivers fetch'" in done.output


def test_without_the_file_of_deviations_nothing_is_judged(place: Path) -> None:
    (place / "data/deviations.toml").unlink()
    done = drivers(place, "judge", "--output", str(place / "output"))
    assert done.exit_code == 2
    assert "run this in a checkout of the project" in " ".join(done.output.split())
    assert not (place / "output").exists()


@pytest.mark.parametrize("file", FILES, ids=FILE_IDS)
def test_a_file_of_builds_has_no_binary_and_no_path_of_a_host(file: Path) -> None:
    text = file.read_text()
    assert len(text) < 1 << 16
    assert f"{Path.home()}/" not in text.replace("{dir}/", "")
    assert tomllib.loads(text)["format"] == 1
