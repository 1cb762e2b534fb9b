"""The layout on disk: which layers there are, where, and what they are built on.

A home holds ``<id>/{diff,link,work,empty}`` for a base layer and ``<id>/{diff,link,lower,work,merged}`` for a layer
with a parent; ``l/<short>`` is a symlink to ``../<id>/diff``. ``lower`` names the chain by short links,
uppermost first, so that the option data of a mount stays short whatever the ids are. Additional image stores
hold the same layout and are only read. This driver does not mount base layers; containers-storage does, and needs
their ``empty`` and ``work`` for it.

containers-storage 1.64 and later writes ``lower-layers`` beside ``lower``: the ids of the same chain. It reads that
first and does without it. This driver does not write it: a short link names one layer of one store, and an id may
name a layer in each store. It reads the file where there is one, and refuses a layer whose two files disagree.

Whatever is read back from disk is checked before it becomes part of a path.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from refdriver import files, trees
from refdriver.errors import BadLayerId, BrokenLayer, LayerNotFound, MaxDepthExceeded
from refdriver.kinship import Chains, Kinship
from refdriver.linux import libc

LINK_DIRECTORY: Final = "l"
MAX_LOWERS: Final = 128
SHORT_NAME_LENGTH: Final = 26
_BASE32_OF_BYTE: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" * 8  # each character for 8 of 256 bytes
_SHORT_NAME: Final = re.compile(rf"[A-Z2-7]{{{SHORT_NAME_LENGTH}}}")
_SHORT_LINK: Final = re.compile(rf"{LINK_DIRECTORY}/[A-Z2-7]{{{SHORT_NAME_LENGTH}}}")
_LINK_TARGET: Final = re.compile(r"\.\./([^/\0]+)/diff")
_CHAIN: Final = re.compile(rf"{_SHORT_LINK.pattern}(?::{_SHORT_LINK.pattern})*")
_ID_SHAPE: Final = re.compile(r"[^/\0.][^/\0]{0,254}")
_RESERVED: Final = frozenset({LINK_DIRECTORY, "staging", "tempdirs", "backingFsBlockDev"})
_NAME_MAX: Final = 255
_LOWER_IDS: Final = "lower-layers"
_NO_FILE: Final = (errno.ELOOP, errno.EISDIR, errno.ENXIO)  # a symlink, a directory, a socket
_LOG: Final = logging.getLogger("refdriver")
_LOWER_FILE_MAX: Final = 65536  # bytes; ten times what 128 lowers take, twice what 128 ids of 255 bytes take


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
        """Whether the layer has a parent; a base layer is not mounted. Raises OSError."""
        return _has_lowers(f"{self.store}/{self.layer_id}")


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
    return os.urandom(SHORT_NAME_LENGTH).translate(_BASE32_OF_BYTE).decode("ascii")


class LayerStore:
    """The layers of one home and of the image stores behind it, in that order."""

    def __init__(self, home: str, image_stores: Sequence[str], root: tuple[int, int]) -> None:
        self._home = home
        self._all_stores = (home, *image_stores)
        self._root = root
        self.kinship = Kinship(home, f"{home}/{LINK_DIRECTORY}")

    def exists(self, layer_id: str) -> bool:
        """Whether there is such a layer anywhere."""
        check_id(layer_id)
        return any(libc.exists(f"{store}/{layer_id}") for store in self._all_stores)

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
        # That something is there, os.access can tell; False may be any error. Only base layers have 'empty'.
        if (
            os.access(f"{directory}/diff", os.F_OK)
            and not libc.exists(f"{directory}/lower")
            and (os.access(f"{directory}/empty", os.F_OK) or not libc.exists(f"{directory}/{_LOWER_IDS}"))
        ):
            return f"{directory}/diff"
        return None

    def _lookup(self, layer_id: str) -> Layer | None:
        for store in self._all_stores:
            if libc.exists(f"{store}/{layer_id}"):
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
            return self._chain_by_ids(layer)
        chain = tuple(text.split(":"))
        if not _CHAIN.fullmatch(text):
            entry = next((entry for entry in chain if not _SHORT_LINK.fullmatch(entry)), text)
            raise BrokenLayer(
                f"layer {layer.layer_id!r}: {layer.directory}/lower holds {entry[:80]!r}, which is not"
                f" {LINK_DIRECTORY}/ and a short link name; the file is damaged, make the layer again"
            )
        if len(set(chain)) != len(chain):
            raise BrokenLayer(
                f"layer {layer.layer_id!r}: {layer.directory}/lower names a lower twice; make the layer again"
            )
        return chain

    def _chain_by_ids(self, layer: Layer) -> tuple[str, ...]:
        text = _read_small(layer, _LOWER_IDS)
        if text is None:
            return ()
        try:
            found = [self.find(layer_id) for layer_id in text.split(":")]
        except (BadLayerId, LayerNotFound) as error:
            raise BrokenLayer(f"layer {layer.layer_id!r}: {layer.directory}/{_LOWER_IDS}: {error}") from error
        return tuple(f"{LINK_DIRECTORY}/{self.read_short_name(lower)}" for lower in found)

    def lowers(self, layer: Layer, *, must_exist: bool = True) -> tuple[Lower, ...]:
        """The chain with each short link resolved in the store that holds it; raises BrokenLayer.

        A mount asks for itself whether the directories exist.
        """
        found = tuple([self._resolve(layer, short, must_exist=must_exist) for short in self.read_chain(layer)])
        ids = _read_small(layer, _LOWER_IDS) if found else None
        # Compared as a whole: an id may hold a colon.
        if ids is not None and ids != ":".join(lower.layer.layer_id for lower in found):
            raise BrokenLayer(
                f"layer {layer.layer_id!r}: {layer.directory}/{_LOWER_IDS} holds {ids[:80]!r}, and lower leads to"
                f" {':'.join(lower.layer.layer_id for lower in found)[:80]!r}; make the layer again"
            )
        return found

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
        # A kill leaves a layer without its short link, and containers-storage 1.64 needs that of a lower.
        self._read_short_link(layer, layer.store, chain[0])
        if len(chain) > MAX_LOWERS:
            raise MaxDepthExceeded(
                f"max depth exceeded: a layer on {parent!r} would have {len(chain)} lowers and the limit is"
                f" {MAX_LOWERS}; squash some of its layers"
            )
        return chain

    def built_on(self, layer: Layer) -> list[str]:
        """The ids of the home's layers that have this one in their chain, sorted.

        They are read only if there may be any: see :mod:`refdriver.kinship`. The caller holds the structure.
        """
        short = self._short_name_or_none(layer)
        entry = f"{LINK_DIRECTORY}/{short}" if short is not None else None
        if self.kinship.is_current() and not self.kinship.names(entry, layer.layer_id):
            return []
        found = []
        self.kinship.begin()
        # Read as it is: a damaged file of another layer must neither hide a child nor stop a removal.
        for other in self.all_of_home():
            lower, ids = chains = self.chains(other)
            self.kinship.note(other.layer_id, chains)
            if entry in (lower or "").split(":") or layer.layer_id in (ids or "").split(":"):
                found.append(other.layer_id)
        self.kinship.end()
        return sorted(child for child in found if child != layer.layer_id)

    def chains(self, layer: Layer) -> Chains:
        """The text of ``lower`` and of ``lower-layers``, None for a missing file; raises OSError, BrokenLayer."""
        return _read_small(layer, "lower"), _read_small(layer, _LOWER_IDS)

    def build(self, directory: str, chain: Sequence[str]) -> str:
        """Fill a staged layer's directory; the short name of the layer, which has no short link yet."""
        short = self._claim_short_name(directory)
        trees.make_directory(f"{directory}/diff", 0o755, self._root)
        trees.make_directory(f"{directory}/work", 0o700, self._root)
        if chain:
            trees.make_directory(f"{directory}/merged", 0o700, self._root)
            _write(f"{directory}/lower", ":".join(chain), 0o666)
        else:
            trees.make_directory(f"{directory}/empty", 0o700, self._root)
        return short

    def make_short_link(self, layer_id: str, *, short: str = "") -> None:
        """Make the short link of a layer that has moved in; its ``link`` file is read unless its name is given.

        After that, not before: what a kill leaves is then a layer without one, which every reader of this layout
        repairs, and never a short link without a layer, on which the repair of containers-storage fails.
        """
        layer = Layer(layer_id, self._home, writable=True)
        name = short or self.read_short_name(layer)
        os.symlink(f"../{layer_id}/diff", f"{self._home}/{LINK_DIRECTORY}/{name}")

    def _claim_short_name(self, directory: str) -> str:
        short = new_short_name()  # as no other: 130 random bits
        _write(f"{directory}/link", short, 0o644)
        return short

    def _resolve(self, layer: Layer, short: str, *, must_exist: bool = True) -> Lower:
        for store in self._all_stores:
            try:
                target: str | None = os.readlink(f"{store}/{short}")
            except OSError:
                target = self._read_short_link(layer, store, short)
            if target is None:
                continue
            try:
                lower = _behind(short, target, store, store == self._home)
            except BadLayerId as error:
                raise BrokenLayer(f"layer {layer.layer_id!r}: a short link of its chain: {error}") from error
            if lower is None:
                raise BrokenLayer(
                    f"layer {layer.layer_id!r}: short link {store}/{short} leads to {target!r}, not to ../ID/diff"
                )
            if must_exist and not files.is_directory(diff := lower.layer.diff):
                raise BrokenLayer(f"layer {layer.layer_id!r}: its lower {lower.layer.layer_id!r} has no {diff}")
            return lower
        raise BrokenLayer(
            f"layer {layer.layer_id!r}: cannot find its lower {short!r} in the home or in an image store"
            f" ({', '.join(self._all_stores)})"
        )

    def _read_short_link(self, layer: Layer, store: str, short: str) -> str | None:
        """Where a short link of a store leads, None if it has none; a missing one of the home is made again."""
        try:
            target = files.read_link(f"{store}/{short}")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise BrokenLayer(f"layer {layer.layer_id!r}: {store}/{short} is no symlink: {error}") from error
        if target is None and store == self._home:
            return self._repair_short_link(short)
        return target

    def _repair_short_link(self, short: str) -> str | None:
        """Make a missing short link of the home again, if the ``link`` of exactly one layer names it."""
        name = short.removeprefix(f"{LINK_DIRECTORY}/")
        owners = [layer for layer in self.all_of_home() if self._says_short_name(layer, name)]
        if len(owners) != 1:
            return None
        target = f"../{owners[0].layer_id}/diff"
        with suppress(FileExistsError):  # somebody else was faster
            os.symlink(target, f"{self._home}/{short}")
        _LOG.warning("short link %s/%s was missing and is made again, to %s", self._home, short, target)
        return target

    def _says_short_name(self, layer: Layer, name: str) -> bool:
        try:
            return _read_small(layer, "link") == name
        except BrokenLayer:
            return False

    def _short_name_or_none(self, layer: Layer) -> str | None:
        # Of a layer that lost its link file, others may still be mounted on its short link.
        text = _read_small(layer, "link")
        if text is None:
            return self._short_name_that_leads_to(layer)
        return text if _SHORT_NAME.fullmatch(text) else self.read_short_name(layer)

    def _short_name_that_leads_to(self, layer: Layer) -> str | None:
        directory = f"{layer.store}/{LINK_DIRECTORY}"
        for name in sorted(files.names_in(directory)):
            try:
                if files.read_link(f"{directory}/{name}") == f"../{layer.layer_id}/diff":
                    return name
            except OSError as error:
                if error.errno != errno.EINVAL:  # no symlink, and so no short link
                    raise
        return None


