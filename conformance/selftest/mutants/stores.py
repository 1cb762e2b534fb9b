"""Mutants of other owners, of image stores, and of what a driver says about itself and its layers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.mutants.fault import Fault


class GivesChildrenToTheHost(Patched):
    """The directory of a layer with a parent belongs to the host's root, whatever the map says."""

    place = "layers:LayerStore.build"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Base layers only are given away."""
        original(*args, **kwargs)
        if args[2]:
            os.chown(f"{args[1]}/diff", 0, 0)


class KeepsKernelsWorkDirectory(Patched):
    """The directory that the kernel makes in the work directory stays with the host's root."""

    place = "layermounts:LayerMounts._mount_overlay"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take it back."""
        original(*args, **kwargs)
        if args[1].work:
            os.chown(f"{args[1].work}/work", 0, 0)


class KnowsOneRangeOnTheWayOut(Patched):
    """A diff knows the first range of a map, and takes ids of the others for foreign ones."""

    place = "idmap:_to_container"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The first alone."""
        return original(args[0][:1], *args[1:], **kwargs)


class KnowsOneRangeOnTheWayIn(Patched):
    """An archive is applied with the first range of a map only."""

    place = "idmap:_to_host"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The first alone."""
        return original(args[0][:1], *args[1:], **kwargs)


class LeavesMappedRootAlone(Patched):
    """An owner who is the mapped root is left as it is."""

    place = "idmap:_to_container"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """That one is ours."""
        maps, host_id = args
        return host_id if maps and host_id == maps[0].host_id else original(*args, **kwargs)


class MapsWhiteoutsToo(Patched):
    """The owner of a whiteout must be in the map, and the kernel's are not."""

    place = "archive.pack:is_whiteout_device"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Map it before it is looked at."""
        found = original(*args, **kwargs)
        if found and MapsWhiteoutsToo.maps:
            raise ValueError("uid 0 is not mapped")
        return found

    maps = False

    def __init__(self, home: str, **asked: Any) -> None:
        MapsWhiteoutsToo.maps = bool(asked.get("uid_maps"))
        super().__init__(home, **asked)


class GivesStrangersToNobody(Patched):
    """An owner whom the map does not know becomes nobody, 65534, in a diff."""

    place = "idmap:_to_container"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As the kernel shows it."""
        found = original(*args, **kwargs)
        return 65534 if found is None else found


class MapsOneIdTooMany(Patched):
    """The id behind the last one of a map is mapped too."""

    place = "idmap:_to_host"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Up to the end and with it."""
        maps, inside = args
        found = original(*args, **kwargs)
        if found is None and maps and inside == maps[-1].container_id + maps[-1].size:
            return maps[-1].host_id + maps[-1].size
        return found


class MapsOneIdTooFew(Patched):
    """The last id of a map is not mapped."""

    place = "idmap:_to_host"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Up to the end and without it."""
        maps, inside = args
        return None if maps and inside == maps[-1].container_id + maps[-1].size - 1 else original(*args, **kwargs)


class KnowsOneStore(Patched):
    """Layers are looked for in the first image store only."""

    place = "layers:LayerStore.__init__"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The others are left out."""
        store, home, image_stores, root = args
        original(store, home, image_stores[:1], root, **kwargs)


class LastStoreFirst(Patched):
    """Of several image stores the last one comes first."""

    place = "layers:LayerStore.__init__"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The other way round."""
        store, home, image_stores, root = args
        original(store, home, image_stores[::-1], root, **kwargs)


class StoresComeFirst(Patched):
    """A layer that an image store has is meant before one of the home."""

    place = "layers:LayerStore._lookup"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The home last."""
        store = args[0]
        before = store._all_stores
        store._all_stores = (*before[1:], before[0])
        try:
            return original(*args, **kwargs)
        finally:
            store._all_stores = before


class LooksForLowersAtHome(Patched):
    """The lowers of lowers in an image store are taken to be in the home."""

    place = "layers:LayerStore._resolve"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All but the first entry of a chain."""
        store, layer, short = args
        found = original(*args, **kwargs)
        chain = store.read_chain(layer)
        if short == chain[0]:
            return found
        return dataclasses.replace(found, layer=dataclasses.replace(found.layer, store=store._home))


class FindsLowersByTheirIds(Patched):
    """The lowers of an image are looked for by their ids, in the home first."""

    place = "layers:LayerStore._resolve"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The first layer of that name."""
        store = args[0]
        found = original(*args, **kwargs)
        layer = store.find(found.layer.layer_id)
        short = Path(layer.directory, "link").read_text()
        return dataclasses.replace(found, short=f"l/{short}", layer=layer)


class MountsImagesInPlace(Patched):
    """A layer of an image store is mounted on its own mount point, in that store."""

    place = "layermounts:LayerMounts.target"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As if it were of the home."""
        del original, kwargs
        return args[1].merged


class UnlinksImages(Patched):
    """The removal of an image's layer is refused after its short link was removed."""

    place = "driver:Driver._check_writable"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The link first, then the question."""
        layer = args[1]
        if not layer.writable and args[2] == "removed":
            Path(layer.store, "l", Path(layer.directory, "link").read_text()).unlink()
        original(*args, **kwargs)


class SaysThatImagesAreRemoved(Faithful):
    """The removal of an image's layer is said to be done, and is not."""

    def remove(self, layer_id: str) -> None:
        """If it is in the home."""
        if not layer_id or os.path.isdir(f"{self.home}/{layer_id}"):
            self.inner.remove(layer_id)


