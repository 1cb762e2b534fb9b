"""The transfer service of containerd as the way by which archives become layers."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from snapshotting import BINARY, fill_and_branch, kept, names, nothing_left, tree, with_containerd

from conformance.drivers import registry
from conformance.drivers.containerd.daemon import Daemon, Setup
from conformance.drivers.containerd.registry import serving
from conformance.drivers.containerd.transfer import Unpacking
from conformance.drivers.protocol import DriverRefused, DriverUnderTest, OpenRequest
from conformance.drivers.unpacker.layout import LayerBlob, digest_of, write_images

Open = Callable[[str], DriverUnderTest]


def _version() -> tuple[int, int]:
    said = (
        subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=False).stdout if BINARY else ""
    )
    found = re.search(r"\bv?([0-9]+)\.([0-9]+)\.[0-9]", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


since_1_7 = pytest.mark.skipif(
    _version() < (1, 7), reason="this containerd has no transfer service, 1.7 and later have it; set PATH for one"
)


@pytest.fixture(params=["overlayfs", "native"])
def open_store(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Open]:
    """Stores of both ways; nothing may be left of them: no process, no mount, no content."""
    ways = {"diff": "diff", "transfer": "transfer", "parallel": "transfer&parallel=3"}
    sources = {how: registry.connect(f"containerd:{request.param}?unpack={ways[how]}") for how in ways}

    def opened(how: str) -> DriverUnderTest:
        (scratch / how).mkdir()
        if how == "parallel" and (request.param == "native" or _version() < (2, 2)):
            with pytest.raises(DriverRefused, match="capability 'rebase'"):
                sources[how].open(OpenRequest(scratch / how))
            how = "transfer"
            (scratch / "in-turn").mkdir()
            return sources[how].open(OpenRequest(scratch / "in-turn"))
        return sources[how].open(OpenRequest(scratch / how))

    yield opened
    for source in sources.values():
        source.close()
    nothing_left(scratch)


def _archive(path: Path, *entries: str) -> Path:
    """An archive of directories (``d/``) and files, whose content is their name."""
    with tarfile.open(path, "w") as tar:
        for name in entries:
            about = tarfile.TarInfo(name.rstrip("/"))
            about.type, about.mode = (tarfile.DIRTYPE, 0o755) if name.endswith("/") else (tarfile.REGTYPE, 0o644)
            content = b"" if name.endswith("/") else name.encode()
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


@with_containerd
@since_1_7
def test_both_ways_show_the_same_layers(open_store: Open, scratch: Path) -> None:
    """Base, deletions, an opaque directory, and an archive for what a layer holds already."""
    archives = [
        _archive(scratch / "0.tar", "a", "d/", "d/b", "d/c", "e/", "e/f"),
        _archive(scratch / "1.tar", ".wh.a", "d/", "d/.wh.b", "d/new", "e/", "e/.wh..wh..opq", "e/g"),
        _archive(scratch / "2.tar", "a", "d/", "d/more"),
    ]
    shown: dict[str, list[set[str]]] = {}
    for how in ("diff", "transfer", "parallel"):
        driver = open_store(how)
        for number, archive in enumerate(archives[:2]):
            driver.create(f"layer-{number}", f"layer-{number - 1}" if number else "")
            driver.apply_diff(f"layer-{number}", "", archive)
        driver.apply_diff("layer-1", "layer-0", archives[2])
        for layer in ("layer-0", "layer-1"):
            with tree(driver, layer) as root:
                shown.setdefault(how, []).append(names(root))
        driver.diff("layer-1", "layer-0", scratch / "diff.tar")
        with tarfile.open(scratch / "diff.tar") as tar:
            shown[how].append(set(tar.getnames()))
        driver.remove("layer-1")
        driver.remove("layer-0")
        assert kept(driver) == set()
        assert not list(scratch.rglob("root/io.containerd.content.v1.content/**/sha256/*"))
        driver.close()
    assert shown["transfer"] == shown["diff"]
    assert shown["parallel"] == shown["diff"]
    assert shown["diff"][1] == {"a", "d", "d/c", "d/new", "d/more", "e", "e/g"}


@with_containerd
@since_1_7
def test_a_refused_archive_and_a_committed_layer_leave_what_was_there(open_store: Open, scratch: Path) -> None:
    driver = open_store("transfer")
    fill_and_branch(driver)
    whole = _archive(scratch / "whole.tar", "more").read_bytes()
    (scratch / "broken.tar").write_bytes(whole[:300] + b"?" + whole[301:])
    before = kept(driver)
    for layer, archive in (("child", "broken.tar"), ("base", "whole.tar"), ("missing", "whole.tar")):
        with pytest.raises(DriverRefused):
            driver.apply_diff(layer, "", scratch / archive)
    with tree(driver, "child") as root:
        assert names(root) == {"d", "d/c", "new"}
        with pytest.raises(DriverRefused, match="is mounted"):
            driver.apply_diff("child", "base", scratch / "whole.tar")
    assert before - kept(driver) == set()
    driver.apply_diff("child", "base", scratch / "whole.tar")
    with tree(driver, "child") as root:
        assert names(root) == {"d", "d/c", "new", "more"}
    with pytest.raises(DriverRefused):
        driver.remove("base")
    driver.close()


@with_containerd
@since_1_7
def test_an_archive_larger_than_the_window_of_a_stream(open_store: Open, scratch: Path) -> None:
    driver = open_store("transfer")
    driver.create("base", "")
    content = os.urandom(3 << 20)
    (scratch / "big").write_bytes(content)
    with tarfile.open(scratch / "big.tar", "w") as tar:
        tar.add(scratch / "big", "big")
    subprocess.run(["gzip", "-k", scratch / "big.tar"], check=True)
    for archive in ("big.tar", "big.tar.gz"):
        driver.apply_diff("base", "", scratch / archive)
        with tree(driver, "base") as root:
            assert (root / "big").read_bytes() == content
    (scratch / "cut.tar.gz").write_bytes((scratch / "big.tar.gz").read_bytes()[:1000])
    with pytest.raises(DriverRefused, match="no whole gzip stream"):
        driver.apply_diff("base", "", scratch / "cut.tar.gz")
    driver.close()


@with_containerd
@pytest.mark.skipif(_version() >= (1, 7), reason="this containerd has a transfer service")
def test_a_containerd_without_the_service_is_refused_at_once(scratch: Path) -> None:
    (scratch / "store").mkdir()
    with pytest.raises(DriverRefused, match=r"no transfer service; 1\.7 and later have it"):
        registry.connect("containerd:overlayfs?unpack=transfer").open(OpenRequest(scratch / "store"))
    nothing_left(scratch)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ("unpack=ctr", "by diff or by transfer"),
        ("parallel=3", "parallel= is for unpack=transfer"),
        ("unpack=transfer&parallel=many", "no number of layers"),
        ("unpack=transfer&parallel=0", "no number of layers"),
        ("address=/run/x.sock&unpack=transfer&parallel=2", "for one of our own"),
    ],
)
@with_containerd
def test_options_that_cannot_be_meant_are_refused(options: str, advice: str) -> None:
    with pytest.raises(registry.UnknownDriver, match=advice):
        registry.connect(f"containerd:overlayfs?{options}")


@with_containerd
def test_the_service_is_configured_for_the_snapshotter(scratch: Path) -> None:
    (scratch / "store").mkdir()
    daemon = Daemon(Setup(str(BINARY), "native", unpacking=Unpacking(4)), scratch / "store")
    said = tomllib.loads((scratch / "store/run/config.toml").read_text())
    daemon.stop()
    (configured,) = said["plugins"]["io.containerd.transfer.v1.local"].pop("unpack_config")
    assert configured["snapshotter"] == "native"
    assert said["plugins"]["io.containerd.transfer.v1.local"] == {"max_concurrent_unpacks": 4}
    assert "differ" not in configured


def test_a_registry_answers_what_a_pull_asks_for(tmp_path: Path) -> None:
    data = b"a layer"
    write_images(tmp_path / "image", {"latest": [LayerBlob(data, digest_of(data))]}, "amd64")
    (said,) = json.loads((tmp_path / "image/index.json").read_text())["manifests"]
    with serving(tmp_path / "image", said["digest"]) as reference:
        host, _, tagged = reference.partition("/")
        name, _, tag = tagged.partition(":")
        for manifest in (tag, said["digest"]):
            with urlopen(f"http://{host}/v2/{name}/manifests/{manifest}") as answer:
                assert answer.headers["Content-Type"] == said["mediaType"]
                found = answer.read()
                assert answer.headers["Docker-Content-Digest"] == said["digest"] == digest_of(found)
        with urlopen(f"http://{host}/v2/{name}/blobs/{json.loads(found)['layers'][0]['digest']}") as answer:
            assert answer.read() == data
        with urlopen(Request(f"http://{host}/v2/{name}/blobs/{digest_of(data)}", method="HEAD")) as answer:
            assert (answer.headers["Content-Length"], answer.read()) == (str(len(data)), b"")
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"http://{host}/v2/{name}/blobs/{digest_of(b'another')}")
    with pytest.raises(URLError):
        urlopen(f"http://{host}/v2/")
