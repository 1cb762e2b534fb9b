"""Vectors of questions on which the image specification is silent or brief, and tools differ (docs/corpus.md).

Each is near a requirement, which decides it, or a part of it. What is open, the model answers with all choices.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from conformance.corpus.vector import Layer, Vector, layer, name_of, on_standard
from conformance.operations.archives import Entry, directory, file, hard_link, symlink, whiteout
from conformance.operations.tarforms import CHARACTER, DIRECTORY, GNU, PAX, Form, Tarred
from conformance.suites import opencases

QUESTIONS: Final[Mapping[str, str]] = {
    "A1": "Which mode, owner, time and attributes does a directory have that an archive needs and has no entry of?",
    "A2": "Are the mode and the time of an entry of the root taken? (The root is not compared.)",
    "A3": "What becomes of two entries of one name?",
    "A4": "What becomes of a hard link to a file of a lower layer?",
    "A5": "Are the other names of a lower inode still linked, if a layer deletes one?",
    "A6": "Are the other names of a lower inode still linked, if a layer replaces one?",
    "A7": "What does an opaque whiteout delete in a symlink of a lower layer?",
    "A8": "What becomes of an entry below a symlink of a lower layer?",
    "A9": "May an archive have a whiteout in a directory that it deletes?",
    "A10": "May an archive have both an entry and a whiteout of its name?",
    "A11": "Is a whiteout without a name an error?",
    "A12": "Is a whiteout that is no empty file a whiteout, or an error?",
    "A13": "What is left of a whiteout in a directory that is not there?",
    "A14": "Does a directory with an opaque whiteout stay, if the archive has no entry of it?",
    "A15": "May an archive have an opaque whiteout, and whiteouts in the same directory?",
    "A16": "What becomes of attributes that the type of an entry does not hold?",
    "A17": "What becomes of overlay's own attributes in an archive?",
    "A19": "Are sparse files of GNU tar read?",
    "A20": "Are fractions of seconds kept, and are times before 1970 or after 2106 taken?",
    "A21": "What becomes of names that are absolute, or have '..'?",
}
_RED: Final = {"SCHILY.xattr.user.colour": "red"}


def _vector(question: str, what: str, requirement: str, *layers: Layer, may_refuse: str = "") -> Vector:
    return Vector(name_of(question, what), requirement, layers, question, may_refuse=may_refuse)


def _rich(name: str, mode: int = 0o1777) -> Entry:
    """A directory with metadata of its own."""
    return Entry(name, tarfile.DIRTYPE, mode=mode, owner=(7, 8), mtime=1_000_000_000, records=_RED)


def _implied() -> list[Vector]:
    base = layer(_rich("tmp"), file("tmp/old", b"old"), _rich("tmp/deep", 0o700), file("tmp/deep/old", b"old"))
    found = {
        "file": [file("tmp/new", b"new")],
        "deep-file": [file("tmp/deep/new", b"new")],
        "symlink": [symlink("tmp/new", "old")],
        "hard-link": [file("f", b"f"), hard_link("tmp/new", "f")],
        "directory": [directory("tmp/new")],
        "whiteout": [whiteout("tmp/.wh.old")],
        "opaque": [whiteout("tmp/.wh..wh..opq"), file("tmp/new", b"new")],
        "after-its-content": [file("tmp/new", b"new"), directory("tmp", 0o750)],
        "after-its-whiteout": [whiteout(".wh.tmp"), file("tmp/new", b"new")],
    }
    vectors = [
        _vector("A1", what, "OVL-APPLY-PARENTS", base, layer(*entries), may_refuse=_again(what))
        for what, entries in found.items()
    ]
    return [
        *vectors,
        _vector("A1", "none-below", "OVL-APPLY-PARENTS", layer(file("x/y/f", b"f"), symlink("z/s", "f"))),
        _vector(
            "A1", "later-entry", "OVL-APPLY-DIRECTORY-TIMES", layer(file("x/f"), _rich("x", 0o711), file("x/g"))
        ),
        _vector(
            "A1",
            "three-layers",
            "OVL-APPLY-PARENTS",
            base,
            layer(file("tmp/middle")),
            layer(_rich("tmp", 0o1770), file("tmp/last")),
        ),
    ]


def _again(what: str) -> str:
    return "no text says that a deleted directory is made without an entry" if what == "after-its-whiteout" else ""


def _links() -> list[Vector]:
    group = layer(file("h1", b"old"), hard_link("h2", "h1"), hard_link("h3", "h1"))
    twice = (hard_link("new", "a"), hard_link("d/new", "a"))
    return [
        _vector("A4", "file", "OVL-APPLY-HARD-LINKS", *on_standard(hard_link("new", "a"))),
        _vector(
            "A4", "in-a-directory", "OVL-APPLY-HARD-LINKS", *on_standard(directory("x"), hard_link("x/n", "d/a"))
        ),
        _vector("A4", "two-names", "OVL-APPLY-HARD-LINKS", *on_standard(*twice)),
        _vector("A4", "symlink", "OVL-APPLY-HARD-LINKS", *on_standard(hard_link("new", "b"))),
        _vector("A4", "replaces-a-file", "OVL-APPLY-KINDS", *on_standard(hard_link("d/a", "a"))),
        _vector("A4", "of-a-group", "OVL-APPLY-HARD-LINKS", group, layer(hard_link("h4", "h2"))),
        _vector("A4", "missing", "OVL-APPLY-HARD-LINKS", *on_standard(hard_link("new", "missing"), file("last"))),
        _vector(
            "A4", "deleted-too", "OVL-APPLY-HARD-LINKS", *on_standard(whiteout(".wh.a"), hard_link("new", "a"))
        ),
        _vector("A5", "first-name", "OVL-APPLY-KINDS", group, layer(whiteout(".wh.h1"))),
        _vector("A5", "second-name", "OVL-APPLY-KINDS", group, layer(whiteout(".wh.h2"))),
        _vector("A6", "first-name", "OVL-APPLY-KINDS", group, layer(file("h1", b"new"))),
        _vector("A6", "two-names", "OVL-APPLY-KINDS", group, layer(file("h1", b"new"), hard_link("h2", "h1"))),
        _vector("A6", "mode-only", "OVL-APPLY-KINDS", group, layer(file("h3", b"old", 0o600))),
        Vector(
            "links-replace-any-kind",
            "OVL-APPLY-KINDS",
            on_standard(file("t", b"t"), *(hard_link(name, "t") for name in ("a", "b", "d", "e"))),
        ),
        Vector(
            "links-of-symlinks-and-pipes",
            "OVL-APPLY-HARD-LINKS",
            (layer(symlink("s", "t"), hard_link("s2", "s"), Entry("p", tarfile.FIFOTYPE), hard_link("p2", "p")),),
        ),
        Vector(
            "links-to-a-name-that-is-replaced",
            "OVL-APPLY-KINDS",
            (layer(file("x", b"old"), hard_link("y", "x")), layer(file("x", b"new"))),
        ),
        Vector(
            "links-across-directories", "OVL-APPLY-HARD-LINKS", (layer(file("x/f", b"f"), hard_link("y/g", "x/f")),)
        ),
    ]


def _symlinks() -> list[Vector]:
    merged = layer(directory("usr"), directory("usr/lib"), file("usr/lib/old", b"old"), symlink("lib", "usr/lib"))
    opaque = whiteout("lib/.wh..wh..opq")
    chain = layer(directory("usr/lib"), symlink("l1", "l2"), symlink("l2", "usr/lib"), file("usr/lib/old"))
    parents, whiteouts = "OVL-APPLY-PARENTS", "OVL-APPLY-OPAQUE-ORDER"
    return [
        _vector("A7", "alone", whiteouts, merged, layer(opaque)),
        _vector("A7", "with-a-file", whiteouts, merged, layer(opaque, file("lib/new", b"new"))),
        _vector("A7", "with-its-directory", whiteouts, merged, layer(directory("lib"), opaque, file("lib/new"))),
        _vector("A7", "whiteout", "OVL-APPLY-WHITEOUT-MISSING", merged, layer(whiteout("lib/.wh.old"))),
        _vector("A8", "file", parents, merged, layer(file("lib/new", b"new"))),
        _vector("A8", "two-symlinks", parents, chain, layer(file("l1/new", b"new"))),
        _vector("A8", "symlink-of-the-layer", parents, layer(directory("d"), symlink("s", "d"), file("s/f"))),
        _vector("A8", "dangling", parents, layer(symlink("s", "nowhere")), layer(file("s/f", b"f"))),
        _vector("A8", "directory-entry", "OVL-APPLY-KINDS", merged, layer(directory("lib"), file("lib/new"))),
        _vector("A8", "below-a-file", parents, layer(file("f")), layer(file("f/new", b"new"))),
    ]


def _whiteouts() -> list[Vector]:
    dots = "OVL-HOSTILE-WHITEOUT-DOTS"
    hides = "OVL-WHITEOUT-HIDES"
    after, missing = "OVL-APPLY-WHITEOUT-AFTER", "OVL-APPLY-WHITEOUT-MISSING"
    kinds: Mapping[str, Entry | Tarred] = {
        "directory": Entry(".wh.a", tarfile.DIRTYPE, mode=0o755),
        "symlink": symlink(".wh.a", "d"),
        "hard-link": hard_link(".wh.a", "d/a"),
        "fifo": Entry(".wh.a", tarfile.FIFOTYPE),
        "device": Tarred(b".wh.a", CHARACTER),
        "content": file(".wh.a", b"content"),
        "mode": file(".wh.a", b"", 0o7777),
    }
    return [
        _vector(
            "A9", "outer-first", "OVL-APPLY-WHITEOUT-INSIDE", *on_standard(whiteout(".wh.d"), whiteout("d/.wh.a"))
        ),
        _vector(
            "A9",
            "opaque-inside",
            "OVL-APPLY-WHITEOUT-INSIDE",
            *on_standard(whiteout(".wh.d"), whiteout("d/.wh..wh..opq")),
        ),
        _vector("A10", "whiteout-first", after, *on_standard(whiteout(".wh.a"), file("a", b"new"))),
        _vector("A10", "new-file", after, *on_standard(file("new", b"new"), whiteout(".wh.new"))),
        _vector("A10", "symlink", after, *on_standard(symlink("a", "e"), whiteout(".wh.a"))),
        *(
            _vector("A11", f"bare-{where}", dots, *on_standard(whiteout(name), file("last")))
            for where, name in _BARE
        ),
        *(_vector("A12", what, hides, *on_standard(entry, file("last"))) for what, entry in kinds.items()),
        _vector(
            "A12",
            "aufs-links",
            "OVL-APPLY-OTHER-MARKS",
            *on_standard(directory(".wh..wh.plnk"), file(".wh..wh.plnk/1.2")),
        ),
        _vector("A13", "no-directory", missing, *on_standard(whiteout("missing/.wh.x"), file("last"))),
        _vector("A13", "opaque", missing, *on_standard(whiteout("missing/.wh..wh..opq"), file("last"))),
        _vector("A13", "only-whiteouts", missing, layer(whiteout(".wh.x"), whiteout("d/.wh.x"))),
        _vector(
            "A15",
            "with-a-file",
            "OVL-APPLY-WHITEOUT-UNSEEN",
            *on_standard(directory("d"), whiteout("d/.wh.a"), whiteout("d/.wh..wh..opq"), file("d/new", b"new")),
        ),
        Vector(
            "whiteouts-are-of-one-layer",
            hides,
            (
                layer(file("x", b"1"), file("y", b"1")),
                layer(whiteout(".wh.x"), whiteout(".wh.y")),
                layer(file("x", b"3")),
            ),
        ),
        Vector(
            "whiteouts-of-a-directory-of-two-layers",
            hides,
            (layer(directory("d"), file("d/1")), layer(directory("d"), file("d/2")), layer(whiteout(".wh.d"))),
        ),
        Vector(
            "opaque-over-two-layers",
            "OVL-OPAQUE-PRESERVED",
            (
                layer(directory("d"), file("d/1")),
                layer(directory("d"), file("d/2")),
                layer(directory("d"), whiteout("d/.wh..wh..opq"), file("d/3")),
                layer(directory("d"), file("d/4")),
            ),
        ),
        Vector(
            "opaque-keeps-its-directory",
            "OVL-OPAQUE-PRESERVED",
            on_standard(replace(directory("d", 0o750), owner=(3, 4)), whiteout("d/.wh..wh..opq")),
        ),
    ]


_BARE: Final = (("name", ".wh."), ("dot", ".wh.."), ("dots", ".wh..."), ("in-a-directory", "d/.wh."))


def _attributes() -> list[Vector]:
    overlay = {"opaque": "y", "redirect": "/d/d", "metacopy": ""}
    marks = "OVL-HOSTILE-OVERLAY-XATTRS"
    found = [
        _vector(
            "A17",
            f"{space}-{name}",
            marks,
            *on_standard(
                Entry("d", tarfile.DIRTYPE, mode=0o755, records={f"SCHILY.xattr.{space}.overlay.{name}": value})
            ),
        )
        for space in ("trusted", "user")
        for name, value in overlay.items()
    ]
    on_symlink = Entry("s", tarfile.SYMTYPE, target="a", mode=0o777, records=_RED)
    lower = layer(Entry("d", tarfile.DIRTYPE, mode=0o755, records={"SCHILY.xattr.user.lower": "1"}))
    merged = layer(Entry("d", tarfile.DIRTYPE, mode=0o755, records={"SCHILY.xattr.user.upper": "2"}))
    return [
        *found,
        _vector("A16", "user-of-a-symlink", "OVL-META-XATTRS", layer(on_symlink, file("last"))),
        _vector("A16", "merged-directory", "OVL-META-XATTRS", lower, merged),
    ]


def _forms() -> list[Vector]:
    formats = "OVL-APPLY-FORMATS"
    roots = layer(replace(directory("./", 0o711), mtime=5), file("./f", b"f"))
    times = {
        "fraction": 1_500_000_000 * 10**9 + 123_456_789,
        "before-1970": -5 * 10**9,
        "before-1970-fraction": -1_500_000_000,
        "after-2106": 2**33 * 10**9,
    }
    sparse = [one for one in opencases.OPEN if one.name.startswith("sparse")]
    twice = {
        "files": (file("x", b"first, and longer"), file("x", b"last")),
        "symlink-and-file": (symlink("x", "a"), file("x", b"last")),
        "file-and-directory": (file("x"), directory("x", 0o711), file("x/f")),
        "directories": (_rich("x", 0o700), directory("x", 0o711)),
        "directory-and-file": (directory("x"), file("x/f"), file("x", b"last")),
    }
    names = {
        "inner-dots": (directory("x"), file("x/../f", b"f")),
        "doubled-slashes": (directory("./x/"), file("x//f", b"f"), file("x/./g", b"g")),
    }
    return [
        _vector("A2", "with-a-slash", "OVL-APPLY-NAME-FORMS", roots),
        _vector("A2", "dot-in-a-child", "OVL-APPLY-NAME-FORMS", roots, layer(directory(".", 0o751), file("g"))),
        *(_vector("A3", what, "OVL-APPLY-LAST-WINS", layer(*entries)) for what, entries in twice.items()),
        *(
            _vector("A19", one.name, formats, Layer(blocks=one.data), may_refuse="sparse files SHOULD NOT be used")
            for one in sparse
        ),
        *(
            _vector("A20", what, "OVL-META-TIMES", layer(_at(time), file("last")), may_refuse=_early(time))
            for what, time in times.items()
        ),
        *(_vector("A21", what, "OVL-APPLY-NAME-FORMS", layer(*entries)) for what, entries in names.items()),
        Vector("metadata-directory-time-kept", "OVL-APPLY-DIRECTORY-TIMES", (layer(*_TIMED),)),
        Vector("metadata-directory-time-replaced", "OVL-APPLY-DIRECTORY-TIMES", (layer(*_TIMED), layer(*_RETIMED))),
    ]


_TIMED: Final = (
    Tarred(b"d", DIRECTORY, mode=0o755, mtime=1_100_000_000 * 10**9),
    Tarred(b"d/e", DIRECTORY, mode=0o755, mtime=1_200_000_000 * 10**9),
    Tarred(b"d/e/f", content=b"f"),
    Tarred(b"d/g", content=b"g"),
)
_RETIMED: Final = (
    Tarred(b"d", DIRECTORY, mode=0o755, mtime=1_300_000_000 * 10**9),
    Tarred(b"d/.wh.g", mode=0o600),
    Tarred(b"d/h", content=b"h"),
)


def _at(time: int) -> Tarred:
    return Tarred(b"f", content=b"f", mtime=time, form=Form(PAX if time % 10**9 else GNU))


def _early(time: int) -> str:
    return "no text says that times before 1970 are taken" if time < 0 else ""


SILENT: Final = (*_implied(), *_links(), *_symlinks(), *_whiteouts(), *_attributes(), *_forms())
