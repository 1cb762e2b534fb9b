"""Which paths of a driver are used, what a run may write to, and what a reproducer takes for a proof."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from conformance.drivers.protocol import OpenRequest
from conformance.drivers.python.script import PythonClass
from conformance.drivers.registry import UnknownDriver, connect, writable_of
from conformance.evidence.folder import run_script
from conformance.evidence.reproducer import Heading, script
from conformance.harness.contained import REQUIREMENT, Bounds, Escaped
from conformance.history.calls import Changes, Create, Get
from conformance.history.case import Case
from conformance.history.findings import Finding, NotContained, NotDone, WrongAnswer
from conformance.history.steps import Called, Opened, Step
from refdriver.linux import libc

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "nothing": "",
    "none": None,
    "number": 7,
    "bytes": b"/tmp",
    "root": "/",
    "relative": "store/tree",
    "nul": "{own}/tree\0",
    "lone-surrogate": "{own}/\ud800",
    "dots": "{own}/tree/../../other/tree",
    "another-store": "{other}/tree",
    "a-longer-name": "{own}-2/tree",
    "the-store-itself": "{own}",
    "symlink-out": "{own}/out",
    "symlink-loop": "{own}/loop",
    "file": "{own}/file",
    "missing": "{own}/missing",
}
INSIDE = {
    "tree": "{own}/tree",
    "dots": "{own}/tree/../tree/./",
    "symlink-in": "{own}/in",
    "image-store": "{images}/tree",
}


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    for name in ("own", "own-2", "other", "images"):
        (tmp_path / name / "tree").mkdir(parents=True)
    (tmp_path / "own/file").touch()
    for name, target in {"out": "/usr", "loop": "loop", "in": "tree"}.items():
        (tmp_path / "own" / name).symlink_to(target)
    return tmp_path


def bounds(stores: Path) -> Bounds:
    return Bounds(OpenRequest(stores / "own", image_stores=(stores / "images",)))


def named(answer: object, stores: Path) -> object:
    names = {name: str(stores / name) for name in ("own", "other", "images")}
    return answer.format(**names) if isinstance(answer, str) else answer


@pytest.mark.parametrize("answer", OUTSIDE)
def test_with_concurrent_callers_only_what_is_missing_is_no_failure(stores: Path, answer: str) -> None:
    """Another caller may have removed the layer since; a path that is used must be inside all the same."""
    said = named(OUTSIDE[answer], stores)
    if answer == "missing":
        assert bounds(stores).check(said, "get layer", alone=False) == said
    else:
        with pytest.raises(Escaped):
            bounds(stores).check(said, "get layer", alone=False)


@pytest.mark.parametrize("answer", OUTSIDE)
def test_a_path_outside_of_the_store_is_a_failure(stores: Path, answer: str) -> None:
    with pytest.raises(Escaped) as caught:
        bounds(stores).check(named(OUTSIDE[answer], stores), "get layer")
    assert caught.value.requirements == (REQUIREMENT,)
    assert str(caught.value).startswith("get layer: expected the path of a directory below ")


@pytest.mark.parametrize("answer", INSIDE)
def test_a_path_inside_of_the_store_is_used(stores: Path, answer: str) -> None:
    path = named(INSIDE[answer], stores)
    assert bounds(stores).check(path, "get layer") == path


@pytest.mark.mounts
@pytest.mark.parametrize(("source", "used"), [("other/tree", False), ("own/in", True), ("images/tree", True)])
def test_a_bind_mount_counts_as_what_it_shows(stores: Path, source: str, used: bool) -> None:
    point = stores / "own/tree"
    libc.mount(str((stores / source).resolve()), str(point), None, libc.MS_BIND, None)
    try:
        if used:
            assert bounds(stores).check(str(point), "get layer") == str(point)
        else:
            with pytest.raises(Escaped, match="from outside of it, is mounted there"):
                bounds(stores).check(str(point), "get layer")
    finally:
        libc.umount(str(point), 0)


@pytest.mark.mounts
@pytest.mark.parametrize("place", ["own/tree", "images/tree"])
def test_a_filesystem_that_is_mounted_in_a_store_is_of_the_store(stores: Path, place: str) -> None:
    """Drivers mount the tree of an image in its own store: another requirement judges what that changes there."""
    point = stores / place
    libc.mount("tmpfs", str(point), "tmpfs", 0, None)
    try:
        assert bounds(stores).check(str(point), "get layer") == str(point)
    finally:
        libc.umount(str(point), 0)


PROTECTED = """
import sys
from pathlib import Path
from conformance.lab import namespace, readonly

