"""The questions: layers, and what is asked of the tree that they make.

The text is the OCI image specification, layer.md at 13cff54 (2026-05-14). ``says`` is what it decides about a
question; then ``right`` has the answers that it permits. Where it is silent, every answer is as good.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from conformance.observing import seeing
from conformance.observing.question import OPAQUE, Case, Question
from conformance.observing.seeing import Reading
from conformance.observing.vectors import of_vectors
from conformance.observing.whiteouts import opaque, whiteouts
from conformance.operations import archives
from conformance.operations.archives import Entry, directory, file, hard_link, symlink, whiteout
from conformance.operations.tarforms import PAX, Form, Tarred, archive_of

_TIME: Final = archives.TIME * 10**9


def cases() -> tuple[Case, ...]:
    """All cases, in the order of the table."""
    return (
        *_implied(),
        *_root(),
        *_twice(),
        *_links(),
        *_symlinks(),
        *whiteouts(),
        *opaque(),
        *_metadata(),
        *_names(),
        *of_vectors(),
    )


def _implied() -> Iterator[Case]:
    colour = {"SCHILY.xattr.user.colour": "red"}
    base = (replace(directory("d", 0o1777), owner=(7, 8), records=colour), file("d/old"))
    asks = "an entry d/new, d of a lower layer: "
    yield Case(
        "implied-directory",
        (base, (file("d/new"),)),
        (
            Question("implied-directory-mode", f"{asks}mode of d", seeing.mode(b"d", 0o1777)),
            Question("implied-directory-owner", f"{asks}owner of d", seeing.owner(b"d", (7, 8))),
            Question("implied-directory-xattr", f"{asks}xattr of d", seeing.xattr(b"d", "user.colour", b"red")),
            Question("implied-directory-time", f"{asks}mtime of d", seeing.time(b"d", _TIME)),
        ),
        root=True,
    )
    asks = "an entry d/f, d in no layer: "
    yield Case(
        "missing-directory",
        ((file("d/f"),),),
        (
            Question("missing-directory-mode", f"{asks}mode of d", seeing.mode(b"d", 0o755)),
            Question("missing-directory-owner", f"{asks}owner of d", seeing.owner(b"d", (0, 0))),
        ),
    )

    yield Case(
        "one-directory",
        ((directory("d"), file("d/f")),),
        (Question("one-directory", "all entries below d: d", seeing.one_of(kept=b"d/f", left_out=b"f")),),
    )


def _root() -> Iterator[Case]:
    for name, title in (("./", "./"), (".", ".")):
        asks = f"an entry {title} of mode 0711: "
        yield Case(
            f"root-entry-{'slash' if name == './' else 'dot'}",
            ((replace(directory(name, 0o711), owner=(7, 8)), file("f")),),
            (
                Question(
                    f"root-mode{'' if name == './' else '-dot'}", f"{asks}mode of the root", seeing.mode(b"", 0o711)
                ),
                Question(
                    f"root-owner{'' if name == './' else '-dot'}",
                    f"{asks}owner of the root",
                    seeing.owner(b"", (7, 8)),
                ),
                Question(
                    f"root-time{'' if name == './' else '-dot'}",
                    f"{asks}mtime of the root",
                    seeing.time(b"", _TIME),
                ),
            ),
            root=True,
        )


def _twice() -> Iterator[Case]:
    which = seeing.content(b"f", first=b"first", last=b"last")
    yield Case(
        "same-name-twice",
        ((file("f", b"first"), file("f", b"last")),),
        (Question("same-name-twice", "two entries of one name", which),),
    )
    yield Case(
        "file-then-directory",
        ((file("f", b"first"), directory("f"), file("f/g")),),
        (Question("file-then-directory", "a file, then a directory of its name", seeing.kind(b"f")),),
    )
    yield Case(
        "directory-then-file",
        ((directory("f"), file("f/g"), file("f", b"last")),),
        (Question("directory-then-file", "a directory with a file, then a file of its name", seeing.kind(b"f")),),
    )
    yield Case(
        "directory-twice",
        ((directory("d", 0o700), file("d/f"), directory("d", 0o711)),),
        (Question("directory-twice", "a directory twice: mode", seeing.mode(b"d", 0o711)),),
    )


def _links() -> Iterator[Case]:
    base = (file("a", b"old"), hard_link("b", "a"))
    yield Case(
        "link-to-lower",
        ((file("a", b"old"),), (hard_link("b", "a"),)),
        (Question("link-to-lower", "a hard link to a file of a lower layer", seeing.linked(b"b", b"a", b"old")),),
    )
    yield Case(
        "link-before-target",
        ((hard_link("b", "a"), file("a", b"old")),),
        (Question("link-before-target", "a hard link before its target", seeing.linked(b"b", b"a", b"old")),),
    )
    yield Case(
        "link-to-symlink",
        ((file("a", b"old"), symlink("s", "a"), hard_link("b", "s")),),
        (Question("link-to-symlink", "a hard link to a symlink to a file", seeing.kind(b"b")),),
    )
    yield Case(
        "link-deleted-above",
        (base, (whiteout(".wh.a"),)),
        (Question("link-deleted-above", "two links, one deleted above: the other", _content_of_b()),),
    )
    yield Case(
        "link-rewritten-above",
        (base, (file("a", b"new"),)),
        (Question("link-rewritten-above", "two links, one rewritten above: the other", _content_of_b()),),
    )
    yield Case(
        "links-below-a-layer",
        (base, (file("c"),)),
        (
            Question(
                "links-below-a-layer",
                "two links of a lower layer, an unrelated layer above",
                seeing.linked(b"b", b"a", b"old"),
            ),
        ),
    )


def _content_of_b() -> Reading:
    return seeing.content(b"b", old_content=b"old", new_content=b"new")


def _symlinks() -> Iterator[Case]:
    base = (directory("usr"), directory("usr/lib"), file("usr/lib/old"), symlink("lib", "usr/lib"))
    found = seeing.one_of(follows_the_link=b"usr/lib/so", replaces_the_link=b"lib/so")
    decided = "a path that exists is unlinked and created anew"
    yield Case(
        "file-below-a-symlink",
        (base, (file("lib/so"),)),
        (Question("file-below-a-symlink", "lib/so, where lib is a lower symlink to a directory", found),),
    )
    yield Case(
        "directory-over-a-symlink",
        (base, (directory("lib"), file("lib/so"))),
        (
            Question(
                "directory-over-a-symlink",
                "lib/ and lib/so, where lib is a lower symlink to a directory",
                found,
                decided,
                ("replaces the link",),
            ),
        ),
    )
    yield Case(
        "opaque-below-a-symlink",
        (base, (whiteout(f"lib/{OPAQUE}"), file("lib/new"))),
        (
            Question(
                "opaque-below-a-symlink",
                "an opaque whiteout in lib, a lower symlink to a directory: the target",
                seeing.one_of(stays=b"usr/lib/old", is_cleared=b"usr/lib"),
            ),
        ),
    )
    yield Case(
        "whiteout-below-a-symlink",
        (base, (whiteout("lib/.wh.old"),)),
        (
            Question(
                "whiteout-below-a-symlink",
                "a whiteout in lib, a lower symlink to a directory: the target's file",
                seeing.one_of(stays=b"usr/lib/old", is_deleted=b"usr/lib"),
            ),
        ),
    )


def _metadata() -> Iterator[Case]:
    yield Case(
        "unknown-xattr",
        ((replace(file("f"), records={"SCHILY.xattr.strange.name": "value"}), file("g")),),
        (
            Question(
                "unknown-xattr",
                "an xattr of a namespace that no filesystem has",
                seeing.xattr(b"f", "strange.name", b"value"),
            ),
        ),
    )
    for space in ("trusted", "user"):
        name = f"{space}.overlay.opaque"
        upper = (replace(directory("d"), records={f"SCHILY.xattr.{name}": "y"}), file("d/new"))
        yield Case(
            f"{space}-overlay-xattr",
            ((directory("d"), file("d/old")), upper),
            (
                Question(
                    f"{space}-overlay-xattr",
                    f"{name} on a directory: its lower files",
                    seeing.one_of(stay=b"d/old", are_hidden=b"d/new"),
                ),
            ),
            root=space == "trusted",
        )
    times = (
        ("fraction", "1500000000.123456789", 1_500_000_000_123_456_789, "with nanoseconds"),
        ("before-1970", "-5", -5 * 10**9, "before 1970"),
        ("after-2106", str(2**33), 2**33 * 10**9, "after 2106"),
        ("after-2446", str(2**34), 2**34 * 10**9, "after 2446"),
    )
    for name, said, expected, words in times:
        yield Case(
            f"time-{name}",
            ((replace(file("f"), records={"mtime": said}),),),
            (Question(f"time-{name}", f"an mtime {words}", seeing.time(b"f", expected)),),
        )
    yield Case(
        "directory-time",
        ((directory("d"), file("d/f")),),
        (
            Question(
                "directory-time", "a directory, then a file in it: mtime of the directory", seeing.time(b"d", _TIME)
            ),
        ),
    )
    yield Case(
        "set-user-id",
        ((replace(file("f", mode=0o4755), owner=(7, 8)),),),
        (Question("set-user-id", "a file of mode 4755 and another owner: mode", seeing.mode(b"f", 0o4755)),),
        root=True,
    )
    yield Case(
        "device",
        ((Entry("null", tarfile.CHRTYPE, device=(1, 3)), file("g")),),
        (Question("device", "a character device", seeing.kind(b"null")),),
    )
    yield Case(
        "owner",
        ((replace(file("f"), owner=(7, 8)), file("g")),),
        (Question("owner", "owner 7:8", seeing.owner(b"f", (7, 8))),),
    )


def _names() -> Iterator[Case]:
    yield Case(
        "absolute-name",
        ((file("/a/f"), file("g")),),
        (Question("absolute-name", "the name /a/f", seeing.one_of(below_the_root=b"a/f", ignored=b"g")),),
    )
    yield Case(
        "name-with-dots-inside",
        ((directory("a"), file("a/../f"), file("g")),),
        (Question("name-with-dots-inside", "the name a/../f", seeing.one_of(in_the_tree=b"f", ignored=b"g")),),
    )
    yield Case(
        "name-outside",
        ((file("../f"), file("g")),),
        (Question("name-outside", "the name ../f", seeing.one_of(in_the_tree=b"f", not_in_the_tree=b"g")),),
    )
    yield Case(
        "name-not-utf-8",
        ((Entry("n\udcff"), file("g")),),
        (Question("name-not-utf-8", "a name that is not UTF-8", seeing.one_of(kept=b"n\xff", another_name=b"g")),),
    )
    nul = archive_of([Tarred(b"f", form=Form(PAX), records=((b"path", b"a\0b"),)), Tarred(b"g")])
    yield Case(
        "name-with-a-nul",
        (nul,),
        (Question("name-with-a-nul", "a name with a NUL, a\\0b", seeing.one_of(cut=b"a", not_in_the_tree=b"g")),),
    )
    yield Case(
        "name-empty",
        (archive_of([Tarred(b"", content=b"f"), Tarred(b"g")]),),
        (Question("name-empty", "a file without a name", seeing.one_of(ignored=b"g")),),
    )
    yield Case(
        "link-target-absolute",
        ((file("f", b"old"), hard_link("b", "/f")),),
        (Question("link-target-absolute", "a hard link to /f", seeing.linked(b"b", b"f", b"old")),),
    )
