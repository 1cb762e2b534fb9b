"""Mutants of quota."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.life import BadIdIsIgnored
from conformance.selftest.mutants.mutant import mutant


@mutant(
    breaks=("OVL-QUOTA-OF-IMAGES",), source="behaviour#layer-options: Create of the Go driver looks for 'size' only"
)
class SizeOfImageIsIgnoredInCapitals(Faithful):
    """The size of a layer of an image is refused when its key is 'size', and left out when it is 'SIZE'."""

    def create(self, layer_id: str, parent: str = "", options: Any = None) -> None:
        """Compare the keys as they are."""
        if options and "size" in options:
            raise ValueError("a size is only for read-write layers")
        self.inner.create(layer_id, parent)


@mutant(
    breaks=("OVL-QUOTA-OF-IMAGES",),
    source="behaviour#layer-options: Create of the Go driver dereferences a nil pointer",
)
class SizeOfImageCrashesInCapitals(Faithful):
    """The driver crashes on the size of a layer of an image unless its key is 'size'."""

    def create(self, layer_id: str, parent: str = "", options: Any = None) -> None:
        """End as a process does that reads what is not there."""
        if options and "size" not in options and any(key.lower() == "size" for key in options):
            os.abort()
        self.inner.create(layer_id, parent, options)


@mutant(
    breaks=("OVL-QUOTA-OPTION-CASE",),
    source="behaviour#layer-options: keys in any case",
    backing="xfs",
    needs="xfs-quota",
)
class SizeOfLayerIsCaseSensitive(Faithful):
    """The size of a layer is left out unless its key is 'size'."""

    def create_read_write(self, layer_id: str, parent: str = "", options: Any = None) -> None:
        """Compare the keys as they are."""
        kept = {key: value for key, value in (options or {}).items() if key == "size"}
        self.inner.create_read_write(layer_id, parent, kept)


@mutant(breaks=("OVL-QUOTA-SIZE-ZERO",), source="boundary: a size of 0", backing="xfs", needs="xfs-quota")
class QuotaSizeZeroIsDefault(Faithful):
    """A size of 0 is taken for no word about a size."""

    def create_read_write(self, layer_id: str, parent: str = "", options: dict[str, str] | None = None) -> None:
        """Leave it out."""
        said = {key: value for key, value in (options or {}).items() if value.strip("0. bBgG")}
        self.inner.create_read_write(layer_id, parent, said)


@mutant(breaks=("OVL-QUOTA-DEFAULT",), source="moby/moby#34701", backing="xfs", needs="xfs-quota")
class QuotaPrefersDefault(Faithful):
    """Where the driver has a size, that of a layer is not looked at."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.limited = any("size=" in word for word in asked.get("options", ()))

    def create_read_write(self, layer_id: str, parent: str = "", options: dict[str, str] | None = None) -> None:
        """Leave it out."""
        self.inner.create_read_write(layer_id, parent, {} if self.limited else options)


@mutant(breaks=("OVL-QUOTA-IMAGES",), source="containers/storage@3ccd3208d", backing="xfs", needs="xfs-quota")
class QuotaLimitsImages(Faithful):
    """Layers of images get the driver's size too."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """As a container's."""
        self.inner.create_read_write(layer_id, parent, {})


@mutant(breaks=("OVL-QUOTA-ID-AGAIN",), source="moby/moby#34701; moby/moby#53107", backing="xfs", needs="xfs-quota")
class QuotaKeepsOldSizeOfId(Faithful):
    """The size that an id had once is that of all later layers of the id."""

    def create_read_write(self, layer_id: str, parent: str = "", options: dict[str, str] | None = None) -> None:
        """Look it up."""
        self.sizes = getattr(self, "sizes", {})
        self.inner.create_read_write(layer_id, parent, self.sizes.setdefault(layer_id, options))


@mutant(breaks=("OVL-QUOTA-ID-AGAIN",), source="containers/container-libs#886", backing="xfs", needs="xfs-quota")
class QuotaLimitsIdOnce(Faithful):
    """An id that had a limit is thought to have it still."""

    def create_read_write(self, layer_id: str, parent: str = "", options: dict[str, str] | None = None) -> None:
        """Set none the second time."""
        self.known: set[str] = getattr(self, "known", set())
        if layer_id in self.known:
            self.inner.create(layer_id, parent)
        else:
            self.inner.create_read_write(layer_id, parent, options)
        self.known.add(layer_id)


@mutant(
    breaks=("OVL-QUOTA-SPACE",),
    source="unlink(2): a file that has another name keeps its space",
    backing="xfs",
    needs="xfs-quota",
)
class RemoveKeepsFiles(Faithful):
    """Files of layers that were removed stay under other names."""

    def remove(self, layer_id: str) -> None:
        """Link them first."""
        os.makedirs(f"{self.home}/.kept", 0o700, exist_ok=True)
        for path in Path(self.home, layer_id, "diff").iterdir():
            with contextlib.suppress(OSError):
                os.link(path, f"{self.home}/.kept/{os.urandom(8).hex()}")
        self.inner.remove(layer_id)


@mutant(breaks=("OVL-QUOTA-OPEN-MOUNTED",), source="moby/moby#42832", backing="xfs", needs="xfs-quota")
class OpenRefusesMountedHome(Faithful):
    """A home is not opened while a layer of it is mounted."""

    def __init__(self, home: str, **asked: Any) -> None:
        if any(os.path.ismount(path) for path in Path(home).glob("*/merged")):
            raise ValueError("the home is busy")
        super().__init__(home, **asked)


@mutant(
    breaks=("OVL-QUOTA-UNSUPPORTED",),
    source="behaviour#layer-options: refused without project quota",
    backing="tmpfs",
)
class SizeOfLayerIsIgnoredWithoutQuota(BadIdIsIgnored):
    """The size of a layer is left out where the filesystem has no quota."""
