"""Homes of versions up to 0.3, whose own files were in ``HOME/.refdriver``.

containers-storage took that directory for a layer. What it holds moves to where :mod:`refdriver.home` says; a mount
of an image store's layer that is there still stays usable until its last put. No process of an earlier version may
have the home open: it would look for its files in the old place.
"""

from __future__ import annotations

from refdriver import files, trees
from refdriver.home import Home
from refdriver.locks import HomeLocks
from refdriver.refcounts import ReferenceCounts, is_overlay
from refdriver.staging import Staging

_COUNT_MAX = 20  # bytes


def move_earlier_state(home: Home, root: tuple[int, int]) -> None:
    """Take over what an earlier version left in the home. The caller holds the home's mount alone."""
    earlier = home.earlier_state
    if not files.is_directory(earlier):
        return
    locks = HomeLocks(f"{earlier}/lock")
    try:
        Staging(f"{earlier}/staging", home.links, locks, root, prefix="").sweep()
    finally:
        locks.close()
    _move_counts(home)
    for name in files.names_in(home.earlier_read_only_mounts):
        if not is_overlay(f"{home.earlier_read_only_mounts}/{name}"):
            files.remove_empty(f"{home.earlier_read_only_mounts}/{name}")
    for name in ("staging", "counts", "merged"):
        files.remove_empty(f"{earlier}/{name}")
    if files.names_in(earlier) == ["lock"]:
        trees.remove_file(f"{earlier}/lock")
    files.remove_empty(earlier)


def _move_counts(home: Home) -> None:
    counts = ReferenceCounts(home.path)
    directory = f"{home.earlier_state}/counts"
    for layer_id in files.names_in(directory):
        path = f"{directory}/{layer_id}"
        text = files.read_whole(path, _COUNT_MAX) or b""
        targets = (f"{home.path}/{layer_id}/merged", f"{home.earlier_read_only_mounts}/{layer_id}")
        # A count of a mount that is gone says nothing.
        if text.isdigit() and int(text) > 1 and any(map(is_overlay, targets)):
            counts.store(layer_id, int(text))
        trees.remove_file(path)
