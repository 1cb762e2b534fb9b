"""Mutants of id maps, image stores and status of the reference driver."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refdriver import driver, home, idmap, layermounts, layers, mounts, overlayxattr, probes
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(breaks=("OVL-IDMAP-ROOT-OWNS",), source="behaviour#directory-owners", hard=True)
class ChildBelongsToHostRoot(Patched):
    """The directory of a layer with a parent belongs to the host's root, whatever the map says."""

    @staticmethod
    @replaces(layers.LayerStore.build)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Base layers only are given away."""
        original(*args, **kwargs)
        if args[2]:
            os.chown(f"{args[1]}/diff", 0, 0)


@mutant(breaks=("OVL-IDMAP-WORK",), source="behaviour#work-directory", hard=True)
class WorkDirectoryBelongsToHostRoot(Patched):
    """The directory that the kernel makes in the work directory stays with the host's root."""

    @staticmethod
    @replaces(layermounts.LayerMounts._mount_overlay)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take it back."""
        original(*args, **kwargs)
        if args[1].work:
            os.chown(f"{args[1].work}/work", 0, 0)


@mutant(breaks=("OVL-IDMAP-DIFF",), source="boundary: the second range of a map", hard=True)
class DiffMapsFirstRangeOnly(Patched):
    """A diff knows the first range of a map, and takes ids of the others for foreign ones."""

    @staticmethod
    @replaces(idmap._to_container)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The first alone."""
        return original(args[0][:1], *args[1:], **kwargs)


@mutant(breaks=("OVL-IDMAP-APPLY",), source="boundary: the second range of a map", hard=True)
class ApplyMapsFirstRangeOnly(Patched):
    """An archive is applied with the first range of a map only."""

    @staticmethod
    @replaces(idmap._to_host)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The first alone."""
        return original(args[0][:1], *args[1:], **kwargs)


@mutant(
    breaks=("OVL-IDMAP-APPLY", "OVL-IDMAP-TRIP"),
    source="derived: maps of users and of groups that differ",
    hard=True,
)
class GroupsAreMappedAsUsers(Patched):
    """Groups are mapped as users are."""

    @staticmethod
    @replaces(idmap.IdMaps.gid_to_host)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask the map of users."""
        del original, kwargs
        return args[0].uid_to_host(args[1])


@mutant(breaks=("OVL-IDMAP-TRIP",), source="containers/storage#1056", hard=True)
class MappedRootIsNotMapped(Patched):
    """An owner who is the mapped root is left as it is."""

    @staticmethod
    @replaces(idmap._to_container)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """That one is ours."""
        maps, host_id = args
        return host_id if maps and host_id == maps[0].host_id else original(*args, **kwargs)


@mutant(breaks=("OVL-IDMAP-WHITEOUTS",), source="moby/moby#35709; moby/moby#35822")
class IdMapAppliesToWhiteouts(Patched):
    """The owner of a whiteout must be in the map, and the kernel's are not."""

    @staticmethod
    @replaces(overlayxattr.is_whiteout_device)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Map it before it is looked at."""
        found = original(*args, **kwargs)
        if found and IdMapAppliesToWhiteouts.maps:
            raise ValueError("uid 0 is not mapped")
        return found

    maps = False

    def __init__(self, home: str, **asked: Any) -> None:
        IdMapAppliesToWhiteouts.maps = bool(asked.get("uid_maps"))
        super().__init__(home, **asked)


@mutant(breaks=("OVL-IDMAP-UNMAPPED",), source="containers/storage#1183")
class UnmappedOwnerBecomesNobody(Patched):
    """An owner whom the map does not know becomes nobody, 65534, in a diff."""

    @staticmethod
    @replaces(idmap._to_container)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As the kernel shows it."""
        found = original(*args, **kwargs)
        return 65534 if found is None else found


@mutant(breaks=("OVL-IDMAP-UNMAPPED",), source="boundary: the id behind a map; containers/storage#1183", hard=True)
class IdMapIncludesNextId(Patched):
    """The id behind the last one of a map is mapped too."""

    @staticmethod
    @replaces(idmap._to_host)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Up to the end and with it."""
        maps, inside = args
        found = original(*args, **kwargs)
        if found is None and maps and inside == maps[-1].container_id + maps[-1].size:
            return maps[-1].host_id + maps[-1].size
        return found


@mutant(breaks=("OVL-IDMAP-APPLY",), source="boundary: the last id of a map", hard=True)
class IdMapOmitsLastId(Patched):
    """The last id of a map is not mapped."""

    @staticmethod
    @replaces(idmap._to_host)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Up to the end and without it."""
        maps, inside = args
        return None if maps and inside == maps[-1].container_id + maps[-1].size - 1 else original(*args, **kwargs)


