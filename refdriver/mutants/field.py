"""Mutants of what the suite once missed, or blamed on another requirement, in drivers that nobody here wrote."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from refdriver import changes, errors
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(
    breaks=("OVL-CHANGES-EXPLAIN",),
    source="docker/for-linux#307: ENOTDIR is an answer, and no failure; moby/moby#37313",
)
class ChangesFailOnFileBelowDirectory(Patched):
    """Changes fail where a lower has a file in the place of a directory that was made with something in it."""

    @staticmethod
    @replaces(changes._OverlayWalk._compare_one)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look below it all the same."""
        _, _, upper, below = args
        if below is not None and not below.is_directory and os.path.isdir(upper) and os.listdir(upper):
            raise errors.UnreadableLayer(f"lstat {below.path!r}: not a directory")
        return original(*args, **kwargs)


@mutant(breaks=("OVL-CHANGES-EXPLAIN",), source="stat(2): ELOOP of a symlink in a lower")
class ChangesFailOnSymlinkLoop(Patched):
    """Changes fail where a lower has a symlink that leads to itself."""

    @staticmethod
    @replaces(changes._OverlayWalk._visible)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Follow."""
        found = original(*args, **kwargs)
        if found is not None:
            try:
                os.stat(found.path)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise errors.UnreadableLayer(f"stat {found.path!r}: {error.strerror}") from error
        return found


@mutant(breaks=("OVL-CHANGES-METADATA",), source="moby/moby#24913: of a directory; field-bugs#chown-of-directory")
class ChangesOmitOwnersOfDirectories(Patched):
    """A directory with another owner, and nothing else that is new, is not among the changes."""

    @staticmethod
    @replaces(changes._differ)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Compare modes of directories only."""
        old, new = args
        if stat.S_ISDIR(old.status.st_mode) and stat.S_ISDIR(new.status.st_mode):
            return old.status.st_mode != new.status.st_mode
        return original(*args, **kwargs)
