"""Docker Engine with all of its layers on the reference driver, and a second engine to compare with."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from engines import PATH, Daemon, Engine, Namespaces, control_groups, lacking, namespaces
from helpers import everything_in

from conformance.operations.observe import observe
from conformance.operations.trees import CAPABILITY, Snapshot

pytestmark = [pytest.mark.mounts, pytest.mark.slow]
SOCKET = "/run/docker/plugins/refdriver.sock"
READY = f"refdriver: serving the Docker graph-driver protocol on {SOCKET}"
COMMANDS = ("cat", "chmod", "chown", "ln", "mkdir", "mkfifo", "mknod", "mv", "rm", "sh", "sleep", "touch")
NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep
DOCKERFILE = """\
FROM base
RUN mkdir -p gone/deep again/deep kept && echo one >kept/one && ln kept/one kept/two && echo old >again/deep/old
RUN chmod 4755 kept/one && chown 12:34 kept && chmod 1777 kept && ln -s ../gone kept/link && touch -d @86400 again
RUN mkfifo kept/fifo && mknod kept/null c 1 3 && echo three >kept/three
RUN rm -r gone kept/two
RUN rm -r again && mkdir again && echo new >again/new
RUN mv capable kept/moved && ln kept/three kept/four
COPY copied /
"""
# In every container the engine makes these itself.
OF_THE_ENGINE = (b".dockerenv", b"dev", b"etc", b"proc", b"sys")
HOST = ("/var/lib/docker", "/etc/docker", "/run/docker", "/run/containerd", "/run/docker.pid")


@pytest.fixture
def inside(scratch: Path) -> Iterator[Namespaces]:
    """Namespaces for engines; afterwards the host is as it was."""
    if reason := lacking():
        pytest.skip(reason)
    before = host()
    with namespaces(scratch) as found:
        yield found
    assert not Path(f"/proc/{found.pid}").exists()
    assert control_groups(scratch.name) == []
    assert host() == before


def host() -> dict[str, set[str]]:
    return {place: everything_in(Path(place)) for place in HOST if Path(place).exists()}


def serve(inside: Namespaces, *options: str | Path) -> Daemon:
    """A plugin that listens."""
    command = (sys.executable, "-m", "refdriver", *options, "serve", "--graphdriver", SOCKET)
    return inside.start(READY, *command)


def base() -> bytes:
    """An archive to import: busybox under the names of its commands, and a file with a capability."""
    program = shutil.which("busybox", path=PATH)
    if not program:
        pytest.skip("needs busybox; apt-get install busybox-static")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        files = {"bin/busybox": Path(program), **{str(path).lstrip("/"): path for path in libraries(program)}}
        for directory in sorted({str(path) for name in files for path in Path(name).parents} - {"."}):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, path in files.items():
            tar.add(path.resolve(), name)
        for name in COMMANDS:
            # With the metadata of the file, as tar(1) writes it: the engine gives them to the file.
            link = tar.getmember("bin/busybox").replace(name=f"bin/{name}", deep=False)
            link.type, link.linkname, link.size = tarfile.LNKTYPE, "bin/busybox", 0
            tar.addfile(link)
        capable = tarfile.TarInfo("capable")
        capable.mode, capable.size = 0o755, 1
        capable.pax_headers = {
            "mtime": "1234567890.123456789",
            f"SCHILY.xattr.{CAPABILITY}": NET_RAW.decode("utf-8", "surrogateescape"),
        }
        tar.addfile(capable, io.BytesIO(b"x"))
    return buffer.getvalue()


def libraries(program: str) -> list[Path]:
    """What a program is linked with; nothing for a static one."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return [Path(word) for word in done.stdout.split() if word.startswith("/")]


