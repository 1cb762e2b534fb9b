"""Whose fault a failure is: a driver that changes its own files, or answers nonsense, is FAIL and never ERROR."""

from __future__ import annotations

import ast
import errno
import os
import tarfile
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from conformance import machines, suites
from conformance.cli.progress import Progress
from conformance.drivers.protocol import DriverFailed, DriverInfo
from conformance.drivers.registry import connect
from conformance.drivers.source import DriverSource
from conformance.harness import compare
from conformance.harness.attribution import OF_THE_MACHINE, of_the_driver
from conformance.harness.deviation import Deviation
from conformance.harness.entries import entry_names
from conformance.harness.following import follow
from conformance.harness.place import Place
from conformance.harness.recorded import RecordedDriver
from conformance.harness.session import Session
from conformance.harness.store import RecordedStore
from conformance.harness.stores import BackingBench, Fixtures
from conformance.harness.task import Task
from conformance.harness.timing import Stopwatch
from conformance.history.calls import Get, Put, Remove
from conformance.history.steps import History
from conformance.operations import ops
from conformance.operations.real import perform, with_links
from conformance.spec import load_capabilities, load_requirements
from conformance.spec.verdicts import TestOutcome, Verdict
from conformance.suites.fewest import check_fewest

STORE = Path("/stores/s1")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/stores/s1/overlay/layer/link"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", b"/stores/s1/overlay/layer/diff"),
        OSError(errno.ENOTCONN, "Transport endpoint is not connected", "/stores/s1/overlay/layer/merged"),
        OSError(errno.EXDEV, "Invalid cross-device link", "/elsewhere", None, "/stores/s1/overlay"),
        IsADirectoryError(errno.EISDIR, "Is a directory", "/stores/s1/../s1/archive-1.tar"),
    ],
)
def test_an_error_about_the_drivers_files_is_the_drivers(error: OSError) -> None:
    with pytest.raises(Deviation) as deviation, of_the_driver(STORE):
        raise error
    assert str(error.strerror) in str(deviation.value)


