"""Drivers that answer paths outside of their store, or write there themselves: the host's tree stays as it is.

With OVERLAY_CONFORMANCE_TABLE=FILE each run adds a row to that file: kind, answer, verdict, exit status, seconds,
and what changed on the host.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from commanding import command
from helpers import everything_in
from reading import records

pytestmark = pytest.mark.mounts
ROOT = Path(__file__).parents[2]
REQUIREMENT = "OVL-MOUNT-CONTAINED"
ANSWERS = ("root", "dots", "symlink", "nothing", "none", "another-store")
# What a driver that writes or plants is judged by: enough for a harness that believes it to write and remove there.
REQUIREMENTS = (REQUIREMENT, "OVL-MOUNT-ONCE", "OVL-LIFE-CREATE")
DRIVERS = '''\
import ctypes
import os
from pathlib import Path

from refdriver import Driver

CANARY = @CANARY@


def hostile(answer, own, home, layer_id):
    """What a driver says of a tree that is at ``own``."""
    if answer == "root":
        return "/"
    if answer == "dots":
        return own + "/.." * 40
    if answer == "symlink":
        link = Path(home, "tree-of-" + layer_id)
        if not link.is_symlink():
            link.symlink_to(CANARY)
        return str(link)
    if answer == "another-store":
        # .../s1/overlay of a class and a plugin, .../s1/graph/overlay of the command
        store = Path(home).parent if Path(home).parent.name != "graph" else Path(home).parents[1]
        below = os.path.relpath(home, store)
        found = sorted(store.parent.glob(f"*/{below}/{layer_id}/diff"))
        others = [one for one in found if store not in one.parents]
        return str(others[0]) if others else own  # the preflight has one store
    return {"nothing": "", "none": None}[answer]


class Homely(Driver):
    def __init__(self, home, **asked):
        super().__init__(home, **asked)
        self.place = home


class Lying(Homely):
    answer = ""

    def get(self, layer_id, *words, **more):
        return hostile(self.answer, super().get(layer_id, *words, **more), self.place, layer_id)


Root = type("Root", (Lying,), {"answer": "root"})
Dots = type("Dots", (Lying,), {"answer": "dots"})
Symlink = type("Symlink", (Lying,), {"answer": "symlink"})
Nothing = type("Nothing", (Lying,), {"answer": "nothing"})
No = type("No", (Lying,), {"answer": "none"})
Another = type("Another", (Lying,), {"answer": "another-store"})


class PlantsSymlinks(Driver):
    def get(self, layer_id, *words, **more):
        root = super().get(layer_id, *words, **more)
        for name in ("d", "e"):
            path = Path(root, name)
            if not path.is_symlink():
                if path.is_dir():
                    path.rename(path.with_name(name + "-away"))
                path.symlink_to(CANARY)
        return root


class BindsTheHost(Homely):
    def get(self, layer_id, *words, **more):
        root = super().get(layer_id, *words, **more)
        if not os.path.exists(root + "/canary"):
            ctypes.CDLL(None).mount(CANARY.encode(), root.encode(), None, ctypes.c_ulong(4096), None)
        return root

    def put(self, layer_id):
        ctypes.CDLL(None).umount2(f"{self.place}/{layer_id}/merged".encode(), 2)
        super().put(layer_id)


class WritesOutside(Driver):
    def create(self, *words, **more):
        for path in ("/overlay-conformance-evil", CANARY + "/evil", "/etc/overlay-conformance-evil"):
            try:
                with open(path, "w") as file:
                    file.write("evil")
            except OSError:
                pass
        super().create(*words, **more)
'''
CLASSES = dict(zip(ANSWERS, ("Root", "Dots", "Symlink", "Nothing", "No", "Another"), strict=True))
# A command with the words of containers-storage that the tests need.
COMMAND = """\
#!{python}
import os, sys
sys.path[:0] = [{modules!r}, {root!r}]
import hostile_drivers
from refdriver import Driver

words = sys.argv[1:]
if words == ["version"]:
    print("version 1.0")
    sys.exit()
graph = words[words.index("--graph") + 1]
while words[0].startswith("--"):
    del words[:2]
verb, *rest = words
names = [one for one in rest if one not in ("--readonly", "-i", "-f")]
os.makedirs(graph, exist_ok=True)
driver = Driver(graph + "/overlay")
if verb == "create-layer":
    driver.create(*names)
elif verb == "delete-layer":
    driver.remove(*names)
elif verb == "mount":
    answer = hostile_drivers.hostile({answer!r}, driver.get(*names), graph + "/overlay", names[0])
    if answer is not None:
        print(answer)
elif verb == "unmount":
    driver.put(*names)
elif verb == "exists":
    sys.exit(not driver.exists(*names))
elif verb == "shutdown":
    driver.cleanup()
elif verb != "status":
    sys.exit("not offered: " + verb)