scratch, declared, outside = map(Path, sys.argv[1:])
namespace.enter_private_mounts()
assert readonly.protect([scratch, declared]) == [], "all mounts are read-only"
assert readonly.protect([scratch, declared]) == [], "as they are when it is done again"
for path, works in ((scratch, True), (declared, True), (outside, False), (Path("/etc"), False), (Path("/"), False)):
    try:
        (path / "overlay-conformance-evil").touch()
    except OSError as error:
        assert not works and error.errno == 30, (path, error)
    else:
        assert works, path
namespace.mount_tmpfs(scratch / "mounted")
(scratch / "mounted" / "written").touch()
readonly.allow([outside])
(outside / "written").touch()
"""


@pytest.mark.mounts
def test_only_what_is_named_is_writable(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("scratch", "declared", "outside")]
    for path in [*paths, tmp_path / "scratch/mounted"]:
        path.mkdir()
    words = [sys.executable, "-c", PROTECTED, *map(str, paths)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in paths[2].iterdir()] == ["written"]
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


SHARED_MEMORY = """
import sys
from pathlib import Path
from conformance.lab import libc, namespace, readonly

there, scratch, outside = Path("/dev/shm"), Path(sys.argv[1]), Path("/dev/shm/of-others")
namespace.enter_private_mounts()
libc.mount("others", there, "tmpfs")
(there / "scratch").mkdir()
outside.touch()
for _ in range(2):
    assert readonly.protect([scratch]) == []
(there / "scratch/written" if scratch.is_relative_to(there) else there / "written").touch()
try:
    outside.write_text("harm")
except OSError as error:
    assert scratch.is_relative_to(there) and error.errno == 30, error
if not scratch.is_relative_to(there):
    libc.umount(there, libc.MNT_DETACH)
    assert not (there / "written").exists(), "another one was mounted over it"
assert outside.read_text() == ""
"""


@pytest.mark.mounts
@pytest.mark.parametrize("inside", [True, False])
def test_shared_memory_is_the_runs_own_or_read_only(inside: bool) -> None:
    """Files of others lie there. Processes of a driver may share memory by it (shm_overview(7))."""
    if not Path("/dev/shm").is_mount():
        pytest.skip("this system has no /dev/shm")
    with TemporaryDirectory(dir="/var/tmp") as elsewhere:
        words = [sys.executable, "-c", SHARED_MEMORY, "/dev/shm/scratch" if inside else elsewhere]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


MODULES = """
import sys
from pathlib import Path
from conformance.lab import libc, namespace, readonly

there = Path("/dev/shm")
namespace.enter_private_mounts()
libc.mount("others", there, "tmpfs")
(there / "driver.py").write_text("SAID = 'here'")
sys.path.append(str(there))
assert readonly.protect([Path(sys.argv[1])]) == []
import driver
try:
    (there / "written").touch()
except OSError as error:
    assert error.errno == 30, error
else:
    raise AssertionError("it can be written to")