@pytest.mark.parametrize(
    "error", [tarfile.ReadError("empty file"), EOFError("cut"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")]
)
def test_what_cannot_be_parsed_is_the_drivers(error: Exception) -> None:
    with pytest.raises(Deviation, match="what the driver wrote cannot be read"), of_the_driver(STORE):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/stores/s10/overlay"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/stores/s1"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/stores/s1/../s2/file"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "relative"),
        OSError(errno.EBADF, "Bad file descriptor", 7),
        OSError(errno.EBADF, "Bad file descriptor"),
        *(OSError(number, os.strerror(number), "/stores/s1/overlay/x") for number in sorted(OF_THE_MACHINE)),
        KeyError("/stores/s1/overlay"),
    ],
)
def test_any_other_error_stays_one_of_the_harness(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, of_the_driver(STORE):
        raise error
    assert raised.value is error


class Fake:
    """A driver whose layers are a directory, and whose ``remove`` has an error of its code."""

    image_store = ""

    def __init__(self, root: Path) -> None:
        self.home = str(root)

    def create(self, *_: object) -> None:
        """Every layer is the same."""

    def get(self, *_: object) -> str:
        return self.home

    def put(self, *_: object) -> None:
        """Nothing was mounted."""

    def remove(self, *_: object) -> None:
        raise DriverFailed("NameError: name 'retrun' is not defined")


def store_of(scratch: Path) -> RecordedStore:
    history = History()
    fake: Any = Fake(scratch)  # it has what is called
    return RecordedStore(RecordedDriver(fake, Stopwatch(), history, "store"), scratch, history)


def test_a_name_that_a_tree_lacks_is_a_deviation(scratch: Path) -> None:
    (scratch / "there").touch()
    seen = store_of(scratch).observed("layer")
    assert seen.nodes[b"there"].content == b""
    assert b"missing" not in seen.nodes
    with pytest.raises(Deviation, match="the tree of layer has no b'missing'"):
        seen.nodes[b"missing"]


def test_harm_that_cannot_be_done_as_the_file_is_gone_is_a_deviation(scratch: Path) -> None:
    store = store_of(scratch)
    for harm in (ops.Unlink(b"layer-1/link"), ops.Unlink(b"l/{link:layer-1}"), ops.Truncate(b"lower", 3)):
        with pytest.raises(Deviation, match="a test changes the driver's files"):
            store.tamper([harm])
    with pytest.raises(FileNotFoundError):
        store.tamper([ops.Unlink(b"of-the-harness")], "directory")


@given(st.binary(max_size=2000) | st.binary(max_size=600).map(lambda data: b"\x1f\x8b\x08" + data))
def test_bytes_that_are_no_archive_are_a_deviation(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "archive.tar"
    path.write_bytes(data)
    try:
        entry_names(path)
    except Deviation as deviation:
        assert "cannot read the diff" in str(deviation)  # noqa: PT017 # what can be read is no deviation


def test_a_programming_error_is_no_refusal(scratch: Path) -> None:
    store = store_of(scratch)
    with pytest.raises(DriverFailed, match="retrun"):
        store.refuses(Remove("base"))


def test_a_call_without_an_answer_is_not_shrunk(scratch: Path) -> None:
    """It may take as long as a call may take, each time."""
    session = Session("d", "smoke", 1, (), "root", (), {}, ())
    source = DriverSource(DriverInfo("d", "1"), lambda _: Fake(scratch))  # type: ignore[arg-type,return-value]
    fixtures = Fixtures(session, source, History(), Stopwatch(), load_requirements(), load_capabilities())
    checked: list[int] = []

    def check(chain: tuple[tuple[ops.Operation, ...], ...]) -> None:
        checked.append(len(chain))
        raise DriverFailed("did not answer")

    with pytest.raises(DriverFailed):
        check_fewest(BackingBench(fixtures, Place("host", str(scratch)), "main"), [(), ()], check)
    assert checked == [2]


@pytest.mark.mounts
@pytest.mark.parametrize("renews", [False, True])
def test_times_that_the_filesystem_renews_are_not_the_drivers(scratch: Path, renews: bool) -> None:
    """f2fs gives a directory that is moved another time, so each directory that overlay copies up."""
    session = Session("d", "smoke", 1, (), "root", (), {}, ())
    source = connect("python:refdriver:Driver")
    fixtures = Fixtures(session, source, History(), Stopwatch(), load_requirements(), load_capabilities())
    bench = BackingBench(fixtures, Place("host", str(scratch), renews_times=renews), "main")
    with closing(source), bench.store() as store:
        store.build([[ops.MakeDirectory(b"d", 0o755), ops.SetTimes(b"d", 10**9)]])
        os.utime(os.path.join(store.do(Get("layer-0")), "d"), (2, 2))
        store.do(Put("layer-0"))
        with nullcontext() if renews else pytest.raises(Deviation, match="'d': mtime"):
            store.shows_model("layer-0")


CAUGHT = ("Exception", "BaseException", "DriverFailed")
# The handlers that may keep a call without an answer from the verdict, with the reason.
KEEPING = {
    ("test_crash.py", "rest"): "the disk is gone under the driver, and nobody is to blame",
    ("failing.py", "_attempt"): "it fails its requirement, unless a command that served this call alone crashed",
    ("failing_openings.py", "_turn"): "the same, of an opening",
    ("fewest.py", "_fails"): "it is not the failure that is shrunk",
    ("processes.py", "in_child"): "its exit status says that it failed, which is a deviation",
    ("compare.py", "_said"): "that one driver gives no answer is what is compared",
    ("compare.py", "main"): "it is passed on to the controller",
}


def handlers() -> list[tuple[str, str, ast.ExceptHandler | ast.With]]:
    """Every ``except`` and ``with`` of the tests, with its file and the innermost function around it."""
    roots = [Path(str(one.__file__)).parent for one in (suites, machines)]
    files = [*(path for root in roots for path in sorted(root.glob("*.py"))), Path(str(compare.__file__))]
    found: dict[int, tuple[str, str, ast.ExceptHandler | ast.With]] = {}
    for path in files:
        for function in ast.walk(ast.parse(path.read_text())):  # outer functions first
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, (ast.ExceptHandler, ast.With)):
                        found[id(node)] = (path.name, function.name, node)
    return list(found.values())


def names_in(node: ast.AST | None) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} if node else set()