@mutant(breaks=("OVL-STORE-READ",), source="behaviour#image-stores: stores in order", hard=True)
class FirstImageStoreOnly(Patched):
    """Layers are looked for in the first image store only."""

    @staticmethod
    @replaces(layers.LayerStore.__init__)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The others are left out."""
        store, home, image_stores, root = args
        original(store, home, image_stores[:1], root, **kwargs)


@mutant(breaks=("OVL-STORE-HOME-FIRST",), source="behaviour#image-stores: stores in order")
class LastImageStoreComesFirst(Patched):
    """Of several image stores the last one comes first."""

    @staticmethod
    @replaces(layers.LayerStore.__init__)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The other way round."""
        store, home, image_stores, root = args
        original(store, home, image_stores[::-1], root, **kwargs)


@mutant(breaks=("OVL-STORE-HOME-FIRST",), source="behaviour#image-stores: after the home")
class ImageStoresComeBeforeHome(Patched):
    """A layer that an image store has is meant before one of the home."""

    @staticmethod
    @replaces(layers.LayerStore._lookup)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The home last."""
        store = args[0]
        before = store._all_stores
        store._all_stores = (*before[1:], before[0])
        try:
            return original(*args, **kwargs)
        finally:
            store._all_stores = before


@mutant(breaks=("OVL-STORE-BUILD-ON",), source="behaviour#image-store-lowers; containers/podman#19746", hard=True)
class ImageLowersAreSoughtInHome(Patched):
    """The lowers of lowers in an image store are taken to be in the home."""

    @staticmethod
    @replaces(layers.LayerStore._resolve)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All but the first entry of a chain."""
        store, layer, short = args
        found = original(*args, **kwargs)
        chain = store.read_chain(layer)
        if short == chain[0]:
            return found
        return dataclasses.replace(found, layer=dataclasses.replace(found.layer, store=store._home))


@mutant(
    breaks=("OVL-STORE-SHADOW",),
    source="behaviour#image-store-lowers: layers of one name in two stores; containers/podman#19746",
    hard=True,
)
class ImageLowersAreShadowed(Patched):
    """The lowers of an image are looked for by their ids, in the home first."""

    @staticmethod
    @replaces(layers.LayerStore._resolve)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The first layer of that name."""
        store = args[0]
        found = original(*args, **kwargs)
        layer = store.find(found.layer.layer_id)
        short = Path(layer.directory, "link").read_text()
        return dataclasses.replace(found, short=f"l/{short}", layer=layer)


@mutant(breaks=("OVL-STORE-UNTOUCHED",), source="containers/podman#29001", hard=True)
class ImagesAreMountedInStore(Patched):
    """A layer of an image store is mounted on its own mount point, in that store."""

    @staticmethod
    @replaces(layermounts.LayerMounts.target)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As if it were of the home."""
        del original, kwargs
        return args[1].merged


@mutant(breaks=("OVL-STORE-UNTOUCHED",), source="containers/storage#50: the order of two calls", hard=True)
class RefusedRemoveUnlinksImage(Patched):
    """The removal of an image's layer is refused after its short link was removed."""

    @staticmethod
    @replaces(driver.Driver._check_writable)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The link first, then the question."""
        layer = args[1]
        if not layer.writable and args[2] == "removed":
            Path(layer.store, "l", Path(layer.directory, "link").read_text()).unlink()
        original(*args, **kwargs)


@mutant(breaks=("OVL-STORE-LONG",), source="behaviour#image-stores-long", hard=True)
class ImageStorePathsAreRelative(Patched):
    """The relative form of option data is used for paths outside the home too."""

    @staticmethod
    @replaces(mounts._is_below)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Whatever it is."""
        del original, args, kwargs
        return True


@mutant(breaks=("OVL-STATUS-BACKING",), source="behaviour#backing-name", backing="tmpfs")
class StatusNamesRootFilesystem(Patched):
    """The status names the filesystem on which the machine is, not that of the home."""

    @staticmethod
    @replaces(home.Home.nearest_existing_parent)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The root."""
        del original, args, kwargs
        return "/"


@mutant(breaks=("OVL-STATUS-D-TYPE",), source="behaviour#d-type: an empty home", hard=True)
class StatusMissesDTypeInEmptyHome(Patched):
    """Where there is no entry to look at, d_type is said to be missing."""

    @staticmethod
    @replaces(probes.supports_d_type)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look into the home, which is empty at first."""
        return bool(os.listdir(Path(args[0]).parents[1] / "l")) and original(*args, **kwargs)
