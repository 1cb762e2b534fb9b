"""What is mounted in a home, and the trees that are held."""

from __future__ import annotations

import os

from conformance.harness.assertions import between, equal, nothing
from conformance.harness.bench import Store
from conformance.history.findings import MountedTwice, StillMounted, TreeGone
from conformance.lab import mountinfo
from conformance.operations import ops
from conformance.operations.standard import STANDARD


def two_layers(store: Store) -> None:
    """The standard tree, and a layer on it that lacks 'a' and has 'new'."""
    store.build([STANDARD, [ops.Unlink(b"a"), ops.CreateFile(b"new", b"new", 0o644)]])


def mounts_below(directory: str) -> list[str]:
    """Mount points strictly below a directory, without bind mounts of directories on themselves."""
    found = mountinfo.below(directory)
    return [one.point for one in found if one.fstype == "overlay" or one.fstype.startswith("fuse")]


def mounted_once(store: Store, root: str, least: int = 0) -> None:
    """One mount at most is on a tree that was got, by /proc/self/mountinfo; raises Deviation."""
    count = mounts_below(store.home).count(root)
    between(f"mounts on {root}, one over the other", count, least, 1, MountedTwice() if count > 1 else None)


def nothing_mounted(store: Store, when: str) -> None:
    """No layer of a store is mounted; raises Deviation."""
    nothing(f"mounts {when}", mounts_below(store.home), StillMounted(overlays=True))


def tree_stays(root: str, when: str, name: str = "new") -> None:
    """A tree that was got last is there, seen by an entry of it; raises Deviation."""
    there = "there" if os.path.exists(f"{root}/{name}") else "gone"
    equal(f"the tree {when}", there, "there", TreeGone(os.fsencode(name)))
