"""Mutants of opening: the words that are taken, the kernels and filesystems that are let in, and what is left."""

from __future__ import annotations

import os
from typing import Any

from conformance.selftest.mutants.basis import Faithful, basis
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-OPEN-REFUSED-CLEAN",), source="behaviour#opening-order; behaviour#probes")
class RefusedOptionLeavesMount(Faithful):
    """Options are read when the home is mounted on itself already, and their refusal leaves that mount."""

    def __init__(self, home: str, **asked: Any) -> None:
        basis()(home).close()
        super().__init__(home, **asked)


@mutant(breaks=("OVL-OPEN-HOME-CLOSED",), source="CVE-2021-41091", hard=True)
class HomeIsSearchable(Faithful):
    """Directories are 0711: other users cannot list them, and can go through them to files that they know."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Then let everybody through."""
        self.inner.create(layer_id, parent)
        for path in (self.home, f"{self.home}/{layer_id}"):
            os.chmod(path, 0o711)


@mutant(breaks=("OVL-OPTION-CASE",), source="behaviour#options: keys in any case", hard=True)
class OptionKnowsTwoCases(Faithful):
    """Keys are known in small letters and in capitals, and not in a mixture."""

    def __init__(self, home: str, **asked: Any) -> None:
        for word in asked.get("options", ()):
            key = word.partition("=")[0].removeprefix("overlay.")
            if key not in (key.lower(), key.upper()):
                raise ValueError(f"unknown option {key}")
        super().__init__(home, **asked)


@mutant(
    breaks=("OVL-OPEN-OPTIONS-KEPT",), source="behaviour#options: the caller's options are not modified", hard=True
)
class OpenConsumesOptions(Faithful):
    """The list of options is the caller's, and is empty after the first opening."""

    def __init__(self, home: str, **asked: Any) -> None:
        given = asked.get("options", [])
        super().__init__(home, **{**asked, "options": list(given)})
        del given[:]