def test_no_test_takes_a_call_without_an_answer_for_a_refusal() -> None:
    wrong = []
    for file, function, node in handlers():
        if isinstance(node, ast.ExceptHandler):
            again = any(isinstance(one, ast.Raise) for one in ast.walk(node))
            if names_in(node.type) & set(CAUGHT) and not again and (file, function) not in KEEPING:
                wrong.append(f"{file}, line {node.lineno}: {function} catches what is no refusal")
        else:
            said = [item.context_expr for item in node.items]
            for one in said:
                names = names_in(one)
                if {"suppress", "DriverRefused"} <= names and "DriverFailed" not in names:
                    wrong.append(f"{file}, line {node.lineno}: {function} clears up after refusals only")
    assert wrong == []


HOSTILE = '''
import contextlib
import io
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from refdriver import Driver
from refdriver.changes import Change

CALLS = ("create", "create_read_write", "remove", "get", "put", "exists", "status", "metadata", "diff",
         "apply_diff", "changes", "diff_size", "cleanup")


class Between(Driver):
    """Its home is whole during a call, and changed between two."""

    def __init__(self, home, **asked):
        self.where = Path(home)
        self.away = Path(home).parent / "away"
        self.away.mkdir(exist_ok=True)
        self.whole(Path(home))
        super().__init__(home, **asked)
        self.changed(Path(home))

    def whole(self, home):
        for kept in sorted(self.away.iterdir()):
            layer, _, name = kept.name.partition("=")
            if (home / layer).is_dir():
                shutil.copy(kept, home / layer / name)  # the home is a mount of its own
            kept.unlink()

    def changed(self, home):
        for file in sorted(home.glob(f"*/{self.file}")):
            shutil.copy(file, self.away / f"{file.parent.name}={self.file}")
            self.change(file)

    def change(self, file):
        file.unlink()


def around(name):
    def call(self, *words, **more):
        home = self.where
        self.whole(home)
        try:
            return getattr(Driver, name)(self, *words, **more)
        finally:
            self.changed(home)
    return call


for name in CALLS:
    setattr(Between, name, around(name))


class LinkGone(Between):
    file = "link"

class LowerGone(Between):
    file = "lower"

class LinkIsNoText(Between):
    file = "link"
    def change(self, file):
        file.write_bytes(b"\\xff\\xfe\\x00")

class LinkIsADirectory(Between):
    file = "link"
    def change(self, file):
        file.unlink()
        file.mkdir()
    def whole(self, home):
        for file in home.glob("*/link"):
            if file.is_dir():
                file.rmdir()
        super().whole(home)

class TreeGone(Driver):
    """A tree is gone as soon as it was got."""
    def get(self, layer_id, label=""):
        root = super().get(layer_id, label)
        subprocess.run(["umount", "-l", root], check=False, stderr=subprocess.DEVNULL)
        with contextlib.suppress(OSError):
            os.rmdir(root)
        return root

class HomeWithoutLinks(Between):
    """The directory of short links has another name between two calls."""
    file = "no-such-file"
    def changed(self, home):
        if (home / "l").is_dir():
            (home / "l").rename(home / ".links")
    def whole(self, home):
        if (home / ".links").is_dir():
            (home / ".links").rename(home / "l")

class SaysNothing(Driver):
    def metadata(self, layer_id):
        return {}
    def status(self):
        return {}
    def changes(self, layer_id, parent=""):
        return []
    def diff_size(self, layer_id, parent=""):
        return -1
    def exists(self, layer_id):
        return False

class SaysNonsense(Driver):
    def metadata(self, layer_id):
        super().metadata(layer_id)
        return {"UpperDir": "/no/such/directory", "": "\\0", "LowerDir": ":::"}
    def status(self):
        return {"Backing Filesystem": "\\udcff\\n", "Supports d_type": "perhaps"}
    def changes(self, layer_id, parent=""):
        found = super().changes(layer_id, parent)
        odd = [b"", b"relative", b"/../..", b"/\\0", b"/" + b"x" * 5000, b"/\\xff"]
        return found + [Change(path, one.kind) for path, one in zip(odd, found * 6)]
    def diff_size(self, layer_id, parent=""):
        return 1 << 80

class DiffIsNoArchive(Driver):
    def diff(self, layer_id, parent=""):
        super().diff(layer_id, parent).close()
        return io.BytesIO(b"\\x1f\\x8b\\x08" + b"nothing" * 200)

class DiffIsEmpty(Driver):
    def diff(self, layer_id, parent=""):
        super().diff(layer_id, parent).close()
        return io.BytesIO(b"")
'''
# The tests that look at files of the home, at answers that are no trees, and at diffs. The whole profile judges one
# driver that harms its home, one that loses trees and one that packs no archives, so that a test of another family
# that looks is found. When it judged all of these drivers, no other tests than these saw the harm.
EVERYTHING = ("OVL-",)
OF_HOMES = (
    *("OVL-CLAIM-", "OVL-LAYOUT-", "OVL-LIFE-CALL", "OVL-MOUNT-LOWER", "OVL-OPEN-", "OVL-PARALLEL-"),
    *("OVL-RESTART-", "OVL-STORE-"),
)
OF_ANSWERS = ("OVL-CHANGES-", "OVL-CLAIM-", "OVL-LAYOUT-", "OVL-LIFE-", "OVL-SIZE-", "OVL-STATUS-", "OVL-STORE-")
OF_DIFFS = (
    *("OVL-APPLY-", "OVL-CLAIM-", "OVL-DIFF-", "OVL-HOSTILE-", "OVL-IDMAP-", "OVL-LIFE-HISTORY", "OVL-META-"),
    *("OVL-MOUNT-READ", "OVL-OPAQUE-", "OVL-SIZE-", "OVL-STORE-", "OVL-WHITEOUT-"),
)
JUDGED_BY = {
    "LinkGone": OF_HOMES,
    "LowerGone": OF_HOMES,
    "LinkIsNoText": EVERYTHING,
    "LinkIsADirectory": OF_HOMES,
    "TreeGone": EVERYTHING,
    "HomeWithoutLinks": OF_HOMES,
    "SaysNothing": OF_ANSWERS,
    "SaysNonsense": OF_ANSWERS,
    "DiffIsNoArchive": EVERYTHING,
    "DiffIsEmpty": OF_DIFFS,
}


