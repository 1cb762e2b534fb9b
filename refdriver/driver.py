"""The driver: layers of container images and containers, kept as overlay lowers and uppers.

:class:`Driver` is a facade; each method reads like what it must do, and the parts do it: the layout
(``layers``), staging, mounts, archives, changes, quota.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Self

from refdriver import files, gates, probes, trees
from refdriver.archive.source import Readable
from refdriver.archive.stream import ArchiveStream
from refdriver.archive.unpack import Merged, Native, unpack
from refdriver.changes import Change
from refdriver.errors import (
    BadOption,
    BrokenLayer,
    LayerExists,
    LayerInUse,
    NeedsRoot,
    QuotaFailed,
    ReadOnlyLayer,
)
from refdriver.home import Home
from refdriver.idmap import IdMaps, MapLike
from refdriver.layermounts import LayerMounts
from refdriver.layers import Layer, LayerStore, check_id, remove_short_link
from refdriver.linux import libc
from refdriver.locks import HomeLocks
from refdriver.migration import move_earlier_state
from refdriver.nativediff import NativeDiff
from refdriver.options import Options, parse_layer_options, parse_options
from refdriver.overlayxattr import TRUSTED, USER
from refdriver.quota import ProjectQuota
from refdriver.reading import LayerReader
from refdriver.staging import Staging, staged_layer

_LOG = logging.getLogger("refdriver")


class Driver:
    """An overlay driver opened on one home.

    ``home`` is made if it is missing; ``options`` are ``overlay.KEY=VALUE`` words (see
    :mod:`refdriver.options`); the maps say who owns what (see :mod:`refdriver.idmap`). Opening raises
    BadOption, NotSupported, IncompatibleFilesystem, QuotaFailed or NeedsRoot.

    Methods may be called from several threads, and several processes may open one home. A driver is a
    context manager; leaving it closes its lock file and leaves mounts alone.
    """

    name: Final = "overlay"

    def __init__(
        self,
        home: str | os.PathLike[str],
        options: Iterable[str] = (),
        uid_maps: Iterable[MapLike] = (),
        gid_maps: Iterable[MapLike] = (),
    ) -> None:
        self._options = parse_options(options)
        self._ids = IdMaps.of(uid_maps, gid_maps)
        self._home = Home(os.path.realpath(home))
        self._user_namespace = probes.in_user_namespace()
        self._overlay = USER if self._user_namespace else TRUSTED
        self._backing = _pass_gates(self._home, self._options, self._user_namespace)
        self._stores = tuple(f"{store}/{self.name}" for store in self._options.image_stores)
        self._make_home()
        self._locks = HomeLocks(self._home.lock_file)
        self._layers = LayerStore(self._home.path, self._stores, self._ids.root)
        self._staging = Staging(self._home.staging, self._home.links, self._locks, self._ids.root)
        self._mounts = LayerMounts(
            self._home, self._layers, self._staging, self._locks, self._ids.root, userxattr=self._user_namespace
        )
        self._native_diff = NativeDiff(self._home.path, self._mounting_area, self._overlay)
        self._reader = LayerReader(
            self._layers, self._mounts, self._locks, self._native_diff, self._ids, self._overlay
        )
        try:
            # Alone: of two processes that open a home at once, one would mount it over the other's mounts.
            with self._locks.home_mount():
                self._supports_d_type, self._quota = self._open()
        except BaseException:
            self._locks.close()
            raise

    def _make_home(self) -> None:
        try:
            self._home.make(self._ids.root)
        except OSError as error:
            if self._user_namespace and not self._ids.is_identity:
                raise NeedsRoot(
                    f"cannot give {self._home.path} to mapped root {self._ids.root}: {error.strerror}; id maps"
                    " need real root, or owners that the user namespace maps"
                ) from error
            raise

    def _open(self) -> tuple[bool, ProjectQuota | None]:
        mounted = self._mounts.open_home()
        try:
            move_earlier_state(self._home, self._ids.root)
            self._staging.sweep()
            with self._staging.area() as area:
                d_type = probes.supports_d_type(area)
                probes.check_opaque(area, self._overlay)
                if self._user_namespace:
                    probes.check_user_namespace_overlay(area)
                quota = self._open_quota(area)
        except BaseException:
            if mounted:
                self._home.unmount()
            raise
        if not d_type:
            _LOG.warning(
                "%s has no d_type support (xfs made with ftype=0?): whiteouts may show as files; use a"
                " filesystem with d_type",
                gates.filesystem_name(self._backing),
            )
        return d_type, quota

    def _open_quota(self, area: str) -> ProjectQuota | None:
        if self._backing != gates.XFS_MAGIC or self._user_namespace:
            return None
        try:
            with self._locks.structure():
                return ProjectQuota(self._home.path, area)
        except QuotaFailed:
            if self._options.size:
                raise
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return self.name

    def close(self) -> None:
        """Give up the lock file. Layers stay as they are, mounted or not."""
        self._locks.close()

    def cleanup(self) -> None:
        """Unmount the home's own private mount; raises LayerInUse while layers are mounted in it.

        Mounts that a killed diff left are undone before; raises MountFailed if that cannot be done.
        """
        self._staging.sweep()
        for layer_id in self._mounts.mounted_layers():
            with self._locks.layer(layer_id):
                if self._layers.exists(layer_id):
                    self._mounts.drop_unused(self._layers.find(layer_id))
        with self._locks.home_mount():
            self._home.unmount()

    def status(self) -> list[tuple[str, str]]:
        """What there is to know about this instance, as pairs of a name and a value."""
        pairs = [
            ("Backing Filesystem", gates.filesystem_name(self._backing)),
            ("Supports d_type", _word(self._supports_d_type)),
            ("Native Overlay Diff", _word(self._native_diff.works())),
        ]
        if self._user_namespace:
            pairs.append(
                (
                    "User Namespace",
                    "overlay mounted with userxattr; devices, quota and foreign owners refused",
                )
            )
        return pairs

    def additional_image_stores(self) -> tuple[str, ...]:
        """The read-only stores, as given by the imagestore option."""
        return self._options.image_stores

    def exists(self, layer_id: str) -> bool:
        """Whether there is such a layer, in the home or in an image store; raises BadLayerId."""
        return self._layers.exists(layer_id)

    def metadata(self, layer_id: str) -> dict[str, str]:
        """WorkDir, MergedDir, UpperDir and, with a parent, LowerDir (joined by colons): absolute paths.

        Raises LayerNotFound or BrokenLayer.
        """
        layer = self._layers.find(layer_id)
        paths = {"WorkDir": layer.work, "MergedDir": self._mounts.target(layer), "UpperDir": layer.diff}
        lowers = self._layers.lowers(layer)
        if lowers:
            paths["LowerDir"] = ":".join(lower.layer.diff for lower in lowers)
        return paths

    def create(self, layer_id: str, parent: str = "", storage_options: Mapping[str, str] | None = None) -> None:
        """Make an empty layer for an image, on ``parent`` or on nothing.

        Raises BadLayerId, BadOption, LayerExists, LayerNotFound (the parent), MaxDepthExceeded, BrokenLayer.
        """
        if parse_layer_options(storage_options or {}) is not None:
            raise BadOption(f"layer {layer_id!r}: a size is only for read-write layers (create_read_write)")
        self._create(layer_id, parent, 0)

    def create_read_write(
        self, layer_id: str, parent: str = "", storage_options: Mapping[str, str] | None = None
    ) -> None:
        """Make an empty layer for a container; the option ``size`` limits it, where project quota works.

        Raises what :meth:`create` raises, and QuotaFailed.
        """
        size = parse_layer_options(storage_options or {})
        if storage_options and self._quota is None:
            raise QuotaFailed(
                f"layer {layer_id!r}: storage options need project quota, which {self._home.path} does not have;"
                " it takes xfs mounted with 'pquota', and root"
            )
        self._create(layer_id, parent, self._options.size if size is None else size)

    def _create(self, layer_id: str, parent: str, size: int) -> None:
        check_id(layer_id)
        with self._locks.layer(layer_id), self._staging.area() as area, self._locks.structure():
            if self._layers.exists(layer_id):
                raise LayerExists(f"layer {layer_id!r} exists already; choose another id or remove it")
            chain = self._layers.chain_above(parent) if parent else ()
            kinship = self._layers.kinship
            is_current = kinship.is_current()
            staged = staged_layer(area, layer_id)
            trees.make_directory(staged, 0o700, self._ids.root)
            if self._quota:
                self._quota.limit(staged, size)
            short = self._layers.build(staged, chain)
            target = f"{self._home.path}/{layer_id}"
            kinship.announce()
            if self._quota:
                self._quota.move_in(staged, target)
            else:
                libc.renameat2(staged, target, libc.RENAME_NOREPLACE)
            try:
                self._layers.make_short_link(layer_id, short=short)
            except BaseException:
                if self._quota:
                    self._quota.let_in(os.path.dirname(staged))
                os.rename(target, staged)  # where the area takes it away
                raise
            if is_current:
                kinship.add(layer_id, (":".join(chain) if chain else None, None))

    def remove(self, layer_id: str) -> None:
        """Remove a layer and its short link, unmounting it first; one that is not there is no error.

        Raises LayerInUse when layers are built on it, ReadOnlyLayer for one of an image store, BrokenLayer, and
        MountFailed when it cannot be unmounted.
        """
        with self._locks.layer(layer_id), self._staging.area() as area, self._locks.structure():
            if not self._layers.exists(layer_id):
                return
            layer = self._layers.find(layer_id)
            self._check_writable(layer, "removed")
            children = self._layers.built_on(layer)
            if children:
                raise LayerInUse(f"layer {layer_id!r} cannot be removed: {', '.join(children)} are built on it")
            chains = self._layers.chains(layer)
            self._mounts.drop(layer)
            if self._quota:
                self._quota.release(layer.directory)
                self._quota.let_in(area)
            remove_short_link(self._home.links, layer.directory, layer_id)
            # From here the layer is gone; the area takes its content away.
            os.rename(layer.directory, staged_layer(area, layer_id))
            self._layers.kinship.remove(layer_id, chains)

    def get(self, layer_id: str, mount_label: str = "") -> str:
        """The path of the layer's whole tree, mounted if it has a parent; pair each get with a put.

        Raises LayerNotFound, BrokenLayer, MountFailed or BadOption (the label).
        """
        base = self._layers.base_tree(layer_id)
        if base is not None:
            return base
        layer = self._layers.find(layer_id)
        if not layer.has_lowers:
            if not libc.exists(layer.diff):  # a power cut can leave this (OVL-CRASH-KEPT)
                raise BrokenLayer(f"layer {layer_id!r}: it has no {layer.diff}; remove and create it again")
            return layer.diff
        with self._locks.layer(layer_id):
            return self._mounts.get(self._layers.find(layer_id), mount_label)

    def put(self, layer_id: str) -> None:
        """Undo one :meth:`get`; the last one unmounts. One too many does nothing.

        Raises LayerNotFound, and MountFailed when the layer stays mounted: it is counted still, so put it again.
        """
        if self._layers.base_tree(layer_id) is not None or not self._layers.find(layer_id).has_lowers:
            return
        with self._locks.layer(layer_id):
            self._mounts.put(self._layers.find(layer_id))

    def diff(self, layer_id: str, parent: str = "") -> ArchiveStream:
        """A tar stream of what the layer changes in ``parent``, or of its whole tree without one; close it.

        Reading raises UnreadableLayer when something of the layer cannot be read, or it is removed meanwhile.
        """
        return self._reader.diff(layer_id, parent)

    def apply_diff(self, layer_id: str, parent: str, archive: Readable) -> int:
        """Unpack a tar stream into the layer, wholly or not at all; the size of what it brought, in bytes.

        Raises BadArchive, BreakoutAttempt, LayerInUse (the layer is mounted), ReadOnlyLayer, LayerNotFound,
        NeedsRoot, and OSError when it cannot be written to the disk; when this returns, it was.
        """
        with self._locks.layer(layer_id):
            layer = self._layers.find(layer_id)
            self._check_writable(layer, "changed")
            if self._mounts.in_use(layer):
                raise LayerInUse(f"layer {layer_id!r} is mounted; put it before applying an archive to it")
            native = self._layers.is_direct_parent(layer, parent)
            with self._staging.area() as area:
                if self._quota:
                    self._quota.adopt(area, layer.directory)
                staged = f"{area}/diff"
                # Names may be safe long before the data behind them: a power cut would leave empty files.
                with trees.written_out(area):
                    size = self._unpack(layer, area, staged, archive, native=native)
                trees.replace_directory(staged, layer.diff, before=lambda: _empty(layer.work))
                trees.sync_directory(layer.directory)
                return size

    def _unpack(self, layer: Layer, area: str, staged: str, archive: Readable, *, native: bool) -> int:
        trees.clone_tree(layer.diff, staged)
        if not native:
            return self._unpack_merged(layer, area, staged, archive)
        lowers = tuple(lower.layer.diff for lower in self._layers.lowers(layer))
        return unpack(archive, staged, self._ids, Native(self._overlay, lowers))

    def _unpack_merged(self, layer: Layer, area: str, upper: str, archive: Readable) -> int:
        if not layer.has_lowers:
            return unpack(archive, upper, self._ids, Merged())
        work, merged = f"{area}/work", f"{area}/merged"
        os.mkdir(work, 0o700)
        os.mkdir(merged, 0o700)
        self._mounts.mount_staged(layer, upper, work, merged)
        try:
            return unpack(archive, merged, self._ids, Merged())
        finally:
            libc.umount(merged, libc.MNT_DETACH)

    def diff_size(self, layer_id: str, parent: str = "") -> int:
        """The size in bytes of what the layer changes in ``parent``: non-directories, each inode once.

        Raises LayerNotFound, also when the layer is removed meanwhile, and UnreadableLayer.
        """
        return self._reader.diff_size(layer_id, parent)

    def changes(self, layer_id: str, parent: str = "") -> list[Change]:
        """What the layer adds, modifies and deletes in ``parent``, by path; without one it adds everything.

        Raises LayerNotFound, also when the layer is removed meanwhile, and UnreadableLayer.
        """
        return self._reader.changes(layer_id, parent)

    @contextmanager
    def _mounting_area(self) -> Iterator[str]:
        with self._staging.area() as area, self._mounts.in_private_home():
            yield area

    def _check_writable(self, layer: Layer, participle: str) -> None:
        if not layer.writable:
            raise ReadOnlyLayer(
                f"layer {layer.layer_id!r} is in the additional image store {layer.store} and cannot be"
                f" {participle}; image stores are only read"
            )


def _pass_gates(home: Home, options: Options, user_namespace: bool) -> int:
    """Refuse to open where overlay cannot work; the magic of the backing filesystem. Nothing is changed yet."""
    gates.read_overlay_support()
    kernel = gates.KernelRelease.parse(os.uname().release)
    backing = libc.filesystem_magic(home.nearest_existing_parent())
    for warning in (
        gates.check_kernel(kernel, options.override_kernel_check),
        gates.check_backing_filesystem(backing, kernel, options.override_kernel_check),
    ):
        if warning:
            _LOG.warning("%s", warning)
    if options.size and backing != gates.XFS_MAGIC:
        raise BadOption(
            f"overlay.size needs xfs with project quota and {home.path} is on {gates.filesystem_name(backing)};"
            " leave the option out, or put the home on xfs mounted with 'pquota'"
        )
    if options.size and user_namespace:
        raise NeedsRoot("overlay.size needs real root: a user namespace cannot set project quota")
    return backing


def _empty(work: str) -> None:
    # The kernel keeps notes there about the upper that it served (index=on) and refuses another one with them.
    for name in files.names_in(work):
        trees.remove_tree(f"{work}/{name}")


def _word(value: bool) -> str:
    return "true" if value else "false"
