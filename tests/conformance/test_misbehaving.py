"""Drivers that crash, hang, fork, print, signal and lie: an honest verdict, and nothing left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from commanding import command
from processes import workers
from reading import verdicts

from conformance.drivers.protocol import CallLimit, DriverFailed, DriverRefused, OpenRequest
from conformance.drivers.registry import connect
from conformance.harness.contained import contained
from conformance.harness.deviation import Deviation

pytestmark = pytest.mark.mounts
COMMAND = [sys.executable, "-m", "conformance"]
LIMIT = 3.0  # seconds of a call, where one hangs
LONG = 120.0  # seconds for what must come, on a busy machine
TOKEN = "OVERLAY_CONFORMANCE_TEST_TOKEN"
BEGINNING = """
import ctypes, os, re, signal, socket, sys, threading, time
from pathlib import Path
from refdriver import Driver

class Hostile(Driver):
    def __init__(self, home, **asked):
        super().__init__(home, **asked)
        # A driver that cannot pass the preflight is not judged at all.
        self.is_preflight = "/preflight/" in os.fspath(home)

"""


class Bed:
    """A directory for a hostile driver, and all that runs because of it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.stores = scratch / "stores"
        self.stores.mkdir()
        self._token = uuid.uuid4().hex
        path = os.pathsep.join([str(scratch), os.environ.get("PYTHONPATH", "")])
        self.environment = {**os.environ, "PYTHONPATH": path, TOKEN: self._token, "MARK": str(scratch / "mark")}

    def driver(self, methods: str) -> str:
        (self.scratch / "hostile.py").write_text(BEGINNING + textwrap.indent(textwrap.dedent(methods), "    "))
        return "python:hostile:Hostile"

    @property
    def _options(self) -> list[str]:
        return ["--no-evidence", "--seed", "1", "--examples", "1", "--scratch", str(self.stores)]

    def start(self, *words: str, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*prefix, *COMMAND, "run", *words, *self._options],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, prefix: Sequence[str] = (), alone: bool = False) -> tuple[int, str, dict[str, str]]:
        """Exit status, what was printed, and verdicts; nothing may be left.

        The command has a process of its own behind a prefix, and ``alone``: for drivers that reach for others.
        """
        results = self.scratch / "results.jsonl"
        words = (*words, "--results", str(results))
        if prefix or alone:
            process = self.start(*words, prefix=prefix)
            said, _ = process.communicate(timeout=LONG * 3)
            status = process.returncode
        else:
            done = command("run", *words, *self._options, env=self.environment)
            status, said = done.returncode, done.stdout + done.stderr
        assert self.left() == [], said
        assert list(self.stores.iterdir()) == [], said
        assert str(self.stores) not in Path("/proc/self/mountinfo").read_text()
        return status, said, verdicts(results) if results.exists() else {}

    def processes(self) -> dict[int, str]:
        """What runs with this bed's environment, by process id."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self._token.encode() in (place / "environ").read_bytes():
                    found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def left(self) -> list[str]:
        """What is still there after a while."""
        deadline = time.monotonic() + 20
        while (found := self.processes()) and time.monotonic() < deadline:
            os.sched_yield()
        return list(found.values())

    def marked(self, times: int, process: subprocess.Popen[str]) -> None:
        """Wait until a driver has left so many marks."""
        deadline = time.monotonic() + LONG
        while len(self._marks()) < times:
            assert time.monotonic() < deadline
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
                pytest.fail(process.stdout.read() if process.stdout else "it ended")

    def _marks(self) -> bytes:
        with suppress(FileNotFoundError):
            return (self.scratch / "mark").read_bytes()
        return b""


@pytest.fixture
def bed(scratch: Path) -> Iterator[Bed]:
    made = Bed(scratch)
    yield made
    for pid in made.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Case:
    """What a driver does in ``get``, and what the run says of it; "" where it conforms.

    ``reaches`` is for a driver that does it to every process or descriptor that it finds.
    """

    name: str
    does: str
    said: str = ""
    hangs: bool = False
    reaches: bool = False


CASES = (
    Case("a segmentation fault", "ctypes.string_at(0)", r"the driver's process died of SIGSEGV in get"),
    Case("_exit(0)", "os._exit(0)", r"the driver's process ended with status 0 in get"),
    Case("_exit(3)", "os._exit(3)", r"the driver's process ended with status 3 in get"),
    Case("SystemExit", "sys.exit(0)", r"get raised SystemExit: 0 \(which is no refusal\)"),
    Case("KeyboardInterrupt", "raise KeyboardInterrupt", r"get raised KeyboardInterrupt"),
    Case("pytest.skip", "import pytest; pytest.skip('well')", r"get raised Skipped: well"),
    Case("pytest.xfail", "import pytest; pytest.xfail('well')", r"get raised XFailed: well"),
    Case(
        "NameError",
        "retrun",
        r"get raised NameError: name 'retrun' is not defined(.|\n)*in get(.|\n)*steps: (.|\n)*get \S+  -> failed\n",
    ),
    Case("eats memory", "kept = []\nwhile True: kept.append(bytes(64 << 20))", r"get raised MemoryError"),
    # The process that was asked may never see a fork fail, as its children do, and end.
    Case(
        "a fork bomb", "while True: os.fork()", r"Resource temporarily unavailable|did not answer get within", True
    ),
    Case("a forked child returns too", "if os.fork() == 0: return '/'"),
    Case(
        "a daemon",
        "if os.fork() == 0:\n    os.setsid()\n    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
        "    if os.fork() == 0: time.sleep(3600)\n    os._exit(0)",
    ),
    Case("closes descriptors", "os.closerange(0, 1024)", r"closed descriptors of its process in get"),
    Case("prints without end", "for _ in range(96): os.write(1, bytes(1 << 20))"),
    Case(
        "kills all that it can",
        "for victim in (os.getppid(), 1, -1):\n    try: os.kill(victim, signal.SIGKILL)\n"
        "    except ProcessLookupError: pass",
        reaches=True,
    ),
    Case(
        "changes its process",
        "os.chdir('/tmp'); os.umask(0o777); os.environ.clear()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
        "for one in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD): signal.signal(one, signal.SIG_IGN)",
    ),
    Case("hangs in Python", "while True: time.sleep(0.1)", r"did not answer get within 3 s(.|\n)*in get", True),
    Case(
        "hangs in C, with the interpreter's lock",
        "re.match('(a+)+$', 'a' * 64 + 'b')",
        r"did not answer get within 3 s(.|\n)*in get",
        True,
    ),
    Case(
        "writes events to all descriptors",
        'for one in range(256):\n    try: os.write(one, b\'{"event": "finished", "rounds": 1}\\n\')\n'
        "    except OSError: pass",
        r"sent no answer to get",
        reaches=True,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_python_driver_that_misbehaves(bed: Bed, case: Case) -> None:
    body = textwrap.indent(case.does, "        ")
    well = "return super().get(layer_id, label)"
    driver = bed.driver(f"def get(self, layer_id, label=''):\n    if not self.is_preflight:\n{body}\n    {well}")
    limit = ["--call-timeout", str(LIMIT)] if case.hangs else []
    status, said, found = bed.run(driver, "--requirement", "OVL-LIFE-CREATE", *limit, alone=case.reaches)
    assert found == {"OVL-LIFE-CREATE": "FAIL" if case.said else "PASS"}, said
    assert status == (1 if case.said else 0), said
    assert re.search(case.said, said), said


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_crash_in_one_call_is_reported_however_many_jobs_run(bed: Bed, jobs: str) -> None:
    driver = bed.driver("def diff_size(self, layer_id, parent=''):\n    os.kill(os.getpid(), signal.SIGSEGV)")
    wanted = ["OVL-SIZE-EMPTY", "OVL-SIZE-HOLES", "OVL-LIFE-CREATE"]
    words = [word for one in wanted for word in ("--requirement", one)]
    status, said, found = bed.run(driver, *words, "--jobs", jobs)
    assert status == 1, said
    assert found == {"OVL-SIZE-EMPTY": "FAIL", "OVL-SIZE-HOLES": "FAIL", "OVL-LIFE-CREATE": "PASS"}
    assert "the driver's process died of SIGSEGV in diff_size" in said


def test_a_changed_working_directory_and_umask_are_seen(bed: Bed) -> None:
    driver = bed.driver(
        "def apply_diff(self, layer_id, parent, archive):\n"
        "    os.chdir('/'); os.umask(0o077)\n    return super().apply_diff(layer_id, parent, archive)"
    )
    words = ["--requirement", "OVL-MOUNT-CWD", "--requirement", "OVL-LIFE-CREATE"]
    status, said, found = bed.run(driver, *words)
    assert (status, found) == (1, {"OVL-MOUNT-CWD": "FAIL", "OVL-LIFE-CREATE": "PASS"}), said


def test_the_budget_ends_a_call_that_hangs(bed: Bed) -> None:
    driver = bed.driver("def get(self, layer_id, label=''):\n    time.sleep(3600)")
    began = time.monotonic()
    status, said, found = bed.run(driver, "--requirement", "OVL-LIFE-CREATE", "--budget", "8s")
    assert (status, found) == (3, {"OVL-LIFE-CREATE": "UNTESTED"}), said
    assert time.monotonic() - began < LONG


def test_without_pid_namespaces_the_summary_says_so_and_a_daemon_ends_all_the_same(bed: Bed) -> None:
    driver = bed.driver(
        "def get(self, layer_id, label=''):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        if os.fork() == 0: time.sleep(3600)\n        os._exit(0)\n    return super().get(layer_id, label)"
    )
    none = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    none += ['echo 0 > /proc/sys/user/max_pid_namespaces; exec "$@"', "sh"]
    status, said, _ = bed.run(driver, "--requirement", "OVL-LIFE-CREATE", prefix=none)
    assert status == 0, said
    assert "no PID namespace" in said


# ---- Answers of a wrong type, call by call.

WRONG = {
    "exists": ["None", "1", "'yes'", "[]"],
    "status": ["None", "7", "b'x'", "'x'", "[('a', 1)]", "[1]"],
    "metadata": ["None", "7", "{'a': None}", "{1: 'a'}"],
    "diff": ["None", "7", "b'x'", "[]"],
    "apply_diff": ["'1'", "b'1'", "[]", "True", "1.5", "10**5000"],
    "diff_size": ["None", "'1'", "b'1'", "[]", "True", "1.5", "-1 << 64", "10**5000"],
    "changes": ["None", "7", "b'x'", "'x'", "{}", "[7]", "[None]", "[type('C', (), {'path': 'x', 'kind': 1})()]"],
}
HOSTILE_TEXT = """
class Secretive(Exception):
    def __str__(self): raise RuntimeError('no')
    __repr__ = __str__
