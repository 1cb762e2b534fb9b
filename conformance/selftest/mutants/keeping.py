"""Mutants of homes, mounts and what is said about them."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(
    breaks=(
        "OVL-STATUS-BACKING",
        "OVL-STATUS-D-TYPE",
        "OVL-STATUS-NATIVE-DIFF",
        "OVL-STATUS-METADATA-MISSING",
        "OVL-CHANGES-ORDER",
        "OVL-CHANGES-NONE",
        "OVL-SIZE-EMPTY",
    ),
    source="behaviour#status; behaviour#metadata",
)
class StatusIsMadeUp(Faithful):
    """Status, metadata, changes and sizes are made up."""

    def status(self) -> list[tuple[str, str]]:
        """The same for every home."""
        return [("Backing Filesystem", "zfs"), ("Supports d_type", "maybe"), ("Native Overlay Diff", "sometimes")]

    def metadata(self, layer_id: str) -> dict[str, str]:
        """Of any layer, there or not."""
        return {"UpperDir": f"/made/up/{layer_id}"}

    def changes(self, layer_id: str, parent: str = "") -> list[Any]:
        """Backwards; where there is nothing, what the parent has."""
        found = list(self.inner.changes(layer_id, parent))
        return found[::-1] or list(self.inner.changes(parent, ""))[::-1]

    def diff_size(self, layer_id: str, parent: str = "") -> int:
        """A little more."""
        return int(self.inner.diff_size(layer_id, parent)) + 7


@mutant(
    breaks=("OVL-OPEN-SECOND-HOME",), source="behaviour#answers-per-home: the backing filesystem", backing="ext4"
)
class BackingIsAlwaysTheSame(StatusIsMadeUp):
    """Every home is said to be on the same filesystem."""


@mutant(
    breaks=(
        "OVL-IDMAP-ROOT-OWNS",
        "OVL-IDMAP-DIFF",
        "OVL-IDMAP-APPLY",
        "OVL-IDMAP-TRIP",
        "OVL-IDMAP-UNMAPPED",
        "OVL-STORE-READ",
        "OVL-STORE-BUILD-ON",
        "OVL-STORE-HOME-FIRST",
        "OVL-STORE-LONG",
        "OVL-STORE-REMOVE",
        "OVL-MOUNT-LABEL-REFUSED",
        "OVL-MOUNT-LABEL-LONG",
    ),
    source="containers/storage#1056: options that reach nothing",
)
class OpenIgnoresIdMaps(Faithful):
    """Id maps, image stores and labels are not for this driver, and it does not say so."""

    def __init__(self, home: str, **asked: Any) -> None:
        del asked
        super().__init__(home)

    def get(self, layer_id: str, label: str = "") -> str:
        """Without the label."""
        del label
        return str(self.inner.get(layer_id))


@mutant(breaks=("OVL-STORE-UNTOUCHED",), source="containers/podman#29001")
class ImageStoresAreWritten(Faithful):
    """Image stores are written like the home."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.stores = [
            f"{store}/overlay"
            for word in asked.get("options", ())
            if word.startswith("overlay.imagestore=")
            for store in word.partition("=")[2].split(",")
        ]

    def remove(self, layer_id: str) -> None:
        """From wherever it is."""
        for store in self.stores:
            shutil.rmtree(f"{store}/{layer_id}", ignore_errors=True)
        self.inner.remove(layer_id)


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


@mutant(breaks=("OVL-OPEN-HOME-CLOSED",), source="CVE-2021-41091")
class HomeIsOpenToAll(Faithful):
    """Everybody may enter every directory."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Then open it."""
        self.inner.create(layer_id, parent)
        for path in (self.home, f"{self.home}/{layer_id}"):
            os.chmod(path, 0o755)


@mutant(
    breaks=("OVL-LIFE-NO-DESCRIPTORS", "OVL-DIFF-SOCKETS", "OVL-DIFF-UNTOUCHED", "OVL-HOSTILE-DIFF-READ"),
    source="moby/moby#23686",
)
class DiffLeaksDescriptors(Faithful):
    """Every diff leaves a descriptor open and a file touched; a socket makes it fail; symlinks are followed."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Walk the upper as a beginner would."""
        self.__dict__.setdefault("open", []).append(open("/dev/null"))  # noqa: SIM115 - that is the mutation
        upper = Path(self.home, layer_id, "diff")
        for path in upper.rglob("*"):
            if stat.S_ISSOCK(path.lstat().st_mode):
                raise ValueError(f"cannot write the socket {path}")
            if path.is_file() and not path.is_symlink():
                path.chmod(path.lstat().st_mode ^ stat.S_IXOTH)
        if not any(path.is_symlink() and path.is_dir() for path in upper.rglob("*")):
            return self.inner.diff(layer_id, parent)
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w", dereference=True) as tar, contextlib.chdir(upper):
            tar.add(".")
        return io.BytesIO(target.getvalue())


