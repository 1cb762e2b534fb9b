"""Mutants of the life cycle of layers and of chains of the reference driver."""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from refdriver import home, layers, mounts, reading, trees
from refdriver.linux import mountinfo
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(
    breaks=("OVL-LIFE-NO-LEAKS",),
    source="behaviour#private-home: after a restart; containers/storage@da0df59a0",
    hard=True,
)
class ReopenedHomeStaysMounted(Patched):
    """The home's own mount is undone by the opening that made it, and by no later one."""

    made: set[str] = set()  # noqa: RUF012 - of all openings

    @staticmethod
    @replaces(home.Home.make_private)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Note whether this opening made it."""
        made = original(*args, **kwargs)
        (ReopenedHomeStaysMounted.made.add if made else ReopenedHomeStaysMounted.made.discard)(args[0].path)
        return made

    @staticmethod
    @replaces(home.Home.unmount)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Undo what is one's own."""
        if args[0].path in ReopenedHomeStaysMounted.made:
            original(*args, **kwargs)


@mutant(breaks=("OVL-LIFE-CREATE",), source="behaviour#chain")
class ChainOmitsParent(Patched):
    """A layer on one that has lowers gets those, and not the parent's own content."""

    @staticmethod
    @replaces(layers.LayerStore.chain_above)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The parent's chain, if it has one."""
        chain = original(*args, **kwargs)
        return chain[1:] or chain


@mutant(breaks=("OVL-LIFE-UNKNOWN-PARENT",), source="behaviour#failed-create; moby/moby#23535")
class UnknownParentLeavesShortLink(Patched):
    """A short link is made before the parent is looked for, and stays when there is none."""

    @staticmethod
    @replaces(layers.LayerStore.chain_above)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The link first."""
        try:
            return original(*args, **kwargs)
        except Exception as error:
            if "no layer" in str(error):
                _leave_link(args[0])
            raise


@mutant(breaks=("OVL-CHAIN-129-REFUSED",), source="cri-o/cri-o#6261", hard=True)
class RefusedDepthLeavesShortLink(Patched):
    """A layer that would be too deep is refused, and its short link stays."""

    @staticmethod
    @replaces(layers.LayerStore.chain_above)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
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


@mutant(breaks=("OVL-LIFE-BAD-ID",), source="CVE-2014-9358", hard=True)
class TrailingSlashIsCutOff(Patched):
    """A slash at the end of an id is cut off, and not refused."""

    @staticmethod
    @replaces(layers.check_id)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As of a path."""
        return original(args[0].rstrip("/") if len(args[0]) > 1 else args[0], **kwargs)


@mutant(
    breaks=("OVL-LIFE-BAD-ID",),
    source="behaviour#layer-ids: l/ removed as a layer; field-bugs#empty-link",
    hard=True,
)
class OwnDirectoryPassesForLayer(Patched):
    """The directory of short links passes for a layer, and is removed like one."""

    @staticmethod
    @replaces(layers.check_id)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The name l, too."""
        return args[0] if args[0] == "l" else original(*args, **kwargs)


@mutant(breaks=("OVL-LIFE-REMOVE-PARENT",), source="behaviour#remove-parent: after a restart", hard=True)
class RemoveForgetsChildrenAfterReopen(Patched):
    """Who is built on a layer is remembered, and so not known after the home was opened again."""

    @staticmethod
    @replaces(layers.LayerStore.built_on)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Of those, what is remembered."""
        made = _MADE.get(id(args[0]), set())
        return [child for child in original(*args, **kwargs) if child in made]

    @staticmethod
    @replaces(layers.LayerStore.make_short_link)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Remember."""
        _ALIVE.append(args[0])
        _MADE.setdefault(id(args[0]), set()).add(args[1])
        return original(*args, **kwargs)


_MADE: Final[dict[int, set[str]]] = {}
_ALIVE: Final[list[Any]] = []


@mutant(breaks=("OVL-LIFE-SIBLINGS",), source="derived: on the second layer rather than the first")
class SiblingsShareUpper(Patched):
    """A layer is mounted with the upper of the first one that was mounted on the same lowers."""

    first: dict[tuple[str, ...], str] = {}  # noqa: RUF012 - by lowers

    @staticmethod
    @replaces(mounts.mount_overlay)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The upper that is known for these lowers."""
        request, *rest = args
        known = SiblingsShareUpper.first
        if request.upper and request.lowers and os.path.isdir(known.setdefault(request.lowers, request.upper)):
            words = {"upper": known[request.lowers], "work": request.work}
            request = dataclasses.replace(request, **words)
        return original(request, *rest, **kwargs)


@mutant(breaks=("OVL-LIFE-MISSING-LAYER",), source="derived: a cache that outlives its layer", hard=True)
class GetCachesBaseTrees(Patched):
    """The tree of a base layer is remembered, and given when the layer is gone."""

    known: dict[tuple[int, str], str] = {}  # noqa: RUF012 - by store and layer

    @staticmethod
    @replaces(layers.LayerStore.base_tree)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """From memory."""
        known, key = GetCachesBaseTrees.known, (id(args[0]), args[1])
        if key not in known:
            found = original(*args, **kwargs)
            if found is None:
                return None
            known[key] = found
            _ALIVE.append(args[0])
        return known[key]


