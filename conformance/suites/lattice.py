"""Cases of every boundary of metadata: trees of many values, from operations/lattice.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from conformance.operations import lattice, ops
from conformance.suites.cases import Case, Layer

_SECOND: Final = 10**9


def _file(path: bytes, content: bytes = b"content", mode: int = 0o644) -> ops.CreateFile:
    return ops.CreateFile(path, content, mode)


def _owners() -> tuple[Layer, ...]:
    """Files of every pair; directories, symlinks and pipes of every id. Then each pair the other way round."""
    made: list[ops.Operation] = []
    swapped: list[ops.Operation] = []
    for uid, gid in lattice.OWNERS:
        path = b"%d-%d" % (uid, gid)
        made += [_file(path, b""), ops.Chown(path, uid, gid)]
        swapped.append(ops.Chown(path, gid, uid))
    for number, uid in enumerate(lattice.IDS):
        gid = lattice.IDS[number - 1]
        for make in (
            ops.MakeDirectory(b"d%d" % uid, 0o755),
            ops.MakeSymlink(b"s%d" % uid, b"target"),
            ops.MakeFifo(b"p%d" % uid, 0o600),
        ):
            made += [make, ops.Chown(make.path, uid, gid)]
            swapped.append(ops.Chown(make.path, gid, uid))
    return tuple(made), tuple(swapped)


def _modes(owner: tuple[int, int] | None = None) -> tuple[Layer, ...]:
    """Files and directories of every mode. Then each gets the mode of the one before, copied up."""
    made: list[ops.Operation] = []
    changed: list[ops.Operation] = []
    for number, mode in enumerate(lattice.MODES):
        for make in (_file(b"f%04o" % mode, b"#!", mode), ops.MakeDirectory(b"d%04o" % mode, mode)):
            made.append(make)
            if owner:  # the owner before the mode: chown(2) clears setuid
                made += [ops.Chown(make.path, *owner), ops.Chmod(make.path, mode)]
            changed.append(ops.Chmod(make.path, lattice.MODES[number - 1]))
    return tuple(made), tuple(changed)


def _times(seconds: Sequence[int], fractions: Sequence[int]) -> tuple[Layer, ...]:
    """Files of every time, symlinks and pipes of every second; then other times of what was copied up."""
    made: list[ops.Operation] = []
    later: list[ops.Operation] = []
    for fraction in fractions:
        for number, second in enumerate(seconds):
            name = b"%d.%09d" % (second, fraction)
            makes: list[ops.CreateFile | ops.MakeSymlink | ops.MakeFifo] = [_file(b"f" + name)]
            if fraction == fractions[-1]:
                makes += [ops.MakeSymlink(b"s" + name, b"f"), ops.MakeFifo(b"p" + name, 0o600)]
            for make in makes:
                made += [make, ops.SetTimes(make.path, second * _SECOND + fraction)]
                later.append(ops.SetTimes(make.path, seconds[number - 1] * _SECOND + fraction))
    return tuple(made), tuple(later)


def _capabilities() -> tuple[Layer, ...]:
    """Capabilities of both revisions, copied up by a change of the mode, and replaced by one another."""
    values = (*lattice.CAPABILITIES_2, *lattice.CAPABILITIES_3)
    made: list[ops.Operation] = []
    above: list[ops.Operation] = []
    for number, value in enumerate(values):
        for path in (b"copied-up-%d" % number, b"replaced-%d" % number):
            made += [_file(path, b"#!", 0o755), ops.SetXattr(path, "security.capability", value)]
        above += [
            ops.Chmod(b"copied-up-%d" % number, 0o750),
            ops.SetXattr(b"replaced-%d" % number, "security.capability", values[number - 1]),
        ]
    return tuple(made), tuple(above)


def _xattr_names() -> tuple[Layer, ...]:
    """Attributes of each name, all of them on one file and one directory; then with other values."""
    made: list[ops.Operation] = [_file(b"f"), ops.MakeDirectory(b"d", 0o755)]
    above: list[ops.Operation] = []
    for number, name in enumerate(lattice.XATTR_NAMES):
        for path in (b"f", b"d"):
            made.append(ops.SetXattr(path, name, b"%d" % number))
            above.append(ops.SetXattr(path, name, b"other %d" % number))
    return tuple(made), tuple(above)


def _xattr_lengths() -> tuple[Layer, ...]:
    """Values of each length, copied up by a change of the mode."""
    made: list[ops.Operation] = []
    for length in lattice.XATTR_LENGTHS:
        value = (b"\0\n=\xff" * (length // 4 + 1))[:length]
        made += [_file(b"f%d" % length), ops.SetXattr(b"f%d" % length, "user.v", value)]
    return tuple(made), tuple(ops.Chmod(one.path, 0o600) for one in made if isinstance(one, ops.CreateFile))


def _devices() -> tuple[Layer, ...]:
    """Devices of each number; then the numbers of the two kinds change places."""
    made = [
        ops.MakeDevice(b"%s-%d-%d" % (kind.encode(), major, minor), kind, major, minor, 0o600)
        for kind, major, minor in lattice.DEVICES
    ]
    other = {ops.CHARACTER: ops.BLOCK, ops.BLOCK: ops.CHARACTER}
    changed: list[ops.Operation] = []
    for one in made[::3]:
        if one.major:
            changed += [
                ops.Unlink(one.path),
                ops.MakeDevice(one.path, other[one.kind], one.major, one.minor, 0o640),
            ]
    return tuple(made), tuple(changed)


def _lengths() -> tuple[Layer, ...]:
    """Contents of each length, one behind the other; then each one byte longer."""
    made = tuple(_file(b"f%07d" % length, bytes([length % 251]) * length) for length in lattice.LENGTHS)
    return made, tuple(ops.WriteAt(one.path, len(one.content), b"x") for one in made[::2])


def _of_lengths(add: Callable[[bytes], Sequence[ops.Operation]]) -> tuple[Layer, ...]:
    """What each length of a file is given: drivers read and write large files otherwise than small ones.

    Then all are copied up by a change of the mode.
    """
    made: list[ops.Operation] = []
    for length in lattice.LENGTHS[2::3]:
        path = b"f%07d" % length
        made += [_file(path, b"c" * length), *add(path)]
    files = [one for one in made if isinstance(one, ops.CreateFile)]
    return tuple(made), tuple(ops.Chmod(one.path, 0o755) for one in files)


def _deep(levels: int) -> tuple[Layer, ...]:
    """Directories in one another; then a change at their end, and a deletion half way."""
    made: list[ops.Operation] = []
    path = b"top"
    for level in range(levels):
        made.append(ops.MakeDirectory(path, 0o755))
        if level == levels // 2:
            middle = path
            made.append(_file(path + b"/f"))
        path += b"/d"
    made.append(_file(path))
    return tuple(made), (ops.WriteAt(path, 0, b"C"), ops.Unlink(middle + b"/f"))


LATTICE: Final = (
    Case("OVL-META-OWNERS", "uids-by-gids", _owners(), held=True),
    Case("OVL-META-SPECIAL-BITS", "every-combination", _modes(), held=True),
    Case("OVL-META-OWNERS-AND-BITS", "every-combination", _modes((65_536, 65_535)), held=True),
    Case("OVL-META-TIMES", "boundaries", _times(lattice.SECONDS, (0,)), times="files", held=True),
    Case(
        "OVL-META-TIMES-EARLY",
        "boundaries",
        _times(lattice.SECONDS_OUTSIDE, lattice.FRACTIONS),
        times="files",
        held=True,
    ),
    Case(
        "OVL-META-TIMES-FINE",
        "boundaries",
        _times((*lattice.SECONDS, *lattice.SECONDS_OUTSIDE), lattice.FRACTIONS[1:]),
        times="fine",
        held=True,
    ),
    Case("OVL-META-XATTRS", "names", _xattr_names(), held=True),
    Case("OVL-META-XATTRS-LARGE", "lengths", _xattr_lengths(), held=True),
    Case("OVL-META-CAPABILITY", "revisions", _capabilities(), held=True),
    Case("OVL-META-DEVICES", "boundaries", _devices(), held=True),
    Case(
        "OVL-META-XATTRS",
        "of-every-length",
        _of_lengths(lambda path: [ops.SetXattr(path, "user.v", b"v")]),
        held=True,
    ),
    Case(
        "OVL-META-CAPABILITY",
        "of-every-length",
        _of_lengths(lambda path: [ops.SetXattr(path, "security.capability", lattice.CAPABILITIES_2[0])]),
        held=True,
    ),
    Case(
        "OVL-META-OWNERS-AND-BITS",
        "of-every-length",
        _of_lengths(lambda path: [ops.Chown(path, 65_536, 65_535), ops.Chmod(path, 0o6755)]),
        held=True,
    ),
    Case(
        "OVL-META-TIMES-FINE",
        "of-every-length",
        _of_lengths(lambda path: [ops.SetTimes(path, 1_400_000_000 * _SECOND + 999_999_999)]),
        times="fine",
        held=True,
    ),
    Case(
        "OVL-META-HARD-LINKS",
        "of-every-length",
        _of_lengths(lambda path: [ops.MakeHardLink(path + b"-link", path)]),
    ),
    Case("OVL-APPLY-ROUND-TRIP", "lengths", _lengths()),
    Case("OVL-NAMES-LONG-PATHS", "deep", _deep(300)),
)
