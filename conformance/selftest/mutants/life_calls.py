"""Mutants of what a call does to files of other layers, beside what it is for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-LIFE-CALL-FILES",), source="behaviour#layer-directory", hard=True)
class ExistsWritesLinkAnew(Faithful):
    """Exists writes the link file of the layer, with what it held."""

    def exists(self, layer_id: str) -> bool:
        """As a repair would do it that is always done."""
        link = f"{self.home}/{layer_id}/link"
        if os.path.exists(link):
            with open(link, "r+b") as file:
                name = file.read()
                file.seek(0)
                file.write(name)
        return bool(self.inner.exists(layer_id))


@mutant(breaks=("OVL-LIFE-CALL-FILES",), source="behaviour#failed-create", hard=True)
class RefusedCreateLeavesShortLink(Faithful):
    """A create that is refused leaves the short link that the layer was to have."""

    def create(self, layer_id: str, parent: str = "", *options: Any) -> None:
        """Make the link first, and remove it at the end."""
        link = f"{self.home}/l/{'A' * 25}{len(os.listdir(f'{self.home}/l')) % 6 + 2}"
        if parent:
            os.symlink(f"../{layer_id}/diff", link)
        self.inner.create(layer_id, parent, *options)
        if parent:
            os.unlink(link)


@mutant(breaks=("OVL-LIFE-CALL-FILES",), source="behaviour#remove", hard=True)
class RemoveChangesModeOfParent(Faithful):
    """A remove changes the mode of the parent's directory, as one does that walks too far."""

    def remove(self, layer_id: str) -> None:
        """Make what is to be removed writable."""
        lower = Path(self.home, layer_id, "lower")
        above = os.path.realpath(f"{self.home}/{lower.read_text().split(':')[0]}") if lower.exists() else ""
        self.inner.remove(layer_id)
        if above:
            os.chmod(above, 0o700)
