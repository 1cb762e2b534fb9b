"""The server of the graph-driver plugin protocol: its socket, its end, threads, and other classes of drivers."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from helpers import mounted_below
from plugging import READY, Client, ended, started

pytestmark = pytest.mark.mounts
EPOLL_WAIT = ("232", "281", "22")  # epoll_wait and epoll_pwait of x86-64, epoll_pwait of arm64


def test_the_socket_is_the_owners(client: Client) -> None:
    assert stat.S_IMODE(os.stat(client.path).st_mode) == 0o600


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(client: Client, scratch: Path) -> None:
    second = [sys.executable, "-m", "refdriver", "serve", "--graphdriver", client.path]
    done = subprocess.run(second, capture_output=True, text=True, check=False)
    assert done.returncode == 12
    assert "in use" in done.stderr
    client.done("Exists", ID="x")
    stale = scratch / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    process = started(stale)
    process.terminate()
    assert ended(process) == 0
    assert not stale.exists()


def test_what_is_no_socket_is_left_alone(scratch: Path) -> None:
    (scratch / "file").write_text("precious")
    words = [sys.executable, "-m", "refdriver", "serve", "--graphdriver", str(scratch / "file")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 12
    assert "no socket" in done.stderr
    assert (scratch / "file").read_text() == "precious"


def test_a_signal_that_does_not_interrupt_the_wait_for_connections_ends_it(scratch: Path) -> None:
    """The kernel gives the signal to another thread, so the main thread stays in poll(2) unless it is woken.

    A signal just before the wait has the same effect, and no test could time that.
    """
    code = (
        "import signal, sys, threading; from refdriver.cli import main;"
        " threading.Thread(target=threading.Event().wait, daemon=True).start();"
        " signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); sys.exit(main())"
    )
    words = ["serve", "--graphdriver", str(scratch / "plugin.sock")]
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert READY in process.stderr.readline()
    until = time.monotonic() + 60
    while Path(f"/proc/{process.pid}/syscall").read_text().partition(" ")[0] not in EPOLL_WAIT:
        assert time.monotonic() < until, "the server does not wait for connections"
        os.sched_yield()
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(scratch: Path, number: signal.Signals) -> None:
    process = started(scratch / "plugin.sock")
    client = Client(str(scratch / "plugin.sock"))
    client.done("Init", Home=str(scratch / "home"))
    client.done("Create", ID="base")
    client.done("Create", ID="top", Parent="base")
    client.done("Get", ID="top")
    process.send_signal(number)
    assert ended(process) == 0
    assert not (scratch / "plugin.sock").exists()
    assert len(mounted_below(scratch)) == 1  # as it was: the next server takes it over
    again = started(scratch / "plugin.sock")
    client.done("Init", Home=str(scratch / "home"))
    client.done("Put", ID="top")
    client.done("Put", ID="top")
    assert mounted_below(scratch) == []
    again.terminate()
    assert ended(again) == 0


def test_a_server_that_replaces_another_needs_no_init(scratch: Path) -> None:
    """A running engine sends Init once, when it starts."""
    path, home = scratch / "plugin.sock", str(scratch / "home")
    client = Client(str(path))
    first = started(path)
    client.done("Init", Home=home)
    client.done("Create", ID="base")
    client.done("Create", ID="top", Parent="base")
    client.done("Get", ID="top")
    first.terminate()
    assert ended(first) == 0
    second = started(path, home=home)
    client.done("Put", ID="top")
    assert mounted_below(scratch) == []
    client.done("Init", Home=home)  # of an engine that starts again
    assert "already" in client.call("Init", Home=str(scratch / "other"))["Err"]
    second.terminate()
    assert ended(second) == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--home", "{}/home", "--option", "overlay.nonsense=1"], 12, "nonsense"),
        (["--option", "overlay.size=1G"], 2, "--home"),
        (["--uidmap", "0:1000:10"], 2, "--home"),
    ],
)
def test_a_home_that_cannot_be_served_is_refused_and_leaves_no_socket(
    scratch: Path, words: list[str], code: int, said: str
) -> None:
    path = scratch / "plugin.sock"
    words = [word.format(scratch) for word in words]
    command = [sys.executable, "-m", "refdriver", *words, "serve", "--graphdriver", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert not path.exists()


def test_threads_do_not_wait_for_one_another(client: Client) -> None:
    """A client that sends nothing more keeps its own thread only."""
    idle = client.connection()
    idle.sock.sendall(b"POST /GraphDriver.Exists HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
    finished = threading.Event()

    def other() -> None:
        client.done("Exists", ID="x")
        finished.set()

    threading.Thread(target=other, daemon=True).start()
    assert finished.wait(30)
    idle.close()


OTHER = '''
import refdriver


class Other(refdriver.Driver):
    """Knows no layer, and fails in ways of its own."""

    def exists(self, layer_id):
        return layer_id == "its own"

    def changes(self, layer_id, parent=""):
        return {}[layer_id]

    def diff(self, layer_id, parent=""):
        return {}[layer_id]
'''


def test_another_class_is_served(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scratch / "other_driver.py").write_text(OTHER)
    monkeypatch.setenv("PYTHONPATH", f"{scratch}:{os.environ.get('PYTHONPATH', '')}")
    process = started(scratch / "other.sock", "--driver", "other_driver:Other")
    client = Client(str(scratch / "other.sock"))
    client.done("Init", Home=str(scratch / "other"))
    assert client.done("Exists", ID="its own")["Exists"] is True
    client.done("Create", ID="base")
    assert client.call("Changes", ID="base")["Err"] == "KeyError: 'base'"
    # What is refused is no archive.
    status, said = client.raw("/GraphDriver.Diff", json.dumps({"ID": "base"}).encode())
    assert (status, json.loads(said)["Err"]) == (500, "KeyError: 'base'")
    process.terminate()
    assert ended(process) == 0


@pytest.mark.parametrize("name", ["nowhere:Driver", "refdriver:Nobody", "refdriver", ""])
def test_a_class_that_is_not_there_is_refused(scratch: Path, name: str) -> None:
    command = [
        sys.executable,
        "-m",
        "refdriver",
        "serve",
        "--graphdriver",
        str(scratch / "x.sock"),
        "--driver",
        name,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "MODULE:CLASS" in done.stderr
    assert not (scratch / "x.sock").exists()


READER = '''
import refdriver


class Reader(refdriver.Driver):
    """Reads an archive as a file."""

    def apply_diff(self, layer_id, parent, archive):
        return len(archive.read(1)) + len(archive.read()) + len(archive.read())
'''


def test_another_class_may_read_the_archive_in_one(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scratch / "reading_driver.py").write_text(READER)
    monkeypatch.setenv("PYTHONPATH", f"{scratch}:{os.environ.get('PYTHONPATH', '')}")
    process = started(scratch / "other.sock", "--driver", "reading_driver:Reader")
    client = Client(str(scratch / "other.sock"))
    client.done("Init", Home=str(scratch / "other"))
    content = bytes(300_000)
    assert json.loads(client.raw("/GraphDriver.ApplyDiff?id=x&parent=", content)[1])["Size"] == len(content)
    process.terminate()
    assert ended(process) == 0


def test_the_end_of_a_diff_comes_when_the_driver_is_done_with_it(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has read it may clean up at once: nothing may be mounted for the diff any more."""
    os.mkfifo(scratch / "gate")
    (scratch / "lingering.py").write_text(
        "from contextlib import contextmanager\n"
        "from refdriver import Driver\n\n\n"
        "class Lingers(Driver):\n"
        "    @contextmanager\n"
        "    def diff(self, layer_id, parent=''):\n"
        "        with Driver.diff(self, layer_id, parent) as stream:\n"
        "            yield stream\n"
        f"            open({str(scratch / 'gate')!r}).read()  # waits for the test\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(scratch), prepend=os.pathsep)
    process = started(scratch / "plugin.sock", "--driver", "lingering:Lingers")
    try:
        client = Client(str(scratch / "plugin.sock"))
        client.done("Init", Home=str(scratch / "home"), Opts=[])
        client.done("Create", ID="base")
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(client.raw, "/GraphDriver.Diff", json.dumps({"ID": "base", "Parent": ""}).encode())
            gate = os.open(scratch / "gate", os.O_WRONLY)  # the driver is at its end
            early = wait([read], timeout=0.5).done
            os.close(gate)
            assert read.result(60)[0] == 200
        assert not early
    finally:
        process.terminate()
        process.communicate(timeout=60)