raise Secretive
"""


@pytest.mark.parametrize(("call", "value"), [(call, one) for call, values in WRONG.items() for one in values])
def test_a_wrong_type_is_no_answer(scratch: Path, monkeypatch: pytest.MonkeyPatch, call: str, value: str) -> None:
    module = f"wrong_{uuid.uuid4().hex}"
    (scratch / f"{module}.py").write_text(f"{BEGINNING}    def {call}(self, *_, **__):\n        return {value}\n")
    monkeypatch.syspath_prepend(str(scratch))
    source = connect(f"python:{module}:Hostile")
    try:
        (scratch / "store").mkdir()
        driver = source.open(OpenRequest(scratch / "store"))
        archive = scratch / "archive.tar"
        archive.touch()
        driver.create("a", "")
        calls: dict[str, Callable[[], object]] = {
            "exists": lambda: driver.exists("a"),
            "status": driver.status,
            "metadata": lambda: driver.metadata("a"),
            "diff": lambda: driver.diff("a", "", archive),
            "apply_diff": lambda: driver.apply_diff("a", "", archive),
            "diff_size": lambda: driver.diff_size("a", ""),
            "changes": lambda: driver.changes("a", ""),
        }
        with pytest.raises(DriverFailed, match=f"^{call} answered with a wrong type: expected .*, got "):
            calls[call]()
        driver.close()
    finally:
        source.close()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("None", "None"),
        ("7", "7"),
        ("10**5000", "a value of type int"),
        ("b'/x'", "a value of type bytes"),
        ("[]", "a value of type list"),
        ("(one for one in ())", "a value of type generator"),
    ],
)
def test_a_tree_of_a_wrong_type_is_no_answer(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    module = f"wrong_{uuid.uuid4().hex}"
    (scratch / f"{module}.py").write_text(f"{BEGINNING}    def get(self, *_, **__):\n        return {value}\n")
    monkeypatch.syspath_prepend(str(scratch))
    (scratch / "store").mkdir()
    with closing(contained(connect(f"python:{module}:Hostile"))) as source:
        driver = source.open(OpenRequest(scratch / "store"))
        driver.create("a", "")
        with pytest.raises(
            Deviation, match=f"expected the path of a directory below .*, got {said}: a path is a str"
        ):
            driver.get("a")
        driver.close()


def test_an_error_without_a_text_is_a_refusal(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"secretive_{uuid.uuid4().hex}"
    body = textwrap.indent(HOSTILE_TEXT, "        ")
    (scratch / f"{module}.py").write_text(f"{BEGINNING}    def remove(self, layer_id):{body}")
    monkeypatch.syspath_prepend(str(scratch))
    source = connect(f"python:{module}:Hostile")
    try:
        driver = source.open(OpenRequest(scratch))
        with pytest.raises(DriverRefused, match=r"Secretive: .*cannot be had: RuntimeError"):
            driver.remove("a")
        driver.close()
    finally:
        source.close()


# ---- Plugins and commands.

PLUGIN = """
import ctypes, os, sys, time
from refdriver import Driver
from refdriver.plugin import PluginServer

