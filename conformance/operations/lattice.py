"""The values of metadata at their boundaries: of a tar header, of an inode, and of the kernel's structures.

Values only, from plain to strange. Suites build trees of them, many values in one tree, because each mount costs
more than a hundred files. A backing filesystem may hold less (ext4 has no time after 2446), so suites try what it
holds (suites/held.py).
"""

from __future__ import annotations

import itertools
import struct
from typing import Final

# uids and gids, which are independent of each other. 2^32-1 is no owner (chown(2)).
IDS: Final = (0, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 2)
OWNERS: Final = tuple(itertools.product(IDS, IDS))

# setuid, setgid and sticky in every combination, on permissions with and without the right to execute.
MODES: Final = tuple(special | mode for special in range(0, 0o10000, 0o1000) for mode in (0o751, 0o040))

# Seconds since the epoch: the ends of 31, 32 and 33 bits, the latter being the eleven octal digits of a header.
SECONDS: Final = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33 - 1, 2**33)
# Before 1970, and after 2262, where 63 bits of nanoseconds end.
SECONDS_OUTSIDE: Final = (-1, -2, -(2**31) + 1, -(2**31), 2**34)
FRACTIONS: Final = (0, 1, 500_000_000, 999_999_999)  # nanoseconds

# Lengths of contents: around the block of an archive, of a file, the record of an archive (20 blocks), and the
# default and the largest size of a pipe (pipe(7)).
LENGTHS: Final = tuple(
    size + more for size in (512, 1_024, 4_096, 10_240, 65_536, 262_144, 1_048_576) for more in (-1, 0, 1)
)
# Lengths of sparse files: 31 and 32 bits, and 8 GiB, the end of the octal digits of a header.
SPARSE: Final = tuple(size + more for size in (2**31, 2**32, 2**33) for more in (-1, 0, 1))

# Names that begin like those that overlay keeps to itself, and characters that mean something to an archive.
XATTR_NAMES: Final = (
    "user.colour",
    "user.overlay",
    "user.overlayfs",
    "user.overlays.opaque",
    "user.overlay-opaque",
    "user.trusted.overlay.opaque",
    "user.SCHILY.xattr.user.x",
    "user.two words",
    "user.new\nline",
    "user.%3D",
    "user.\u00e4\u5c64",
    "user.a.b..c",
    "user." + "n" * 250,
)
XATTR_LENGTHS: Final = (1, 2, 99, 100, 127, 128, 129, 255, 256, 511, 512, 1_024, 3_500, 16_000, 65_536)


def capability(revision: int, permitted: int, root: int | None = None) -> bytes:
    """A value of security.capability (capabilities(7)): revision 2, or 3 with the uid of a namespace's root."""
    magic = revision << 24 | 1  # effective
    value = struct.pack("<IIIII", magic, permitted & 0xFFFF_FFFF, 0, permitted >> 32, 0)
    return value if root is None else value + struct.pack("<I", root)


# cap_net_bind_service, the last capability of the first word, and one of the second
CAPABILITIES_2: Final = (capability(2, 1 << 10), capability(2, 1 << 31), capability(2, 1 << 38))
# The kernel shows root 0 of the own namespace as revision 2, so there is none here.
CAPABILITIES_3: Final = tuple(capability(3, 1 << 10, root) for root in (1_000, 65_536, 2**31, 2**32 - 2))

# The kernel's dev_t: 12 bits of major and 20 of minor numbers. A character device 0:0 is overlay's whiteout.
DEVICES: Final = tuple(
    (kind, major, minor)
    for kind in ("c", "b")
    for major in (0, 1, 255, 256, 511, 4_095)
    for minor in (0, 255, 256, 65_536, 2**18 - 1, 2**20 - 1)
    if (kind, major, minor) != ("c", 0, 0)
)

_ACL_VERSION: Final = struct.pack("<I", 2)


def acl(*entries: tuple[int, int, int]) -> bytes:
    """A value of system.posix_acl_access or _default (acl(5)): tag, permissions and id of each entry."""
    return _ACL_VERSION + b"".join(struct.pack("<HHI", *entry) for entry in entries)


_NO_ID: Final = 2**32 - 1
# Owner, uid 1234, owning group, gid 65536, mask and others.
ACL: Final = acl(
    (0x01, 7, _NO_ID), (0x02, 6, 1_234), (0x04, 5, _NO_ID), (0x08, 4, 65_536), (0x10, 7, _NO_ID), (0x20, 1, _NO_ID)
)