class TakesStoresForBelowTheHome(Patched):
    """The relative form of option data is used for paths outside the home too."""

    place = "mounts:_is_below"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Whatever it is."""
        del original, args, kwargs
        return True


class SaysShortPaths(Faithful):
    """Metadata names the directories of a layer as paths within the home."""

    def metadata(self, layer_id: str) -> dict[str, str]:
        """Without the home."""
        found = dict(self.inner.metadata(layer_id))
        return {**found, "UpperDir": os.path.relpath(found["UpperDir"], self.home)}


class NamesLowersFromBelow(Faithful):
    """Metadata names the lowers in the order in which they were made."""

    def metadata(self, layer_id: str) -> dict[str, str]:
        """The lowest first."""
        found = dict(self.inner.metadata(layer_id))
        if "LowerDir" in found:
            found["LowerDir"] = ":".join(found["LowerDir"].split(":")[::-1])
        return found


class MakesUpMetadata(Faithful):
    """Metadata of any id is its paths, whether there is such a layer or not."""

    def metadata(self, layer_id: str) -> dict[str, str]:
        """Made of the id."""
        if self.inner.exists(layer_id):
            return dict(self.inner.metadata(layer_id))
        return {"UpperDir": f"{self.home}/{layer_id}/diff", "WorkDir": f"{self.home}/{layer_id}/work"}


class NamesTheFilesystemOfTheRoot(Patched):
    """The status names the filesystem on which the machine is, not that of the home."""

    place = "home:Home.nearest_existing_parent"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The root."""
        del original, args, kwargs
        return "/"


class SeesNoTypeInAnEmptyHome(Patched):
    """Where there is no entry to look at, d_type is said to be missing."""

    place = "probes:supports_d_type"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look into the home, which is empty at first."""
        return bool(os.listdir(Path(args[0]).parents[1] / "l")) and original(*args, **kwargs)


class SaysNativeAfterADiff(Faithful):
    """Whether diffs are native is found out by the first of them, and not said before."""

    def status(self) -> Any:
        """Without that line, until then."""
        said = self.inner.status()
        return said if self.__dict__.get("diffs") else [one for one in said if one[0] != "Native Overlay Diff"]

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Find out."""
        self.diffs = True
        return self.inner.diff(layer_id, parent)


FAULTS: Final = (
    Fault(
        GivesChildrenToTheHost,
        ("OVL-IDMAP-ROOT-OWNS",),
        "behaviour#directory-owners",
        hard=True,
    ),
    Fault(KeepsKernelsWorkDirectory, ("OVL-IDMAP-WORK",), "behaviour#work-directory", hard=True),
    Fault(KnowsOneRangeOnTheWayOut, ("OVL-IDMAP-DIFF",), "boundary: the second range of a map", hard=True),
    Fault(KnowsOneRangeOnTheWayIn, ("OVL-IDMAP-APPLY",), "boundary: the second range of a map", hard=True),
    Fault(LeavesMappedRootAlone, ("OVL-IDMAP-TRIP",), "containers/storage#1056", hard=True),
    Fault(MapsWhiteoutsToo, ("OVL-IDMAP-WHITEOUTS",), "moby/moby#35709; moby/moby#35822"),
    Fault(GivesStrangersToNobody, ("OVL-IDMAP-UNMAPPED",), "containers/storage#1183"),
    Fault(
        MapsOneIdTooMany,
        ("OVL-IDMAP-UNMAPPED",),
        "boundary: the id behind a map; containers/storage#1183",
        hard=True,
    ),
    Fault(MapsOneIdTooFew, ("OVL-IDMAP-APPLY",), "boundary: the last id of a map", hard=True),
    Fault(KnowsOneStore, ("OVL-STORE-READ",), "behaviour#image-stores: stores in order", hard=True),
    Fault(LastStoreFirst, ("OVL-STORE-HOME-FIRST",), "behaviour#image-stores: stores in order"),
    Fault(StoresComeFirst, ("OVL-STORE-HOME-FIRST",), "behaviour#image-stores: after the home"),
    Fault(
        LooksForLowersAtHome,
        ("OVL-STORE-BUILD-ON",),
        "behaviour#image-store-lowers; containers/podman#19746",
        hard=True,
    ),
    Fault(
        FindsLowersByTheirIds,
        ("OVL-STORE-SHADOW",),
        "behaviour#image-store-lowers: layers of one name in two stores; containers/podman#19746",
        hard=True,
    ),
    Fault(MountsImagesInPlace, ("OVL-STORE-UNTOUCHED",), "containers/podman#29001", hard=True),
    Fault(UnlinksImages, ("OVL-STORE-UNTOUCHED",), "containers/storage#50: the order of two calls", hard=True),
    Fault(
        SaysThatImagesAreRemoved, ("OVL-STORE-REMOVE",), "behaviour#image-stores-read-only; containers/storage#50"
    ),
    Fault(TakesStoresForBelowTheHome, ("OVL-STORE-LONG",), "behaviour#image-stores-long", hard=True),
    Fault(SaysShortPaths, ("OVL-LIFE-METADATA",), "behaviour#metadata: absolute paths"),
    Fault(NamesLowersFromBelow, ("OVL-STATUS-METADATA-LOWERS",), "behaviour#unknown-entries"),
    Fault(MakesUpMetadata, ("OVL-STATUS-METADATA-MISSING",), "behaviour#missing-layers"),
    Fault(NamesTheFilesystemOfTheRoot, ("OVL-STATUS-BACKING",), "behaviour#backing-name", backing="tmpfs"),
    Fault(
        SeesNoTypeInAnEmptyHome,
        ("OVL-STATUS-D-TYPE",),
        "behaviour#d-type: an empty home",
        hard=True,
    ),
    Fault(SaysNativeAfterADiff, ("OVL-STATUS-NATIVE-DIFF",), "behaviour#native-diff-probe", hard=True),
)
