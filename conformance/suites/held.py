"""What a backing filesystem itself holds of a chain of layers."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Final, assert_never

from conformance.harness.bench import Bench
from conformance.operations import ops
from conformance.operations.real import perform
from conformance.suites.cases import Layer

# A value that the filesystem or the user namespace does not take, as setxattr(2), mknod(2) and others say it.
_NOT_TAKEN: Final = frozenset(
    {
        errno.E2BIG,
        errno.EFBIG,
        errno.EINVAL,
        errno.ENOSPC,
        errno.EOPNOTSUPP,
        errno.EOVERFLOW,
        errno.EPERM,
        errno.ERANGE,
    }
)


def held(bench: Bench, chain: Sequence[Layer]) -> list[Layer]:
    """The chain without operations whose values the backing filesystem refuses or changes, tried without overlay.

    ext4 has no time after 2446 and 4 KiB for attributes, xfs 18 bits for a minor number, and so on. The layers are
    done one over the other, as they are in a mounted tree.
    """
    with bench.directory() as directory:
        return [tuple(one for one in layer if _holds(os.fspath(directory), one)) for layer in chain]


def _holds(root: str, operation: ops.Operation) -> bool:
    try:
        perform(root, operation)
    except OSError as error:
        return error.errno not in _NOT_TAKEN
    path = os.path.join(os.fsencode(root), operation.path)
    match operation:
        case ops.SetTimes(_, mtime_ns):
            return os.lstat(path).st_mtime_ns == mtime_ns
        case ops.Chown(_, uid, gid):
            return os.lstat(path)[4:6] == (uid, gid)
        case ops.SetXattr(_, name, value):
            return name in os.listxattr(path, follow_symlinks=False) and os.getxattr(path, name) == value
        case ops.MakeDevice(_, _, major, minor):
            if os.lstat(path).st_rdev == os.makedev(major, minor):
                return True
            os.unlink(path)  # the next layer makes no other in its place
            return False
        case (
            ops.CreateFile()
            | ops.MakeDirectory()
            | ops.MakeSymlink()
            | ops.MakeHardLink()
            | ops.MakeFifo()
            | ops.Rename()
            | ops.Unlink()
            | ops.RemoveDirectory()
            | ops.RemoveTree()
            | ops.Chmod()
            | ops.Truncate()
            | ops.WriteAt()
        ):
            return True
        case _:
            assert_never(operation)
