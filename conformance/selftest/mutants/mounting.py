"""Mutants of mounts, paths and reference counts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from conformance.selftest.mutants.basis import CountingWrapper, Faithful
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.rewriting import lowers_of


@mutant(breaks=("OVL-MOUNT-LABEL-REFUSED",), source="behaviour#failed-mount", hard=True)
class FailedGetIsCounted(CountingWrapper):
    """A get is counted before it mounts, and a mount that fails does not take that back."""

    def get(self, layer_id: str, *label: str) -> str:
        """Count first."""
        try:
            return super().get(layer_id, *label)
        except Exception:
            self.failed = {*getattr(self, "failed", ()), layer_id}
            raise

    def put(self, layer_id: str) -> None:
        """One less than it should be."""
        if layer_id in getattr(self, "failed", ()):
            self.failed.discard(layer_id)
            return
        super().put(layer_id)


@mutant(
    breaks=("OVL-MOUNT-EXTRA-PUT",),
    source="behaviour#extra-put: after a restart; projectatomic/docker#330",
    hard=True,
)
class ExtraPutIsOwedAfterReopen(CountingWrapper):
    """A put too many of a layer that was there when the home was opened makes the next get count for nothing."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.found = set(os.listdir(home)) if os.path.isdir(home) else set()

    def get(self, layer_id: str, *label: str) -> str:
        """Pay first what is owed."""
        if layer_id in self.held and os.path.ismount(self.tree(layer_id)):
            self.held[layer_id] += 1
            return self.tree(layer_id)
        return super().get(layer_id, *label)

    def put(self, layer_id: str) -> None:
        """Below zero, for what was found."""
        if layer_id in self.found and not self.held.get(layer_id) and not os.path.ismount(self.tree(layer_id)):
            self.held[layer_id] = -1
            return
        super().put(layer_id)


@mutant(breaks=("OVL-MOUNT-LOST",), source="containers/storage#496; containers/storage#624", hard=True)
class LostMountIsMissedForSecondUser(CountingWrapper):
    """That a mount was undone from outside is noticed for its first user, and not for the second."""

    def get(self, layer_id: str, *label: str) -> str:
        """Look again, while there is one user."""
        if self.held.get(layer_id, 0) == 1 and not os.path.ismount(self.tree(layer_id)):
            self.held[layer_id] = 0
        return super().get(layer_id, *label)


@mutant(breaks=("OVL-MOUNT-TOGETHER",), source="derived: a cache with too short a key", hard=True)
class SiblingsShareMount(CountingWrapper):
    """What is mounted is found again by its lowers, so a sibling of a mounted layer gets that one's tree."""

    def get(self, layer_id: str, *label: str) -> str:
        """The mount with the same lowers."""
        mine = self._lowers(layer_id)
        for other in self.held if mine else ():
            if other != layer_id and self._lowers(other) == mine:
                return self.tree(other)
        return super().get(layer_id, *label)

    def _lowers(self, layer_id: str) -> str:
        path = f"{self.home}/{layer_id}/lower"
        if not os.path.exists(path):
            return ""
        with open(path, encoding="ascii") as file:
            return file.read()


@mutant(
    breaks=("OVL-MOUNT-EXTRA-PUT",), source="behaviour#extra-put; field-bugs#kernel-log; projectatomic/docker#330"
)
class ExtraPutMountsTwice(CountingWrapper):
    """A put too many is owed a mount: the second get after it mounts the layer again, over the first mount."""

    def put(self, layer_id: str) -> None:
        """Below zero."""
        if not self.held.get(layer_id):
            self.owed = {*getattr(self, "owed", ()), layer_id}
            return
        if self.held[layer_id] == 1 and layer_id in getattr(self, "over", ()):
            self.over.discard(layer_id)
            _unmount(self.tree(layer_id))
        super().put(layer_id)

    def get(self, layer_id: str, *label: str) -> str:
        """Pay with a mount."""
        path = super().get(layer_id, *label)
        if self.held[layer_id] == 2 and layer_id in getattr(self, "owed", ()):
            self.owed.discard(layer_id)
            self.over = {*getattr(self, "over", ()), layer_id}
            _mount_over(self, layer_id)
        return path


@mutant(
    breaks=("OVL-MOUNT-ONCE",),
    source="behaviour#reference-counts: mounts that lie over one another; moby/moby#3073",
)
class ThirdGetMountsAgain(CountingWrapper):
    """The third get of a layer mounts it again, over the first mount."""

    def get(self, layer_id: str, *label: str) -> str:
        """Two users share a mount."""
        path = super().get(layer_id, *label)
        if self.held[layer_id] == 3:
            _mount_over(self, layer_id)
        return path

    def put(self, layer_id: str) -> None:
        """The third user's mount goes with the third user."""
        if self.held.get(layer_id) == 3:
            _unmount(self.tree(layer_id))
        super().put(layer_id)


