"""Mutants of the life cycle of layers, and of chains of the maximum length."""

from __future__ import annotations

import dataclasses
import io
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.mutants.fault import Fault


class ForgetsTheParentItself(Patched):
    """A layer on one that has lowers gets those, and not the parent's own content."""

    place = "layers:LayerStore.chain_above"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The parent's chain, if it has one."""
        chain = original(*args, **kwargs)
        return chain[1:] or chain


class LeavesLinkOfUnknownParent(Patched):
    """A short link is made before the parent is looked for, and stays when there is none."""

    place = "layers:LayerStore.chain_above"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The link first."""
        try:
            return original(*args, **kwargs)
        except Exception as error:
            if "no layer" in str(error):
                _leave_link(args[0])
            raise


class LeavesLinkOfTheDeepest(Patched):
    """A layer that would be too deep is refused, and its short link stays."""

    place = "layers:LayerStore.chain_above"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The link first."""
        try:
            return original(*args, **kwargs)
        except Exception as error:
            if "depth" in str(error):
                _leave_link(args[0])
            raise


def _leave_link(store: Any) -> None:
    name = "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(26))
    os.symlink("../gone/diff", f"{store._home}/l/{name}")


class CleansUpAfterOthers(Faithful):
    """A create that is refused cleans up, and takes the short link of the layer that has the id already."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """And clean up."""
        try:
            self.inner.create(layer_id, parent)
        except Exception:
            _unlink_short(self.home, layer_id)
            raise


def _unlink_short(home: str, layer_id: str) -> None:
    link = Path(home, layer_id, "link")
    if layer_id and link.is_file():
        Path(home, "l", link.read_text()).unlink(missing_ok=True)


class CleansIdsUp(Patched):
    """A slash at the end of an id is cut off, and not refused."""

    place = "layers:check_id"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As of a path."""
        return original(args[0].rstrip("/") if len(args[0]) > 1 else args[0], **kwargs)


class TakesItsOwnNamesForIds(Patched):
    """The directory of short links passes for a layer, and is removed like one."""

    place = "layers:check_id"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The name l, too."""
        return args[0] if args[0] == "l" else original(*args, **kwargs)


class LeavesLinksOfEarlierLayers(Faithful):
    """A layer that was made before the home was opened again is removed without its short link."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Remember."""
        self.inner.create(layer_id, parent)
        self.__dict__.setdefault("made", set()).add(layer_id)

    def remove(self, layer_id: str) -> None:
        """What is remembered has a link."""
        link = Path(self.home, layer_id, "link")
        name = link.read_text() if layer_id and link.exists() else ""
        self.inner.remove(layer_id)
        if name and layer_id not in self.__dict__.setdefault("made", set()):
            os.symlink(f"../{layer_id}/diff", f"{self.home}/l/{name}")


class KnowsChildrenOfThisOpening(Patched):
    """Who is built on a layer is remembered, and so not known after the home was opened again."""

    place = "layers:LayerStore.built_on"
    also = "layers:LayerStore.make_short_link"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Of those, what is remembered."""
        made = _MADE.get(id(args[0]), set())
        return [child for child in original(*args, **kwargs) if child in made]

    @staticmethod
    def wrong_too(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Remember."""
        _ALIVE.append(args[0])
        _MADE.setdefault(id(args[0]), set()).add(args[1])
        return original(*args, **kwargs)


_MADE: Final[dict[int, set[str]]] = {}
_ALIVE: Final[list[Any]] = []


class RemovesByPrefix(Faithful):
    """An id that is not there is taken for the beginning of one that is."""

    def remove(self, layer_id: str) -> None:
        """The last that begins so, if nothing is built on it."""
        if layer_id and not self.inner.exists(layer_id):
            found = [path.parent.name for path in Path(self.home).glob(f"{layer_id}*/link")]
            layer_id = max(found, default=layer_id)
        self.inner.remove(layer_id)


