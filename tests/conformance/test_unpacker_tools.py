"""Connection strings of unpackers, the images that they are given, and the archives that fill layers."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from conformance.drivers.connection import BadConnection, parse
from conformance.drivers.registry import UnknownDriver, connect
from conformance.drivers.unpacker.layout import NAME, TAG, write_docker_archive, write_layout
from conformance.drivers.unpacker.tool import presets, tool_of
from conformance.operations import archives, ops
from conformance.operations.layering import layer_entries
from conformance.operations.model import Tree
from conformance.operations.readers import by_tarfile
from conformance.operations.strategies import chains
from conformance.operations.tarforms import archive_of
from conformance.spec import load_capabilities


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ("unpacker:", "name a command, or one of umoci"),
        ("unpacker:umocy", "names no image"),
        ("unpacker:tool {directory}", "names no image"),
        ("unpacker:tool {layout}", "its result is no 'tar'"),
        ("unpacker:tool {layout} {directory}?from=registry", "write from=layout or from=docker-archive"),
        ("unpacker:tool {layout} {directory}?result=../other", "write a path below the directory"),
        ("unpacker:tool {layout} {directory}?result=/other", "write a path below the directory"),
        ("unpacker:tool {layout} {disk} {directory}", "names a {disk}: write result=disk"),
        ("unpacker:tool {layout} {directory}?result=disk", "names no {disk}"),
        ("unpacker:tool {layout} {directory}?root=maybe", "root=yes or root=no"),
    ],
)
def test_what_is_no_unpacker_is_refused(connection: str, said: str) -> None:
    with pytest.raises(BadConnection, match=said):
        tool_of(parse(connection))


def test_a_missing_command_is_named() -> None:
    with pytest.raises(UnknownDriver, match="no command 'no-such-tool'"):
        connect("unpacker:no-such-tool {layout} {directory}")


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_whole(name: str) -> None:
    tool = tool_of(parse(f"unpacker:{name}"))
    assert tool.needs
    assert tool.install or tool.needs == ("tar",)
    # Otherwise doctor would say that the tool is there because an interpreter is.
    assert not tool.install or set(tool.needs) - {"python3", "tar", "unshare"}
    assert tool.decline.keys() <= load_capabilities().keys()


def test_words_are_quoted() -> None:
    tool = tool_of(parse("unpacker:tool {layout}:{tag} ${layout} {layers} {directory}"))
    values = {"layout": ["/a b"], "tag": ["t"], "layers": ["/1", "/2'"], "directory": ["/d"], "work": ["/w"]}
    assert tool.filled(values).endswith("tool '/a b':t ${layout} /1 '/2'\"'\"'' /d")


def _written(directory: Path) -> list[Path]:
    return [archives.write(directory / f"{one}.tar", [archives.file(one)]) for one in ("base", "child")]


def test_a_layout_holds_what_it_names(tmp_path: Path) -> None:
    layers = _written(tmp_path)
    write_layout(tmp_path / "image", layers)

    def blob(descriptor: Any) -> bytes:
        data: bytes = (tmp_path / "image" / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
        assert descriptor["size"] == len(data)
        assert descriptor["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        return data

    (tagged,) = json.loads((tmp_path / "image" / "index.json").read_text())["manifests"]
    assert tagged["annotations"] == {"org.opencontainers.image.ref.name": TAG}
    manifest = json.loads(blob(tagged))
    assert [blob(one) for one in manifest["layers"]] == [one.read_bytes() for one in layers]
    config = json.loads(blob(manifest["config"]))
    assert config["rootfs"]["diff_ids"] == [one["digest"] for one in manifest["layers"]]


def test_a_docker_archive_holds_what_it_names(tmp_path: Path) -> None:
    layers = _written(tmp_path)
    write_docker_archive(tmp_path / "image" / "image.tar", layers)
    with tarfile.open(tmp_path / "image" / "image.tar") as tar:
        held = {one.name: found.read() for one in tar if (found := tar.extractfile(one))}
    (image,) = json.loads(held["manifest.json"])
    assert image["RepoTags"] == [f"{NAME}:{TAG}"]
    assert [held[one] for one in image["Layers"]] == [one.read_bytes() for one in layers]
    ids = [one.partition("/")[0] for one in image["Layers"]]
    assert json.loads(held["repositories"]) == {NAME: {TAG: ids[-1]}}
    assert json.loads(held[f"{ids[1]}/json"])["parent"] == ids[0]
    assert len(json.loads(held[image["Config"]])["rootfs"]["diff_ids"]) == len(layers)


def _names(*layers: list[ops.Operation]) -> list[bytes]:
    below, tree = Tree(), Tree()
    for operations in layers:
        below, tree = tree, tree.child()
        for operation in operations:
            tree.apply(operation)
    return [entry.name for entry in layer_entries(below, tree)]


def test_a_layer_has_what_changed_and_the_directories_above() -> None:
    base: list[ops.Operation] = [
        ops.MakeDirectory(b"d", 0o755),
        ops.CreateFile(b"d/a", b"", 0o644),
        ops.CreateFile(b"d/b", b"", 0o644),
    ]
    assert _names(base) == [b"d/", b"d/a", b"d/b"]
    assert _names(base, []) == []
    assert _names(base, [ops.Chmod(b"d/a", 0o600)]) == [b"d/", b"d/a"]
    assert _names(base, [ops.Unlink(b"d/a")]) == [b"d/", b"d/.wh.a"]
    assert _names(base, [ops.RemoveTree(b"d")]) == [b".wh.d"]
    again: list[ops.Operation] = [ops.RemoveTree(b"d"), ops.MakeDirectory(b"d", 0o755), base[2]]
    assert _names(base, again) == [b"d/", b"d/.wh..wh..opq", b"d/b"]
    assert _names(base, [ops.RemoveTree(b"d"), ops.CreateFile(b"d", b"", 0o644)]) == [b"d"]


def test_all_names_of_an_inode_are_there_if_one_is() -> None:
    base: list[ops.Operation] = [ops.CreateFile(b"b", b"", 0o644), ops.MakeHardLink(b"c", b"b")]
    assert _names(base, [ops.Unlink(b"c")]) == [b".wh.c"]
    assert _names([ops.CreateFile(b"b", b"", 0o644)], [ops.MakeHardLink(b"a", b"b")]) == [b"a", b"b"]


@given(chains(privileged=True))
def test_a_base_is_the_tree_that_its_archive_says(chain: list[list[ops.Operation]]) -> None:
    tree = Tree()
    for operation in chain[0]:
        if tree.permits(operation):
            tree.apply(operation)
    reading = by_tarfile(archive_of(layer_entries(Tree(), tree)))
    expected = tree.snapshot()
    found = reading.tree()
    assert found.nodes.keys() == expected.nodes.keys()
    assert found.link_groups == expected.link_groups
    for path, node in expected.nodes.items():
        assert found.nodes[path].mode == node.mode
        assert found.nodes[path].content == node.content
        assert (found.nodes[path].uid, found.nodes[path].gid) == (node.uid, node.gid)