"""


@pytest.mark.mounts
def test_modules_in_shared_memory_are_found() -> None:
    """A checkout may be there."""
    with TemporaryDirectory(dir="/var/tmp") as elsewhere:
        words = [sys.executable, "-c", MODULES, elsewhere]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_connection_string_declares_is_writable(tmp_path: Path) -> None:
    assert writable_of("python:refdriver:Driver") == ()
    assert writable_of(f"python:refdriver:Driver?writable={tmp_path}&writable=/var") == (tmp_path, Path("/var"))
    with closing(connect(f"python:refdriver:Driver?writable={tmp_path}")) as source:
        assert source.info.name == f"python:refdriver:Driver?writable={tmp_path}"


@pytest.mark.mounts
def test_a_reproducer_sees_its_own_processes(scratch: Path) -> None:
    """A daemon that it starts looks itself up in /proc, and so does its client."""
    path = scratch / "script.sh"
    path.write_text('read -r number rest </proc/self/stat; echo "$number $$"; [ "$number" = $$ ]\n')
    code, said = run_script(path, scratch)
    assert code == 0, said


@pytest.mark.parametrize("path", ["/", "/usr/..", "relative", "/there/is/no/such"])
def test_what_cannot_be_made_writable_is_refused(path: str) -> None:
    with pytest.raises(UnknownDriver, match="writable="):
        connect(f"python:refdriver:Driver?writable={path}")


DRIVER = """
class Driver:
    def __init__(self, home):
        self.home = home

    def create(self, layer_id, parent):
        raise OSError(28, {said!r}, self.home + "/" + layer_id)

    def get(self, layer_id):
        return {answer!r}

    def changes(self, layer_id, parent):
        return []

    def close(self):
        pass
"""


def ran(
    directory: Path, steps: Sequence[Step], finding: Finding, said: str = "full", answer: object = ""
) -> tuple[int, str]:
    """The exit status and the output of a reproducer with an empty environment, and a driver that answers so."""
    (directory / "small.py").write_text(DRIVER.format(said=said, answer=answer))
    case = Case("test", (REQUIREMENT,), "host", "python:small:Driver", "why\nnot", (), tuple(steps), finding)
    dialect = PythonClass("small", "Driver", sys.executable, (str(directory),))
    path = directory / "repro.sh"
    path.write_text(script(case, dialect, Heading([], "small", "6", "0")))
    done = subprocess.run(["/bin/sh", str(path)], env={}, capture_output=True, text=True, check=False, cwd="/")
    return done.returncode, done.stdout + done.stderr


REFUSED = "OSError: [Errno 28] full: '/tmp/overlay-conformance-run-1/round-0/stores/host/main/s7/overlay/layer-0'"


@pytest.mark.mounts
@pytest.mark.parametrize(("said", "status"), [("full", 1), ("Permission denied", 2)])
def test_a_refusal_is_a_proof_if_it_is_the_one_that_was_recorded(tmp_path: Path, said: str, status: int) -> None:
    steps: list[Step] = [Opened("store"), Called("store", Create("layer-0"), refused=REFUSED)]
    code, output = ran(tmp_path, steps, NotDone(REFUSED), said)
    assert code == status, output
    assert ("another refusal than the one that was recorded" in output) is (status == 2)


@pytest.mark.mounts
@pytest.mark.parametrize("answer", ["/", "", None, "/usr", "relative"])
def test_a_reproducer_uses_no_tree_outside_of_its_own_directory(tmp_path: Path, answer: object) -> None:
    steps: list[Step] = [Opened("store"), Called("store", Get("layer-0"))]
    code, output = ran(tmp_path, steps, NotContained(), answer=answer)
    assert (code, "DEVIATES" in output) == (1, True), output
    # Of another finding it can tell nothing.
    code, output = ran(
        tmp_path, [*steps, Called("store", Changes("layer-0", ""), answer=[])], WrongAnswer(), answer=answer
    )
    assert (code, "CANNOT TELL: this path is not below" in output) == (2, True), output


@pytest.mark.mounts
@pytest.mark.parametrize("name", ["END", "a\nEND\ntouch {}", "'; touch {}; '", "$(touch {})", "`touch {}`"])
def test_what_a_driver_answered_is_no_command_of_a_reproducer(tmp_path: Path, name: str) -> None:
    evil = tmp_path / "evil"
    listed = [("add", f"/{name.format(evil)}".encode()), ("delete", b"/x")]
    call = Called("store", Changes("layer-0", ""), answer=listed)
    code, output = ran(tmp_path, [Opened("store"), call], WrongAnswer())
    assert code == 0, output
    assert not evil.exists()
