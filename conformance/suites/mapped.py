"""Chains of layers as the root of a container under id maps makes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from conformance.drivers.protocol import IdRange
from conformance.operations import ops
from conformance.operations.trees import CAPABILITY, Snapshot
from conformance.suites.cases import Case, Layer
from conformance.suites.joined import joined

_SPECIAL = 0o7000
_REVISION_3 = 24  # bytes of security.capability with the host's id of a root (capabilities(7))


@dataclass(frozen=True, slots=True)
class Maps:
    """The id maps of one store, for users and for groups."""

    users: tuple[IdRange, ...]
    groups: tuple[IdRange, ...]

    def on_host(self, uid: int, gid: int) -> tuple[int, int]:
        """The owner on the host; raises KeyError for what the maps do not cover."""
        return _moved(uid, [(one.container, one.host, one.size) for one in self.users]), _moved(
            gid, [(one.container, one.host, one.size) for one in self.groups]
        )

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """The owner in the container; raises KeyError for what the maps do not cover."""
        return _moved(uid, [(one.host, one.container, one.size) for one in self.users]), _moved(
            gid, [(one.host, one.container, one.size) for one in self.groups]
        )


def _moved(number: int, ranges: Iterable[tuple[int, int, int]]) -> int:
    for first, moved, size in ranges:
        if first <= number < first + size:
            return moved + number - first
    raise KeyError(number)


def translated(tree: Snapshot, before: Maps, after: Maps) -> Snapshot:
    """The tree of a store with some maps, as a store with other maps shows it on the host."""
    nodes = {}
    for path, node in tree.nodes.items():
        uid, gid = after.on_host(*before.inside(node.uid, node.gid))
        nodes[path] = replace(node, uid=uid, gid=gid)
    return Snapshot(nodes, tree.link_groups)


def mapped(chain: Iterable[Layer], maps: Maps) -> list[Layer]:
    """The chain with the owners of the host. What is made belongs to the container's root.

    Capabilities of revision 3 are left out: they name an id of the host, and nothing says who translates it.
    """
    return [tuple(one for operation in layer for one in _mapped(operation, maps)) for layer in chain]


def _mapped(operation: ops.Operation, maps: Maps) -> Iterator[ops.Operation]:
    match operation:
        case ops.Chown(path, uid, gid):
            yield ops.Chown(path, *maps.on_host(uid, gid))
        case ops.SetXattr(_, name, value) if name == CAPABILITY and len(value) == _REVISION_3:
            return
        case ops.CreateFile() | ops.MakeDirectory() | ops.MakeFifo() | ops.MakeDevice():
            yield operation
            yield ops.Chown(operation.path, *maps.on_host(0, 0))
            if operation.mode & _SPECIAL:  # chown(2) clears setuid and setgid
                yield ops.Chmod(operation.path, operation.mode)
        case ops.MakeSymlink():
            yield operation
            yield ops.Chown(operation.path, *maps.on_host(0, 0))
        case (
            ops.MakeHardLink()
            | ops.Rename()
            | ops.Unlink()
            | ops.RemoveDirectory()
            | ops.RemoveTree()
            | ops.Chmod()
            | ops.SetTimes()
            | ops.SetXattr()
            | ops.Truncate()
            | ops.WriteAt()
        ):
            yield operation
        case _:
            assert_never(operation)


def together(cases: Sequence[Case]) -> list[Layer]:
    """The chains of several cases as one, each in a directory called like its requirement and its number."""
    return joined({b"%s.%d" % (case.requirement.encode(), n): case.chain for n, case in enumerate(cases)})


def requirement_of(path: bytes) -> str:
    """The requirement of the case that has a path in ``together``."""
    return path.partition(b".")[0].decode()