@mutant(breaks=("OVL-MOUNT-UPPER-ONCE",), source="overlayfs.rst: what two mounts of one upper do is undefined")
class GetMountsOverMountWithChild(CountingWrapper):
    """A layer that is got again while a layer on it is mounted is mounted again, over the first mount."""

    def get(self, layer_id: str, *label: str) -> str:
        """Look at the children."""
        again = self.held.get(layer_id) == 1
        path = super().get(layer_id, *label)
        lowers = {
            os.path.basename(os.path.dirname(one)) for held in self.held if held for one in lowers_of(self, held)
        }
        if again and layer_id in lowers:
            _mount_over(self, layer_id)
            self.over = {*getattr(self, "over", ()), layer_id}
        return path

    def put(self, layer_id: str) -> None:
        """Both mounts go in the end."""
        if self.held.get(layer_id) == 1 and layer_id in getattr(self, "over", ()):
            self.over.discard(layer_id)
            _unmount(self.tree(layer_id))
        super().put(layer_id)


def _mount_over(driver: CountingWrapper, layer_id: str) -> None:
    said = driver.inner.metadata(layer_id)
    if said.get("LowerDir"):
        data = f"lowerdir={said['LowerDir']},upperdir={said['UpperDir']},workdir={said['WorkDir']}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", data, driver.tree(layer_id)], check=True)


def _unmount(path: str) -> None:
    if os.path.ismount(path):
        subprocess.run(["umount", "--lazy", path], check=True)


@mutant(breaks=("OVL-MOUNT-AGAIN",), source="behaviour#get")
class GetChangesPath(Faithful):
    """The path of a tree is another one each time."""

    def get(self, layer_id: str) -> str:
        """With more dots than before."""
        self.times = getattr(self, "times", 0) + 1
        return str(self.inner.get(layer_id)) + "/." * self.times


@mutant(breaks=("OVL-MOUNT-TOGETHER",), source="overlayfs.rst: lower layers may be shared between mounts")
class SecondGetIsRefused(Faithful):
    """A second layer cannot be got while one is held."""

    def get(self, layer_id: str) -> str:
        """Refuse a second one."""
        held = self.__dict__.setdefault("held", set())
        if held - {layer_id}:
            raise ValueError(f"{held} is held")
        held.add(layer_id)
        return str(self.inner.get(layer_id))

    def put(self, layer_id: str) -> None:
        """Make room."""
        self.__dict__.setdefault("held", set()).discard(layer_id)
        self.inner.put(layer_id)


@mutant(breaks=("OVL-MOUNT-LOST",), source="containers/storage#496; containers/storage#624")
class LostMountIsMissed(Faithful):
    """What was mounted once is taken to be mounted still."""

    def get(self, layer_id: str) -> str:
        """From the books."""
        books = self.__dict__.setdefault("books", {})
        if layer_id not in books:
            books[layer_id] = self.inner.get(layer_id)
        return str(books[layer_id])


@mutant(breaks=("OVL-MOUNT-LONG-HOME", "OVL-NAMES-LAYER-IDS"), source="containers/buildah#3708")
class GetRefusesLongPaths(Faithful):
    """Long homes and long ids are refused."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.afraid = len(home) > 180

    def create(self, layer_id: str, parent: str = "") -> None:
        """Only what is short."""
        if self.afraid or len(layer_id) > 32:
            raise ValueError("too long")
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-MOUNT-CWD",), source="behaviour#working-directory")
class GetChangesWorkingDirectory(Faithful):
    """The process is left in another directory."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Go there."""
        self.inner.create(layer_id, parent)
        os.chdir("/")


@mutant(
    breaks=(
        "OVL-MOUNT-LOWER-GONE",
        "OVL-RESTART-SHORT-LINK-GONE",
        "OVL-RESTART-LOWER-CUT",
        "OVL-RESTART-LOWER-ASTRAY",
    ),
    source="containers/podman#5986",
)
class GetShowsPartialChain(Faithful):
    """A layer whose lowers are lost is shown without them; what it names is shown, wherever that is."""

    def get(self, layer_id: str) -> str:
        """The upper alone, or what the file says."""
        try:
            return str(self.inner.get(layer_id))
        except Exception:
            named = Path(self.home, layer_id, "lower").read_text()
            for lower in named.split(":"):
                target = os.path.realpath(f"{self.home}/{lower}")
                if os.path.isdir(target) and not target.startswith(os.path.realpath(self.home)):
                    return target
            return f"{self.home}/{layer_id}/diff"

    def put(self, layer_id: str) -> None:
        """Nothing, if nothing was mounted."""
        with contextlib.suppress(Exception):
            self.inner.put(layer_id)


@mutant(breaks=("OVL-MOUNT-ONCE", "OVL-MOUNT-LEFT-OVER"), source="behaviour#reference-counts; moby/moby#3073")
class PutUnmountsEarly(Faithful):
    """The first put unmounts, however many gets there were."""

    def put(self, layer_id: str) -> None:
        """Put until nothing is left."""
        for _ in range(5):
            self.inner.put(layer_id)


@mutant(breaks=("OVL-MOUNT-LAST-PUT", "OVL-LIFE-NO-LEAKS"), source="moby/moby#34948")
class PutNeverUnmounts(Faithful):
    """A put does nothing."""

    def put(self, layer_id: str) -> None:
        """Keep the mount."""