class RefusesHalfway(Faithful):
    """The removal of a mounted layer is refused when its short link and its 'link' are removed already."""

    def remove(self, layer_id: str) -> None:
        """The links first, then the question."""
        if layer_id and os.path.ismount(f"{self.home}/{layer_id}/merged"):
            _unlink_short(self.home, layer_id)
            Path(self.home, layer_id, "link").unlink(missing_ok=True)
            raise ValueError(f"layer {layer_id} is mounted")
        self.inner.remove(layer_id)


class MountsTheEldestsUpper(Patched):
    """A layer is mounted with the upper of the first one that was mounted on the same lowers."""

    place = "mounts:mount_overlay"
    first: dict[tuple[str, ...], str] = {}  # noqa: RUF012 - by lowers

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The upper that is known for these lowers."""
        request, *rest = args
        known = MountsTheEldestsUpper.first
        if request.upper and request.lowers and os.path.isdir(known.setdefault(request.lowers, request.upper)):
            words = {"upper": known[request.lowers], "work": request.work}
            request = dataclasses.replace(request, **words)
        return original(request, *rest, **kwargs)


class UnmountsBusyParents(Faithful):
    """A parent that is mounted is unmounted when a child is made, whoever uses it."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """So that nothing of it changes any more."""
        if parent and os.path.ismount(f"{self.home}/{parent}/merged"):
            self.inner.put(parent)
        self.inner.create(layer_id, parent)


class RemembersBaseTrees(Patched):
    """The tree of a base layer is remembered, and given when the layer is gone."""

    place = "layers:LayerStore.base_tree"
    known: dict[tuple[int, str], str] = {}  # noqa: RUF012 - by store and layer

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """From memory."""
        known, key = RemembersBaseTrees.known, (id(args[0]), args[1])
        if key not in known:
            found = original(*args, **kwargs)
            if found is None:
                return None
            known[key] = found
            _ALIVE.append(args[0])
        return known[key]


class PrunesLinksAtOpening(Faithful):
    """Opening a home removes short links that no 'lower' names, and the 'link' files that name them."""

    def __init__(self, home: str, **asked: Any) -> None:
        named = {entry for file in Path(home).glob("*/lower") for entry in file.read_text().split(":")}
        for link in Path(home, "l").glob("*"):
            if f"l/{link.name}" not in named:
                (link.resolve().parent / "link").unlink(missing_ok=True)
                link.unlink()
        super().__init__(home, **asked)


class NumbersItsLinks(Patched):
    """The names of short links begin anew with each opening, so that later layers take those of earlier ones."""

    place = "layers:LayerStore._claim_short_name"
    taken: dict[int, int] = {}  # noqa: RUF012 - by store

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One after another, in place of what is there."""
        del original, kwargs
        store, directory = args
        _ALIVE.append(store)
        number = NumbersItsLinks.taken[id(store)] = NumbersItsLinks.taken.get(id(store), 0) + 1
        short = "".join("ABCDEFGHIJ"[int(digit)] for digit in f"{number:026}")
        Path(store._home, "l", short).unlink(missing_ok=True)
        Path(directory, "link").write_text(short)
        return short


class RemembersChains(Patched):
    """What a layer was built on is remembered by its id, and holds for the next layer under that id."""

    place = "layers:LayerStore.read_chain"
    known: dict[tuple[int, str], Any] = {}  # noqa: RUF012 - by store and layer

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """From memory."""
        key = (id(args[0]), args[1].directory)
        if key not in RemembersChains.known:
            RemembersChains.known[key] = original(*args, **kwargs)
            _ALIVE.append(args[0])
        return RemembersChains.known[key]


class RemembersDiffs(Faithful):
    """The archive of a layer is kept, and given again after the layer was changed."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """From memory, until the home is opened again."""
        kept = self.__dict__.setdefault("kept", {})
        key = (layer_id, parent, os.lstat(f"{self.home}/{layer_id}").st_ino)
        if key not in kept:
            with self.inner.diff(layer_id, parent) as stream:
                kept[key] = stream.read()
        return io.BytesIO(kept[key])


class ForgetsToGiveBack(Patched):
    """A diff that compares two trees gives back the layer's, and keeps that of the parent."""

    place = "driver:Driver._borrow_tree"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Borrow and give back what is borrowed first."""
        driver, borrowed, layer_id = args
        if borrowed._exit_callbacks:
            return driver.get(layer_id)
        return original(*args, **kwargs)


class KeepsBrokenDiffsOpen(Faithful):
    """A diff that is closed before its end keeps what it read from open."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Look whether the end was reached."""
        inner = self.inner.diff(layer_id, parent)
        original_close, driver = inner.close, self

        def close() -> None:
            if not inner.closed and inner.read(1):
                driver.__dict__.setdefault("open", []).append(os.open(f"{driver.home}/l", os.O_RDONLY))
            original_close()

        inner.close = close
        return inner