@mutant(breaks=("OVL-LIFE-REOPEN",), source="behaviour#link-names: random, also after a restart", hard=True)
class ShortLinksRestartAtReopen(Patched):
    """The names of short links begin anew with each opening, so that later layers take those of earlier ones."""

    taken: dict[int, int] = {}  # noqa: RUF012 - by store

    @staticmethod
    @replaces(layers.LayerStore._claim_short_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One after another, in place of what is there."""
        del original, kwargs
        store, directory = args
        _ALIVE.append(store)
        number = ShortLinksRestartAtReopen.taken[id(store)] = ShortLinksRestartAtReopen.taken.get(id(store), 0) + 1
        short = "".join("ABCDEFGHIJ"[int(digit)] for digit in f"{number:026}")
        Path(store._home, "l", short).unlink(missing_ok=True)
        Path(directory, "link").write_text(short)
        return short


@mutant(breaks=("OVL-LIFE-REUSE-ID",), source="derived: a cache that outlives its layer", hard=True)
class ChainIsCachedById(Patched):
    """What a layer was built on is remembered by its id, and holds for the next layer under that id."""

    known: dict[tuple[int, str], Any] = {}  # noqa: RUF012 - by store and layer

    @staticmethod
    @replaces(layers.LayerStore.read_chain)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """From memory."""
        key = (id(args[0]), args[1].directory)
        if key not in ChainIsCachedById.known:
            ChainIsCachedById.known[key] = original(*args, **kwargs)
            _ALIVE.append(args[0])
        return ChainIsCachedById.known[key]


@mutant(breaks=("OVL-LIFE-NO-LEAKS",), source="moby/moby#34948: the naive diff's own mounts", hard=True)
class DiffKeepsParentMounted(Patched):
    """A diff that compares two trees gives back the layer's, and keeps that of the parent."""

    @staticmethod
    @replaces(reading.LayerReader._borrow_tree)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Borrow and give back what is borrowed first."""
        reader, held, trees, layer_id = args
        if len(held._exit_callbacks) > 1:  # the first one is there for the roots
            return trees.add(reader._mounts.get(reader._layers.find(layer_id), ""))
        return original(*args, **kwargs)


@mutant(breaks=("OVL-LIFE-ROOT-OPEN",), source="behaviour#layer-directory: diff has mode 0755", hard=True)
class RootOfLayerObeysUmask(Patched):
    """The root of a layer is made with the umask of the process, so under a strict one nobody may enter it."""

    @staticmethod
    @replaces(trees.make_directory)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As mkdir does."""
        original(*args, **kwargs)
        if args[0].endswith("/diff"):
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(args[0], args[1] & ~mask)


@mutant(breaks=("OVL-CHAIN-129-REFUSED",), source="boundary: 129 lowers; moby/buildkit#3067", hard=True)
class ChainLimitIs129(Patched):
    """The limit is compared with the lowers of the parent, so a chain of 129 is made."""

    @staticmethod
    @replaces(layers.LayerStore.chain_above)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One more."""
        try:
            return original(*args, **kwargs)
        except Exception as error:
            if "129 lowers" not in str(error):
                raise
            store, layer = args[0], args[0].find(args[1])
            return (f"l/{store.read_short_name(layer)}", *store.read_chain(layer))


@mutant(
    breaks=("OVL-LIFE-NO-LEAKS",),
    source="behaviour#path-escapes: a space in the home; field-bugs#special-paths",
    hard=True,
)
class MountinfoIsNotUnescaped(Patched):
    """A space in the path of the home is not recognised in the kernel's list of mounts, so its mount stays."""

    @staticmethod
    @replaces(mountinfo._unescape)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """With its escapes."""
        del original, kwargs
        return os.fsdecode(args[0])


@mutant(breaks=("OVL-CHAIN-128",), source="boundary: 127 lowers", hard=True)
class MountDropsLower128(Patched):
    """A mount takes 127 lowers, and the lowest of 128 is left out."""

    @staticmethod
    @replaces(mounts.mount_overlay)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As many as that."""
        request, *rest = args
        return original(dataclasses.replace(request, lowers=request.lowers[:127]), *rest, **kwargs)


@mutant(breaks=("OVL-CHAIN-ORDER",), source="derived: the relative form only", hard=True)
class MountSortsManyLowers(Patched):
    """More lowers than a page holds by absolute paths are mounted in the order of their names."""

    @staticmethod
    @replaces(mounts.plan_mount)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Sorted, if it is not the first form that fits."""
        plan = original(*args, **kwargs)
        if not plan.directory:
            return plan
        ordered = dataclasses.replace(args[0], lowers=tuple(sorted(args[0].lowers)))
        return original(ordered, *args[1:], **kwargs)


@mutant(breaks=("OVL-CHAIN-129-REFUSED",), source="derived: depths that are kept in memory", hard=True)
class DepthIsCountedSinceOpening(Patched):
    """A home that has layers when it is opened has no limit, as their depths are not known."""

    limited: dict[int, bool] = {}  # noqa: RUF012 - of all openings

    @staticmethod
    @replaces(layers.LayerStore.chain_above)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look at the limit, if this opening's first layer has no parent."""
        store = args[0]
        limited = DepthIsCountedSinceOpening.limited.setdefault(id(store), len(os.listdir(f"{store._home}/l")) == 1)
        if limited:
            return original(*args, **kwargs)
        layers.MAX_LOWERS, before = 4096, layers.MAX_LOWERS  # type: ignore[misc]  # as if it were another constant
        try:
            return original(*args, **kwargs)
        finally:
            layers.MAX_LOWERS = before  # type: ignore[misc]
