"""Mutants of homes that are damaged or laid out by others: what is read back from disk, and how it is written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.mutants.fault import Fault


class RemovesAllLinks(Faithful):
    """The short link of a layer whose 'link' is empty is the directory l itself, which goes with the layer."""

    def remove(self, layer_id: str) -> None:
        """As a path that ends early."""
        link = Path(self.home, layer_id, "link")
        if layer_id and link.is_file() and not link.read_text():
            shutil.rmtree(f"{self.home}/l")
        self.inner.remove(layer_id)


class SkipsALayerWithoutLink(Patched):
    """A layer on one without a 'link' is built on what is below that."""

    place = "layers:LayerStore.chain_above"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Without the parent."""
        store, parent = args
        layer = store.find(parent)
        if not os.path.exists(f"{layer.directory}/link"):
            return store.read_chain(layer)
        return original(*args, **kwargs)


class SkipsMissingShortLinks(Patched):
    """Short links that are gone are left out of a mount, unless all of them are."""

    place = "layers:LayerStore.lowers"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What there is."""
        store, layer = args
        there = [short for short in store.read_chain(layer) if os.path.lexists(f"{store._home}/{short}")]
        return tuple(store._resolve(layer, short) for short in there) or original(*args, **kwargs)


class MendsLinksAstray(Faithful):
    """A short link that is gone is recreated when the home is opened, to the first layer that there is."""

    def __init__(self, home: str, **asked: Any) -> None:
        layers = sorted(path.parent.name for path in Path(home).glob("*/link"))
        for layer_id in layers:
            name = Path(home, layer_id, "link").read_text()
            if len(name) == 26 and not os.path.lexists(f"{home}/l/{name}"):
                os.symlink(f"../{layers[0]}/diff", f"{home}/l/{name}")
        super().__init__(home, **asked)


class ReadsCutChains(Patched):
    """The last entry of a 'lower' that is cut is left out."""

    place = "layers:LayerStore.read_chain"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What is whole."""
        lower = Path(args[1].directory, "lower")
        whole, _, last = lower.read_text().rpartition(":") if lower.is_file() else ("", "", "")
        if whole and len(last) != 28:
            return tuple(whole.split(":"))
        return original(*args, **kwargs)


class TakesAnEmptyLowerForNone(Patched):
    """A layer whose 'lower' is empty is shown as if it had no parent."""

    place = "layers:LayerStore.base_tree"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A base layer."""
        store, layer_id = args
        lower = Path(store._home, layer_id, "lower")
        if layer_id and lower.is_file() and not lower.stat().st_size:
            return f"{store._home}/{layer_id}/diff"
        return original(*args, **kwargs)


class FollowsShortLinks(Patched):
    """A short link is followed wherever it leads, as long as there is a directory."""

    place = "layers:LayerStore.lowers"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
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


class TakesFilesForLayers(Patched):
    """Every name in the home is taken for a layer, so a file has no 'lower' that could be read."""

    place = "layers:LayerStore.all_of_home"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Read the 'lower' of a file."""
        for name in sorted(os.listdir(args[0]._home)):
            if name[0] != "." and os.path.isfile(f"{args[0]._home}/{name}"):
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", f"{args[0]._home}/{name}/lower")
        return original(*args, **kwargs)


class LinksWhenNeeded(Patched):
    """The short link of a layer is made with the first layer that is built on it."""

    place = "layers:LayerStore.make_short_link"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Those of the chain, and not the layer's own."""
        del original, kwargs
        store, layer_id = args
        lower = Path(store._home, layer_id, "lower")
        chain = lower.read_text().split(":") if lower.exists() else []
        for link in Path(store._home).glob("*/link"):
            path = f"{store._home}/l/{link.read_text()}"
            if f"l/{link.read_text()}" in chain and not os.path.lexists(path):
                os.symlink(f"../{link.parent.name}/diff", path)


class WritesTheParentOnly(Patched):
    """A layer's 'lower' names its parent, whose own 'lower' is read for the rest."""

    place = "layers:LayerStore.build"
    also = "layers:LayerStore.read_chain"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One entry."""
        store, directory, chain = args
        return original(store, directory, chain[:1], **kwargs)

    @staticmethod
    def wrong_too(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """That one, and what is above it."""
        store, layer = args
        chain = original(*args, **kwargs)
        if len(chain) != 1:
            return chain
        return (*chain, *store.read_chain(store._resolve(layer, chain[0]).layer))


class MakesWorkWhenNeeded(Patched):
    """The work directory of a layer is made when it is mounted first."""

    place = "layers:LayerStore.build"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All but that."""
        original(*args, **kwargs)
        if args[2]:
            os.rmdir(f"{args[1]}/work")


class WantsALinkFile(Patched):
    """A base layer without parents is known by its 'link', which is read before it is shown."""

    place = "layers:LayerStore.base_tree"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Only layers that this driver marked as its own."""
        found = original(*args, **kwargs)
        if found and os.stat(found).st_mode & 0o777 == 0o755 and os.stat(os.path.dirname(found)).st_mode & 0o077:
            raise ValueError(f"layer {args[1]} was made by another driver")
        return found


FAULTS: Final = (
    Fault(
        RemovesAllLinks,
        ("OVL-RESTART-LINK-EMPTY",),
        "behaviour#link-file-empty; field-bugs#empty-link",
        hard=True,
    ),
    Fault(
        SkipsALayerWithoutLink,
        ("OVL-RESTART-LINK-GONE",),
        "containers/storage#326; containers/storage#859",
        hard=True,
    ),
    Fault(
        SkipsMissingShortLinks,
        ("OVL-RESTART-SHORT-LINK-GONE",),
        "containers/storage#859; containers/storage#1132",
        hard=True,
    ),
    Fault(
        MendsLinksAstray,
        ("OVL-RESTART-SHORT-LINK-GONE",),
        "behaviour#untrusted-disk: a link mended to another layer; field-bugs#short-link-lost",
        hard=True,
    ),
    Fault(ReadsCutChains, ("OVL-RESTART-LOWER-CUT",), "containers/podman#5986", hard=True),
    Fault(TakesAnEmptyLowerForNone, ("OVL-RESTART-LOWER-CUT",), "containers/storage#1064: a lower of 0 bytes"),
    Fault(
        FollowsShortLinks,
        ("OVL-RESTART-LOWER-ASTRAY",),
        "behaviour#untrusted-disk",
        hard=True,
    ),
    Fault(TakesFilesForLayers, ("OVL-RESTART-FOREIGN",), "behaviour#unknown-entries", hard=True),
    Fault(LinksWhenNeeded, ("OVL-LAYOUT-LINK",), "behaviour#layer-directory: l/", hard=True),
    Fault(WritesTheParentOnly, ("OVL-LAYOUT-LOWER",), "behaviour#lower-file: lower", hard=True),
    Fault(MakesWorkWhenNeeded, ("OVL-LAYOUT-DIRECTORIES",), "behaviour#lower-file: work", hard=True),
    Fault(WantsALinkFile, ("OVL-LAYOUT-READ",), "behaviour#base-layers: homes are shared with containers/storage"),
)