class KeepsIdsClaimed(Faithful):
    """An id is claimed while a layer is made, and stays claimed when that fails."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Claim, make, let go."""
        claimed = self.__dict__.setdefault("claimed", set())
        if layer_id in claimed:
            raise ValueError(f"layer {layer_id} is being made by another caller")
        claimed.add(layer_id)
        self.inner.create(layer_id, parent)
        claimed.discard(layer_id)


class KeepsLockedAfterRefusedRemove(Faithful):
    """A layer is locked to be removed, and stays locked when that is refused."""

    def remove(self, layer_id: str) -> None:
        """Lock, remove, let go."""
        locked = self.__dict__.setdefault("locked", set())
        if layer_id in locked:
            raise ValueError(f"layer {layer_id} is locked")
        locked.add(layer_id)
        self.inner.remove(layer_id)
        locked.discard(layer_id)


class MakesClosedRoots(Patched):
    """The root of a layer is made with the umask of the process, so under a strict one nobody may enter it."""

    place = "trees:make_directory"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As mkdir does."""
        original(*args, **kwargs)
        if args[0].endswith("/diff"):
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(args[0], args[1] & ~mask)


class LimitOf127AfterReopen(Faithful):
    """On a layer that was there when the home was opened, the longest chain is one lower too short."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.found = set(os.listdir(home))

    def create(self, layer_id: str, parent: str = "") -> None:
        """Refuse what would have 128 lowers, then."""
        lower = Path(self.home, parent, "lower")
        if parent in self.found and lower.is_file() and lower.read_text().count(":") + 2 > 127:
            raise ValueError("max depth exceeded")
        self.inner.create(layer_id, parent)


class LimitOf129(Patched):
    """The limit is compared with the lowers of the parent, so a chain of 129 is made."""

    place = "layers:LayerStore.chain_above"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One more."""
        try:
            return original(*args, **kwargs)
        except Exception as error:
            if "129 lowers" not in str(error):
                raise
            store, layer = args[0], args[0].find(args[1])
            return (f"l/{store.read_short_name(layer)}", *store.read_chain(layer))


class ClosesTheLastParent(Faithful):
    """A layer on which the longest chain ended once takes no other, though that one was removed."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Once only."""
        full = self.__dict__.setdefault("full", set())
        if parent in full:
            raise ValueError("max depth exceeded")
        self.inner.create(layer_id, parent)
        lower = Path(self.home, layer_id, "lower")
        if lower.exists() and lower.read_text().count(":") == 127:
            full.add(parent)


class DiffsTheDeepestWhole(Faithful):
    """The diff of a layer on exactly 128 lowers is its whole tree."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """As if there were no parent."""
        lower = Path(self.home, layer_id, "lower")
        deepest = lower.exists() and lower.read_text().count(":") == 127
        return self.inner.diff(layer_id, "" if deepest else parent)


class ReadsAncestorsNatively(Patched):
    """Any layer of the chain is taken for the direct parent, so a diff against a grandparent lacks the parent."""

    place = "layers:LayerStore.is_direct_parent"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Somewhere in the chain."""
        store, layer, parent = args
        named = any(lower.layer.layer_id == parent for lower in store.lowers(layer))
        return named or original(*args, **kwargs)


