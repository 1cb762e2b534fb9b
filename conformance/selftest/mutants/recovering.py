"""Mutants of homes that are damaged or laid out by others: what is read back from disk, and how it is written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-RESTART-LINK-EMPTY",), source="behaviour#link-file-empty; field-bugs#empty-link", hard=True)
class EmptyLinkFileRemovesAllLinks(Faithful):
    """The short link of a layer whose 'link' is empty is the directory l itself, which goes with the layer."""

    def remove(self, layer_id: str) -> None:
        """As a path that ends early."""
        link = Path(self.home, layer_id, "link")
        if layer_id and link.is_file() and not link.read_text():
            shutil.rmtree(f"{self.home}/l")
        self.inner.remove(layer_id)


@mutant(
    breaks=("OVL-RESTART-SHORT-LINK-GONE",),
    source="behaviour#untrusted-disk: a link mended to another layer; field-bugs#short-link-lost",
    hard=True,
)
class OpenRestoresLinksToWrongLayer(Faithful):
    """A short link that is gone is recreated when the home is opened, to the first layer that there is."""

    def __init__(self, home: str, **asked: Any) -> None:
        layers = sorted(path.parent.name for path in Path(home).glob("*/link"))
        for layer_id in layers:
            name = Path(home, layer_id, "link").read_text()
            if len(name) == 26 and not os.path.lexists(f"{home}/l/{name}"):
                os.symlink(f"../{layers[0]}/diff", f"{home}/l/{name}")
        super().__init__(home, **asked)
