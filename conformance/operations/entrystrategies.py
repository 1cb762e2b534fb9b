"""Hypothesis strategies for archives of layers: entries of few names, which meet each other and the layers below.

tarstrategies.py draws how entries are written; here it is what they say: whiteouts and opaque whiteouts before and
behind entries, names that come twice, parents without an entry, hard links to what is there or is not, entries
below files and symlinks. applying.py is the model of what they make.
"""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from conformance.operations.tarforms import (
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    PAX,
    SYMLINK,
    TIME,
    Form,
    Tarred,
)

# What the standard tree has, and names beside and below.
_PATHS: Final = st.sampled_from(
    (b"a", b"d", b"d/a", b"d/d", b"d/d/a", b"b", b"e", b"d/x", b"d/d/x", b"e/a", b"x", b"x/a", b"x/y/a")
)
_TARGETS: Final = st.one_of(_PATHS, st.sampled_from((b"missing", b"../a", b"/d", b".")))
_MODES: Final = st.sampled_from((0o644, 0o755, 0o600, 0o4755, 0o1777))
_DIRECTORY_MODES: Final = st.sampled_from((0o755, 0o700, 0o711, 0o1777))
_TIMES: Final = st.sampled_from((TIME * 10**9, 0, (TIME + 1) * 10**9 + 5 * 10**8))
_FORM: Final = Form(PAX)
_LEAST: Final = 5
_MOST: Final = 12


def _entries(*, privileged: bool) -> st.SearchStrategy[Tarred]:
    owners = st.sampled_from((0, 1000, 70_000)) if privileged else st.just(0)
    said = {"mtime": _TIMES, "uid": owners, "gid": owners, "form": st.just(_FORM)}
    content = st.sampled_from((b"", b"new", b"n" * 513))
    kinds = [
        st.builds(Tarred, name=_PATHS, kind=st.just(FILE), content=content, mode=_MODES, **said),
        st.builds(Tarred, name=_PATHS, kind=st.just(DIRECTORY), mode=_DIRECTORY_MODES, **said),
        st.builds(Tarred, name=_PATHS, kind=st.just(SYMLINK), target=_TARGETS, mode=st.just(0o777), **said),
        st.builds(Tarred, name=_PATHS, kind=st.just(HARD_LINK), target=_TARGETS, form=st.just(_FORM)),
        st.builds(Tarred, name=_PATHS, kind=st.just(FIFO), mode=_MODES, **said),
        *[st.builds(Tarred, name=st.builds(_whiteout, _PATHS), mode=st.just(0o600), form=st.just(_FORM))] * 3,
        st.builds(Tarred, name=st.builds(_opaque, _PATHS), mode=st.just(0o600), form=st.just(_FORM)),
    ]
    if privileged:
        device = {"major": st.just(1), "minor": st.sampled_from((3, 5))}
        kinds.append(st.builds(Tarred, name=_PATHS, kind=st.just(CHARACTER), mode=_MODES, **device, **said))
    return st.one_of(kinds)


def _whiteout(path: bytes) -> bytes:
    above, slash, name = path.rpartition(b"/")
    return above + slash + b".wh." + name


def _opaque(path: bytes) -> bytes:
    return path + b"/.wh..wh..opq"


def layer_archives(*, privileged: bool) -> st.SearchStrategy[list[Tarred]]:
    """The entries of an archive of a layer; ``privileged`` adds what only root can make."""
    return st.lists(_entries(privileged=privileged), min_size=_LEAST, max_size=_MOST)