FAULTS: Final = (
    Fault(ForgetsTheParentItself, ("OVL-LIFE-CREATE",), "behaviour#chain"),
    Fault(LeavesLinkOfUnknownParent, ("OVL-LIFE-UNKNOWN-PARENT",), "behaviour#failed-create; moby/moby#23535"),
    Fault(
        CleansUpAfterOthers,
        ("OVL-LIFE-EXISTING-ID",),
        "moby/moby#23535: a failed create cleans up what was there",
    ),
    Fault(CleansIdsUp, ("OVL-LIFE-BAD-ID",), "CVE-2014-9358", hard=True),
    Fault(
        TakesItsOwnNamesForIds,
        ("OVL-LIFE-BAD-ID",),
        "behaviour#layer-ids: l/ removed as a layer; field-bugs#empty-link",
        hard=True,
    ),
    Fault(LeavesLinksOfEarlierLayers, ("OVL-LIFE-REMOVE",), "moby/moby#23535: after a restart", hard=True),
    Fault(
        KnowsChildrenOfThisOpening,
        ("OVL-LIFE-REMOVE-PARENT",),
        "behaviour#remove-parent: after a restart",
        hard=True,
    ),
    Fault(RemovesByPrefix, ("OVL-LIFE-REMOVE-MISSING",), "derived: ids by their beginning", hard=True),
    Fault(RefusesHalfway, ("OVL-LIFE-REMOVE-MOUNTED",), "moby/moby#34652: the order of two calls", hard=True),
    Fault(RemembersChains, ("OVL-LIFE-REUSE-ID",), "derived: a cache that outlives its layer", hard=True),
    Fault(MountsTheEldestsUpper, ("OVL-LIFE-SIBLINGS",), "derived: on the second layer rather than the first"),
    Fault(
        UnmountsBusyParents,
        ("OVL-LIFE-BUSY-PARENT",),
        "behaviour#create: create looks at no mount",
        hard=True,
    ),
    Fault(RemembersBaseTrees, ("OVL-LIFE-MISSING-LAYER",), "derived: a cache that outlives its layer", hard=True),
    Fault(PrunesLinksAtOpening, ("OVL-LIFE-REOPEN",), "containers/storage#1132", hard=True),
    Fault(
        NumbersItsLinks,
        ("OVL-LIFE-REOPEN",),
        "behaviour#link-names: random, also after a restart",
        hard=True,
    ),
    Fault(RemembersDiffs, ("OVL-LIFE-HISTORY",), "derived: on the second call rather than the first", hard=True),
    Fault(ForgetsToGiveBack, ("OVL-LIFE-NO-LEAKS",), "moby/moby#34948: the naive diff's own mounts", hard=True),
    Fault(KeepsBrokenDiffsOpen, ("OVL-LIFE-NO-DESCRIPTORS",), "moby/moby#23686", hard=True),
    Fault(
        KeepsIdsClaimed,
        ("OVL-LIFE-AFTER-REFUSAL",),
        "containerd/containerd@ad9eca1dc: an error path keeps its lock",
        hard=True,
    ),
    Fault(KeepsLockedAfterRefusedRemove, ("OVL-LIFE-AFTER-REFUSAL",), "containerd/containerd@ad9eca1dc", hard=True),
    Fault(MakesClosedRoots, ("OVL-LIFE-ROOT-OPEN",), "behaviour#layer-directory: diff has mode 0755", hard=True),
    Fault(LimitOf127AfterReopen, ("OVL-CHAIN-128",), "boundary: 127 lowers, on a chain after a restart", hard=True),
    Fault(LimitOf129, ("OVL-CHAIN-129-REFUSED",), "boundary: 129 lowers; moby/buildkit#3067", hard=True),
    Fault(LeavesLinkOfTheDeepest, ("OVL-CHAIN-129-REFUSED",), "cri-o/cri-o#6261", hard=True),
    Fault(ClosesTheLastParent, ("OVL-CHAIN-TOP-AGAIN",), "boundary: 128 lowers, the second time", hard=True),
    Fault(DiffsTheDeepestWhole, ("OVL-CHAIN-DIFF-DEEP",), "boundary: 128 lowers", hard=True),
    Fault(
        ReadsAncestorsNatively,
        ("OVL-DIFF-ANCESTOR",),
        "behaviour#native-diff: for the direct parent only",
        hard=True,
    ),
)
