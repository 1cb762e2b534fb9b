"""Archives for a child of STANDARD, as values: what each brings, and the requirement that says so.

test_archives_twin.py applies them against a twin of the layer's parent, test_archives_apply.py applies some alone,
and the corpus (conformance/corpus) publishes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from conformance.operations import archives
from conformance.operations.archives import Entry


@dataclass(frozen=True, slots=True)
class Case:
    """What an archive brings to a child of STANDARD, and the requirement that says so."""

    requirement: str
    name: str
    entries: Sequence[Entry]
    there: Mapping[bytes, bytes | None] = field(default_factory=dict)
    gone: Sequence[bytes] = ()
    may_be_refused: bool = False


_OPAQUE: Final = ".wh..wh..opq"
_BELOW_D: Final = (b"d/a", b"d/d", b"d/d/a")
_NEW: Final = archives.file("d/new", b"new")

CASES: Final = (
    Case("OVL-APPLY-KINDS", "file-for-directory", [archives.file("d", b"d")], {b"d": b"d"}, (b"d/a",)),
    Case("OVL-APPLY-KINDS", "symlink-for-directory", [archives.symlink("d", "e")], {b"d": None}, (b"d/a",)),
    Case(
        "OVL-APPLY-KINDS",
        "directory-for-file-with-content",
        [archives.directory("a"), archives.file("a/f", b"f")],
        {b"a/f": b"f"},
    ),
    Case(
        "OVL-APPLY-KINDS",
        "directory-merged",
        [archives.directory("d", 0o700), _NEW],
        {b"d/a": None, b"d/new": b"new"},
    ),
    Case("OVL-APPLY-PARENTS", "two-levels", [archives.file("x/y/z", b"z")], {b"x/y/z": b"z", b"a": None}),
    Case(
        "OVL-APPLY-WHITEOUT-MISSING", "in-the-root", [archives.whiteout(".wh.missing")], {b"a": None}, (b"missing",)
    ),
    Case(
        "OVL-APPLY-WHITEOUT-MISSING",
        "in-a-directory",
        [archives.whiteout("d/.wh.missing")],
        {b"d/a": None},
        (b"d/missing",),
    ),
    Case(
        "OVL-APPLY-WHITEOUT-INSIDE",
        "inner-first",
        [archives.whiteout("d/.wh.d"), archives.whiteout(".wh.d"), archives.whiteout(".wh.a")],
        {b"e": None},
        (b"a", b"d", b"d/a"),
        may_be_refused=True,  # no text says that the whiteouts of a directory may come before its own
    ),
    Case(
        "OVL-APPLY-WHITEOUT-BEFORE",
        "directory-again",
        [archives.whiteout(".wh.d"), archives.directory("d"), _NEW],
        {b"d/new": b"new"},
        _BELOW_D,
    ),
    Case(
        "OVL-APPLY-WHITEOUT-AFTER",
        "file-first",
        [archives.file("a", b"new"), archives.whiteout(".wh.a")],
        {b"a": b"new"},
    ),
    Case(
        "OVL-APPLY-WHITEOUT-AFTER",
        "content-first",
        [archives.directory("d"), _NEW, archives.whiteout(".wh.d")],
        {b"d/new": b"new"},
        _BELOW_D,
    ),
    Case(
        "OVL-APPLY-WHITEOUT-AFTER",
        "deep-file-first",
        [archives.file("d/d/new/deep", b"new"), archives.whiteout(".wh.d")],
        {b"d/d/new/deep": b"new"},
        (b"d/a", b"d/d/a"),
    ),
    Case(
        "OVL-APPLY-WHITEOUT-AFTER",
        "file-between-whiteouts",
        [archives.whiteout("d/.wh.a"), archives.file("d/a", b"new"), archives.whiteout(".wh.d")],
        {b"d/a": b"new"},
        (b"d/d", b"d/d/a"),
        may_be_refused=True,  # no text says that the whiteouts of a directory may come before its own
    ),
    Case(
        "OVL-APPLY-WHITEOUT-INSIDE",
        "outer-first",
        [archives.whiteout(".wh.d"), archives.whiteout("d/.wh.a")],
        {b"a": None},
        _BELOW_D,
    ),
    Case(
        "OVL-APPLY-OPAQUE-ORDER",
        "first",
        [archives.directory("d"), archives.whiteout(f"d/{_OPAQUE}"), _NEW],
        {b"d/new": b"new"},
        _BELOW_D,
    ),
    Case(
        "OVL-APPLY-OPAQUE-ORDER",
        "last",
        [archives.directory("d"), _NEW, archives.whiteout(f"d/{_OPAQUE}")],
        {b"d/new": b"new"},
        _BELOW_D,
    ),
    Case(
        "OVL-APPLY-OPAQUE-ORDER",
        "nested",
        [
            archives.directory("d"),
            archives.directory("d/d"),
            archives.file("d/d/new", b"new"),
            archives.whiteout(f"d/d/{_OPAQUE}"),
            archives.whiteout(f"d/{_OPAQUE}"),
            archives.whiteout(f"d/{_OPAQUE}"),
        ],
        {b"d/d/new": b"new"},
        (b"d/a", b"d/d/a"),
        may_be_refused=True,  # a name is there twice
    ),
    Case(
        "OVL-APPLY-OPAQUE-ORDER",
        "inner-before-the-directory",
        [archives.whiteout(f"d/d/{_OPAQUE}"), archives.directory("d"), archives.whiteout(f"d/{_OPAQUE}"), _NEW],
        {b"d/new": b"new"},
        (b"d/a", b"d/d/a"),
    ),
    Case(
        "OVL-APPLY-OTHER-MARKS",
        "aufs",
        [archives.file(".wh..wh.aufs"), _NEW],
        {b"d/new": b"new"},
        (b".wh..wh.aufs",),
    ),
)

# An entry, its path, and what it hides of STANDARD (OVL-APPLY-KINDS).
REPLACED: Final[Mapping[str, tuple[Entry, bytes, tuple[bytes, ...]]]] = {
    "file-for-directory": (archives.file("d"), b"d", (b"d/a", b"d/d")),
    "symlink-for-directory": (archives.symlink("d", "e"), b"d", (b"d/a", b"d/d")),
    "directory-for-file": (archives.directory("a"), b"a", ()),
    "directory-for-symlink": (archives.directory("b"), b"b", ()),
    "file-for-symlink": (archives.file("b", b"b"), b"b", ()),
}

# Whiteouts that hide nothing (OVL-APPLY-WHITEOUT-UNSEEN).
UNSEEN: Final[Mapping[str, tuple[Entry, ...]]] = {
    "in-a-new-directory": (archives.directory("x"), archives.whiteout("x/.wh.y")),
    "after-an-opaque-mark": (
        archives.directory("d"),
        archives.whiteout("d/.wh..wh..opq"),
        archives.whiteout("d/.wh.a"),
    ),
    "before-an-opaque-mark": (
        archives.directory("d"),
        archives.whiteout("d/.wh.a"),
        archives.whiteout("d/.wh..wh..opq"),
    ),
    "in-a-directory-made-again": (
        archives.whiteout(".wh.d"),
        archives.directory("d"),
        archives.whiteout("d/.wh.a"),
    ),
    "further-down-after-an-opaque-mark": (
        archives.directory("d"),
        archives.whiteout("d/.wh..wh..opq"),
        archives.directory("d/d"),
        archives.whiteout("d/d/.wh.a"),
    ),
    "further-down-before-an-opaque-mark": (
        archives.directory("d"),
        archives.directory("d/d"),
        archives.whiteout("d/d/.wh.a"),
        archives.whiteout("d/.wh..wh..opq"),
    ),
}
