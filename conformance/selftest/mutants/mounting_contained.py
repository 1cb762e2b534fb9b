"""Mutants of the path that get returns: outside of the store, or none. The layer is mounted as it should be.

The harness must not use any of these paths; what it would do there, as root, is what the mutants are for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant

_BROKEN: Final = ("OVL-MOUNT-CONTAINED",)
_SEEN: Final = "derived: a driver that answered no path had the harness create and remove files below /"


@mutant(breaks=_BROKEN, source=_SEEN)
class GetReturnsHostRoot(Faithful):
    """The path of every tree is the host's root directory."""

    def get(self, *words: str) -> Any:
        """Mounted, and not told where."""
        self.inner.get(*words)
        return "/"


@mutant(breaks=_BROKEN, source=_SEEN)
class GetReturnsEmptyPath(Faithful):
    """The path of every tree is empty."""

    def get(self, *words: str) -> Any:
        """Mounted, and not told where."""
        self.inner.get(*words)
        return ""


@mutant(breaks=_BROKEN, source=_SEEN)
class GetReturnsNone(Faithful):
    """A return statement is forgotten in get."""

    def get(self, *words: str) -> Any:
        """Mounted, and not told where."""
        self.inner.get(*words)


@mutant(breaks=_BROKEN, source=_SEEN)
class GetReturnsRelativePath(Faithful):
    """The path of a tree is relative to a directory that the caller does not know."""

    def get(self, *words: str) -> Any:
        """The path without the home."""
        return os.path.relpath(self.inner.get(*words), self.home)


@mutant(breaks=_BROKEN, source=_SEEN)
class GetReturnsDotDotPath(Faithful):
    """The path of a tree goes up from the store by "..", as many times as it takes."""

    def get(self, *words: str) -> Any:
        """The directory above all stores."""
        return self.inner.get(*words) + "/.." * 40


@mutant(breaks=_BROKEN, source=_SEEN)
class GetReturnsSymlinkToHost(Faithful):
    """The path of a tree is a symlink in the home that leads to the host."""

    def get(self, *words: str) -> Any:
        """A symlink to /usr, made anew for every layer."""
        self.inner.get(*words)
        link = Path(self.home, f"tree-of-{words[0].replace('/', '_')}")
        link.unlink(missing_ok=True)
        link.symlink_to("/usr")
        return str(link)


@mutant(breaks=_BROKEN, source=_SEEN)
class GetReturnsAnotherStore(Faithful):
    """The path of a tree is that of the layer of the same name in the store that was opened first."""

    def get(self, *words: str) -> Any:
        """Its own where there is no other store beside it."""
        own = self.inner.get(*words)
        stores = Path(self.home).parents[1]
        others = sorted(stores.glob(f"*/{Path(self.home).name}/{words[0]}/diff"))
        return str(others[0]) if others else own


@mutant(breaks=_BROKEN, source=_SEEN)
class GetReturnsFile(Faithful):
    """The path of a tree is that of a file."""

    def get(self, *words: str) -> Any:
        """The file with the layer's short link."""
        self.inner.get(*words)
        return f"{self.home}/{words[0]}/link"