def quick(scratch: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> list[TestOutcome]:
    """Judge a driver by the tests of the profile quick that its harm reaches, whatever the preflight would say."""
    judged_by = tuple(one for one in load_requirements() if one.startswith(JUDGED_BY[name]))
    (scratch / "modules").mkdir()
    (scratch / "modules" / "unkind.py").write_text(HOSTILE)
    (scratch / "run").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(scratch / "modules"))
    task = Task(
        f"python:unkind:{name}",
        str(scratch / "run"),
        os.getpid(),
        judged_by,
        "quick",
        1,
        1,
        unshrunk=judged_by,
        preflight=False,
    )
    with Progress(Console(), "judging") as progress:
        told = follow("conformance.harness.worker", task, progress)
    assert told.failure == ""
    return told.outcomes


@pytest.mark.mounts
@pytest.mark.parametrize("name", JUDGED_BY)
def test_a_driver_that_harms_itself_fails_and_the_harness_does_not(
    scratch: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = quick(scratch, name, monkeypatch)
    errors = [f"{one.test}: {one.reason[-600:]}" for one in outcomes if one.verdict is Verdict.ERROR]
    assert errors == []
    assert Verdict.FAIL in {one.verdict for one in outcomes}


@pytest.mark.parametrize("said", [b"", b"..", b"../../../canary", b"/canary", b"a\0b"])
def test_a_link_that_is_no_name_is_never_followed(tmp_path: Path, said: bytes) -> None:
    """Tests of damage remove the short link that the driver's own file names; it must be one of the home."""
    (tmp_path / "canary").touch()
    (tmp_path / "a" / "home" / "l").mkdir(parents=True)
    (tmp_path / "a" / "home" / "layer").mkdir()
    (tmp_path / "a" / "home" / "layer" / "link").write_bytes(said)
    home = str(tmp_path / "a" / "home")
    with pytest.raises(OSError, match="no name of a short link"):
        with_links(ops.Unlink(b"l/{link:layer}"), home)
    with pytest.raises(OSError, match="path of an operation"):
        perform(home, ops.Unlink(b"l/../../../canary"))
    assert (tmp_path / "canary").exists()