@mutant(breaks=("OVL-MOUNT-CALLS",), source="derived: users that are kept as a list", hard=True)
class PutEndsTheEarliestGet(Faithful):
    """A put is taken for one of the layer that was got first."""

    def get(self, layer_id: str, *label: str) -> str:
        """Note who was first."""
        path = str(self.inner.get(layer_id, *label))
        self.__dict__.setdefault("got", []).append(layer_id)
        return path

    def put(self, layer_id: str) -> None:
        """Put that one."""
        got = self.__dict__.get("got")
        self.inner.put(got.pop(0) if got else layer_id)


@mutant(breaks=("OVL-MOUNT-CWD",), source="derived: signals wait while a mount is made", hard=True)
class RefusedGetLeavesSignalsBlocked(Faithful):
    """Signals are blocked while a layer is mounted, and stay blocked when that fails."""

    def get(self, layer_id: str, *label: str) -> str:
        """Get, and let signals in again."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGHUP])
        path = str(self.inner.get(layer_id, *label))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return path


@mutant(breaks=("OVL-MOUNT-CWD",), source="derived: a helper that reads the environment", hard=True)
class ApplySetsTmpdir(Faithful):
    """The variable TMPDIR is set for what unpacks an archive, and stays."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Set it."""
        os.environ["TMPDIR"] = f"{self.home}/{layer_id}"
        return int(self.inner.apply_diff(layer_id, parent, archive))


@mutant(breaks=("OVL-MOUNT-EXTRA-PUT",), source="behaviour#extra-put; projectatomic/docker#330")
class ExtraPutIsOwed(Faithful):
    """A put too many makes the next get count for nothing."""

    def __init__(self, home: str) -> None:
        super().__init__(home)
        self._owed = 0

    def get(self, layer_id: str) -> str:
        """Get, and pay what is owed."""
        path = str(self.inner.get(layer_id))
        if self._owed and self.inner.metadata(layer_id).get("LowerDir"):
            self.inner.get(layer_id)
            for _ in range(self._owed + 1):
                self.inner.put(layer_id)
        return path

    def put(self, layer_id: str) -> None:
        """Put, and owe if nothing is mounted."""
        if "LowerDir" in self.inner.metadata(layer_id) and not os.path.ismount(
            self.inner.metadata(layer_id)["MergedDir"]
        ):
            self._owed = 1
        self.inner.put(layer_id)


@mutant(breaks=("OVL-MOUNT-PAGE-BOUNDARY",), source="behaviour#page-size; containers/storage#1158")
class PageOfOptionsIsRefused(Faithful):
    """Option data of exactly a page is handed to the kernel, which cuts its last byte off and refuses it."""

    def get(self, layer_id: str) -> str:
        """Fail at exactly a page."""
        try:
            with open(os.path.join(self.home, layer_id, "lower"), encoding="ascii") as file:
                lowers = file.read().split(":")
        except FileNotFoundError:
            return str(self.inner.get(layer_id))
        joined = ":".join(f"{self.home}/{lower}" for lower in lowers)
        place = f"{self.home}/{layer_id}"
        data = f"lowerdir={joined},upperdir={place}/diff,workdir={place}/work"
        if len(data) == os.sysconf("SC_PAGESIZE"):
            raise OSError(22, "Invalid argument")
        return str(self.inner.get(layer_id))


@mutant(breaks=("OVL-MOUNT-HOME-PRIVATE",), source="behaviour#private-home")
class MountIsShared(Faithful):
    """Layer mounts propagate to other namespaces."""

    def get(self, layer_id: str) -> str:
        """Mount, and share."""
        path = str(self.inner.get(layer_id))
        subprocess.run(["mount", "--make-shared", path], check=False, capture_output=True)
        return path


@mutant(breaks=("OVL-MOUNT-LABEL-REFUSED",), source="behaviour#labels", hard=True)
class SecondGetDropsLabel(Faithful):
    """A label that could not be set is left out when the layer is asked for again."""

    def get(self, layer_id: str, label: str = "") -> str:
        """With the label, once."""
        tried = self.__dict__.setdefault("tried", set())
        asked = (layer_id, label)
        if asked in tried:
            return str(self.inner.get(layer_id))
        tried.add(asked)
        return str(self.inner.get(layer_id, label))


@mutant(breaks=("OVL-MOUNT-CALLS",), source="behaviour#reference-counts", hard=True)
class DiffSizeKeepsMount(Faithful):
    """A diff size leaves its layer mounted."""

    def diff_size(self, layer_id: str, parent: str = "") -> int:
        """Mount, and forget to unmount."""
        self.inner.get(layer_id)
        return int(self.inner.diff_size(layer_id, parent))


@mutant(breaks=("OVL-MOUNT-CALLS",), source="behaviour#reference-counts", hard=True)
class RefusedRemoveUnmounts(Faithful):
    """A remove that is refused, as the layer has children, has unmounted the layer by then."""

    def remove(self, layer_id: str) -> None:
        """Unmount, then look for children."""
        try:
            self.inner.remove(layer_id)
        except Exception:
            if os.path.ismount(f"{self.home}/{layer_id}/merged"):
                self.inner.put(layer_id)
            raise