driver.close()
"""


@dataclass(frozen=True, slots=True)
class Host:
    """What a run must not touch, and where it may write."""

    modules: Path
    canary: Path
    work: Path

    @property
    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": f"{self.modules}:{ROOT}"}

    def listing(self) -> dict[str, tuple[int, ...]]:
        """Names, types, sizes and times, of directories to a depth that a run takes little time for."""
        shallow = [path for name in ("/", "/usr", "/var", "/var/lib") for path in Path(name).iterdir()]
        places = (Path("/etc"), Path("/usr/local"), self.canary, self.modules)
        deep = [path for place in places for path in everything_in(place)]
        found: dict[str, tuple[int, ...]] = {}
        for path in ["/", str(self.canary), *map(str, shallow), *deep]:
            try:
                status = os.lstat(path)
            except FileNotFoundError:  # of another process
                continue
            mine = path in ("/", str(self.canary)) or not stat.S_ISDIR(status.st_mode)
            found[path] = (status.st_mode, status.st_size, status.st_mtime_ns if mine else 0)
        return found


@pytest.fixture
def host(scratch: Path) -> Host:
    host = Host(scratch / "modules", scratch / "canary", scratch / "work")
    for path in (host.modules, host.canary, host.work):
        path.mkdir()
    (host.modules / "hostile_drivers.py").write_text(DRIVERS.replace("@CANARY@", repr(str(host.canary))))
    for name in ("canary", "a", "d", "e"):
        (host.canary / name).write_text("to stay")
    return host


@dataclass(frozen=True, slots=True)
class Ran:
    """A run of the suite: its exit status, verdicts by requirement, evidence folders, output and time."""

    status: int
    verdicts: dict[str, set[str]]
    folders: tuple[Path, ...]
    output: str
    seconds: float


def run(host: Host, driver: str, *requirements: str) -> Ran:
    results, evidence = host.work / "results.jsonl", host.work / "evidence"
    words = ["--results", str(results), "--evidence", str(evidence), "--scratch", str(host.work), "--seed", "5"]
    words += [word for one in requirements for word in ("--requirement", one)]
    began = time.monotonic()
    done = command("run", driver, "--examples", "2", *words, env=host.environment)
    outcomes = records(results, "outcome")
    verdicts: dict[str, set[str]] = {}
    for one in outcomes:
        for requirement in one["requirements"]:
            verdicts.setdefault(requirement, set()).add(one["verdict"])
    folders = tuple(results.parent / one["evidence"] for one in outcomes if one["evidence"])
    return Ran(done.returncode, verdicts, folders, done.stdout + done.stderr, time.monotonic() - began)


def connection(kind: str, answer: str, host: Host) -> str:
    """A hostile driver as a connection string."""
    if kind == "python":
        return f"python:hostile_drivers:{CLASSES[answer]}"
    if kind == "plugin":
        # With what it needs of the environment, which whoever runs a reproducer does not have.
        path = f"env PYTHONPATH={host.modules}:{ROOT} PYTHONDONTWRITEBYTECODE=1"
        serve = f"{path} {sys.executable} -m refdriver serve --graphdriver {{socket}}"
        return f"graphdriver:?command={serve} --driver hostile_drivers:{CLASSES[answer]}"
    program = host.modules / "storage"
    words = {"python": sys.executable, "modules": str(host.modules), "root": str(ROOT)}
    program.write_text(COMMAND.format(**words, answer=answer))
    program.chmod(0o755)
    return f"containers-storage:overlay?binary={program}"


@pytest.fixture
def row() -> Iterator[list[str]]:
    """A row of the table, for whoever asks for one."""
    cells: list[str] = []
    yield cells
    table = os.environ.get("OVERLAY_CONFORMANCE_TABLE")
    if table:
        with open(table, "a") as file:
            file.write(f"| {' | '.join(cells)} |\n")


@pytest.mark.parametrize("kind", ["python", "plugin", "command"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_path_outside_is_a_failure_and_nothing_is_touched(
    host: Host, row: list[str], kind: str, answer: str
) -> None:
    driver = connection(kind, answer, host)
    before = host.listing()
    ran = run(host, driver, REQUIREMENT)
    changed = sorted(path for path, _ in host.listing().items() ^ before.items())
    row += [kind, answer, *sorted(ran.verdicts[REQUIREMENT]), str(ran.status), f"{ran.seconds:.1f}", str(changed)]
    assert changed == []
    assert ran.status == 1, ran.output
    assert "FAIL" in ran.verdicts[REQUIREMENT]
    assert "expected the path of a directory below" in ran.output
    assert "ERROR" not in set().union(*ran.verdicts.values()), ran.output
    scripts = [folder / "repro.sh" for folder in ran.folders if (folder / "repro.sh").exists()]
    assert scripts, [(folder / "failure.md").read_text() for folder in ran.folders]
    if kind == "python" and answer == "root":
        # As its reader runs it: with nothing in the environment, and without the namespace of a trial run.
        done = subprocess.run(["/bin/sh", str(scripts[0])], env={}, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stdout
    assert host.listing() == before


@pytest.mark.parametrize("behaviour", ["PlantsSymlinks", "BindsTheHost", "WritesOutside"])
def test_a_driver_that_plants_or_writes_changes_nothing_outside(host: Host, row: list[str], behaviour: str) -> None:
    before = host.listing()
    ran = run(host, f"python:hostile_drivers:{behaviour}", *REQUIREMENTS)
    changed = sorted(path for path, _ in host.listing().items() ^ before.items())
    verdicts = sorted(set().union(*ran.verdicts.values()))
    row += ["python", behaviour, " ".join(verdicts), str(ran.status), f"{ran.seconds:.1f}", str(changed)]
    assert changed == []
    # What a driver tries to write is refused by the kernel, and no answer of it is wrong.
    assert ran.status == (0 if behaviour == "WritesOutside" else 1), ran.output
    assert "ERROR" not in verdicts, ran.output
