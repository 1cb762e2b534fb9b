"""One difference asked for in three ways: against the parent, against its twin, and against a layer further below.

A driver may read the first from the layer's own directory; for the others it has to compare two trees.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from conformance.harness.bench import Store
from conformance.operations import ops
from conformance.operations.standard import CAPABILITY
from conformance.suites.cases import Layer

_SECOND: Final = 10**9
_TIME: Final = 1_400_000_000 * _SECOND


@dataclass(frozen=True, slots=True)
class Way:
    """A layer, and the layer that it is compared with; both show the same as in every other way.

    ``compared`` says that there is no layer's own directory with the difference.
    """

    name: str
    layer: str
    against: str
    compared: bool = True


# The parent is the last, so that a failure there hides none in the others.
WAYS: Final = (
    Way("a twin of the parent", "direct", "twin"),
    Way("a layer further below", "above", "parent"),
    Way("the parent", "direct", "parent", compared=False),
)


def build_ways(store: Store, below: Layer, change: Layer) -> None:
    """Make the layers of WAYS: "parent" with one layer's operations, and the others' on it."""
    store.create("parent")
    store.change("parent", below)
    store.create("twin")
    store.apply("twin", store.diff("parent"))
    store.create("direct", "parent")
    store.change("direct", change)
    store.create("between", "parent")
    store.create("above", "between")
    store.change("above", change)


def of_one_time(layer: Sequence[ops.Operation]) -> Layer:
    """The operations, and then one and the same time for everything that they made or changed."""
    made = dict.fromkeys(one.path for one in layer if not isinstance(one, ops.Unlink | ops.RemoveTree | ops.Rename))
    return (*layer, *(ops.SetTimes(path, _TIME) for path in made))


def _file(path: bytes, content: bytes = b"content", mode: int = 0o644) -> ops.CreateFile:
    return ops.CreateFile(path, content, mode)


def _dir(path: bytes, mode: int = 0o755) -> ops.MakeDirectory:
    return ops.MakeDirectory(path, mode)


def _at(path: bytes, nanoseconds: int) -> tuple[ops.Operation, ...]:
    return _file(path), ops.SetTimes(path, nanoseconds)


# Each differs in one thing, and in no time; what is made again differs in nothing but its inode.
_METADATA: Final[tuple[Layer, Layer]] = (
    (
        *(_file(path) for path in (b"again", b"mode", b"owner", b"group", b"rights", b"bits")),
        _file(b"large-rights", b"l" * 70_000),
        ops.MakeSymlink(b"symlink", b"one"),
        ops.MakeSymlink(b"symlink-again", b"one"),
        ops.MakeSymlink(b"symlink-group", b"one"),
        ops.MakeFifo(b"pipe", 0o600),
        ops.MakeFifo(b"pipe-again", 0o600),
        _dir(b"d"),
        _dir(b"d/mode"),
        _dir(b"d/group"),
        _file(b"d/untouched"),
        ops.MakeDevice(b"device-minor", ops.CHARACTER, 5, 255, 0o600),
        ops.MakeDevice(b"device-major", ops.BLOCK, 255, 7, 0o600),
        ops.MakeDevice(b"device-type", ops.CHARACTER, 7, 7, 0o600),
        ops.MakeDevice(b"device-again", ops.BLOCK, 7, 7, 0o600),
        ops.MakeDevice(b"device-untouched", ops.BLOCK, 1, 1, 0o600),
    ),
    (
        ops.Unlink(b"again"),
        _file(b"again"),
        ops.Unlink(b"symlink-again"),
        ops.MakeSymlink(b"symlink-again", b"one"),
        ops.Unlink(b"pipe-again"),
        ops.MakeFifo(b"pipe-again", 0o600),
        ops.Chmod(b"mode", 0o600),
        ops.Chmod(b"bits", 0o1644),
        ops.Chown(b"owner", 65_536, 0),
        ops.Chown(b"group", 0, 65_536),
        ops.SetXattr(b"rights", "security.capability", CAPABILITY),
        ops.SetXattr(b"large-rights", "security.capability", CAPABILITY),
        ops.Unlink(b"symlink"),
        ops.MakeSymlink(b"symlink", b"two"),
        ops.Chown(b"symlink-group", 0, 65_536),
        ops.Chmod(b"pipe", 0o640),
        ops.Chmod(b"d/mode", 0o2755),
        ops.Chown(b"d/group", 0, 65_536),
        ops.Unlink(b"device-minor"),
        ops.MakeDevice(b"device-minor", ops.CHARACTER, 5, 256, 0o600),
        ops.Unlink(b"device-major"),
        ops.MakeDevice(b"device-major", ops.BLOCK, 256, 7, 0o600),
        ops.Unlink(b"device-type"),
        ops.MakeDevice(b"device-type", ops.BLOCK, 7, 7, 0o600),
        ops.Unlink(b"device-again"),
        ops.MakeDevice(b"device-again", ops.BLOCK, 7, 7, 0o600),
    ),
)
# Times alone, in one second too. A time of a whole second may be taken for any other of that second.
_TIMES: Final[tuple[Layer, Layer]] = (
    (
        *_at(b"nanosecond", _TIME + 1),
        *_at(b"second", _TIME + 5),
        *_at(b"epoch", 1),
        *_at(b"before-1970", -_SECOND + 1),
        *_at(b"far", 2**33 * _SECOND + 1),
        *_at(b"untouched", _TIME + 7),
        ops.MakeSymlink(b"symlink", b"one"),
        ops.SetTimes(b"symlink", _TIME + 1),
    ),
    (
        ops.SetTimes(b"nanosecond", _TIME + 2),
        ops.SetTimes(b"second", _TIME + _SECOND + 5),
        ops.SetTimes(b"epoch", 2),
        ops.SetTimes(b"before-1970", -2 * _SECOND + 1),
        ops.SetTimes(b"far", 2**33 * _SECOND + 2),
        ops.SetTimes(b"symlink", _TIME + 3),
    ),
)
_LINKS: Final[tuple[Layer, Layer]] = (
    (
        _file(b"lower"),
        _file(b"three", b"of three"),
        ops.MakeHardLink(b"three-b", b"three"),
        ops.MakeHardLink(b"three-c", b"three"),
        _file(b"apart", b"apart"),
        ops.MakeSymlink(b"symlink", b"lower"),
        _dir(b"kept"),
        _file(b"kept/one", b"of two"),
        ops.MakeHardLink(b"kept/two", b"kept/one"),
        _dir(b"joined"),
        *_at(b"joined/one", _TIME),
        *_at(b"joined/two", _TIME),
    ),
    (
        _file(b"x", b"new"),
        *(ops.MakeHardLink(path, b"x") for path in (b"a", b"y", b"z")),
        ops.MakeSymlink(b"s", b"x"),
        ops.MakeHardLink(b"t", b"s"),
        ops.MakeFifo(b"p", 0o600),
        ops.MakeHardLink(b"q", b"p"),
        ops.MakeHardLink(b"lower-too", b"lower"),
        ops.Unlink(b"three-b"),
        ops.Unlink(b"apart"),
        ops.MakeHardLink(b"apart", b"x"),
        _dir(b"made"),
        _file(b"made/one", b"linked"),
        ops.MakeHardLink(b"made/two", b"made/one"),
        ops.Unlink(b"symlink"),
        _dir(b"symlink"),
        ops.MakeHardLink(b"symlink/one", b"made/one"),
        # Nothing but the inode differs.
        ops.Unlink(b"joined/two"),
        ops.MakeHardLink(b"joined/two", b"joined/one"),
    ),
)
_KINDS: Final[tuple[Layer, Layer]] = (
    (
        *(_file(path) for path in (b"file-directory", b"file-symlink", b"file-pipe")),
        *(_dir(path) for path in (b"directory-file", b"directory-symlink", b"directory-pipe", b"kept")),
        *(_file(path + b"/in") for path in (b"directory-file", b"directory-symlink", b"directory-pipe", b"kept")),
        ops.MakeSymlink(b"symlink-file", b"kept"),
        ops.MakeSymlink(b"symlink-directory", b"kept"),
        ops.MakeSymlink(b"loop", b"loop"),
    ),
    (
        ops.Unlink(b"file-directory"),
        _dir(b"file-directory"),
        _file(b"file-directory/in"),
        ops.Unlink(b"file-symlink"),
        ops.MakeSymlink(b"file-symlink", b"kept"),
        ops.Unlink(b"file-pipe"),
        ops.MakeFifo(b"file-pipe", 0o644),
        ops.RemoveTree(b"directory-file"),
        _file(b"directory-file"),
        ops.RemoveTree(b"directory-symlink"),
        ops.MakeSymlink(b"directory-symlink", b"kept"),
        ops.RemoveTree(b"directory-pipe"),
        ops.MakeFifo(b"directory-pipe", 0o755),
        ops.Unlink(b"symlink-file"),
        _file(b"symlink-file"),
        ops.Unlink(b"symlink-directory"),
        _dir(b"symlink-directory"),
        _file(b"symlink-directory/in", b"other"),
    ),
)
_DELETIONS: Final[tuple[Layer, Layer]] = (
    (
        *(_dir(path) for path in (b"d", b"d/d", b"d/d/d", b"again", b"again/d", b"gone", b"d-")),
        *(_file(path) for path in (b"f", b"d/f", b"d/d/f", b"d/d/d/f", b"again/f")),
        ops.MakeSymlink(b"s", b"d"),
    ),
    (
        ops.Unlink(b"f"),
        ops.Unlink(b"s"),
        ops.Unlink(b"d/d/d/f"),
        ops.RemoveTree(b"gone"),
        ops.RemoveTree(b"again"),
        _dir(b"again", 0o711),
        _file(b"again/new"),
        ops.Unlink(b"d-/f"),
    ),
)
# Names that begin and end with each of these: links of one inode that stay, files that go, files that come.
_CHARACTERS: Final = tuple(character.encode() for character in f"{string.ascii_letters}{string.digits}+,-_=@~^%#")
_NAMES: Final[tuple[Layer, Layer]] = (
    (
        _file(b"inode"),
        *(ops.MakeHardLink(one, b"inode") for one in _CHARACTERS),
        *(_file(3 * one) for one in _CHARACTERS),
    ),
    (*(ops.Unlink(3 * one) for one in _CHARACTERS), *(_file(2 * one) for one in _CHARACTERS)),
)
# Directories whose names begin alike, with a byte before the slash's and one behind it; each changes in all ways.
_SIBLINGS: Final = (b"d", b"d-", b"d-0", b"d0", b"dd")
_ALIKE: Final[tuple[Layer, Layer]] = (
    tuple(
        one
        for path in _SIBLINGS
        for one in (
            _dir(path),
            _file(path + b"/changed"),
            _file(path + b"/gone"),
            _dir(path + b"/d"),
            _file(path + b"/d/changed"),
            _file(path + b"/d/untouched"),
        )
    ),
    tuple(
        one
        for path in _SIBLINGS
        for one in (
            ops.WriteAt(path + b"/changed", 0, b"changed in " + path),
            ops.Unlink(path + b"/gone"),
            ops.WriteAt(path + b"/d/changed", 1, b"changed in " + path),
            _file(path + b"/d/new", path),
        )
    ),
)
# The operations of the parent, and those of the layer on it.
DIFFERENCES: Final[Mapping[str, tuple[Layer, Layer]]] = {
    "metadata": (of_one_time(_METADATA[0]), of_one_time(_METADATA[1])),
    "times": _TIMES,
    "links": _LINKS,
    "deletions": (of_one_time(_DELETIONS[0]), of_one_time(_DELETIONS[1])),
    "kinds": (of_one_time(_KINDS[0]), of_one_time(_KINDS[1])),
    "names": (of_one_time(_NAMES[0]), of_one_time(_NAMES[1])),
    "siblings": (of_one_time(_ALIKE[0]), of_one_time(_ALIKE[1])),
}
