"""What lies outside of the layers, and is looked at again after a hostile archive."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from conformance.harness.assertions import nothing
from conformance.harness.bench import Bench, Store
from conformance.history.findings import OutsideChanged
from conformance.operations import archives, ops
from conformance.operations.archives import Entry
from conformance.operations.standard import STANDARD

SECRET = b"the host's own words"
Seen = tuple[int, int, int, int, bytes]
_SEEN = ("mode", "uid", "gid", "number of links", "content")


class Outside:
    """A directory beside the layers that nobody has any business in."""

    def __init__(self, store: Store) -> None:
        self.path = store.directory / "outside"
        made: list[ops.Operation] = [
            ops.MakeDirectory(b"outside", 0o700),
            ops.CreateFile(b"outside/secret", SECRET, 0o640),
            ops.MakeDirectory(b"outside/sub", 0o755),
        ]
        store.tamper(made, "directory")
        self._before = self._look()
        self._store = store

    def _look(self) -> dict[str, Seen]:
        found = {}
        for path in (self.path, *sorted(self.path.rglob("*")), Path("/etc/passwd"), Path("/etc"), Path("/")):
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            links = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
            found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, links, content)
        return found

    def check(self) -> None:
        """It is as it was; raises Deviation that says which path changed, and how."""
        after = self._look()
        changed = [
            f"{path}: {how}"
            for path in sorted(self._before.keys() | after.keys())
            if (how := _changed(self._before.get(path), after.get(path)))
        ]
        nothing("changed paths of the host, outside of the layer", changed, OutsideChanged("outside"))


def _changed(before: Seen | None, after: Seen | None) -> str:
    """How a path of the host changed, "" if it did not."""
    if before == after:
        return ""
    if before is None or after is None:
        return "it was created" if before is None else "it was removed"
    return ", ".join(
        f"{what} {_shown(what, was)} became {_shown(what, now)}"
        for what, was, now in zip(_SEEN, before, after, strict=True)
        if was != now
    )


def _shown(what: str, value: object) -> str:
    return stat.filemode(value) if what == "mode" and isinstance(value, int) else repr(value)[:60]


@contextmanager
def targets(bench: Bench) -> Iterator[tuple[Store, Outside]]:
    """A store with the layers "base" and "child", and what lies outside of them."""
    with bench.store() as store:
        store.create("base")
        store.change("base", STANDARD)
        store.create("child", "base")
        outside = Outside(store)
        yield store, outside
        outside.check()


def try_to_apply(store: Store, layer_id: str, entries: Sequence[Entry]) -> bool:
    """Whether the driver took an archive; that it refuses one is as good here."""
    archive = store.archive(entries)
    return store.may_refuse(store.applying(layer_id, archive)) is None


def still_well(store: Store, layer_ids: Sequence[str] = ("base",)) -> None:
    """The layers below are as they were, and the driver goes on."""
    for layer_id in layer_ids:
        store.stays(layer_id)
    store.create("later", "base")
    store.applied("later", [archives.file("later")])


def up_to(outside: Outside) -> str:
    """A relative path that leads to the outside from any depth."""
    return "../" * 40 + str(outside.path).lstrip("/")
