"""The layout on disk: which layers there are, where, and what they are built on.

A home holds ``<id>/{diff,link}`` for a base layer and ``<id>/{diff,link,lower,work,merged}`` for a layer
with a parent; ``l/<short>`` is a symlink to ``../<id>/diff``. ``lower`` names the chain by short links,
uppermost first, so that the option data of a mount stays short whatever the ids are. Additional image stores
hold the same layout and are only read.

Whatever is read back from disk is checked before it becomes part of a path.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from refdriver import trees
from refdriver.errors import BadLayerId, BrokenLayer, LayerNotFound, MaxDepthExceeded

LINK_DIRECTORY: Final = "l"
STATE_DIRECTORY: Final = ".refdriver"  # locks, reference counts and staging: this driver's own
MAX_LOWERS: Final = 128
SHORT_NAME_LENGTH: Final = 26
_SHORT_NAME: Final = re.compile(rf"[A-Z2-7]{{{SHORT_NAME_LENGTH}}}")
_SHORT_LINK: Final = re.compile(rf"{LINK_DIRECTORY}/[A-Z2-7]{{{SHORT_NAME_LENGTH}}}")
_LINK_TARGET: Final = re.compile(r"\.\./([^/\0]+)/diff")
_ID_SHAPE: Final = re.compile(r"[^/\0.][^/\0]{0,254}")
_RESERVED: Final = frozenset({LINK_DIRECTORY, "staging", "backingFsBlockDev"})
_NAME_MAX: Final = 255
_LOWER_FILE_MAX: Final = 65536  # bytes; ten times what 128 lowers take


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. ``store`` is the directory that holds it: the home, or one of an image store."""

    layer_id: str
    store: str
    writable: bool

    @property
    def directory(self) -> str:
        """``<store>/<id>``."""
        return f"{self.store}/{self.layer_id}"

    @property
    def diff(self) -> str:
        """The layer's own content: the upper of its mount, a lower of its children's."""
        return f"{self.store}/{self.layer_id}/diff"

    @property
    def work(self) -> str:
        """The work directory that the kernel wants beside an upper."""
        return f"{self.store}/{self.layer_id}/work"

    @property
    def merged(self) -> str:
        """The mount point."""
        return f"{self.store}/{self.layer_id}/merged"

    @property
    def has_lowers(self) -> bool:
        """Whether the layer has a parent; a base layer is not mounted."""
        return os.access(f"{self.store}/{self.layer_id}/lower", os.F_OK)


@dataclass(frozen=True, slots=True)
class Lower:
    """One lower of a chain: ``l/<short>``, the store that holds it, and the layer behind it."""

    short: str
    layer: Layer

    @property
    def link(self) -> str:
        """The short link as an absolute path: what a mount names."""
        return f"{self.layer.store}/{self.short}"


def check_id(layer_id: str) -> str:
    """The id itself, if it can only name one directory of a home; raises BadLayerId."""
    if (
        not _ID_SHAPE.fullmatch(layer_id)
        or ".." in layer_id
        or layer_id in _RESERVED
        or not (layer_id.isascii() or len(os.fsencode(layer_id)) <= _NAME_MAX)
    ):
        raise BadLayerId(
            f"layer id {layer_id!r} is refused: an id is 1 to {_NAME_MAX} bytes without '/', '..' or NUL,"
            f" does not begin with '.', and is none of {', '.join(sorted(_RESERVED))}"
        )
    return layer_id


def new_short_name() -> str:
    """26 random characters of base32 (130 bits, as many as 128 lowers in one page of options leave room for)."""
    return base64.b32encode(os.urandom(17)).decode("ascii")[:SHORT_NAME_LENGTH]