@functools.lru_cache(maxsize=1024)
def _behind(short: str, target: str, store: str, writable: bool) -> Lower | None:
    """The lower that a short link with this target stands for, None for no such target; raises BadLayerId."""
    match = _LINK_TARGET.fullmatch(target)
    return Lower(short, Layer(check_id(match[1]), store, writable)) if match else None


def _described(text: str | None) -> str:
    return "is missing" if text is None else f"holds {text[:80]!r}"


def _has_lowers(directory: str) -> bool:
    return libc.exists(f"{directory}/lower") or libc.exists(f"{directory}/{_LOWER_IDS}")


def _read_small(layer: Layer, name: str) -> str | None:
    """The text of a file of the layer, None if there is none; raises OSError, and BrokenLayer for no small file."""
    path = f"{layer.directory}/{name}"
    try:
        data = files.read_whole(path, _LOWER_FILE_MAX)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise BrokenLayer(f"layer {layer.layer_id!r}: cannot read {path}: {error.strerror}") from error
    if data is not None and len(data) > _LOWER_FILE_MAX:
        raise BrokenLayer(f"layer {layer.layer_id!r}: {path} is larger than {_LOWER_FILE_MAX} bytes")
    return None if data is None else os.fsdecode(data)


def remove_short_link(link_directory: str, directory: str, layer_id: str) -> None:
    """Remove the short link that the ``link`` file in a layer's directory names, if it is this layer's own.

    Nothing is removed where there is no such file, no short name in it, or no such link; raises OSError.
    """
    try:
        name = os.fsdecode(files.read_whole(f"{directory}/link", SHORT_NAME_LENGTH) or b"")
        if not _SHORT_NAME.fullmatch(name) or files.read_link(f"{link_directory}/{name}") != f"../{layer_id}/diff":
            return
    except OSError as error:
        if error.errno in (*_NO_FILE, errno.EINVAL):  # no file, or no symlink
            return
        raise
    trees.remove_file(f"{link_directory}/{name}")


def _write(path: str, text: str, mode: int) -> None:
    # On the disk before the layer is renamed into its place: a power cut must not leave it with an empty file.
    files.create_synced(path, text.encode("ascii"), mode)
