"""Mutants of what is taken: archives, options, ids and worlds that should be refused, or taken with care."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import tempfile
import threading
from types import SimpleNamespace
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(
    breaks=(
        "OVL-HOSTILE-DOTDOT",
        "OVL-HOSTILE-ABSOLUTE",
        "OVL-HOSTILE-SYMLINK",
        "OVL-HOSTILE-SYMLINK-BELOW",
        "OVL-HOSTILE-HARD-LINK-MODE",
        "OVL-APPLY-OTHER-MARKS",
        "OVL-APPLY-WHITEOUT-INSIDE",
        "OVL-APPLY-OPAQUE-ORDER",
        "OVL-APPLY-WHITEOUT-BEFORE",
        "OVL-APPLY-KINDS",
    ),
    source="CVE-2014-9356",
)
class ApplyUnpacksNaively(Faithful):
    """Archives are unpacked by a program that trusts them, into the mounted layer."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Extract everything wherever it says; whiteouts become files."""
        del parent
        root = self.inner.get(layer_id)
        try:
            with tarfile.open(fileobj=archive, mode="r|") as tar:
                for member in tar:
                    target = member.name if member.name.startswith("/") else f"{root}/{member.name}"
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    if member.islnk() and member.linkname.startswith("/"):
                        os.link(member.linkname, target)
                    else:
                        tar.extract(member, root if target.startswith(root) else "/", filter="fully_trusted")
        finally:
            self.inner.put(layer_id)
        return 0


@mutant(
    breaks=("OVL-HOSTILE-WHITEOUT-OUT", "OVL-HOSTILE-OPAQUE-OUT", "OVL-HOSTILE-WHITEOUT-DOTS"),
    source="anchore/stereoscope#694; containerd/containerd@384d46d8b",
)
class WhiteoutDeletesNaively(Faithful):
    """Whiteouts are paths that are removed from the mounted tree, followed wherever they lead."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Remove what the names say, then unpack the rest as a good driver does."""
        root = self.inner.get(layer_id)
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            members = tar.getmembers()
        for member in members:
            directory, _, name = member.name.rpartition("/")
            place = os.path.join(root, directory)
            if member.issym():
                with contextlib.suppress(OSError):
                    os.symlink(member.linkname, os.path.join(root, member.name))
            elif name == ".wh..wh..opq":
                self._remove(place, *(os.listdir(place) if os.path.isdir(place) else ()))
            elif name.startswith(".wh."):
                self._remove(place, name.removeprefix(".wh."))
        self.inner.put(layer_id)
        archive.seek(0)
        return int(self.inner.apply_diff(layer_id, parent, archive))

    @staticmethod
    def _remove(place: str, *names: str) -> None:
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


@mutant(breaks=("OVL-HOSTILE-HARD-LINK", "OVL-HOSTILE-DOT"), source="CVE-2014-9356: by a hard link; CVE-2021-29136")
class ApplyCopiesHostFileOfHardLink(Faithful):
    """What a hard link names is read by its path on the host; an entry for the root replaces what is in it."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Do that first, then unpack as a good driver does."""
        root = self.inner.get(layer_id)
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for member in tar.getmembers():
                if member.islnk() and os.path.isfile(member.linkname):
                    shutil.copyfile(member.linkname, f"{root}/copied")
                if os.path.normpath(f"/{member.name}") == "/" and not member.isdir():
                    shutil.rmtree(f"{root}/d", ignore_errors=True)
                    os.unlink(f"{root}/a")
        self.inner.put(layer_id)
        archive.seek(0)
        return int(self.inner.apply_diff(layer_id, parent, archive))


@mutant(
    breaks=("OVL-HOSTILE-CHECKSUM", "OVL-HOSTILE-SIZE", "OVL-HOSTILE-JUNK", "OVL-HOSTILE-NAME-BOMB"),
    source="CVE-2021-20291: an error that is swallowed",
)
class ApplyAcceptsJunk(Faithful):
    """What cannot be unpacked is said to be done."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Hide the refusal."""
        try:
            return int(self.inner.apply_diff(layer_id, parent, archive))
        except Exception:
            return 0


