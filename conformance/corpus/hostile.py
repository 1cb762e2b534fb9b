"""Vectors that reach for files outside of the layer. They name paths of one directory that no system has.

Each is harmless to list. An unpacker refuses it, or makes one of the permitted trees; in no case is there a path
outside of its directory afterwards that was not there before.
"""

from __future__ import annotations

import tarfile
from typing import Final

from conformance.corpus.vector import Layer, Vector, layer, name_of, on_standard
from conformance.operations.archives import Entry, directory, file, hard_link, symlink, whiteout

OUTSIDE: Final = "/overlay-conformance-outside"  # what no archive may make or change
_UP: Final = "../" * 40 + OUTSIDE.lstrip("/")


def _vector(requirement: str, what: str, *layers: Layer, question: str = "") -> Vector:
    words = "it reaches for a path outside"
    return Vector(name_of(requirement, what), requirement, layers, question, hostile=True, may_refuse=words)


def _names() -> list[Vector]:
    found = [
        _vector("OVL-HOSTILE-DOTDOT", where, *on_standard(file(f"{lead}{_UP}/new"), file("last")), question="A21")
        for where, lead in (("at-once", ""), ("in-a-directory", "d/"), ("in-a-new-directory", "new/"))
    ]
    absolute = (file(f"{OUTSIDE}/new"), directory(f"{OUTSIDE}/d", 0o777), file("last"))
    roots = [
        _vector("OVL-HOSTILE-DOT", f"{kind}-{where}", *on_standard(entry, file("last")), question="A21")
        for where, name in (("dot", "."), ("slash", "/"), ("dots", ".."), ("inner-dots", "d/.."))
        for kind, entry in (("symlink", symlink(name, OUTSIDE)), ("file", file(name)))
    ]
    return [*found, _vector("OVL-HOSTILE-ABSOLUTE", "names", *on_standard(*absolute), question="A21"), *roots]


def _symlinks() -> list[Vector]:
    below = (file("s/new"), directory("s/d", 0o777))
    found = []
    for what, target in (("absolute", OUTSIDE), ("relative", _UP)):
        chained = (symlink("s", "t"), symlink("t", target), *below)
        found += [
            _vector("OVL-HOSTILE-SYMLINK", what, *on_standard(symlink("s", target), *below), question="A8"),
            _vector("OVL-HOSTILE-SYMLINK", f"{what}-chained", *on_standard(*chained), question="A8"),
            _vector("OVL-HOSTILE-SYMLINK-BELOW", what, layer(symlink("s", target)), layer(*below), question="A8"),
        ]
    inside = OUTSIDE.lstrip(
        "/"
    )  # a directory of the layer that the symlink names, if it is read in a root of its own
    own_root = (
        layer(directory(inside), file(f"{inside}/old"), symlink("lib", OUTSIDE)),
        layer(file("lib/new", b"new")),
    )
    loop = (symlink("s", "s"), file("s/new"))
    return [
        *found,
        _vector("OVL-HOSTILE-SYMLINK-BELOW", "own-root", *own_root, question="A8"),
        _vector("OVL-HOSTILE-SYMLINK", "loop", *on_standard(*loop), question="A8"),
    ]


def _links() -> list[Vector]:
    """The last entry of each writes through the link, if it is one to the outside."""
    ways = {"absolute": f"{OUTSIDE}/secret", "dots": f"{_UP}/secret", "symlink": "s/secret"}
    found = []
    for way, target in ways.items():
        first = [symlink("s", OUTSIDE)] if way == "symlink" else []
        entries = (*first, hard_link("h", target), file("h", b"overwritten", 0o4777))
        found.append(_vector("OVL-HOSTILE-HARD-LINK", way, *on_standard(*entries)))
    to_symlink = (symlink("s", f"{OUTSIDE}/secret"), Entry("h", tarfile.LNKTYPE, target="s", mode=0o4777))
    return [*found, _vector("OVL-HOSTILE-HARD-LINK-MODE", "to-a-symlink", *on_standard(*to_symlink))]


def _deletions() -> list[Vector]:
    found = []
    for requirement, name in (
        ("OVL-HOSTILE-WHITEOUT-OUT", ".wh.secret"),
        ("OVL-HOSTILE-OPAQUE-OUT", ".wh..wh..opq"),
    ):
        link = symlink("s", OUTSIDE)
        found += [
            _vector(requirement, "dots", *on_standard(whiteout(f"{_UP}/{name}"), file("last")), question="A21"),
            _vector(requirement, "archive", *on_standard(link, whiteout(f"s/{name}")), question="A8"),
            _vector(requirement, "layer", layer(link), layer(whiteout(f"s/{name}")), question="A8"),
        ]
    return found


HOSTILE: Final = (*_names(), *_symlinks(), *_links(), *_deletions())
