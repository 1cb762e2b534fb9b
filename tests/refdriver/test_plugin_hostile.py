"""Clients of the plugin server that send malformed requests, or nothing: each is answered, and so are others."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from refdriver import unixhttp
from refdriver.errors import BadOption
from refdriver.plugin import PluginServer

EXISTS = b"POST /GraphDriver.Exists HTTP/1.1\r\nContent-Length: 11\r\n\r\n" + b'{"ID": "x"}'


class Stub:
    """A driver without a home, whose defects are those of a driver of somebody else."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.name = "stub"

    def exists(self, layer_id: str) -> bool:
        if layer_id == "exit":
            raise SystemExit(3)
        if layer_id == "defect":
            raise ZeroDivisionError
        return False

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        del layer_id, parent
        return len(archive.read())

    def diff(self, layer_id: str, parent: str) -> io.BytesIO:
        del layer_id, parent
        return io.BytesIO(b"archive")

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = str(tmp_path_factory.mktemp("plugin") / "s")
    opened = PluginServer(path, Stub)  # type: ignore[arg-type]
    thread = threading.Thread(target=opened.run)
    thread.start()
    sent(path, b'POST /GraphDriver.Init HTTP/1.1\r\nContent-Length: 14\r\n\r\n{"Home": "/x"}')
    yield path
    opened.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert not os.path.exists(path)


def connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(path)
    return connection


def sent(path: str, data: bytes) -> tuple[int, dict[str, Any]]:
    """Send bytes and nothing after them; status and JSON of the first answer."""
    with connected(path) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server had seen enough
        answer = http.client.HTTPResponse(connection, method="POST")
        answer.begin()
        content = answer.read()
    if answer.headers["Content-Type"] == "application/x-tar":
        return answer.status, {"archive": content}
    found = json.loads(content)
    assert isinstance(found, dict)
    return answer.status, found


