"""Listers: the trees that stand for their lists; a correct one conforms, and mutants of it do not."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from commanding import command
from hypothesis import given
from hypothesis import strategies as st
from reading import verdicts
from served import served

from conformance.drivers.connection import BadConnection, parse
from conformance.drivers.lister import skeleton
from conformance.drivers.unpacker.tool import lister_of, presets
from conformance.operations.listing import as_listed
from conformance.operations.trees import Node, Snapshot
from conformance.spec import load_capabilities

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ("lister:", "name a command, or one of crane"),
        ("lister:tool ls", "names no image"),
        ("lister:tool ls {layout} {directory}", "names a directory or disk"),
        ("lister:tool ls {layout}?result=tar", "write result=names or result=json"),
        ("lister:tool ls {layout}?from=registry", "write from=layout or from=docker-archive"),
    ],
)
def test_what_is_no_lister_is_refused(connection: str, said: str) -> None:
    with pytest.raises(BadConnection, match=said):
        lister_of(parse(connection))


@pytest.mark.parametrize("name", presets("conformance.drivers.lister"))
def test_a_preset_is_whole(name: str) -> None:
    tool = lister_of(parse(f"lister:{name}"))
    assert tool.needs
    assert tool.install or tool.needs == ("tar",)
    assert tool.decline.keys() <= load_capabilities().keys()


@given(st.lists(st.binary(min_size=1).filter(lambda one: b"/" not in one and b"\0" not in one), unique=True))
def test_names_are_read_as_tar_prints_them(names: list[bytes]) -> None:
    escapes = {value: key for key, value in skeleton.ESCAPES.items()}

    def escaped(byte: int) -> bytes:
        return b"\\" + escapes[byte] if byte in escapes else b"\\%03o" % byte

    lines = b"".join(b"".join(map(escaped, name)) + b"\n" for name in names)
    assert skeleton.listed("names", lines) == [(name, "") for name in names]


def test_gnu_tar_prints_names_so(tmp_path: Path) -> None:
    names = [b"a\nb", b"back\\slash", b"tab\t", b"not\xffutf", b"'quote\"", b" space "]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    archive = tmp_path.with_suffix(".tar")
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path, "."], check=True)
    printed = subprocess.run(["tar", "-tf", archive], check=True, capture_output=True).stdout
    types = skeleton.types_of(skeleton.listed("names", printed))
    assert types == dict.fromkeys(names, "")


@pytest.mark.parametrize(
    ("form", "data", "error"),
    [
        ("names", b"a/../../b\n", skeleton.Outside),
        ("names", b"../b\n", skeleton.Outside),
        ("json", b"a\n", ValueError),
        ("json", b'{"path": "a", "type": "door"}\n', ValueError),
        ("json", b'{"path": "a", "type": "symlink"}\n{"path": "a/b", "type": "file"}\n', ValueError),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, form: str, data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        skeleton.make(form, data, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_list_is_a_tree_with_the_modes_that_are_compared(tmp_path: Path) -> None:
    kinds = {b"d": "directory", b"d/f": "file", b"s": "symlink", b"p": "fifo", b"n": ""}
    lines = [json.dumps({"path_base64": base64.b64encode(path).decode(), "type": kinds[path]}) for path in kinds]
    old = os.umask(0o077)
    try:
        skeleton.make("json", "\n".join(lines[1:]).encode(), str(tmp_path))
    finally:
        os.umask(old)
    found = {path: (tmp_path / os.fsdecode(path)).lstat().st_mode for path in kinds}
    bits = {b"d": stat.S_IFDIR, b"d/f": stat.S_IFREG, b"s": stat.S_IFLNK, b"p": stat.S_IFIFO, b"n": stat.S_IFREG}
    tree = Snapshot({path: Node(kind | 0o4711, uid=7, content=b"x") for path, kind in bits.items()}, frozenset())
    assert {path: node.mode for path, node in as_listed(tree, types=True).nodes.items()} == found
    untyped = as_listed(tree, types=False).nodes
    assert untyped[b"s"] == untyped[b"p"] == untyped[b"n"]
    assert untyped[b"d"].is_directory


@dataclass(frozen=True)
class Mutant:
    """The text of the lister that is replaced, the form of its list, and the requirement that has to notice."""

    name: str
    form: str
    breaks: str
    old: str
    new: str


MUTANTS = (
    Mutant("empty_directories_are_left_out", "json", "OVL-APPLY-ROUND-TRIP", "[*directories, *files]", "files"),
    Mutant("symlinks_are_files", "json", "OVL-TREE-KINDS-CHANGE", 'S_IFLNK: "symlink"', 'S_IFLNK: "file"'),
    Mutant("directories_are_files", "names", "OVL-APPLY-ROUND-TRIP", 'kind == "directory"', "False"),
    Mutant("names_are_not_escaped", "names", "OVL-NAMES-CONTROL", "if byte in ESCAPED", "if byte == 92"),
    Mutant("names_are_in_lower_case", "json", "OVL-NAMES-CASE", "b64encode(path)", "b64encode(path.lower())"),
    Mutant(
        "names_are_utf_8",
        "json",
        "OVL-NAMES-BYTES",
        "b64encode(path)",
        'b64encode(path.decode(errors="replace").encode())',
    ),
)
UNPACKING = (
    Mutant("whiteouts_are_ignored", "json", "OVL-WHITEOUT-HIDES", "hide(one, own)", "pass"),
    Mutant("opaque_is_ignored", "json", "OVL-OPAQUE-PRESERVED", "list(path.parent.iterdir())", "[]"),
    Mutant(
        "whiteouts_delete_their_own_layer", "names", "OVL-APPLY-WHITEOUT-AFTER", "if path not in own:", "if True:"
    ),
    Mutant(
        "whiteouts_are_listed",
        "names",
        "OVL-APPLY-WHITEOUT-UNSEEN",
        'elif path.name.startswith(".wh."):',
        "elif False:",
    ),
)


def run(directory: Path, form: str, *options: str) -> subprocess.CompletedProcess[str]:
    return judged(f"{sys.executable} -IS {directory}/naive_lister.py", directory, form, *options)


def judged(command_line: str, directory: Path, form: str, *options: str) -> subprocess.CompletedProcess[str]:
    driver = f"lister:{command_line} {{layout}} {{tag}} {form}?result={form}"
    fixed = ["--results", str(directory / "results"), "--scratch", str(directory)]
    return command("run", driver, *fixed, *options)


def _copied(directory: Path, mutant: Mutant | None = None) -> Path:
    for name in ("naive_lister.py", "naive_unpacker.py"):
        text = (SUPPORT / name).read_text()
        if mutant and (name == "naive_lister.py") is (mutant in MUTANTS):
            assert text.count(mutant.old) == 1, f"{mutant.old!r} is there {text.count(mutant.old)} times"
            text = text.replace(mutant.old, mutant.new)
        (directory / name).write_text(text)
    return directory


@pytest.mark.mounts
@pytest.mark.slow
@pytest.mark.parametrize("form", ["json", "names"])
def test_the_lister_conforms(tmp_path: Path, form: str) -> None:
    options = ("--profile", "quick", "--examples", "1", "--no-evidence")
    with served(_copied(tmp_path) / "naive_lister.py", tmp_path) as tool:
        done = judged(str(tool), tmp_path, form, *options)
    assert done.returncode == 0, done.stdout[-3000:]
    found = verdicts(tmp_path / "results")
    assert list(found.values()).count("PASS") > 12
    assert found["OVL-APPLY-FORMATS"] == "PASS"
    assert found["OVL-APPLY-HARD-LINKS"] == "DECLINED"


@pytest.mark.mounts
@pytest.mark.slow
@pytest.mark.parametrize("mutant", [*MUTANTS, *UNPACKING], ids=lambda mutant: mutant.name)
def test_a_mutant_fails_what_it_breaks(tmp_path: Path, mutant: Mutant) -> None:
    options = ("--requirement", mutant.breaks, "--no-shrink", "-x", "--no-evidence")
    done = run(_copied(tmp_path, mutant), mutant.form, *options)
    assert verdicts(tmp_path / "results").get(mutant.breaks) == "FAIL", done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.mounts
@pytest.mark.slow
@pytest.mark.parametrize("mutant", [UNPACKING[0], UNPACKING[3]], ids=lambda mutant: mutant.form)
def test_a_failure_has_a_reproducer(tmp_path: Path, mutant: Mutant) -> None:
    evidence = tmp_path / "evidence"
    run(_copied(tmp_path, mutant), mutant.form, "--requirement", mutant.breaks, "-x", "--evidence", str(evidence))
    (script,) = evidence.glob("*/repro.sh")
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "conformance" not in done.stdout
