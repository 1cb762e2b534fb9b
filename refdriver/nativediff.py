"""Whether a layer's own directory tells its whole difference from its parent, asked once for each opened home."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from refdriver import probes
from refdriver.overlayxattr import OverlayXattrs

_LOG = logging.getLogger("refdriver")


class NativeDiff:
    """The answer of one home; ``area`` gives a directory in it to try in, with the home mounted privately."""

    def __init__(self, home: str, area: Callable[[], AbstractContextManager[str]], overlay: OverlayXattrs) -> None:
        self._home = home
        self._area = area
        self._overlay = overlay
        self._lock = threading.Lock()
        self._probed = False
        self._refusal: str | None = None

    def works(self) -> bool:
        """Whether it does; a warning says why not, once."""
        with self._lock:
            if not self._probed:
                with self._area() as area:
                    self._refusal = probes.why_native_diff_is_wrong(area, self._overlay)
                self._probed = True
                if self._refusal:
                    _LOG.warning("not using native diff on %s, so diffs are slower: %s", self._home, self._refusal)
            return self._refusal is None
