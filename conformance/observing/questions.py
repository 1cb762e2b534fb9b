"""The questions: layers, and what is asked of the tree that they make.

The text is the OCI image specification, layer.md at 13cff54 (2026-05-14). ``says`` is what it decides about a
question; then ``right`` has the answers that it permits. Where it is silent, every answer is as good.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from conformance.observing import seeing
from conformance.observing.seeing import GONE, KEPT, Reading
from conformance.operations import archives
from conformance.operations.archives import Entry, directory, file, hard_link, symlink, whiteout

REFUSED: Final = "refused"
SILENT: Final = "silent"
_TIME: Final = archives.TIME * 10**9
_OPAQUE: Final = ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that is asked; ``name`` is its name in files, ``asks`` the words of a table."""

    name: str
    asks: str
    read: Reading
    says: str = SILENT
    right: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """Layers, as entries or as the bytes of an archive, the base first, and the questions about their tree.

    ``root`` says that only root can do what the entries say.
    """

    name: str
    layers: tuple[tuple[Entry, ...] | bytes, ...]
    questions: tuple[Question, ...]
    root: bool = False


def cases() -> tuple[Case, ...]:
    """All cases, in the order of the table."""
    return (
        *_implied(),
        *_root(),
        *_twice(),
        *_links(),
        *_symlinks(),
        *_whiteouts(),
        *_opaque(),
        *_metadata(),
        *_names(),
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
        (base, (whiteout(f"lib/{_OPAQUE}"), file("lib/new"))),
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


_EMPTY_FILE: Final = "a whiteout is an empty file with a prefix"
_LOWER_ONLY: Final = "whiteouts apply to lower layers only"
_NO_NAME: Final = "a whiteout without a name should be an error"


def _whiteouts() -> Iterator[Case]:
    base = (file("f", b"old"), directory("d"), file("d/x"), file("d/y"))
    new = seeing.content(b"f", new_file=b"new", old_file=b"old")
    for name, layer in (
        ("whiteout-then-file", (whiteout(".wh.f"), file("f", b"new"))),
        ("file-then-whiteout", (file("f", b"new"), whiteout(".wh.f"))),
    ):
        asks = "a whiteout and a file of one name in one layer, " + (
            "the whiteout" if "then-file" in name else "the file"
        )
        yield Case(name, (base, layer), (Question(name, f"{asks} first", new, _LOWER_ONLY, ("new file",)),))
    yield Case(
        "whiteout-and-entry-inside",
        (base, (whiteout(".wh.d"), file("d/new"))),
        (
            Question(
                "whiteout-and-entry-inside",
                ".wh.d, then d/new",
                seeing.names({"d has new only": ("d", "d/new"), "d has all": ("d", "d/new", "d/x", "d/y")}, "d"),
                _LOWER_ONLY,
                ("d has new only",),
            ),
        ),
    )
    yield Case(
        "whiteout-and-whiteout-inside",
        (base, (whiteout(".wh.d"), whiteout("d/.wh.x"))),
        (
            Question(
                "whiteout-and-whiteout-inside",
                ".wh.d, then d/.wh.x",
                seeing.names({"d is gone": (), "d is empty": ("d",), "d has y": ("d", "d/y")}, "d"),
            ),
        ),
    )
    yield Case(
        "whiteout-of-nothing",
        (base, (whiteout(".wh.none"),)),
        (
            Question(
                "whiteout-of-nothing",
                "a whiteout of a name that no layer has",
                _nothing(),
            ),
        ),
    )
    yield Case(
        "whiteout-without-a-name",
        (base, (whiteout(".wh."), file("g"))),
        (Question("whiteout-without-a-name", "a whiteout of the name .wh.", _odd(b".wh."), _NO_NAME, (REFUSED,)),),
    )
    for name, said in (("dot", ".wh.."), ("dots", ".wh..."), ("prefix", ".wh..wh.x"), ("aufs", ".wh..wh.aufs")):
        asks = f"a whiteout of the name {said}"
        yield Case(
            f"whiteout-{name}",
            (base, (whiteout(said), file("g"))),
            (Question(f"whiteout-{name}", asks, _odd(said.encode())),),
        )
    forms = (
        ("directory", replace(directory(".wh.f"), mode=0o755), "a directory"),
        ("symlink", symlink(".wh.f", "d/x"), "a symlink"),
        ("hard-link", hard_link(".wh.f", "d/x"), "a hard link"),
        ("device", Entry(".wh.f", tarfile.CHRTYPE, device=(1, 3)), "a device"),
        ("content", file(".wh.f", b"content"), "a file with content"),
    )
    for name, entry, words in forms:
        yield Case(
            f"whiteout-is-{name}",
            (base, (entry, file("g"))),
            (
                Question(
                    f"whiteout-is-{name}",
                    f"a whiteout that is {words}",
                    seeing.whiteout(b".wh.f", b"f"),
                    _EMPTY_FILE if name == "content" else SILENT,
                ),
            ),
            root=name == "device",
        )


def _nothing() -> Reading:
    def answer(seen: seeing.Seen) -> str:
        found = seen.tree.nodes.get(b"none")
        if found is None:
            return "ignored" if b".wh.none" not in seen.tree.nodes else "file with this name"
        return "listed, not found" if seen.node(b"none") is None else f"shows a {seeing.kind_of(found)}"

    return answer


def _odd(name: bytes) -> Reading:
    """What became of a whiteout that names nothing: the tree stays, or does not."""

    def answer(seen: seeing.Seen) -> str:
        if seen.node(name) is not None:
            return "file with this name"
        stays = seen.node(b"f") is not None and seen.node(b"d/x") is not None
        return "ignored" if stays else "empties the tree"

    return answer


def _opaque() -> Iterator[Case]:
    base = (directory("d", 0o700), file("d/x"), file("d/y"))
    stays = "the directory is in the example, without what was in it"
    yield Case(
        "opaque-only",
        (base, (whiteout(f"d/{_OPAQUE}"),)),
        (
            Question(
                "opaque-only",
                "an opaque whiteout in d, without an entry of d: d",
                seeing.names({"stays, empty": ("d",), "stays, full": ("d", "d/x", "d/y"), "deleted": ()}, "d"),
                stays,
                ("stays, empty",),
            ),
            Question(
                "opaque-only-mode", "an opaque whiteout in d, without an entry of d: mode", seeing.mode(b"d", 0o700)
            ),
        ),
    )
    for name, layer, when in (
        ("opaque-first", (directory("d"), whiteout(f"d/{_OPAQUE}"), file("d/new")), "before"),
        ("opaque-last", (directory("d"), file("d/new"), whiteout(f"d/{_OPAQUE}")), "after"),
    ):
        yield Case(
            name,
            (base, layer),
            (
                Question(
                    name,
                    f"an opaque whiteout {when} a new file",
                    seeing.names(
                        {
                            "new file only": ("d", "d/new"),
                            "empty": ("d",),
                            "nothing deleted": ("d", "d/new", "d/x", "d/y"),
                        },
                        "d",
                    ),
                    _LOWER_ONLY,
                    ("new file only",),
                ),
            ),
        )
    yield Case(
        "opaque-and-whiteout",
        (base, (directory("d"), whiteout(f"d/{_OPAQUE}"), whiteout("d/.wh.x"))),
        (
            Question(
                "opaque-and-whiteout",
                "an opaque whiteout and a whiteout in one directory",
                _ghosts(),
            ),
        ),
    )


def _ghosts() -> Reading:
    def answer(seen: seeing.Seen) -> str:
        if b"d/x" in seen.tree.nodes and seen.node(b"d/x") is None:
            return "listed, not found"
        return "deleted" if seen.node(b"d/x") is None and seen.node(b"d/y") is None else "not deleted"

    return answer


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
    yield Case(
        "link-target-absolute",
        ((file("f", b"old"), hard_link("b", "/f")),),
        (Question("link-target-absolute", "a hard link to /f", seeing.linked(b"b", b"f", b"old")),),
    )


__all__ = ["GONE", "KEPT", "REFUSED", "SILENT", "Case", "Question", "cases"]
