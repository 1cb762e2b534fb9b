"""What is in a home, before and after."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from conformance.harness.assertions import nothing
from conformance.harness.bench import Bench, Store
from conformance.history.calls import Remove
from conformance.history.findings import FilesDiffer
from conformance.operations import ops


def everything_below(directory: str) -> set[str]:
    """Every path below a directory, for before and after; what is mounted there is not of the directory."""
    found: set[str] = set()
    for root, below, files in os.walk(directory):
        found.update(os.path.join(root, name) for name in (*below, *files))
        below[:] = [name for name in below if not os.path.ismount(os.path.join(root, name))]
    return found


def stays_as_it_was(store: Store, before: set[str]) -> None:
    """Nothing came and nothing went in the home but the driver's own hidden files; raises Deviation."""
    after = everything_below(store.home)
    changed = {path for path in before ^ after if _counts(store, path)}
    finding = FilesDiffer(below_home(store, changed - after), below_home(store, changed & after))
    nothing("paths that were added to the home or removed from it", changed, finding)


@contextmanager
def unchanged_on_disk(store: Store) -> Iterator[None]:
    """What is done in this block leaves the home as it was; raises Deviation."""
    before = everything_below(store.home)
    yield
    stays_as_it_was(store, before)


def with_sealed_parent(bench: Bench, store: Store, layer_id: str) -> set[str]:
    """What is in the home, after a driver that seals a layer with its first child has done so.

    containerd commits it, which moves its files in the snapshotters btrfs and erofs. Others have nothing to seal.
    """
    if "busy-parents" in bench.info.declined:
        store.create("first", layer_id)
        store.do(Remove("first"))
    return everything_below(store.home)


def came_empty(store: Store, before: set[str]) -> set[str]:
    """Directories of the home itself that came since and hold nothing: a driver may make some for its own work."""
    came = everything_below(store.home) - before
    return {
        path
        for path in came
        if os.path.dirname(path) == store.home and os.path.isdir(path) and not os.listdir(path)
    }


def below_home(store: Store, paths: Iterable[str]) -> tuple[str, ...]:
    """The uppermost of paths, relative to the home, but for short links, whose names are others each time."""
    relative = sorted(os.path.relpath(path, store.home) for path in paths)
    named = [path for path in relative if not path.startswith("l/")]
    return tuple(path for path in named if os.path.dirname(path) not in named)


def _counts(store: Store, path: str) -> bool:
    # Locks and books of its own are the driver's business; layers and short links are everybody's.
    first = path.removeprefix(store.home + "/").split("/")[0]
    return not first.startswith(".") and not first.endswith((".lock", ".json"))


def chain_with_few_files(store: Store, lowers: int) -> str:
    """A layer with so many lowers; the lowest, the one in the middle and the uppermost of them have a file."""
    store.note(f"create layer-0 to layer-{lowers}, each on the one before")
    parent = ""
    for number in range(lowers + 1):
        parent = store.create(f"layer-{number}", parent)
        if number in (0, lowers // 2, lowers - 1):
            store.change(parent, [ops.CreateFile(b"file-%d" % number, b"%d" % number, 0o644)])
    return parent
