"""The matrix file and its plan: what is wrong is told by line, and nothing is repeated that cannot differ."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from conformance.lab.backing import BACKINGS
from conformance.spec import VARIES, load_requirements
from vm.matrix import FILE, BadMatrix, load
from vm.plan import Choice, NothingChosen, as_github, as_gitlab, as_json, cells_of

REQUIREMENTS = load_requirements()
KERNELS = ["5.10", "6.1", "6.12", "6.16", "6.18", "6.19", "7.0", "7.1", "7.2", "7.3"]


def test_the_projects_own_matrix() -> None:
    matrix = load()
    assert [kernel.release for kernel in matrix.kernels] == KERNELS
    assert {"ext4", "xfs", "xfs-noquota", "xfs-noftype", "btrfs", "tmpfs", "overlay"} <= {
        backing.name for backing in matrix.backings
    }
    assert {name for one in matrix.overlay for name in one.parameters} == {
        "redirect_dir",
        "metacopy",
        "index",
        "xino_auto",
    }


def test_filesystems_are_made_as_the_matrix_says() -> None:
    """The suite makes them, and the file tells of them; the two must not part."""
    known = {one.name: one for one in BACKINGS}
    for backing in load().backings:
        kind = known[backing.name]
        assert (kind.fstype, kind.make, kind.options) == (backing.type, backing.mkfs, backing.mount)


@pytest.mark.parametrize(
    ("before", "after", "line_of", "complaint"),
    [
        ("format: 1", "format: 9", "format: 9", "format: this version reads format 1"),
        ("  limit: 1h", "  limit: soon", "soon", "defaults.limit: 'soon' is not a duration"),
        ("  limit: 1h", "  limit: 1h\n  bugdet: 3m", "bugdet", "defaults.bugdet: no such key; there are"),
        ("  memory: 1024", "  memory: much", "memory: much", "defaults.memory: 'much' has to be a whole number"),
        ("  provider: libvirt", "  provider: cloud", "cloud", "'cloud' is none of libvirt, virtualbox, uml"),
        ('release: "6.1"', 'release: "six"', '"six"', "kernels[1].release: 'six' is not of the form of 6.12"),
        ("name: k6-16\n", "name: k5-10 # 2\n", "name: k5-10 # 2", "the name 'k5-10' is there twice"),
        ('"6.18"\n    suite: trixie-backports\n', '"6.18"\n', "name: k6-18", "kernels[4]: lacks suite"),
        ("backings: [ext4, xfs, btrfs]", "backings: [zfs]", "zfs", "drivers[1].backings[0]: 'zfs' is none of"),
        ("    root: sid", "    root: woody", "root: woody", "drivers[2].root: 'woody' is none of bookworm, sid"),
        ("  - {suite: sid}", "  - {suite: sid}\n  - {suite: sid, }", "sid, }", "the name 'sid' is there twice"),
        ("uml: {suite: trixie, package", "uml: {package", "uml: {package", "kernels[2].uml: lacks suite"),
        ("uml: {suite: sid, ", "uml: {sweet: sid, ", "sweet", "kernels[8].uml.sweet: no such key; there are suite"),
        ("sid, package: user", "sid, source: s, package: user", "source: s", "kernels[8].uml: needs a"),
        ("      sha256: 9647", "      # 9647", "      suite: trixie-backp", "kernels[3].uml: version and"),
        ('metacopy: "Y"', 'metacopy: "maybe"', "maybe", "overlay[2].parameters.metacopy: 'maybe' is none of Y, N"),
        ("  - {name: tmpfs, type: tmpfs}", "  - tmpfs", "  - tmpfs", "backings[7]: has to be a mapping"),
        ("\ndrivers:", "\ndrivers: nobody\nothers:", "nobody", "drivers: has to be a list"),
    ],
)  # fmt: skip
def test_an_error_names_line_and_key(tmp_path: Path, before: str, after: str, line_of: str, complaint: str) -> None:
    text = FILE.read_text()
    assert before in text
    text = text.replace(before, after, 1)
    if after.endswith("others:"):
        text = text.partition("others:")[0]
    file = tmp_path / "matrix.yaml"
    file.write_text(text)
    number = next(number for number, line in enumerate(text.splitlines(), 1) if line_of in line)
    with pytest.raises(BadMatrix) as raised:
        load(file)
    assert f"matrix.yaml, line {number}, " in str(raised.value)
    assert complaint in str(raised.value)


@pytest.mark.parametrize("text", ["", "format: [", "\tformat: 1", "- a list"])
def test_what_is_no_matrix_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "matrix.yaml"
    file.write_text(text)
    with pytest.raises(BadMatrix, match=r"matrix\.yaml"):
        load(file)


def test_each_requirement_is_judged_once_for_each_combination_that_matters() -> None:
    cells = cells_of(load(), Choice(drivers=("refdriver",)), REQUIREMENTS)
    seen: Counter[tuple[str, ...]] = Counter()
    wanted = set()
    for cell in cells:
        place = (cell.kernel.name, cell.backing.name, cell.overlay.name)
        who = cell.privilege
        for one in REQUIREMENTS.values():
            key = (who, one.id, *(part for what, part in zip(VARIES, place, strict=True) if what in one.varies))
            if not one.backing or cell.backing.name in one.backing:
                wanted.add(key)
            if one.id in cell.requirements:
                seen[key] += 1
    assert set(seen.values()) == {1}
    assert seen.keys() == wanted


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (
            Choice(kernels=("6.1",), backings=("xfs",), drivers=("refdriver",)),
            ["k6-1.refdriver.xfs.default", "k6-1.refdriver.xfs.default.user-namespace"],
        ),
        (
            Choice(kernels=("6.1",), privileges=("user*",), overlay=("default",), backings=("tmpfs", "f2fs")),
            ["k6-1.refdriver.tmpfs.default.user-namespace", "k6-1.kernel.tmpfs.default.user-namespace"],
        ),
        (
            Choice(kernels=("k6-1*",), backings=("btrfs",), drivers=("containers-storage",)),
            ["k6-1.containers-storage.btrfs.default", "k6-12.containers-storage.btrfs.default"],
        ),
        (
            # No overlay in a user namespace before 5.11.
            Choice(kernels=("5.10",), backings=("tmpfs",), drivers=("refdriver",)),
            ["k5-10.refdriver.tmpfs.default"],
        ),
        (
            Choice(kernels=("7.3",), overlay=("index",)),
            ["k7-3.refdriver.ext4.index", "k7-3.kernel.ext4.index"],
        ),
    ],
)
def test_cells_are_chosen_by_patterns(choice: Choice, expected: list[str]) -> None:
    assert [cell.name for cell in cells_of(load(), choice, REQUIREMENTS)] == expected


@pytest.mark.parametrize(
    "choice",
    [
        Choice(kernels=("5.9",)),
        Choice(backings=("zfs",)),
        Choice(drivers=("containers-storage",), overlay=("index",)),
    ],
)
def test_a_choice_of_nothing_is_refused(choice: Choice) -> None:
    with pytest.raises(NothingChosen):
        cells_of(load(), choice, REQUIREMENTS)


def test_under_user_mode_linux_there_are_the_kernels_that_have_it(tmp_path: Path) -> None:
    entry = "    uml: {suite: trixie-backports, source: linux-source-7.3}\n"
    assert entry in FILE.read_text()
    file = tmp_path / "matrix.yaml"
    file.write_text(FILE.read_text().replace(entry, ""))
    matrix = load(file).under("uml")
    names = {cell.kernel.name for cell in cells_of(matrix, Choice(), REQUIREMENTS)}
    assert names == {one.name for one in load().kernels} - {"k7-3"}
    assert "k7-3" in {cell.kernel.name for cell in cells_of(load(file).under(""), Choice(), REQUIREMENTS)}
    with pytest.raises(NothingChosen, match=r"--kernel 7\.3 is none of the matrix"):
        cells_of(matrix, Choice(kernels=("7.3",)), REQUIREMENTS)


def test_plans_are_what_ci_systems_read() -> None:
    choice = Choice(kernels=("6.1", "7.3"), drivers=("ref*",))
    cells = cells_of(load(), choice, REQUIREMENTS)
    options = "--shard k7-3 --kernel 6.1 --kernel 7.3 --driver 'ref*'"
    github = json.loads(as_github(cells, choice))
    assert [one["name"] for one in github["include"]] == ["k6-1", "k7-3"]
    assert github["include"][1]["options"] == options
    assert "\n" not in as_github(cells, choice)
    gitlab = yaml.safe_load(as_gitlab(cells, choice))
    assert gitlab["matrix k7-3"] == {"extends": ".matrix", "variables": {"OPTIONS": options}}
    jobs = json.loads(as_github(cells, choice, "uml"))["include"]
    assert all(one["options"].endswith(" --provider uml") for one in jobs)
    plan = json.loads(as_json(cells, choice))
    assert plan["format"] == 1
    assert [one["name"] for one in plan["cells"]] == [cell.name for cell in cells]
    assert {name for job in plan["jobs"] for name in job["cells"]} == {cell.name for cell in cells}


@pytest.mark.slow
@pytest.mark.parametrize("choice", [Choice(), Choice(kernels=("6.*",), backings=("xfs*",))])
def test_shards_are_the_whole_and_no_more(choice: Choice) -> None:
    """A job that runs apart judges what its cells judge among the others."""
    whole = cells_of(load(), choice, REQUIREMENTS)
    plan = json.loads(as_json(whole, choice))
    shards = [cells_of(load(), replace(choice, shard=job["name"]), REQUIREMENTS) for job in plan["jobs"]]
    assert len(shards) > 1
    assert [cell for shard in shards for cell in shard] == whole
    # The command line knows these options.
    words = [
        sys.executable,
        "-m",
        "conformance",
        "matrix",
        "run",
        *shlex.split(plan["jobs"][0]["options"]),
        "--help",
    ]
    subprocess.run(words, check=True, capture_output=True)
    with pytest.raises(NothingChosen, match="--shard k9-9 is none of "):
        cells_of(load(), replace(choice, shard="k9-9"), REQUIREMENTS)


@pytest.mark.slow
def test_the_verb_lists_the_cells() -> None:
    command = [sys.executable, "-m", "conformance", "matrix", "list", "--kernel", "6.1", "--driver", "refdriver"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "k6-1.refdriver.xfs.default " in done.stdout
    assert "k6-1.refdriver.xfs.default " in subprocess.check_output([*command, "--provider", "uml"], text=True)
    command[-1] = "nobody"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--driver nobody is none of the matrix: refdriver, containers-storage" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["list", "plan"])
def test_cells_are_shown_without_the_packages_of_machines(verb: str) -> None:
    """The first command of the README installs neither python-vagrant nor Vagrant."""
    code = "import sys; sys.modules['vagrant'] = None; from conformance.cli import main; main()"
    command = [sys.executable, "-c", code, "matrix", verb, "--kernel", "6.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": ""})
    assert done.returncode == 0, done.stderr
    assert "k6-1.refdriver.xfs.default" in done.stdout


@pytest.mark.slow
def test_a_plan_that_is_not_read_to_its_end_is_no_mistake() -> None:
    command = [sys.executable, "-m", "conformance", "matrix", "plan"]
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, check=False)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
def test_one_matrix_runs_on_a_host(tmp_path: Path) -> None:
    """Also with a cache of its own, as names of machines are the host's."""
    command = [sys.executable, "-m", "conformance", "matrix", "clean"]
    environment = {**os.environ, "OVERLAY_CONFORMANCE_CACHE": str(tmp_path / "one")}
    with refusals_of_others(tmp_path / "another"):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "another 'matrix' is under way on this host" in done.stderr


@contextlib.contextmanager
def refusals_of_others(cache: Path) -> Iterator[None]:
    """As while a run is under way; if there is one on this host, it is that."""
    code = f"import pathlib, vm.common; vm.common.alone(pathlib.Path({str(cache)!r})); print(flush=True); input()"
    words = [sys.executable, "-c", code]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.stdin.close()
