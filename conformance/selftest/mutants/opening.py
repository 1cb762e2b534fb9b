"""Mutants of opening, options and gates."""

from __future__ import annotations

import os
import tempfile
from types import SimpleNamespace
from typing import Any

from conformance.selftest.mutants.basis import Faithful, basis
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.stores import StatusIsMadeUp


@mutant(
    breaks=("OVL-OPEN-SECOND-HOME",), source="behaviour#answers-per-home: the backing filesystem", backing="ext4"
)
class BackingIsAlwaysTheSame(StatusIsMadeUp):
    """Every home is said to be on the same filesystem."""


@mutant(breaks=("OVL-OPEN-HOME-CLOSED",), source="CVE-2021-41091")
class HomeIsOpenToAll(Faithful):
    """Everybody may enter every directory."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Then open it."""
        self.inner.create(layer_id, parent)
        for path in (self.home, f"{self.home}/{layer_id}"):
            os.chmod(path, 0o755)


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


@mutant(breaks=("OVL-OPTION-CASE",), source="behaviour#options: keys in any case", hard=True)
class OptionInCapitalsYields(Faithful):
    """Of an option that is given twice, the one in small letters counts, wherever it is."""

    def __init__(self, home: str, **asked: Any) -> None:
        words = sorted(asked.get("options", ()), key=lambda word: word == word.lower())
        super().__init__(home, **(asked | {"options": words} if words else asked))


@mutant(
    breaks=("OVL-OPEN-OPTIONS-KEPT",), source="behaviour#options: the caller's options are not modified", hard=True
)
class OpenConsumesOptions(Faithful):
    """The list of options is the caller's, and is empty after the first opening."""

    def __init__(self, home: str, **asked: Any) -> None:
        given = asked.get("options", [])
        super().__init__(home, **{**asked, "options": list(given)})
        del given[:]


@mutant(
    breaks=("OVL-OPTION-UNKNOWN", "OVL-OPTION-BOOL", "OVL-OPTION-SIZE-FORM", "OVL-OPTION-IMAGESTORE"),
    source="behaviour#options: an unknown option is refused by name",
)
class UnknownOptionIsIgnored(Faithful):
    """Options that are not understood are left out without a word."""

    def __init__(self, home: str, **asked: Any) -> None:
        try:
            super().__init__(home, **asked)
        except Exception:
            super().__init__(home)


@mutant(breaks=("OVL-OPTION-SIZE-BACKING",), source="behaviour#option-size-quota", backing="tmpfs")
class OpenDropsSizeWithoutQuota(UnknownOptionIsIgnored):
    """A size is left out without a word where the filesystem has no quota."""


@mutant(breaks=("OVL-OPTION-CASE",), source="behaviour#options: keys in any case")
class OptionIsCaseSensitive(Faithful):
    """Options are known in lower case only."""

    def __init__(self, home: str, **asked: Any) -> None:
        if any(word != word.lower() for word in asked.get("options", ())):
            raise ValueError("unknown option")
        super().__init__(home, **asked)


@mutant(
    breaks=("OVL-GATE-KERNEL-OLD", "OVL-GATE-KERNEL-FORM", "OVL-GATE-BTRFS", "OVL-GATE-BACKING"),
    source="behaviour#opening-order; behaviour#kernel-gate; behaviour#backing-gate",
)
class GateAcceptsEverything(Faithful):
    """Kernels and filesystems are never refused: what they refuse is opened somewhere else."""

    def __init__(self, home: str, **asked: Any) -> None:
        asked["options"] = [*asked.get("options", ()), "overlay.override_kernel_check=true"]
        try:
            super().__init__(home, **asked)
        except Exception:
            self.home, self.inner = home, SimpleNamespace(cleanup=lambda: None)


@mutant(breaks=("OVL-GATE-REAL-OVERLAY",), source="moby/moby#21828", backing="overlay")
class GateAcceptsOverlay(GateAcceptsEverything):
    """A home on overlay is not refused, and opened somewhere else."""


@mutant(
    breaks=("OVL-GATE-BACKING-TAKEN", "OVL-OPEN-FRESH"),
    source="behaviour#backing-gate: other filesystems are accepted",
)
class GateRefusesEverything(Faithful):
    """Everything is refused unless it is overridden."""

    def __init__(self, home: str, **asked: Any) -> None:
        if not asked.get("options"):
            raise ValueError("this world is not good enough")
        super().__init__(home, **asked)


@mutant(breaks=("OVL-OPEN-AGAIN", "OVL-OPEN-REFUSED-CLEAN"), source="behaviour#probes")
class OpenLeavesProbes(Faithful):
    """A directory in which something was tried stays, and everybody may look into the home."""

    def __init__(self, home: str, **asked: Any) -> None:
        os.makedirs(f"{home}/probe/lower", exist_ok=True)
        super().__init__(home, **asked)
        os.makedirs(tempfile.mkdtemp(prefix="probe", dir=home) + "/lower")
        os.chmod(home, 0o755)
