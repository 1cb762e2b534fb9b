"""What a driver does not decline, it is tried on once, before anything is judged by it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.drivers.protocol import DriverRefused
from conformance.harness.assertions import equal
from conformance.harness.bench import Bench, Store
from conformance.history.calls import Changes, Create, DiffSize, Exists, Get, Metadata, Put, Status
from conformance.lab import namespace
from conformance.operations import archives, ops
from conformance.operations.standard import STANDARD

Claim = Callable[[Bench, Store], bool]
_TIME = 1_400_000_000_123_456_789


def _applied(store: Store, operation: ops.Operation, *more: ops.Operation) -> Store:
    """The store, with "copy" made from the diff of a layer in which this was done."""
    store.create("made")
    store.change("made", [operation, *more])
    store.create("copy")
    store.apply("copy", store.diff("made"))
    return store


def _mounts(_: Bench, store: Store) -> bool:
    root = store.do(Get("layer-1"))
    try:
        return root in namespace.mounts_below(Path(root).parent)
    finally:
        store.do(Put("layer-1"))


def _kernel_mounts(_: Bench, store: Store) -> bool:
    root = Path(store.do(Get("layer-1")))
    try:
        return namespace.filesystem_magic(root) == namespace.OVERLAYFS
    finally:
        store.do(Put("layer-1"))


def _fine_times(_: Bench, store: Store) -> bool:
    _applied(store, ops.CreateFile(b"x", b"", 0o644), ops.SetTimes(b"x", _TIME))
    return store.observed("copy").nodes[b"x"].mtime_ns == _TIME


def _user_xattrs(_: Bench, store: Store) -> bool:
    _applied(store, ops.CreateFile(b"x", b"", 0o644), ops.SetXattr(b"x", "user.colour", b"red"))
    return store.observed("copy").nodes[b"x"].xattrs == {"user.colour": b"red"}


def _any_names(_: Bench, store: Store) -> bool:
    _applied(store, ops.CreateFile(b"\xff\xfe", b"", 0o644))
    return b"\xff\xfe" in store.observed("copy").nodes


def _applied_size(_: Bench, store: Store) -> bool:
    store.create("sized")
    return store.applied("sized", [archives.file("x", b"12345")]) == 5


def _takes_options(bench: Bench, _: Store) -> bool:
    try:
        with bench.store("other", options=["nonsense=1"]):
            return False
    except DriverRefused:
        return True


def _layer_options(_: Bench, store: Store) -> bool:
    store.may_refuse(Create("limited", "layer-0", {"size": "100m"}))  # without quota it should, for any reason
    return True


def _home_layout(_: Bench, store: Store) -> bool:
    home = Path(store.home)
    return (home / "layer-1" / "diff").is_dir() and (home / "layer-1" / "link").is_file() and (home / "l").is_dir()


def _image_stores(bench: Bench, store: Store) -> bool:
    with bench.store("other", image_stores=[store.image_store]) as other:
        return other.do(Exists("layer-1"))


def _shared_home(_: Bench, store: Store) -> bool:
    second = store.another_opening()
    try:
        return second.exists("layer-1")
    finally:
        second.leave()


def _busy_parents(_: Bench, store: Store) -> bool:
    store.do(Get("layer-1"))
    try:
        store.create("child", "layer-1")
        return store.do(Exists("child"))
    finally:
        store.do(Put("layer-1"))


CLAIMS: dict[str, Claim] = {
    "layer-store": lambda _, store: store.do(Exists("layer-1")),
    "writable-layers": lambda _, store: b"new" in store.observed("layer-1").nodes,
    "overlay": _mounts,
    "kernel-overlay": _kernel_mounts,
    "home-layout": _home_layout,
    "attributes": lambda _, store: store.observed("layer-1").nodes[b"new"].content == b"new",
    "file-types": lambda _, store: store.observed("layer-1").nodes[b"b"].is_symlink,
    "own-home": lambda _, store: store.home.startswith(os.fspath(store.directory)),
    "metadata": lambda _, store: bool(store.do(Metadata("layer-1"))),
    "status": lambda _, store: bool(store.do(Status())),
    "diff": lambda _, store: store.diff("layer-1").stat().st_size > 0,
    "whole-tree-diff": lambda _, store: store.diff("layer-1", "").stat().st_size > 1024,
    "apply": lambda _, store: bool(_applied(store, STANDARD[0]).observed("copy").nodes),
    "applied-size": _applied_size,
    "changes": lambda _, store: bool(store.do(Changes("layer-1", "layer-0"))),
    "diff-size": lambda _, store: store.do(DiffSize("layer-1", "layer-0")) >= 3,
    "fine-times": _fine_times,
    "user-xattrs": _user_xattrs,
    "any-names": _any_names,
    "options": _takes_options,
    "layer-options": _layer_options,
    "image-stores": _image_stores,
    "shared-home": _shared_home,
    "busy-parents": _busy_parents,
}


@pytest.mark.quick
@pytest.mark.requirement("OVL-CLAIM-HOLDS")
@pytest.mark.parametrize("capability", [pytest.param(name, id=f"@{name}@") for name in CLAIMS])
def test_claim(bench: Bench, capability: str) -> None:
    bench.need(capability)
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"new", b"new", 0o644)]])
        store.note(f"try whether the driver has the capability {capability!r}, which it does not decline")
        equal(f"whether the driver has {capability!r}", CLAIMS[capability](bench, store), True)