@mutant(
    breaks=(
        "OVL-APPLY-PARENTS",
        "OVL-APPLY-NAME-FORMS",
        "OVL-APPLY-FORMATS",
        "OVL-APPLY-WHITEOUT-MISSING",
        "OVL-APPLY-WHITEOUT-AFTER",
        "OVL-HOSTILE-MANY",
        "OVL-APPLY-SECOND-DIFF",
        "OVL-SIZE-APPLIED",
        "OVL-LIFE-HISTORY",
        "OVL-CHAIN-DIFF-DEEP",
        "OVL-DIFF-ANCESTOR",
        "OVL-DIFF-NATIVE-NAIVE",
        "OVL-OPAQUE-MOVED",
        "OVL-HOSTILE-MUTATED",
        "OVL-IDMAP-WHITEOUTS",
    ),
    source="behaviour#entry-kinds",
)
class ApplyRefusesEveryArchive(Faithful):
    """No archive is good enough."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Refuse whatever comes."""
        del layer_id, parent, archive
        raise ValueError("I do not like it")


@mutant(breaks=("OVL-APPLY-REFUSED-WHOLE", "OVL-APPLY-EMPTY"), source="containers/storage#1136")
class ApplyKeepsEntriesOfRefusedArchive(Faithful):
    """Each entry is applied as it comes, and stays when a later one is refused."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Leave the first file behind."""
        root = self.inner.get(layer_id)
        open(f"{root}/half", "w").close()
        self.inner.put(layer_id)
        return int(self.inner.apply_diff(layer_id, parent, archive))


@mutant(breaks=("OVL-APPLY-UMASK",), source="behaviour#applying-order; umask(2)")
class ApplyObeysUmask(Faithful):
    """Modes are cut by the umask of the process, and the process is left in another directory."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Unpack, and take away what the umask says."""
        size = int(self.inner.apply_diff(layer_id, parent, archive))
        mask = os.umask(0)
        os.umask(mask)
        root = self.inner.get(layer_id)
        for above, directories, files in os.walk(root):
            for name in (*directories, *files):
                path = os.path.join(above, name)
                if not os.path.islink(path):
                    os.chmod(path, os.lstat(path).st_mode & 0o7777 & ~mask)
        self.inner.put(layer_id)
        return size + 1


@mutant(breaks=("OVL-APPLY-PARENT-UNTOUCHED",), source="overlayfs.rst: a lower layer is never written to")
class ApplyWritesToParent(Faithful):
    """An archive goes into the parent too."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Apply twice."""
        size = int(self.inner.apply_diff(layer_id, parent, archive))
        if parent:
            archive.seek(0)
            self.inner.apply_diff(parent, "", archive)
        return size


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


@mutant(
    breaks=(
        "OVL-LIFE-BAD-ID",
        "OVL-QUOTA-UNKNOWN-OPTION",
        "OVL-PARALLEL-SAME-ID",
        "OVL-PARALLEL-LINEAR",
        "OVL-PARALLEL-PROCESSES",
    ),
    source="CVE-2014-9358",
)
class BadIdIsIgnored(Faithful):
    """Whatever an id is, it is said to be done."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Hide the refusal."""
        with contextlib.suppress(Exception):
            self.inner.create(layer_id, parent)

    def create_read_write(self, layer_id: str, parent: str = "", storage_options: Any = None) -> None:
        """Leave options out."""
        del storage_options
        self.inner.create(layer_id, parent)


@mutant(
    breaks=("OVL-QUOTA-UNSUPPORTED",),
    source="behaviour#layer-options: refused without project quota",
    backing="tmpfs",
)
class SizeOfLayerIsIgnoredWithoutQuota(BadIdIsIgnored):
    """The size of a layer is left out where the filesystem has no quota."""


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
