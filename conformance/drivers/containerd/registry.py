"""A registry on the loopback interface with one image: containerd applies only what it pulls in parallel.

It answers what a pull asks for (OCI distribution specification, end-1 to end-3), and ends with its context.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = "conformance"
TAG = "latest"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class _Answer:
    kind: str
    digest: str
    data: bytes


@contextmanager
def serving(layout: Path, manifest: str) -> Iterator[str]:
    """Serve an image layout, whose image has this digest; the reference of the image."""
    answers = dict(_answers(layout, manifest))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:  # the name is that of http.server
            self._answer(whole=False)

        def do_GET(self) -> None:  # the same
            self._answer(whole=True)

        def _answer(self, *, whole: bool) -> None:
            found = answers.get(self.path.partition("?")[0])
            if found is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", found.kind)
            self.send_header("Content-Length", str(len(found.data)))
            self.send_header("Docker-Content-Digest", found.digest)
            self.end_headers()
            if whole:
                self.wfile.write(found.data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the same
            """Nothing: the output is that of the run."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}/{NAME}:{TAG}"
        finally:
            server.shutdown()
            thread.join()


def _answers(layout: Path, manifest: str) -> Iterator[tuple[str, _Answer]]:
    blobs: Mapping[str, bytes] = {
        f"sha256:{path.name}": path.read_bytes() for path in (layout / "blobs/sha256").iterdir()
    }
    yield "/v2/", _Answer("application/json", "", b"{}")
    for digest, data in blobs.items():
        yield f"/v2/{NAME}/blobs/{digest}", _Answer("application/octet-stream", digest, data)
    for name in (TAG, manifest):
        yield f"/v2/{NAME}/manifests/{name}", _Answer(_MANIFEST, manifest, blobs[manifest])
