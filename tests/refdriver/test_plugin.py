"""The driver behind the graph-driver plugin protocol: every call, many at a time, and clients that go away."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from helpers import mounted_below

pytestmark = pytest.mark.mounts
READY = b"serving the Docker graph-driver protocol"
EPOLL_WAIT = ("232", "281", "22")  # epoll_wait and epoll_pwait of x86-64, epoll_pwait of arm64


class Client:
    """Speaks the protocol as a container engine does."""

    def __init__(self, path: str) -> None:
        self.path = path

    def connection(self) -> http.client.HTTPConnection:
        found = http.client.HTTPConnection("localhost", timeout=60)
        found.sock = socket.socket(socket.AF_UNIX)
        found.sock.settimeout(60)
        found.sock.connect(self.path)
        return found

    def raw(self, path: str, content: bytes, method: str = "POST", **headers: str) -> tuple[int, bytes]:
        connection = self.connection()
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def call(self, name: str, **fields: Any) -> dict[str, Any]:
        status, content = self.raw(f"/GraphDriver.{name}", json.dumps(fields).encode())
        assert status == 200, content
        found: dict[str, Any] = json.loads(content)
        return found

    def done(self, name: str, **fields: Any) -> dict[str, Any]:
        found = self.call(name, **fields)
        assert found.get("Err", "") == ""
        return found

    def write(self, layer_id: str, name: str, content: bytes) -> None:
        root = self.done("Get", ID=layer_id)["Dir"]
        Path(root, name).write_bytes(content)
        self.done("Put", ID=layer_id)


def started(path: Path, *words: str, home: str = "") -> subprocess.Popen[bytes]:
    """A server that listens, and has a home open if one is given."""
    process = subprocess.Popen(
        [sys.executable, "-m", "refdriver", "--home", home, "serve", "--graphdriver", str(path), *words],
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert READY in line, line
    return process


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a server that was told to end."""
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode


@pytest.fixture
def server(scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = started(scratch / "plugin.sock")
    yield process
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture
def client(server: subprocess.Popen[bytes], scratch: Path) -> Client:
    del server
    found = Client(str(scratch / "plugin.sock"))
    found.done("Init", Home=str(scratch / "home"), Opts=[])
    return found


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_activate_and_capabilities(client: Client) -> None:
    assert json.loads(client.raw("/Plugin.Activate", b"")[1]) == {"Implements": ["GraphDriver"]}
    assert client.done("Capabilities")["Capabilities"] == {"ReproducesExactDiffs": False}


def test_every_call(client: Client, scratch: Path) -> None:
    client.done("Create", ID="base", Parent="")
    client.write("base", "old", b"old")
    client.done("CreateReadWrite", ID="top", Parent="base", MountLabel="", StorageOpt={})
    client.write("top", "new", b"12345")
    assert client.done("Exists", ID="top")["Exists"] is True
    assert client.done("Exists", ID="missing")["Exists"] is False
    assert ["Supports d_type", "true"] in client.done("Status")["Status"]
    assert client.done("GetMetadata", ID="top")["Metadata"]["UpperDir"] == f"{scratch}/home/top/diff"
    assert client.done("Changes", ID="top", Parent="base")["Changes"] == [{"Path": "/new", "Kind": 1}]
    assert client.done("DiffSize", ID="top", Parent="base")["Size"] == 5
    status, data = client.raw("/GraphDriver.Diff", json.dumps({"ID": "top", "Parent": "base"}).encode())
    assert status == 200
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["new"]
    client.done("Create", ID="copy", Parent="base")
    status, answer = client.raw("/GraphDriver.ApplyDiff?id=copy&parent=base", data)
    assert json.loads(answer) == {"Size": 5, "Err": ""}
    assert client.done("Changes", ID="copy", Parent="base")["Changes"] == [{"Path": "/new", "Kind": 1}]
    client.done("Remove", ID="copy")
    assert client.done("Exists", ID="copy")["Exists"] is False
    client.done("Cleanup")


def test_a_refusal_is_told_and_no_error_of_http(client: Client) -> None:
    assert "missing" in client.call("Get", ID="missing")["Err"]
    assert "nonsense" in client.call("Create", ID="x", StorageOpt={"nonsense": "1"})["Err"]


def test_before_init_nothing_is_open(server: subprocess.Popen[bytes], scratch: Path) -> None:
    del server
    fresh = Client(str(scratch / "plugin.sock"))
    assert "Init" in fresh.call("Exists", ID="x")["Err"]
    assert fresh.call("Init", Home=str(scratch / "home"), Opts=["overlay.nonsense=1"])["Err"]
    fresh.done("Init", Home=str(scratch / "home"), UIDMaps=[{"container_id": 0, "host_id": 1000, "size": 10}])
    assert os.stat(scratch / "home").st_uid == 1000
    assert "already" in fresh.call("Init", Home=str(scratch / "other"))["Err"]


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/GraphDriver.Get", b"{", 400),
        ("/GraphDriver.Get", b"[]", 400),
        ("/GraphDriver.Get", b'{"ID": 5}', 400),
        ("/GraphDriver.Create", b'{"ID": "x", "StorageOpt": {"size": 5}}', 400),
        ("/GraphDriver.Init", b'{"Home": "/x", "UIDMaps": [{"size": "1"}]}', 400),
        ("/GraphDriver.Init", b"{}", 400),
        ("/GraphDriver.Nonsense", b"{}", 404),
        ("/", b"", 404),
    ],
)
def test_what_is_no_call_is_refused(client: Client, path: str, content: bytes, status: int) -> None:
    found, answer = client.raw(path, content)
    assert found == status
    assert json.loads(answer)["Err"]
    client.done("Exists", ID="x")


