"""A client of a graph-driver plugin, and the server of the reference driver."""

from __future__ import annotations

import http.client
import io
import json
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

READY = b"serving the Docker graph-driver protocol"


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


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
