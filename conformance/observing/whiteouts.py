"""The questions about whiteouts and opaque whiteouts."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from conformance.observing import seeing
from conformance.observing.question import OPAQUE, REFUSED, SILENT, Case, Question
from conformance.observing.seeing import Reading
from conformance.operations.archives import Entry, directory, file, hard_link, symlink, whiteout

_EMPTY_FILE: Final = "a whiteout is an empty file with a prefix"
_LOWER_ONLY: Final = "whiteouts apply to lower layers only"
_NO_NAME: Final = "a whiteout without a name should be an error"


def whiteouts() -> Iterator[Case]:
    """Of one name, in all forms."""
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


def opaque() -> Iterator[Case]:
    """Of whole directories."""
    base = (directory("d", 0o700), file("d/x"), file("d/y"))
    stays = "the directory is in the example, without what was in it"
    yield Case(
        "opaque-only",
        (base, (whiteout(f"d/{OPAQUE}"),)),
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
        ("opaque-first", (directory("d"), whiteout(f"d/{OPAQUE}"), file("d/new")), "before"),
        ("opaque-last", (directory("d"), file("d/new"), whiteout(f"d/{OPAQUE}")), "after"),
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
        (base, (directory("d"), whiteout(f"d/{OPAQUE}"), whiteout("d/.wh.x"))),
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