class Hostile(Driver):
    def __init__(self, home, **asked):
        super().__init__(home, **asked)
        self.is_preflight = "/preflight/" in home

    def get(self, layer_id, label=""):
        if not self.is_preflight:
            {does}
        return super().get(layer_id, label)

PluginServer(sys.argv[1], Hostile).run()
"""
PLUGINS = (
    ("ctypes.string_at(0)", 1, r"the plugin's process died of SIGSEGV in Get"),
    ("os._exit(0)", 1, r"the plugin's process ended with status 0 in Get"),
    ("time.sleep(3600)", 1, r"did not answer Get within 3 s(.|\n)*thread python"),
    ("os.kill(os.getppid(), 9); os.fork() or time.sleep(3600); os.kill(-1, 9)", 0, ""),
    ("os.fork() or (os.setsid(), time.sleep(3600))", 0, ""),
    ("[os.write(1, bytes(1 << 20)) for _ in range(96)]", 0, ""),
)


@pytest.mark.parametrize(("does", "status", "text"), PLUGINS, ids=[does for does, *_ in PLUGINS])
def test_a_plugin_that_misbehaves(bed: Bed, does: str, status: int, text: str) -> None:
    program = bed.scratch / "plugin.py"
    program.write_text(PLUGIN.format(does=does))
    words = ["--requirement", "OVL-LIFE-CREATE", "--call-timeout", str(LIMIT if "3 s" in text else LONG)]
    driver = f"graphdriver:?command={sys.executable} {program} {{socket}}"
    found, said, _ = bed.run(driver, *words, alone="os.kill" in does)
    assert found == status, said
    assert re.search(text, said), said


COMMANDS = (
    ("kill -SEGV $$", 1, r"the command died of SIGSEGV in mount"),
    ("sleep 3600", 1, r"did not answer mount within 8 s(.|\n)*sleep"),
    ("exec yes", 1, r"the command printed more than [0-9]+ bytes in mount"),
    ("sleep 3600 & disown", 0, ""),
    ("echo 'panic: well'; echo 'panic: well' >&2; echo 'goroutine 1 [running]:' >&2; exit 2", 1, "panic: well"),
)


@pytest.mark.skipif(shutil.which("containers-storage") is None, reason="needs containers-storage")
@pytest.mark.parametrize(("does", "status", "text"), COMMANDS, ids=[does for does, *_ in COMMANDS])
def test_a_command_that_misbehaves(bed: Bed, does: str, status: int, text: str) -> None:
    binary = bed.scratch / "containers-storage"
    real = shutil.which("containers-storage")
    binary.write_text(
        f'#!/bin/bash\ncase " $* " in */preflight/*) ;; *" mount "*) {does};; esac\nexec {real} "$@"\n'
    )
    binary.chmod(0o755)
    words = ["--requirement", "OVL-LIFE-CREATE", "--call-timeout", "8" if "8 s" in text else str(LONG)]
    found, said, _ = bed.run(f"containers-storage:overlay?binary={binary}", *words)
    assert found == status, said
    assert re.search(text, said), said


# ---- Kills, while a driver hangs in several processes.


@pytest.mark.parametrize("victim", ["the controller", "the waiting process", "the worker", "a process of several"])
def test_a_kill_leaves_no_process(bed: Bed, victim: str) -> None:
    driver = bed.driver(
        "def create(self, layer_id, parent=''):\n"
        "    if not layer_id.startswith('p'): return super().create(layer_id, parent)\n"
        "    with open(os.environ['MARK'], 'ab', 0) as file: file.write(b'x')\n"
        "    if os.fork() == 0: os.setsid()\n    time.sleep(3600)"
    )
    words = ["--requirement", "OVL-PARALLEL-PROCESSES", "--call-timeout", "600"]
    process = bed.start(f"{driver}?writable={bed.scratch}", *words, "--jobs", "2" if "several" in victim else "1")
    bed.marked(4, process)
    found = workers(process.pid)
    match victim:
        case "the controller":
            process.kill()
        case "the waiting process":
            os.kill(found[0], signal.SIGKILL)
        case "the worker":
            os.kill(found[2], signal.SIGKILL)
        case _:
            for one in found[3:]:
                with suppress(ProcessLookupError):  # it may end with the one before
                    os.kill(one, signal.SIGKILL)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
    process.communicate(timeout=LONG)
    assert bed.left() == []


def test_a_limit_is_that_of_the_call_or_of_the_run() -> None:
    assert CallLimit(60.0).left() == 60.0
    assert CallLimit(60.0, time.monotonic() + 10).left() <= 10
