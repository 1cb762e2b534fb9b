"""Questions about vectors that the corpus has already: their layers are not written a second time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from conformance.corpus.silent import SILENT
from conformance.observing import seeing
from conformance.observing.question import Case, Question
from conformance.observing.seeing import Reading
from conformance.suites.opencases import SPARSE_CONTENT

_FORMATS: Final = ("old-gnu", "0.0", "0.1", "1.0")  # in which GNU tar writes sparse files
# The vector of each case that is made of one; the names are those of the table.
VECTORS: Final[Mapping[str, str]] = {
    "whiteout-in-a-missing-directory": "a13-no-directory",
    "opaque-in-a-missing-directory": "a13-opaque",
    "whiteouts-in-the-first-layer": "a13-only-whiteouts",
    "symlink-xattr": "a16-user-of-a-symlink",
    **{f"sparse-{one}": f"a19-sparse-{one}" for one in _FORMATS},
}


def of_vectors() -> Iterator[Case]:
    """The cases, each with one question."""
    there = {one.name: one for one in SILENT}
    for name, (asks, read) in _questions().items():
        layers = tuple(layer.data for layer in there[VECTORS[name]].layers)
        yield Case(name, layers, (Question(name, asks, read),))


def _questions() -> Mapping[str, tuple[str, Reading]]:
    sparse = {
        f"sparse-{one}": (
            f"a sparse file of GNU tar, {one.replace('-', ' ')}",
            seeing.content(b"sparse", expanded=SPARSE_CONTENT),
        )
        for one in _FORMATS
    }
    return {
        "whiteout-in-a-missing-directory": (
            "a whiteout in a directory that no layer has: the directory",
            _made("missing", "x"),
        ),
        "opaque-in-a-missing-directory": (
            "an opaque whiteout in a directory that no layer has: the directory",
            _made("missing", ".wh..opq"),
        ),
        "whiteouts-in-the-first-layer": (
            "whiteouts .wh.x and d/.wh.x, and nothing else, in the first layer: d",
            _made("d", "x"),
        ),
        "symlink-xattr": ("an attribute user.* of a symlink", seeing.xattr(b"s", "user.colour", b"red")),
        **sparse,
    }


def _made(directory: str, name: str) -> Reading:
    """What became of a directory of which an archive has nothing but the whiteout of a name."""

    def answer(seen: seeing.Seen) -> str:
        path = f"{directory}/{name}".encode()
        if path in seen.tree.nodes:
            node = seen.node(path)
            return "name listed, not found" if node is None else f"has a {seeing.kind_of(node)} of the name"
        return seeing.names({"not made": (), "made, empty": (directory,)}, directory)(seen)

    return answer
