"""The driver behind the graph-driver plugin protocol: every call, concurrent ones, and clients that go away."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import mounted_below
from plugging import Client, archive

pytestmark = pytest.mark.mounts


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


def test_a_refusal_is_no_error_of_http(client: Client) -> None:
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


def test_concurrent_callers(client: Client) -> None:
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
