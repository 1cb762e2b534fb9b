"""Unpackers: a correct one conforms, and each mutant of it fails the requirement that it breaks."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from commanding import command
from reading import verdicts
from served import served

from conformance.drivers.unpacker.tool import presets
from conformance.spec import load_requirements

pytestmark = [pytest.mark.mounts, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
ARGUMENTS = "{layout} {tag} {directory}"
NAIVE = ROOT / "tests" / "support" / "naive_unpacker.py"


@dataclass(frozen=True)
class Mutant:
    """The text that is replaced, and the requirement that has to notice."""

    name: str
    breaks: str
    old: str
    new: str


MUTANTS = (
    Mutant("follows_symlinks", "OVL-HOSTILE-SYMLINK", "not path.is_symlink() and path.is_dir()", "path.is_dir()"),
    Mutant("goes_up", "OVL-HOSTILE-DOTDOT", 'if ".." in parts:', "if False:"),
    Mutant("takes_absolute_names", "OVL-HOSTILE-ABSOLUTE", "root.joinpath(*parts)", "root.joinpath(name)"),
    Mutant(
        "links_to_absolute_paths",
        "OVL-HOSTILE-HARD-LINK",
        "inside(entry.linkname) if entry.islnk()",
        "Path(root, entry.linkname) if entry.islnk()",
    ),
    Mutant(
        "links_through_symlinks",
        "OVL-HOSTILE-HARD-LINK",
        "(is_reached(target) and os.path.lexists(target))",
        "os.path.lexists(target)",
    ),
    Mutant("replaces_the_root", "OVL-HOSTILE-DOT", "if path == root:", "if path == root and entry.isdir():"),
    Mutant("whiteouts_of_dots_delete", "OVL-HOSTILE-WHITEOUT-DOTS", 'if name in ("", ".", ".."):', "if False:"),
    Mutant("whiteouts_follow_symlinks", "OVL-HOSTILE-WHITEOUT-OUT", "if is_reached(path):", "if True:"),
    Mutant("opaque_follows_symlinks", "OVL-HOSTILE-OPAQUE-OUT", "if is_reached(path):", "if path.parent.is_dir():"),
    Mutant("takes_damaged_archives", "OVL-HOSTILE-CHECKSUM", '.strip(b"\\0"):', ".strip() == b'damaged':"),
    Mutant("takes_negative_sizes", "OVL-HOSTILE-SIZE", "if len(content) != entry.size:", "if False:"),
    Mutant("whiteouts_are_ignored", "OVL-WHITEOUT-HIDES", "hide(one, own)", "pass"),
    Mutant("whiteouts_are_files", "OVL-APPLY-WHITEOUT-UNSEEN", 'elif path.name.startswith(".wh."):', "elif False:"),
    Mutant("whiteouts_delete_their_own_layer", "OVL-APPLY-WHITEOUT-AFTER", "if path not in own:", "if True:"),
    Mutant(
        "missing_whiteouts_are_errors",
        "OVL-APPLY-WHITEOUT-MISSING",
        "    if path not in own:\n        remove(path)",
        "    if path not in own:\n        path.lstat()\n        remove(path)",
    ),
    Mutant("opaque_is_ignored", "OVL-OPAQUE-PRESERVED", "list(path.parent.iterdir())", "[]"),
    Mutant(
        "opaque_is_the_first_entry",
        "OVL-APPLY-OPAQUE-ORDER",
        "hide(one, own)",
        'hide(one, own if name[0] != "." else set())',
    ),
    Mutant(
        "aufs_names_delete",
        "OVL-APPLY-OTHER-MARKS",
        'or not name.startswith(".wh.") else []',
        "or not sys.exit(1) else []",
    ),
    Mutant("parents_are_not_made", "OVL-APPLY-PARENTS", "above.mkdir(0o755)", "sys.exit(1)"),
    Mutant(
        "directories_are_replaced",
        "OVL-APPLY-KINDS",
        "not (entry.isdir() and is_directory(path))",
        "path != target",
    ),
    Mutant(
        "files_are_written_through",
        "OVL-APPLY-KINDS",
        "        remove(path)\n    if entry.islnk():",
        "        path.is_file() or remove(path)\n    if entry.islnk():",
    ),
    Mutant(
        "links_are_copies",
        "OVL-APPLY-HARD-LINKS",
        "os.link(target, path, follow_symlinks=False)",
        "shutil.copy2(target, path, follow_symlinks=False)",
    ),
    Mutant(
        "directories_have_the_time_of_the_last_entry",
        "OVL-APPLY-DIRECTORY-TIMES",
        "for path in filter(is_directory, times):",
        "for path in ():",
    ),
    Mutant("modes_are_those_of_the_umask", "OVL-META-MODES", "entry.mode & 0o7777", "entry.mode & 0o7755"),
    Mutant("special_bits_are_lost", "OVL-META-SPECIAL-BITS", "entry.mode & 0o7777", "entry.mode & 0o777"),
    Mutant("owners_are_lost", "OVL-META-OWNERS", "os.chown(path, entry.uid, entry.gid", "os.chown(path, 0, 0"),
    Mutant(
        "owner_after_mode",
        "OVL-META-OWNERS-AND-BITS",
        "            if not entry.islnk():\n",
        "            os.lchown(path, entry.uid, entry.gid)\n            if not entry.islnk():\n",
    ),
    Mutant("attributes_are_lost", "OVL-META-XATTRS", '"SCHILY.xattr.user.", ', ""),
    Mutant("capabilities_are_lost", "OVL-META-CAPABILITY", ', "SCHILY.xattr.security."', ""),
    Mutant("times_are_rounded_up", "OVL-META-TIMES-DOWN", "* 10**9)\n", "+ 1) * 10**9\n"),
    Mutant("minor_numbers_have_8_bits", "OVL-META-DEVICES", "entry.devminor)", "entry.devminor & 255)"),
    Mutant("pipes_are_files", "OVL-META-FIFOS", "tarfile.FIFOTYPE: stat.S_IFIFO, ", ""),
    Mutant("names_have_no_case", "OVL-NAMES-CASE", 'in name.split("/")', 'in name.lower().split("/")'),
    Mutant("names_are_utf_8", "OVL-NAMES-BYTES", 'encoding="utf-8"', 'encoding="utf-8", errors="replace"'),
)


def run(program: Path, results: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return judged(f"{sys.executable} -IS {program}", results, *options)


def judged(command_line: str, results: Path, *options: str) -> subprocess.CompletedProcess[str]:
    driver = f"unpacker:{command_line} {ARGUMENTS}"
    fixed = ["--no-evidence", "--results", str(results), "--scratch", str(results.parent)]
    return command("run", driver, *fixed, *options)


@pytest.mark.mounts
@pytest.mark.parametrize(
    ("also", "found"),
    [("true", ("OVL-META-MODES", "PASS")), ("chmod -R go= {directory}", ("OVL-APPLY-ROUND-TRIP", "FAIL"))],
)
def test_a_disk_is_read_as_a_tree(scratch: Path, also: str, found: tuple[str, str]) -> None:
    """mke2fs writes what the unpacker left into an image: all of it, or not."""
    program = f"{sys.executable} -IS {NAIVE} {{layout}} {{tag}} {{directory}}"
    driver = f"unpacker:{program} && {also} && mke2fs -q -t ext4 -d {{directory}} {{disk}} 8M?result=disk"
    words = ["--examples", "1", "--scratch", str(scratch), "--results", str(scratch / "results")]
    command("run", driver, "--requirement", "OVL-META-MODES", *words, cwd=scratch)
    assert found in verdicts(scratch / "results").items()
    assert bool(list(scratch.rglob("repro.sh"))) == ("FAIL" in found)


def test_the_unpacker_conforms(tmp_path: Path) -> None:
    with served(NAIVE, tmp_path) as tool:
        done = judged(str(tool), tmp_path / "results", "--budget", "once")
    assert done.returncode == 0, done.stdout[-3000:]
    found = verdicts(tmp_path / "results")
    assert list(found.values()).count("PASS") > 70
    assert found["OVL-APPLY-FORMATS"] == found["OVL-HOSTILE-SYMLINK"] == "PASS"
    assert found["OVL-TREE-MODEL"] == found["OVL-LIFE-CREATE"] == found["OVL-DIFF-TAR"] == "DECLINED"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fails_what_it_breaks(tmp_path: Path, mutant: Mutant) -> None:
    text = NAIVE.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.old!r} is there {text.count(mutant.old)} times"
    program = tmp_path / "mutant.py"
    program.write_text(text.replace(mutant.old, mutant.new))
    done = run(program, tmp_path / "results", "--requirement", mutant.breaks, "--no-shrink", "-x")
    assert verdicts(tmp_path / "results").get(mutant.breaks) == "FAIL", done.stdout[-3000:] + done.stderr[-1000:]
    assert done.returncode == 1


def test_a_failure_has_a_reproducer(tmp_path: Path) -> None:
    """It needs the tool, tar and a shell; the run has tried it."""
    mutant = next(one for one in MUTANTS if one.name == "whiteouts_are_ignored")
    program = tmp_path / "mutant.py"
    program.write_text(NAIVE.read_text().replace(mutant.old, mutant.new))
    driver = f"unpacker:{sys.executable} -IS {program} {ARGUMENTS}"
    evidence = tmp_path / "evidence"
    command("run", driver, "--requirement", mutant.breaks, "-x", "--evidence", str(evidence))
    (script,) = evidence.glob("*/repro.sh")
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "conformance" not in done.stdout


def test_mutants_break_known_requirements() -> None:
    assert {one.breaks for one in MUTANTS} <= load_requirements().keys()
    assert len({one.name for one in MUTANTS}) == len(MUTANTS) >= 20


@pytest.mark.parametrize(
    ("tree", "status", "left"), [("mkdir", 0, ["etc"]), ("ln -s ../outside", 1, ["dev", "etc"])]
)
def test_what_apptainer_adds_is_removed_and_nothing_outside(
    tmp_path: Path, tree: str, status: int, left: list[str]
) -> None:
    """A stand-in for the tool, as no image makes the tool itself leave a symlink."""
    outside, directory, tool = tmp_path / "outside", tmp_path / "directory", tmp_path / "apptainer"
    for made in (outside, directory, tmp_path / "work"):
        made.mkdir()
    for name in ("dev", "etc"):
        (outside / name).mkdir()
    tool.write_text(f'#!/bin/sh\n{tree} "$4" && mkdir -p "$4/dev" "$4/etc"\n')
    tool.chmod(0o755)
    with tarfile.open(tmp_path / "layer.tar", "w") as layer:
        layer.addfile(tarfile.TarInfo("./etc/file"))
    preset = presets("conformance.drivers.unpacker")["apptainer"]
    places = {"layout": "layout", "directory": str(directory), "work": str(tmp_path / "work")}
    filled = preset.filled({name: [one] for name, one in {**places, "layers": str(tmp_path / "layer.tar")}.items()})
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["/bin/sh", "-ec", filled], check=False, env={**os.environ, "PATH": path})
    assert done.returncode == status
    assert sorted(one.name for one in (directory / "tree").iterdir()) == left
    assert sorted(one.name for one in outside.iterdir()) == ["dev", "etc"]
