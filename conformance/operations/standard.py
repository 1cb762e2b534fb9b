"""The tree that most tests begin with."""

from __future__ import annotations

from typing import Final

from conformance.operations import ops

# vfs_cap_data, revision 2 (capabilities(7)): cap_net_bind_service permitted and effective
CAPABILITY: Final = bytes.fromhex("0100000200040000000000000000000000000000")

STANDARD: Final[tuple[ops.Operation, ...]] = (
    ops.CreateFile(b"a", b"a in the base", 0o644),
    ops.MakeDirectory(b"d", 0o755),
    ops.CreateFile(b"d/a", b"d/a in the base", 0o644),
    ops.MakeDirectory(b"d/d", 0o2755),
    ops.CreateFile(b"d/d/a", b"d/d/a in the base", 0o600),
    ops.MakeDirectory(b"e", 0o1777),
    ops.MakeSymlink(b"b", b"d"),
)