heads = st.builds(
    lambda method, path, version, fields: b" ".join([method, path, version]) + b"\r\n" + b"".join(fields) + b"\r\n",
    st.sampled_from((b"POST", b"GET", b"post", b"", b"P\0ST", b"CONNECT", b"\xff")),
    st.one_of(
        st.sampled_from(
            [
                b"/GraphDriver." + call
                for call in (b"Exists", b"Diff", b"ApplyDiff?id=%ff", b"Init", b"Nothing", b"")
            ]
        ),
        st.sampled_from(
            (b"//[", b"http://[::1/", b"*", b"", b"/\xff", b"/%", b"/GraphDriver.ApplyDiff?" + b"a&" * 99)
        ),
        st.binary(max_size=20),
    ),
    st.sampled_from((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b"HTTP/1.1 ", b"", b"HTTP/9.9", b"\0")),
    st.lists(
        st.one_of(
            st.sampled_from((b"", b"-1", b"0", b"5", b"+5", b"5, 5", b"0x5", b"9" * 18, b"9" * 5000, b"\xb2")).map(
                lambda value: b"Content-Length: " + value + b"\r\n"
            ),
            st.sampled_from(
                (
                    b"Transfer-Encoding: chunked\r\n",
                    b"Transfer-Encoding: gzip, chunked\r\n",
                    b"Expect: 100-continue\r\n",
                    b"Connection: close\r\n",
                    b"no colon\r\n",
                    b" folded: x\r\n",
                    b": x\r\n",
                    b"a: \0\r\n",
                    b"long: " + b"x" * 70_000 + b"\r\n",
                )
            ),
        ),
        max_size=3,
    ),
)
json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(("\0", "\ud800", "\udcff"))
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=4,
)
FIELDS = ("ID", "Parent", "Home", "Opts", "UIDMaps", "StorageOpt", "MountLabel")
bodies = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        (b"5\r\nabc", b"zz\r\n", b"-5\r\nabcde\r\n0\r\n\r\n", b"1" * 2000, b"0\r\n" + b"t: x\r\n" * 99)
    ),
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3).map(lambda one: json.dumps(one).encode()),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(heads, bodies)
def test_whatever_is_sent_is_answered_and_the_server_goes_on(server: str, head: bytes, body: bytes) -> None:
    status, found = sent(server, head + body)
    assert 100 <= status < 600
    assert status == 200 or found["Err"]
    assert sent(server, EXISTS) == (200, {"Err": "", "Exists": False})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(("Exists", "Init", "Create", "CreateReadWrite", "Diff", "Get", "Changes")),
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3),
)
@example("Exists", {"ID": "\ud800"})
@example("Exists", {"ID": "a\0b"})
@example("Init", {"Home": "/x", "UIDMaps": [{"ContainerID": -1, "HostID": 10**30, "Size": 1}]})
def test_whatever_a_call_says_is_answered(server: str, call: str, fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    head = b"POST /GraphDriver.%b HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (call.encode(), len(body))
    status, found = sent(server, head + body)
    assert status in (200, 400, 500)
    assert "Err" in found or "archive" in found
    assert sent(server, EXISTS)[0] == 200


def post(path: str, *fields: str, body: bytes = b"") -> bytes:
    head = "\r\n".join([f"POST {path} HTTP/1.1", *fields, "", ""])
    return head.encode() + body


MALFORMED = {
    "no request line": (b"hello\r\n\r\n", 400),
    "a head that ends": (b"POST /GraphDriver.Exists HTTP/1.1\r\nContent-", 400),
    "a head without end": (b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, 431),
    "a path that is no address": (post("//["), 404),
    "a negative length": (post("/GraphDriver.Exists", "Content-Length: -1"), 400),
    "a length of 5,000 digits": (post("/GraphDriver.Exists", "Content-Length: " + "9" * 5000), 400),
    "a body that ends": (post("/GraphDriver.Exists", "Content-Length: 100", body=b"{"), 400),
    "an archive that ends": (post("/GraphDriver.ApplyDiff?id=x", "Content-Length: 100", body=b"{"), 400),
    "a chunk that is none": (
        post("/GraphDriver.ApplyDiff?id=x", "Transfer-Encoding: chunked", body=b"zz\r\n"),
        400,
    ),
    "a length and chunks": (post("/", "Content-Length: 1", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "another encoding": (post("/GraphDriver.Exists", "Transfer-Encoding: gzip"), 501),
    "another method": (b"BREW /GraphDriver.Exists HTTP/1.1\r\n\r\n", 405),
    "another version": (b"POST /GraphDriver.Exists HTTP/3\r\n\r\n", 505),
    "an archive for HTTP/1.0": (b"POST /GraphDriver.Diff HTTP/1.0\r\n\r\n", 505),
    "100,000 brackets": (post("/GraphDriver.Exists", "Content-Length: 100000", body=b"[" * 100_000), 400),
    "a number of 5,000 digits": (post("/GraphDriver.Exists", "Content-Length: 5000", body=b"1" * 5000), 400),
    "99 fields": (post("/GraphDriver.ApplyDiff?" + "a=b&" * 99), 400),
    "an id twice": (post("/GraphDriver.ApplyDiff?id=a&id=b"), 400),
    "a defect of the driver": (post("/GraphDriver.Exists", "Content-Length: 16", body=b'{"ID": "defect"}'), 200),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_requests_are_answered(server: str, what: str) -> None:
    data, status = MALFORMED[what]
    found, answer = sent(server, data)
    assert found == status
    assert answer["Err"]
    assert sent(server, EXISTS)[0] == 200


def test_a_driver_that_ends_its_thread_ends_no_other(server: str) -> None:
    body = b'{"ID": "exit"}'
    for _ in range(40):  # more than there are threads
        with connected(server) as connection:
            connection.sendall(post("/GraphDriver.Exists", f"Content-Length: {len(body)}", body=body))
            assert connection.recv(100) == b""
    assert sent(server, EXISTS)[0] == 200


def test_requests_that_come_together_are_answered_in_order(server: str) -> None:
    with connected(server) as connection:
        connection.sendall(EXISTS * 3 + EXISTS[:20])
        connection.sendall(EXISTS[20:])
        received = b""
        while received.count(b"}") < 4:
            block = connection.recv(1 << 16)
            assert block, received
            received += block
    assert received.count(b'"Exists": false') == received.count(b"HTTP/1.1 200 OK") == 4


def threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def test_idle_and_slow_clients_hold_no_thread(server: str) -> None:
    before = threads_of(os.getpid())
    with ExitStack() as clients:
        for number in range(600):  # more than are kept
            client = clients.enter_context(connected(server))
            if number % 2:
                client.sendall(EXISTS)
                assert client.recv(1000)
            elif number < 100:
                client.sendall(b"POST /GraphDriver.Exists HTTP/1.1\r\nContent-")
        assert threads_of(os.getpid()) <= before + 2 * 16
        assert sent(server, EXISTS) == (200, {"Err": "", "Exists": False})


def test_clients_that_send_no_end_are_answered_in_time(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unixhttp, "_HEAD_TIME", 0.2)
    monkeypatch.setattr(unixhttp, "_CALL_TIME", 0.2)
    monkeypatch.setattr(unixhttp, "_STALL_TIME", 0.2)
    starts = (
        b"POST /GraphDriver.Exists HTTP/1.1\r\nContent-",
        post("/GraphDriver.Exists", "Content-Length: 100", body=b"{"),
        post("/GraphDriver.ApplyDiff?id=x", "Transfer-Encoding: chunked", body=b"5\r\nab"),
    )
    for start in starts:
        with connected(server) as connection:
            connection.sendall(start)
            answer = http.client.HTTPResponse(connection, method="POST")
            answer.begin()
            assert answer.status == 408
            assert json.loads(answer.read())["Err"]


def test_slow_archives_keep_no_call_waiting(server: str) -> None:
    with ExitStack() as clients:
        for _ in range(40):
            client = clients.enter_context(connected(server))
            client.sendall(post("/GraphDriver.ApplyDiff?id=x", "Content-Length: 100", body=b"slow"))
        assert sent(server, EXISTS)[0] == 200


def test_a_stopped_server_is_told_from_none(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.bind({path!r}); s.listen(0); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        with ExitStack() as waiting:
            for _ in range(2):  # fills its backlog
                client = waiting.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect_ex(path)
            with pytest.raises(BadOption, match="accepts no connections"):
                PluginServer(path, Stub)  # type: ignore[arg-type]
        process.send_signal(signal.SIGCONT)
        process.kill()


def test_a_server_ends_at_once(tmp_path: Path) -> None:
    opened = PluginServer(str(tmp_path / "s"), Stub)  # type: ignore[arg-type]
    polled: list[float | None] = []
    real = opened._server._selector.select

    def select(timeout: float | None = None) -> Any:
        polled.append(timeout)
        return real(timeout)

    opened._server._selector.select = select  # type: ignore[method-assign]
    thread = threading.Thread(target=opened.run)
    thread.start()
    sent(str(tmp_path / "s"), EXISTS)
    opened.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert set(polled) == {None}  # it waits for what happens, and looks at no clock
