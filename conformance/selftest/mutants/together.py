"""Mutants of concurrency, restarts and store compatibility."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from conformance.selftest.mutants.basis import CountingWrapper, Faithful
from conformance.selftest.mutants.mutant import mutant

_LONGER = 0.02  # seconds that a creation takes longer, as it does on a slow disk


@mutant(breaks=("OVL-PARALLEL-PROCESSES",), source="behaviour#left-mounts", hard=True)
class CountsAreInMemory(CountingWrapper):
    """Users are counted by each opening of the home for itself; one that is mounted already counts as one."""

    def get(self, layer_id: str, *label: str) -> str:
        """What is mounted by others has one user."""
        if layer_id not in self.held and os.path.ismount(self.tree(layer_id)):
            self.held[layer_id] = 2
            return self.tree(layer_id)
        return super().get(layer_id, *label)


@mutant(breaks=("OVL-RESTART-LOWER-CUT",), source="behaviour#lower-layers")
class LowersAreReadById(Faithful):
    """A layer's lowers are read from 'lower-layers', its ids, and one that is not there is left out."""

    def create(self, layer_id: str, parent: str = "", *options: Any) -> None:
        """Write both files, as containers-storage 1.64 does."""
        self.inner.create(layer_id, parent, *options)
        if parent:
            above = Path(self.home, parent, "lower-layers")
            ids = [parent, *(above.read_text().split(":") if above.exists() else [])]
            Path(self.home, layer_id, "lower-layers").write_text(":".join(ids))

    def get(self, layer_id: str, *label: str) -> str:
        """The file 'lower' is made from the other one each time."""
        ids = Path(self.home, layer_id, "lower-layers")
        if ids.exists():
            there = [one for one in ids.read_text().split(":") if one and Path(self.home, one, "link").exists()]
            if there:
                # The correct driver compares the two files, so both are made to say less.
                ids.write_text(":".join(there))
                links = [f"l/{Path(self.home, one, 'link').read_text()}" for one in there]
                Path(self.home, layer_id, "lower").write_text(":".join(links))
        return str(self.inner.get(layer_id, *label))


@mutant(
    breaks=("OVL-RESTART-LINK-EMPTY",),
    source="behaviour#link-file-empty; field-bugs#empty-link; containers/podman#5986",
)
class RemoveTrustsLinkFile(Faithful):
    """What a link file says is removed with its layer."""

    def remove(self, layer_id: str) -> None:
        """Whatever that is."""
        link = Path(self.home, layer_id, "link")
        if link.exists():
            shutil.rmtree(f"{self.home}/l/{link.read_text()}", ignore_errors=True)
        self.inner.remove(layer_id)


@mutant(breaks=("OVL-RESTART-FOREIGN",), source="behaviour#unknown-entries")
class OpenRemovesForeignFiles(Faithful):
    """What is not known in a home is removed when it is opened."""

    def __init__(self, home: str, **asked: Any) -> None:
        for path in Path(home).glob("*"):
            if path.name != "l" and not (path / "link").exists() and not path.name.startswith("."):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        super().__init__(home, **asked)


@mutant(
    breaks=("OVL-LAYOUT-LINK", "OVL-LAYOUT-LOWER", "OVL-LAYOUT-DIRECTORIES", "OVL-LAYOUT-READ"),
    source="behaviour#base-layers: homes are shared with containers/storage",
)
class LayoutIsItsOwn(Faithful):
    """A home is laid out a little differently, and open to everybody; layers of others are not seen."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Then change the files."""
        self.inner.create(layer_id, parent)
        layer = Path(self.home, layer_id)
        for path in (Path(self.home), layer):
            path.chmod(0o755)
        link = (layer / "link").read_text()
        (layer / "link").write_text(link + "\n")
        if parent:
            (layer / "lower").write_text((layer / "lower").read_text() + ":")
            (layer / "work").rmdir()
        self.__dict__.setdefault("made", set()).add(layer_id)

    def exists(self, layer_id: str) -> bool:
        """Only what this very object made."""
        return layer_id in self.__dict__.setdefault("made", set())


@mutant(breaks=("OVL-RESTART-LINK-GONE",), source="containers/storage#859")
class BrokenParentIsOmitted(Faithful):
    """A parent that cannot be built on is left out."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """On nothing instead."""
        try:
            self.inner.create(layer_id, parent)
        except Exception:
            self.inner.create(layer_id, "")


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


@mutant(
    breaks=("OVL-PARALLEL-CREATE", "OVL-PARALLEL-GET", "OVL-PARALLEL-DIFF"),
    source="containers/storage#2297: busy is no answer",
)
class ConcurrentCallerIsRefused(Faithful):
    """Whoever comes while another is served is refused."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self._busy = threading.Lock()

    def _alone(self, name: str, *arguments: Any) -> Any:
        if not self._busy.acquire(blocking=False):
            raise ValueError("busy")
        try:
            # Long enough for the others to come: they are all at the same gate.
            threading.Event().wait(0.05)
            return getattr(self.inner, name)(*arguments)
        finally:
            self._busy.release()

    def create(self, layer_id: str, parent: str = "") -> None:
        """Alone."""
        self._alone("create", layer_id, parent)

    def get(self, layer_id: str) -> str:
        """Alone."""
        return str(self._alone("get", layer_id))

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Alone."""
        return self._alone("diff", layer_id, parent)


@mutant(breaks=("OVL-PARALLEL-DIFF",), source="containers/storage#2297")
class DiffsShareOneFile(Faithful):
    """Every diff is written to one file in the home before it is given away."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """There, and from there."""
        path = f"{self.home}/.diff.tar"
        with self.inner.diff(layer_id, parent) as stream, open(path, "wb") as file:
            shutil.copyfileobj(stream, file)
        with open(path, "rb") as file:
            return io.BytesIO(file.read())


@mutant(breaks=("OVL-PARALLEL-LINEAR",), source="containers/storage#2297; doi:10.1145/78969.78972", hard=True)
class ConcurrentRemoveIsLost(Faithful):
    """A removal beside a creation is said to be done, and is not."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.creating = 0
        self.guard = threading.Lock()

    def create(self, layer_id: str, parent: str = "") -> None:
        """Say that somebody does."""
        with self.guard:
            self.creating += 1
        try:
            self.inner.create(layer_id, parent)
            time.sleep(_LONGER)
        finally:
            with self.guard:
                self.creating -= 1

    def remove(self, layer_id: str) -> None:
        """If nobody creates."""
        if not self.creating:
            self.inner.remove(layer_id)
