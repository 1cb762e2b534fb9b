"""Mutants of failing system calls."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant

_SOURCE = "behaviour#failing-system-calls"


@mutant(breaks=("OVL-FAILING-REPORTED",), source=_SOURCE)
class PutIgnoresFailures(Faithful):
    """A put that cannot unmount reports success."""

    def put(self, layer_id: str) -> None:
        """Whatever happens."""
        with suppress(OSError):
            self.inner.put(layer_id)


@mutant(breaks=("OVL-FAILING-REPORTED",), source=_SOURCE)
class ChangesIgnoresUnreadableDirectories(Faithful):
    """What cannot be read has no changes."""

    def changes(self, layer_id: str, parent: str = "") -> Any:
        """None instead of an error."""
        try:
            return self.inner.changes(layer_id, parent)
        except Exception:
            return []


@mutant(breaks=("OVL-FAILING-REPORTED",), source=_SOURCE)
class CreateIgnoresFailures(Faithful):
    """A create that did not come to its end reports success, if the layer is there."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Without its parent, if it cannot be had."""
        try:
            self.inner.create(layer_id, parent)
        except OSError:
            if not self.inner.exists(layer_id):
                self.inner.create(layer_id)


@mutant(breaks=("OVL-FAILING-OTHERS",), source=_SOURCE)
class FailedApplyClearsParent(Faithful):
    """A failed apply deletes what it finds in the wrong layer."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """And cleans up."""
        try:
            return int(self.inner.apply_diff(layer_id, parent, archive))
        except Exception:
            for path in Path(self.home, parent, "diff").iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            raise


@mutant(breaks=("OVL-FAILING-AGAIN",), source=_SOURCE)
class FailedCreateKeepsId(Faithful):
    """The id of a layer whose creation failed is taken for good."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Unless it failed before."""
        taken = Path(self.home, f".failed-{layer_id}")
        if taken.exists():
            raise FileExistsError(f"layer {layer_id} is being created")
        try:
            self.inner.create(layer_id, parent)
        except Exception:
            taken.touch()
            raise


@mutant(breaks=("OVL-FAILING-AGAIN",), source="field-bugs#refused-get-stays-mounted")
class RefusedGetStaysMounted(Faithful):
    """A get that cannot write down that it mounted is refused, and its mount stays."""

    def get(self, layer_id: str, *label: str) -> str:
        """Mount, and then count."""
        path = str(self.inner.get(layer_id, *label))
        Path(self.home, ".gets").write_text("1")
        return path


@mutant(breaks=("OVL-FAILING-AGAIN",), source=_SOURCE)
class ChangesRemembersFailures(Faithful):
    """Changes that could not be listed once are none afterwards."""

    def changes(self, layer_id: str, parent: str = "") -> Any:
        """From a cache."""
        failed = self.__dict__.setdefault("failed", set())
        if layer_id in failed:
            return []
        try:
            return self.inner.changes(layer_id, parent)
        except Exception:
            failed.add(layer_id)
            raise


@mutant(breaks=("OVL-FAILING-SHOWN",), source=_SOURCE)
class RemoveEmptiesTreeFirst(Faithful):
    """A layer is removed where it is, file by file."""

    def remove(self, layer_id: str) -> None:
        """Where it fails, what comes later is left."""
        tree = Path(self.home, layer_id, "diff")
        for path in sorted(tree.iterdir()) if tree.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.inner.remove(layer_id)


@mutant(breaks=("OVL-FAILING-LITTER",), source="moby/moby#23535")
class FailedCreateLeavesShortLink(Faithful):
    """The short link of a layer whose creation failed stays."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """It was made first."""
        try:
            self.inner.create(layer_id, parent)
        except Exception:
            with suppress(FileExistsError):
                Path(self.home, "l", "A" * 26).symlink_to(f"../{layer_id}/diff")
            raise


@mutant(breaks=("OVL-FAILING-OPENING",), source="behaviour#failing-system-calls; behaviour#opening-order")
class RefusedOpeningDamagesHome(Faithful):
    """An opening that fails leaves its mark in the home, which every later opening takes for damage."""

    def __init__(self, home: str, **asked: Any) -> None:
        mark = Path(home, ".opening")
        if mark.exists():
            raise OSError(f"{home} was not opened to the end")
        try:
            super().__init__(home, **asked)
        except OSError:
            if Path(home).is_dir():
                mark.touch()
            raise
