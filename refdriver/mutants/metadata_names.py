"""Mutants of names of the reference driver."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from refdriver import driver, mounts
from refdriver.archive import tarformat
from refdriver.linux import libc
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(breaks=("OVL-NAMES-HOME",), source="moby/moby#40939", hard=True)
class MountEscapesNoColon(Patched):
    """A colon in a path is not escaped, and ends a lower."""

    @staticmethod
    @replaces(mounts.escape)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All else."""
        return original(*args, **kwargs).replace("\\:", ":")


@mutant(breaks=("OVL-NAMES-HOME",), source="containers/fuse-overlayfs#227", hard=True)
class MountEscapesNoComma(Patched):
    """A comma in a path is not escaped, and ends an option."""

    @staticmethod
    @replaces(mounts.escape)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All else."""
        return original(*args, **kwargs).replace("\\,", ",")


@mutant(breaks=("OVL-NAMES-HOME",), source="containers/fuse-overlayfs#440", hard=True)
class MountEscapesNoBackslash(Patched):
    """A backslash in a path is not escaped, and escapes what follows it."""

    @staticmethod
    @replaces(mounts.escape)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All else."""
        del original, kwargs
        return str(args[0]).replace(":", "\\:").replace(",", "\\,")


@mutant(breaks=("OVL-NAMES-HOME",), source="moby/moby#40939: the order of two escapes", hard=True)
class MountEscapesBackslashesLast(Patched):
    """Backslashes are escaped last, those of the other escapes too."""

    @staticmethod
    @replaces(mounts.escape)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """In another order."""
        del original, kwargs
        return str(args[0]).replace(":", "\\:").replace(",", "\\,").replace("\\", "\\\\")


@mutant(breaks=("OVL-NAMES-HOME",), source="moby/moby#40939: upper and work", hard=True)
class MountEscapesLowersOnly(Patched):
    """Lowers are escaped, and the upper and the work directory are not."""

    @staticmethod
    @replaces(mounts.option_data)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Lowers first, then the rest as it is."""
        (request,) = args
        only_lowers = original(dataclasses.replace(request, upper="", work="", options=()), **kwargs)
        words = [f"upperdir={request.upper}", f"workdir={request.work}"] if request.upper else []
        return b",".join([only_lowers, *map(os.fsencode, [*words, *filter(None, request.options)])])


@mutant(breaks=("OVL-NAMES-LONG-PATHS",), source="boundary: 100 bytes of a name, POSIX ustar", hard=True)
class DiffTruncatesNamesOf100(Patched):
    """A name of exactly 100 bytes loses its last: there is to be a NUL behind it."""

    @staticmethod
    @replaces(tarformat.encode)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        if len(args[0].name) == 100:
            args[0].name = args[0].name[:99]
        return original(*args, **kwargs)


@mutant(breaks=("OVL-NAMES-LONG-PATHS",), source="boundary: 155 bytes of a prefix, POSIX ustar", hard=True)
class DiffTruncatesPrefixesOf155(Patched):
    """A prefix of exactly 155 bytes loses its last: there is to be a NUL behind it."""

    @staticmethod
    @replaces(tarformat._split_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        name, prefix = original(*args, **kwargs)
        return name, prefix[:154]


@mutant(breaks=("OVL-NAMES-LONG-PATHS",), source="boundary: 100 bytes of a target, POSIX ustar", hard=True)
class DiffTruncatesTargetsOf100(Patched):
    """The target of a symlink is kept in a record from 101 bytes on, and loses its last byte at exactly 100."""

    @staticmethod
    @replaces(tarformat.encode)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        if len(args[0].target) == 100:
            args[0].target = args[0].target[:99]
        return original(*args, **kwargs)


@mutant(breaks=("OVL-NAMES-LONG-PATHS",), source="readlink(2): a buffer that is too small")
class DiffTruncatesTargetsTo512(Patched):
    """The target of a symlink is read into 512 bytes."""

    @staticmethod
    @replaces(tarformat.encode)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        args[0].target = args[0].target[:512]
        return original(*args, **kwargs)


@mutant(breaks=("OVL-NAMES-HOME",), source="moby/moby#40939: the relative form", hard=True)
class RelativeMountEscapesItsDirectory(Patched):
    """The directory that relative paths begin at is escaped like an option, so that there is none of that name."""

    @staticmethod
    @replaces(mounts._mount_from)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Escape it."""
        return original(mounts.escape(args[0]), *args[1:], **kwargs)


@mutant(breaks=("OVL-NAMES-LAYER-IDS",), source="derived: an id that begins another", hard=True)
class RemoveUnmountsWhatBeginsAlike(Patched):
    """A layer that is removed takes the mounts of all ids with it that begin as its own."""

    @staticmethod
    @replaces(driver.Driver.remove)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Unmount them first."""
        self, layer_id = args
        for name in self._mounts.mounted_layers():
            if name.startswith(layer_id):
                libc.umount(self._mounts.target(self._layers.find(name)), libc.MNT_DETACH)
        return original(*args, **kwargs)
