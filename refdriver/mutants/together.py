"""Mutants of concurrency, restarts and store compatibility of the reference driver."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from refdriver import driver, errors, layermounts, layers, locks, reading, staging, trees
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant

# Seconds that a step takes longer in which callers can race, as on a slow disk. Without them, whether callers meet
# is luck: one trial in ten ended without.
_WINDOW: Final = 0.005


@mutant(breaks=("OVL-RESTART-LAYER-GONE",), source="containers/podman#24743: a check of all layers", hard=True)
class OpeningRequiresEveryLayer(Patched):
    """A home with a short link to a layer that is gone is not opened."""

    @staticmethod
    @replaces(driver.Driver._open)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look at each, when it is open."""
        opened = original(*args, **kwargs)
        links = f"{args[0]._home.path}/l"
        for name in os.listdir(links):
            os.stat(f"{links}/{name}")
        return opened


@mutant(breaks=("OVL-RESTART-VOLATILE",), source="derived: an error of mount(2) is taken for no matter", hard=True)
class InvalidMountIsNone(Patched):
    """A mount that the kernel calls invalid is left out, so that the layer's tree is what its mount point has."""

    @staticmethod
    @replaces(layermounts.LayerMounts._mount_overlay)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Go on."""
        with contextlib.suppress(errors.MountFailed):
            return original(*args, **kwargs)


@mutant(
    breaks=("OVL-LAYOUT-READ",), source="behaviour#base-layers: homes are shared with containers/storage", hard=True
)
class MountRequiresMergedDirectory(Patched):
    """A mount point that another driver took away is not made again."""

    @staticmethod
    @replaces(trees.make_directories)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """It was made with the layer."""
        if not args[0].endswith("/merged"):
            original(*args, **kwargs)


@mutant(breaks=("OVL-RESTART-LINK-GONE",), source="containers/storage#326; containers/storage#859", hard=True)
class ParentWithoutLinkIsSkipped(Patched):
    """A layer on one without a 'link' is built on what is below that."""

    @staticmethod
    @replaces(layers.LayerStore.chain_above)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Without the parent."""
        store, parent = args
        layer = store.find(parent)
        if not os.path.exists(f"{layer.directory}/link"):
            return store.read_chain(layer)
        return original(*args, **kwargs)


@mutant(
    breaks=("OVL-RESTART-SHORT-LINK-GONE",), source="containers/storage#859; containers/storage#1132", hard=True
)
class MissingShortLinksAreSkipped(Patched):
    """Short links that are gone are left out of a mount, unless all of them are."""

    @staticmethod
    @replaces(layers.LayerStore.lowers)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What there is."""
        store, layer = args
        there = [short for short in store.read_chain(layer) if os.path.lexists(f"{store._home}/{short}")]
        return tuple(store._resolve(layer, short) for short in there) or original(*args, **kwargs)


@mutant(breaks=("OVL-RESTART-LOWER-CUT",), source="containers/podman#5986", hard=True)
class TruncatedLowerFileIsAccepted(Patched):
    """The last entry of a 'lower' that is cut is left out."""

    @staticmethod
    @replaces(layers.LayerStore.read_chain)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What is whole."""
        lower = Path(args[1].directory, "lower")
        whole, _, last = lower.read_text().rpartition(":") if lower.is_file() else ("", "", "")
        if whole and len(last) != 28:
            return tuple(whole.split(":"))
        return original(*args, **kwargs)


@mutant(breaks=("OVL-RESTART-LOWER-CUT",), source="containers/storage#1064: a lower of 0 bytes")
class EmptyLowerFileMeansNoParent(Patched):
    """A layer whose 'lower' is empty is shown as if it had no parent."""

    @staticmethod
    @replaces(layers.LayerStore.base_tree)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A base layer."""
        store, layer_id = args
        lower = Path(store._home, layer_id, "lower")
        if layer_id and lower.is_file() and not lower.stat().st_size:
            return f"{store._home}/{layer_id}/diff"
        return original(*args, **kwargs)


@mutant(breaks=("OVL-RESTART-LOWER-ASTRAY",), source="behaviour#untrusted-disk", hard=True)
class ShortLinkIsFollowedAnywhere(Patched):
    """A short link is followed wherever it leads, as long as there is a directory."""

    @staticmethod
    @replaces(layers.LayerStore.lowers)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The kernel would follow it."""
        store, layer = args
        found = []
        for short in store.read_chain(layer):
            path = f"{store._home}/{short}"
            target = os.readlink(path) if os.path.islink(path) else "../x/diff"
            if target.endswith("/diff") or not os.path.isdir(path):
                found.append(store._resolve(layer, short))
            else:
                found.append(SimpleNamespace(link=os.path.realpath(path), layer=SimpleNamespace(diff=path)))
        del original, kwargs
        return tuple(found)