def context() -> bytes:
    """What is built: the Dockerfile and a file to copy."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (("Dockerfile", DOCKERFILE.encode()), ("copied", b"copied\n")):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o640
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tree(engine: Engine, image: str) -> Snapshot:
    """What a container of the image shows."""
    engine.run("run", "--detach", "--network=none", "--name=shown", image, "sleep", "600")
    data = json.loads(engine.run("inspect", "--format={{json .GraphDriver.Data}}", "shown"))
    found = observe(str(engine.namespaces.path(data["MergedDir"])))
    engine.run("rm", "--force", "shown")
    nodes = {
        # With a digest for the content of the program, so that a difference can be read.
        path: replace(node, content=sha256(node.content).digest()) if len(node.content) > 1000 else node
        for path, node in found.nodes.items()
        if path.split(b"/")[0] not in OF_THE_ENGINE
    }
    return Snapshot(nodes, found.link_groups)


def layers(engine: Engine, image: str) -> list[str]:
    found: list[str] = json.loads(engine.run("image", "inspect", "--format={{json .RootFS.Layers}}", image))
    return found


def is_as_built(shown: Snapshot) -> None:
    """Deletions, a re-created directory, hard links, and what a layer has to carry."""
    nodes = shown.nodes
    assert {path for path in nodes if path.startswith((b"gone", b"again", b"capable"))} == {b"again", b"again/new"}
    assert {path.decode() for path in nodes if path.startswith(b"kept/")} == {
        f"kept/{name}" for name in ("fifo", "four", "link", "moved", "null", "one", "three")
    }
    assert frozenset({b"kept/three", b"kept/four"}) in shown.link_groups
    assert frozenset({b"bin/busybox", *(f"bin/{name}".encode() for name in COMMANDS)}) in shown.link_groups
    assert (nodes[b"kept"].mode & 0o7777, nodes[b"kept"].uid, nodes[b"kept"].gid) == (0o1777, 12, 34)
    assert (nodes[b"kept/one"].mode & 0o7777, nodes[b"kept/one"].content) == (0o4755, b"one\n")
    assert (nodes[b"kept/null"].device, nodes[b"kept/link"].target) == ((1, 3), b"../gone")
    assert (nodes[b"kept/moved"].xattrs, nodes[b"kept/moved"].mtime_ns) == (
        {CAPABILITY: NET_RAW},
        1234567890123456789,
    )
    assert nodes[b"copied"].content == b"copied\n"


def test_an_engine_keeps_all_of_its_layers_on_the_driver(inside: Namespaces) -> None:
    engine = Engine(inside, "engine", "refdriver")
    home = inside.path(engine.data / "refdriver")
    plugin, daemon = serve(inside), engine.start()

    engine.run("import", "-", "base", stdin=base())
    engine.run("build", "--network=none", "--tag=built", "-", stdin=context())
    built = tree(engine, "built")
    is_as_built(built)

    work = "cat again/new && rm -r again && echo more >>kept/one && echo new >new"
    assert engine.run("run", "--network=none", "--name=changed", "built", "sh", "-c", work) == "new\n"
    changes = ["A /new", "C /kept", "C /kept/one", "D /again"]
    assert sorted(engine.run("diff", "changed").splitlines()) == changes
    engine.run("commit", "changed", "committed")
    committed = tree(engine, "committed")
    assert committed.nodes[b"kept/one"].content == b"one\nmore\n"
    assert b"again" not in committed.nodes

    saved = inside.scratch / "saved.tar"
    engine.run("save", "--output", saved, "built", "committed")
    other = Engine(inside, "other", "overlay2")
    other_daemon = other.start()
    other.run("load", "--input", saved)
    for image, expected in (("built", built), ("committed", committed)):
        assert layers(other, image) == layers(engine, image)
        assert tree(other, image) == expected
    other_daemon.stop()
    assert other_daemon.errors() == []

    # The plugin restarts under the engine and a running container, then both restart.
    engine.run("run", "--detach", "--network=none", "--name=running", "built", "sleep", "600")
    plugin.stop()
    assert plugin.lines == [READY]
    plugin = serve(inside, "--home", engine.data / "refdriver")
    assert tree(engine, "committed") == committed
    engine.run("rm", "--force", "running")
    daemon.stop()
    assert daemon.errors() == []
    assert inside.mounted() == []
    plugin.stop()
    assert plugin.lines == [READY]
    plugin, daemon = serve(inside), engine.start()
    assert sorted(engine.run("diff", "changed").splitlines()) == changes
    assert tree(engine, "built") == built

    engine.run("rm", "changed")
    engine.run("rmi", "built", "committed", "base")
    assert set(os.listdir(home)) == {"l", ".refdriver.lock"}
    engine.run("load", "--input", saved)
    assert tree(engine, "committed") == committed
    engine.run("rmi", "built", "committed")
    daemon.stop()
    plugin.stop()
    assert plugin.lines == [READY]
    assert daemon.errors() == []
    assert inside.mounted() == []
