"""Who is built on whom, remembered, so that a removal need not read every layer of the home.

How many layers name a short link in ``lower``, and how many an id in ``lower-layers``, is counted once, by reading
all of them. From then on this process counts what it makes and removes. What is remembered holds for as long as
nobody else has made or removed a layer, and the directories themselves say whether that is so:

- Every driver makes a short link in ``l`` for each layer, and that sets the modification time of ``l`` to now.
  After its own change this process sets that time to a random moment of the last seconds. So as long as the time
  is that moment, no name was made or removed there since. That does not depend on how coarse the filesystem's clock
  is, and no other process takes the moment for its own.
- A process that is killed between a layer's move into the home and its short link would leave ``l`` as it was. So
  ``l`` is touched before that move, too.
- A layer that is put into the home by hand, without a short link, changes the number of links of the home, on
  filesystems that count directories so.

Where the filesystem has whole seconds only, or ``l`` belongs to somebody else, nothing is remembered. That a layer
has children is never said from memory: where there may be some, all layers are read. Nothing of this is on disk, so
the layout is as before, and a crash loses nothing. A ``lower`` that somebody edits in place is not noticed.

The caller holds the home's structure lock.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import suppress
from typing import Final

_SECOND: Final = 10**9
_DRAWN_FROM: Final = 16 * _SECOND  # the last seconds, in nanoseconds

Chains = tuple[str | None, str | None]  # the text of a layer's ``lower`` and of its ``lower-layers``
_State = tuple[int, int, int, int, int]


class Kinship:
    """The counts of one home, whose short links are in ``links``."""

    def __init__(self, home: str, links: str) -> None:
        self._home = home
        self._links = links
        self._state: _State | None = None  # of the directories, when what is remembered was true
        self._beginning: _State | None = None  # of the same, before all layers were read
        self._named: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._layers: dict[str, int] = {}  # a hash of what each layer was counted with

    def is_current(self) -> bool:
        """Whether what is remembered is of the home as it is; raises OSError."""
        return self._state is not None and self._state == self._look()

    def names(self, lower: str | None, layer_id: str) -> bool:
        """Whether a layer names this entry in ``lower``, or this id in ``lower-layers``."""
        by_link, by_id = self._named
        return bool((lower is not None and by_link[lower]) or by_id[layer_id])

    def announce(self) -> None:
        """Before a layer moves in: what others remember is true no more, even if this process is killed."""
        os.utime(self._links)

    def begin(self) -> None:
        """Before all layers are read: what happens to the home from here on is noticed."""
        self._forget()
        self._mark()
        self._beginning, self._state = self._state, None

    def note(self, layer_id: str, chains: Chains) -> None:
        """One of the layers that are read."""
        self._layers[layer_id] = hash(chains)
        for named, text in zip(self._named, chains, strict=True):
            for entry in _entries(text):
                named[entry] += 1

    def end(self) -> None:
        """All were read; without this nothing is remembered."""
        self._state = self._beginning

    def add(self, layer_id: str, chains: Chains) -> None:
        """A layer was made; what is remembered was current before."""
        self._state = None
        self.note(layer_id, chains)
        self._mark()

    def remove(self, layer_id: str, chains: Chains) -> None:
        """A layer was removed; what is remembered was current before, and the layer had these chains."""
        self._state = None
        if self._layers.pop(layer_id, None) != hash(chains):  # a file of it was changed since
            self._forget()
            return
        for named, text in zip(self._named, chains, strict=True):
            for entry in _entries(text):
                named[entry] -= 1
                if not named[entry]:
                    del named[entry]
        self._mark()

    def _forget(self) -> None:
        self._state = None
        self._named = (Counter(), Counter())
        self._layers = {}

    def _mark(self) -> None:
        """Give ``l`` a time that only this process knows, and note the state of both directories, if that works."""
        drawn = time.time_ns() - 1 - int.from_bytes(os.urandom(8), "big") % _DRAWN_FROM
        # The call that changed the home is done; that nothing can be remembered is no failure of it.
        with suppress(OSError):
            os.utime(self._links, ns=(drawn, drawn))
            state = self._look()
            if state[2] % _SECOND:
                self._state = state

    def _look(self) -> _State:
        links, home = os.stat(self._links), os.stat(self._home)
        return links.st_dev, links.st_ino, links.st_mtime_ns, links.st_ctime_ns, home.st_nlink


def _entries(text: str | None) -> set[str]:
    return set(text.split(":")) if text else set()