def test_every_call_is_a_post(client: Client) -> None:
    assert client.raw("/GraphDriver.Status", b"", method="GET")[0] == 405


def test_a_connection_is_used_again(client: Client) -> None:
    connection = client.connection()
    for _ in range(3):
        connection.request("POST", "/GraphDriver.Exists", b'{"ID": "x"}')
        assert json.loads(connection.getresponse().read())["Exists"] is False
    connection.close()


def test_many_callers_at_a_time(client: Client) -> None:
    client.done("Create", ID="base")

    def work(number: int) -> None:
        layer_id = f"layer-{number}"
        client.done("Create", ID=layer_id, Parent="base")
        client.write(layer_id, "own", b"%d" % number)
        assert client.done("DiffSize", ID=layer_id, Parent="base")["Size"] == 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_a_client_that_leaves_a_diff_harms_nothing(client: Client, scratch: Path) -> None:
    client.done("Create", ID="base")
    client.done("Create", ID="top", Parent="base")
    client.write("top", "big", os.urandom(20_000_000))
    connection = client.connection()
    connection.request("POST", "/GraphDriver.Diff", json.dumps({"ID": "top", "Parent": ""}).encode())
    connection.getresponse().read(100_000)
    connection.close()
    # Native diffs read the layer itself; this one borrows its mount, which is given back when nobody reads.
    assert client.done("DiffSize", ID="top", Parent="base")["Size"] == 20_000_000
    deadline = time.monotonic() + 60
    while mounted_below(scratch):
        assert time.monotonic() < deadline, "the mount that a diff borrowed was not given back"
        os.sched_yield()


@pytest.mark.parametrize("chunked", [True, False])
def test_a_client_that_leaves_an_archive_leaves_the_layer_as_it_was(client: Client, chunked: bool) -> None:
    client.done("Create", ID="base")
    client.write("base", "old", b"old")
    data = archive(one=b"1", big=bytes(300_000))
    head = b"POST /GraphDriver.ApplyDiff?id=base&parent= HTTP/1.1\r\nHost: x\r\n"
    if chunked:
        head += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(data)
    else:
        head += b"Content-Length: %d\r\n\r\n" % len(data)
    connection = client.connection()
    connection.sock.sendall(head + data[:50_000])
    connection.close()
    # Waits for the layer's lock, so it comes after the call that was cut.
    assert client.call("Create", ID="base")["Err"]
    root = Path(client.done("Get", ID="base")["Dir"])
    assert [path.name for path in root.iterdir()] == ["old"]


def test_a_cut_archive_is_refused(client: Client) -> None:
    client.done("Create", ID="base")
    _, answer = client.raw("/GraphDriver.ApplyDiff?id=base&parent=", archive(big=bytes(300_000))[:50_000])
    assert "truncated" in json.loads(answer)["Err"]
    client.done("Exists", ID="base")


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