@mutant(breaks=("OVL-LIFE-REMOVE-MISSING",), source="behaviour#remove: a directory that is gone is no error")
class RemoveOfMissingRemovesAnother(Faithful):
    """Removing a layer that is not there removes another one."""

    def remove(self, layer_id: str) -> None:
        """The last one that is."""
        if not self.inner.exists(layer_id):
            others = sorted(path.parent.name for path in Path(self.home).glob("*/lower"))
            layer_id = others[-1] if others else layer_id
        self.inner.remove(layer_id)


@mutant(breaks=("OVL-LIFE-TWO-STORES",), source="behaviour#answers-per-home")
class FirstHomeServesAll(Faithful):
    """The first home that is opened is taken for all."""

    first: list[Any] = []  # noqa: RUF012 - shared by all, which is the mutation

    def __init__(self, home: str, **asked: Any) -> None:
        if self.first and Path(self.first[0].home).exists():
            self.home, self.inner = home, self.first[0].inner
        else:
            super().__init__(home, **asked)
            self.first[:] = [self]


@mutant(
    breaks=("OVL-HOSTILE-OVERLAY-XATTRS", "OVL-APPLY-WHITEOUT-UNSEEN"),
    source="behaviour#overlay-xattrs; overlayfs.rst",
)
class ApplySetsXattrsNaively(Faithful):
    """Attributes of an archive are set whatever they are called; whiteouts are made wherever they are named."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Then do what a careful driver left out."""
        size = int(self.inner.apply_diff(layer_id, parent, archive))
        archive.seek(0)
        upper = f"{self.home}/{layer_id}/diff"
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for member in tar.getmembers():
                for key, value in member.pax_headers.items():
                    if key.startswith("SCHILY.xattr.trusted."):
                        os.setxattr(f"{upper}/{member.name}", key.removeprefix("SCHILY.xattr."), value.encode())
                directory, _, name = member.name.rpartition("/")
                if name.startswith(".wh.") and not name.startswith(".wh..wh."):
                    with contextlib.suppress(FileExistsError):
                        os.makedirs(f"{upper}/{directory}", exist_ok=True)
                        os.mknod(f"{upper}/{directory}/{name[4:]}", stat.S_IFCHR | 0o600)
        return size


@mutant(breaks=("OVL-APPLY-LAST-WINS",), source="behaviour#applying: an existing entry is replaced")
class ApplyKeepsFirstOfEqualNames(Faithful):
    """Of two entries with one name the first stays."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Leave out what came before."""
        target, seen = io.BytesIO(), set()
        with tarfile.open(fileobj=archive, mode="r:") as source, tarfile.open(fileobj=target, mode="w") as tar:
            for member in source.getmembers():
                if member.name not in seen:
                    tar.addfile(member, source.extractfile(member) if member.isreg() else None)
                seen.add(member.name)
        target.seek(0)
        return int(self.inner.apply_diff(layer_id, parent, target))


@mutant(breaks=("OVL-LIFE-REUSE-ID", "OVL-LIFE-REMOVE-MOUNTED"), source="moby/moby#32461")
class RemoveDoesNothing(Faithful):
    """A layer stays when it is removed; a mounted one is unmounted, and then refused."""

    def remove(self, layer_id: str) -> None:
        """Unmount, and complain."""
        if os.path.ismount(f"{self.home}/{layer_id}/merged"):
            self.inner.put(layer_id)
            raise ValueError("it was in use")


@mutant(breaks=("OVL-CHAIN-TOP-AGAIN",), source="cri-o/cri-o#6261: counted over a life")
class ChainLimitCountsAllLayers(Faithful):
    """There may be 129 layers over the life of a home, not at the same time."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Count."""
        self.made = getattr(self, "made", 0) + 1
        if self.made > 129:
            raise ValueError("too many")
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-RESTART-LINK-GONE",), source="containers/storage#859")
class BrokenParentIsOmitted(Faithful):
    """A parent that cannot be built on is left out."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """On nothing instead."""
        try:
            self.inner.create(layer_id, parent)
        except Exception:
            self.inner.create(layer_id, "")
