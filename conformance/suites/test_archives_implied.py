"""What an archive implies, or says of the root: facts that no specification decides, beside what it does."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from conformance.harness.bench import Bench, Store
from conformance.history.calls import Get, Put
from conformance.operations import archives, ops
from conformance.operations.archives import Entry
from conformance.operations.trees import Node

_TIME: Final = 1_000_000_000


@pytest.mark.requirement("OVL-APPLY-PARENTS")
def test_a_directory_that_an_archive_implies_is_there(bench: Bench) -> None:
    """A lower layer has it with a mode, an owner, a time and an attribute of its own; the entries are in it."""
    made: list[ops.Operation] = [ops.MakeDirectory(b"d", 0o1777), ops.CreateFile(b"d/old", b"old", 0o644)]
    if bench.privileged:
        made += [ops.Chown(b"d", 7, 8)]
    made += [ops.SetXattr(b"d", "user.colour", b"red"), ops.SetTimes(b"d", _TIME * 10**9)]
    with bench.store() as store:
        store.build([made])
        store.create("child", "layer-0")
        store.applied("child", [archives.file("d/new", b"new")])
        below = store.observed("layer-0").nodes[b"d"]
        tree = store.shows_files("child", {b"d/new": b"new", b"d/old": b"old"})
        for field, said in _kept(below, tree.nodes[b"d"]).items():
            store.record(f"{field} of a lower directory that an archive implies", said)


@pytest.mark.requirement("OVL-APPLY-PARENTS")
def test_the_umask_and_the_directories_that_an_archive_implies(bench: Bench) -> None:
    """Where nothing was, or a file of the lower layer, in whose place no text says that a directory is implied."""
    found = []
    for umask in (0o022, 0o077):
        with bench.store(umask=umask) as store:
            store.build([[ops.CreateFile(b"a", b"a", 0o644)]])
            store.create("child", "layer-0")
            store.applied("child", [archives.file("nowhere/new")])
            implied = {b"nowhere": b"nowhere/new"}
            in_its_place = store.applying("child", store.archive([archives.file("a/new")]))
            if store.may_refuse(in_its_place) is None:
                implied[b"a"] = b"a/new"
            nodes = store.shows_files("child", dict.fromkeys(implied.values())).nodes
            found.append([nodes[path].mode for path in implied])
    says = dict(zip(("of nothing", "of a file"), zip(*found, strict=True), strict=False))
    for place, (usual, strict) in says.items():
        store.record(
            f"a directory that an archive implies in the place {place}, under the umask 077", _of(usual, strict)
        )


def _of(usual: int, strict: int) -> str:
    return "as under 022" if usual == strict else f"has the mode {stat.S_IMODE(strict):o}"


def _kept(below: Node, above: Node) -> Mapping[str, str]:
    fields = {
        "mode": (oct(stat.S_IMODE(below.mode)), oct(stat.S_IMODE(above.mode))),
        "owner": ((below.uid, below.gid), (above.uid, above.gid)),
        "time": (below.mtime_ns, above.mtime_ns),
        "attributes": (dict(below.xattrs), dict(above.xattrs)),
    }
    return {name: "the lower's" if was == now else _said(name, now) for name, (was, now) in fields.items()}


def _said(name: str, now: object) -> str:
    return "the time of the call" if name == "time" else str(now)


@pytest.mark.requirement("OVL-APPLY-NAME-FORMS")
def test_an_entry_of_the_root_breaks_nothing(bench: Bench) -> None:
    """Whether its mode and its time are taken no specification says: the result has it."""
    roots = {"base": ("./", 0o711), "child": (".", 0o751)}
    with bench.store() as store:
        for layer_id, (name, mode) in roots.items():
            root = replace(Entry(name, tarfile.DIRTYPE, mode=mode), mtime=_TIME)
            store.create(layer_id, "base" if layer_id == "child" else "")
            store.applied(layer_id, [root, archives.file(f"./{layer_id}", layer_id.encode())])
        store.shows_files("base", {b"base": b"base"})
        store.shows_files("child", {b"base": b"base", b"child": b"child"})
        for layer_id, (_, mode) in roots.items():
            _record_root(store, layer_id, mode)


def _record_root(store: Store, layer_id: str, mode: int) -> None:
    root = store.do(Get(layer_id))
    try:
        status = os.stat(root)
    finally:
        store.do(Put(layer_id))
    taken = {"mode": stat.S_IMODE(status.st_mode) == mode, "time": int(status.st_mtime) == _TIME}
    for field, is_taken in taken.items():
        store.record(f"{field} of the entry of the root ({layer_id})", "taken" if is_taken else "ignored")