class LayerStore:
    """The layers of one home and of the image stores behind it, in that order."""

    def __init__(self, home: str, image_stores: Sequence[str], root: tuple[int, int]) -> None:
        self._home = home
        self._all_stores = (home, *image_stores)
        self._root = root

    def exists(self, layer_id: str) -> bool:
        """Whether there is such a layer anywhere."""
        check_id(layer_id)
        return any(os.access(f"{store}/{layer_id}", os.F_OK) for store in self._all_stores)

    def find(self, layer_id: str) -> Layer:
        """The layer, from the home or from the first image store that has it; raises LayerNotFound."""
        layer = self._lookup(check_id(layer_id))
        if layer is None:
            where = ", ".join(self._all_stores)
            raise LayerNotFound(f"no layer {layer_id!r} in {where}")
        return layer

    def base_tree(self, layer_id: str) -> str | None:
        """The diff of a base layer of the home, None for every other; the short way for what is asked most."""
        directory = f"{self._home}/{check_id(layer_id)}"
        if os.access(f"{directory}/diff", os.F_OK) and not os.access(f"{directory}/lower", os.F_OK):
            return f"{directory}/diff"
        return None

    def _lookup(self, layer_id: str) -> Layer | None:
        for store in self._all_stores:
            if os.access(f"{store}/{layer_id}", os.F_OK):
                return Layer(layer_id, store, store == self._home)
        return None

    def all_of_home(self) -> Iterator[Layer]:
        """Every layer of the home itself."""
        with os.scandir(self._home) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and entry.name[0] != "." and entry.name not in _RESERVED:
                    yield Layer(entry.name, self._home, writable=True)

    def read_short_name(self, layer: Layer) -> str:
        """What the layer's ``link`` file says; raises BrokenLayer when that is no short name."""
        text = _read_small(layer, "link")
        if text is None or not _SHORT_NAME.fullmatch(text):
            found = self._short_name_that_leads_to(layer) or "(none found; the layer must be made again)"
            raise BrokenLayer(
                f"layer {layer.layer_id!r}: {layer.directory}/link {_described(text)} instead of"
                f" {SHORT_NAME_LENGTH} characters of A-Z and 2-7; the short link that leads to the layer is {found}"
            )
        return text

    def read_chain(self, layer: Layer) -> tuple[str, ...]:
        """The ``l/<short>`` entries of ``lower``, uppermost first, none for a base layer; raises BrokenLayer."""
        text = _read_small(layer, "lower")
        if text is None:
            return ()
        chain = tuple(text.split(":"))
        for entry in chain:
            if not _SHORT_LINK.fullmatch(entry):
                raise BrokenLayer(
                    f"layer {layer.layer_id!r}: {layer.directory}/lower holds {entry[:80]!r}, which is not"
                    f" {LINK_DIRECTORY}/ and a short link name; the file is damaged, make the layer again"
                )
        if len(set(chain)) != len(chain):
            raise BrokenLayer(
                f"layer {layer.layer_id!r}: {layer.directory}/lower names a lower twice; make the layer again"
            )
        return chain

    def lowers(self, layer: Layer) -> tuple[Lower, ...]:
        """The chain with each short link resolved in the store that holds it; raises BrokenLayer."""
        return tuple(self._resolve(layer, short) for short in self.read_chain(layer))

    def is_direct_parent(self, layer: Layer, parent: str) -> bool:
        """Whether ``parent`` ("" for none) is what the layer was built on."""
        chain = self.read_chain(layer)
        if not parent or not chain:
            return not parent and not chain
        return self._resolve(layer, chain[0]).layer == self.find(parent)

    def chain_above(self, parent: str) -> tuple[str, ...]:
        """The chain of a new layer on ``parent``; raises LayerNotFound, BrokenLayer or MaxDepthExceeded."""
        layer = self.find(parent)
        chain = (f"{LINK_DIRECTORY}/{self.read_short_name(layer)}", *self.read_chain(layer))
        if len(chain) > MAX_LOWERS:
            raise MaxDepthExceeded(
                f"max depth exceeded: a layer on {parent!r} would have {len(chain)} lowers and the limit is"
                f" {MAX_LOWERS}; squash some of its layers"
            )
        return chain

    def built_on(self, layer: Layer) -> list[str]:
        """The ids of the home's layers that have this one in their chain, sorted."""
        short = self._short_name_or_none(layer)
        if short is None:
            return []
        entry = f"{LINK_DIRECTORY}/{short}"
        # Read as it is: a damaged file of another layer must neither hide a child nor stop a removal.
        return sorted(
            other.layer_id
            for other in self.all_of_home()
            if other != layer and entry in (_read_small(other, "lower") or "").split(":")
        )

    def build(self, directory: str, layer_id: str, chain: Sequence[str]) -> None:
        """Fill a staged layer's directory and make its short link, which leads nowhere until the layer moves in.

        ``link`` is written first: it tells a sweep which short link to take away.
        """
        short = self._claim_short_name(directory)
        trees.make_directory(f"{directory}/diff", 0o755, self._root)
        if chain:
            trees.make_directory(f"{directory}/work", 0o700, self._root)
            trees.make_directory(f"{directory}/merged", 0o700, self._root)
            _write(f"{directory}/lower", ":".join(chain), 0o666)
        os.symlink(f"../{layer_id}/diff", f"{self._home}/{LINK_DIRECTORY}/{short}")

    def _claim_short_name(self, directory: str) -> str:
        short = new_short_name()
        while os.path.lexists(f"{self._home}/{LINK_DIRECTORY}/{short}"):
            short = new_short_name()
        _write(f"{directory}/link", short, 0o644)
        return short

    def _resolve(self, layer: Layer, short: str) -> Lower:
        for store in self._all_stores:
            try:
                target = os.readlink(f"{store}/{short}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BrokenLayer(f"layer {layer.layer_id!r}: {store}/{short} is no symlink: {error}") from error
            match = _LINK_TARGET.fullmatch(target)
            if match is None:
                raise BrokenLayer(
                    f"layer {layer.layer_id!r}: short link {store}/{short} leads to {target!r}, not to ../ID/diff"
                )
            lower = Layer(_checked_target(layer, match[1]), store, writable=store == self._home)
            if not os.path.isdir(lower.diff):
                raise BrokenLayer(f"layer {layer.layer_id!r}: its lower {lower.layer_id!r} has no {lower.diff}")
            return Lower(short, lower)
        raise BrokenLayer(
            f"layer {layer.layer_id!r}: cannot find its lower {short!r} in the home or in an image store"
            f" ({', '.join(self._all_stores)})"
        )

    def _short_name_or_none(self, layer: Layer) -> str | None:
        # A layer without a link file was damaged by hand; nothing can be mounted on it.
        return None if _read_small(layer, "link") is None else self.read_short_name(layer)

    def _short_name_that_leads_to(self, layer: Layer) -> str | None:
        directory = f"{layer.store}/{LINK_DIRECTORY}"
        for name in sorted(os.listdir(directory)):
            path = f"{directory}/{name}"
            if os.path.islink(path) and os.readlink(path) == f"../{layer.layer_id}/diff":
                return name
        return None


def _checked_target(layer: Layer, target: str) -> str:
    try:
        return check_id(target)
    except BadLayerId as error:
        raise BrokenLayer(f"layer {layer.layer_id!r}: a short link of its chain: {error}") from error


def _described(text: str | None) -> str:
    return "is missing" if text is None else f"holds {text[:80]!r}"


def _read_small(layer: Layer, name: str) -> str | None:
    """The text of a file of the layer, None if there is none; raises BrokenLayer for what is no small file."""
    path = f"{layer.directory}/{name}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BrokenLayer(f"layer {layer.layer_id!r}: cannot open {path}: {error.strerror}") from error
    try:
        data = os.read(fd, _LOWER_FILE_MAX)
    except OSError as error:
        raise BrokenLayer(f"layer {layer.layer_id!r}: cannot read {path}: {error.strerror}") from error
    finally:
        os.close(fd)
    return os.fsdecode(data)


def _write(path: str, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.write(fd, text.encode("ascii"))
        os.fsync(fd)  # before the layer is renamed into its place: a power cut must not leave it with an empty file
    finally:
        os.close(fd)