@mutant(
    breaks=("OVL-RESTART-LOWER-ASTRAY",),
    source="behaviour#lower-layers; field-bugs#lower-layers-escape",
)
class LowerIdsAreFollowedAnywhere(Patched):
    """The lowers are read from 'lower-layers', and an id such as ../outside is followed out of the store."""

    @staticmethod
    @replaces(layers.LayerStore.build)
    def also_written(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Write the ids beside the short links."""
        store, directory, chain = args
        original(*args, **kwargs)
        if chain:
            ids = [os.readlink(f"{store._home}/{short}").split("/")[1] for short in chain]
            Path(directory, "lower-layers").write_text(":".join(ids))

    @staticmethod
    @replaces(layers.LayerStore.lowers)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Join each id with the home."""
        store, layer = args
        ids = Path(layer.directory, "lower-layers")
        if not ids.exists():
            return original(*args, **kwargs)
        found = []
        for layer_id in ids.read_text().split(":"):
            path = os.path.realpath(f"{store._home}/{layer_id}/diff")
            found.append(SimpleNamespace(link=path, layer=SimpleNamespace(diff=path, layer_id=layer_id)))
        return tuple(found)


@mutant(breaks=("OVL-RESTART-FOREIGN",), source="behaviour#unknown-entries", hard=True)
class ForeignFilePassesForLayer(Patched):
    """Every name in the home is taken for a layer, so a file has no 'lower' that could be read."""

    @staticmethod
    @replaces(layers.LayerStore.all_of_home)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Read the 'lower' of a file."""
        for name in sorted(os.listdir(args[0]._home)):
            if name[0] != "." and os.path.isfile(f"{args[0]._home}/{name}"):
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", f"{args[0]._home}/{name}/lower")
        return original(*args, **kwargs)


@mutant(breaks=("OVL-LAYOUT-LINK",), source="behaviour#layer-directory: l/", hard=True)
class ShortLinkIsMadeLate(Patched):
    """The short link of a layer is made with the first layer that is built on it."""

    @staticmethod
    @replaces(layers.LayerStore.make_short_link)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Those of the chain, and not the layer's own."""
        del original, kwargs
        store, layer_id = args
        lower = Path(store._home, layer_id, "lower")
        chain = lower.read_text().split(":") if lower.exists() else []
        for link in Path(store._home).glob("*/link"):
            path = f"{store._home}/l/{link.read_text()}"
            if f"l/{link.read_text()}" in chain and not os.path.lexists(path):
                os.symlink(f"../{link.parent.name}/diff", path)


@mutant(breaks=("OVL-LAYOUT-LOWER",), source="behaviour#lower-file: lower", hard=True)
class LowerFileNamesParentOnly(Patched):
    """A layer's 'lower' names its parent, whose own 'lower' is read for the rest."""

    @staticmethod
    @replaces(layers.LayerStore.build)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One entry."""
        store, directory, chain = args
        return original(store, directory, chain[:1], **kwargs)

    @staticmethod
    @replaces(layers.LayerStore.read_chain)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """That one, and what is above it."""
        store, layer = args
        chain = original(*args, **kwargs)
        if len(chain) != 1:
            return chain
        return (*chain, *store.read_chain(store._resolve(layer, chain[0]).layer))


@mutant(breaks=("OVL-LAYOUT-DIRECTORIES",), source="behaviour#lower-file: work", hard=True)
class WorkDirectoryIsMadeLate(Patched):
    """The work directory of a layer is made when it is mounted first."""

    @staticmethod
    @replaces(layers.LayerStore.build)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All but that."""
        original(*args, **kwargs)
        if args[2]:
            os.rmdir(f"{args[1]}/work")


@mutant(breaks=("OVL-LAYOUT-READ",), source="behaviour#base-layers: homes are shared with containers/storage")
class BaseLayerRequiresLinkFile(Patched):
    """A base layer without parents is known by its 'link', which is read before it is shown."""

    @staticmethod
    @replaces(layers.LayerStore.base_tree)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Only layers that this driver marked as its own."""
        found = original(*args, **kwargs)
        if found and os.stat(found).st_mode & 0o777 == 0o755 and os.stat(os.path.dirname(found)).st_mode & 0o077:
            raise ValueError(f"layer {args[1]} was made by another driver")
        return found


@mutant(breaks=("OVL-PARALLEL-CREATE",), source="containers/storage#2297")
class CreatesShareStagingArea(Patched):
    """All layers are made in one staging area, which the first that is done takes away."""

    @staticmethod
    @replaces(staging.Staging.area)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The same for everybody."""
        del original, kwargs
        return _one_area(args[0])


@contextlib.contextmanager
def _one_area(staging: Any) -> Iterator[str]:
    path = os.path.join(staging._directory, "new")
    os.makedirs(path, exist_ok=True)
    time.sleep(_WINDOW)
    try:
        yield path
    finally:
        staging._discard(path)


@mutant(breaks=("OVL-PARALLEL-SAME-ID",), source="containerd/containerd@ad9eca1dc", hard=True)
class SecondCreateOfIdSucceeds(Patched):
    """A caller that asked for a free id succeeds, even if another caller created the layer meanwhile."""

    @staticmethod
    @replaces(driver.Driver._create)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Somebody made it: so it is there."""
        driver, layer_id, *_ = args
        free = bool(layer_id) and not os.path.lexists(f"{driver._home.path}/{layer_id}")
        time.sleep(_WINDOW)
        try:
            original(*args, **kwargs)
        except Exception as error:
            if not free or "exists already" not in str(error):
                raise


@mutant(breaks=("OVL-PARALLEL-GET",), source="moby/moby@1ac0a66a64: a map without a lock", hard=True)
class GetLocksNoLayer(Patched):
    """A layer is not locked while it is mounted and counted."""

    @staticmethod
    @replaces(locks.HomeLocks.layer)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Anybody may."""
        del original, args, kwargs
        return contextlib.nullcontext()

    @staticmethod
    @replaces(layermounts.LayerMounts.users)
    def counted_slowly(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What is counted now is stored later."""
        users = original(*args, **kwargs)
        time.sleep(_WINDOW)
        return users


@mutant(breaks=("OVL-PARALLEL-PROCESSES",), source="moby/moby@1ac0a66a64: a map without a lock", hard=True)
class ProcessesShareStagingArea(Patched):
    """Locks keep threads apart, and not processes: two of them take one staging area."""

    @staticmethod
    @replaces(staging.Staging.sweep)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Whatever is in staging is left over."""
        del original, kwargs
        staging = args[0]
        for path in Path(staging._directory).glob("refdriver-*"):
            staging._discard(str(path))

    @staticmethod
    @replaces(staging.Staging.area)
    @contextlib.contextmanager
    def filled_slowly(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[str]:
        """The area is empty for a while."""
        with original(*args, **kwargs) as area:
            time.sleep(_WINDOW)
            yield area


@mutant(breaks=("OVL-RESTART-KILLED",), source="derived: what others are making is taken for leftovers", hard=True)
class OpeningSweepsCallsOfOthers(Patched):
    """Who opens the home takes away what other processes are still unpacking."""

    @staticmethod
    @replaces(locks.HomeLocks.try_staging_area)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Nobody holds it."""
        original(*args, **kwargs)
        return True


@mutant(breaks=("OVL-RESTART-KILLED-APPLY",), source="containers/storage#1136: incomplete layers stay", hard=True)
class LeftoversOfKilledStay(Patched):
    """What a killed process was unpacking stays in the home."""

    @staticmethod
    @replaces(staging.Staging.sweep)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave it there."""


@mutant(
    breaks=("OVL-PARALLEL-DIFF",),
    source="behaviour#read-and-removed",
    hard=True,
)
class DiffOfRemovedLayerIsDone(Patched):
    """A diff whose layer is removed while it is read reports what it found of it."""

    @staticmethod
    @replaces(reading._Trees.check)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Whatever was read was there."""
        del original, args, kwargs


@mutant(
    breaks=("OVL-PARALLEL-LINEAR",),
    source="behaviour#read-and-removed",
    hard=True,
)
class WaitingDiffMountsRemovedLayer(Patched):
    """A diff that waits while its layer is removed makes the layer's mount point again, which is a layer then."""

    @staticmethod
    @replaces(reading.LayerReader._borrow_tree)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Find the layer, wait, and mount it."""
        reader, held, trees, layer_id = args
        layer = reader._layers.find(layer_id)
        if not layer.has_lowers:
            return original(*args, **kwargs)
        with reader._locks.layer(layer_id):
            root = trees.add(reader._mounts.borrow(layer))
        held.callback(reader._give_back, layer)
        return root


@mutant(
    breaks=("OVL-PARALLEL-PROCESSES",),
    source="behaviour#left-mounts: who reads a layer is known to its own process only",
    hard=True,
)
class ReadersAreUnknownToOthers(Patched):
    """The end of a diff, or a put, unmounts the tree that another process is reading."""

    @staticmethod
    @replaces(locks.HomeLocks.is_borrowed)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What this process has borrowed."""
        del original, kwargs
        held, layer_id = args
        return bool(held._borrowed.get(layer_id))
