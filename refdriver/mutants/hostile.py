"""Mutants of hostile archives of the reference driver."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from typing import Any, Final

from refdriver.archive import pack, reader, roots, tarformat, unpack
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant

_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def _path(root: Any, path: bytes) -> bytes:
    return bytes(os.path.join(root.path, path))


@mutant(breaks=("OVL-HOSTILE-SYMLINK",), source="CVE-2014-9356")
class ApplyChecksNamesAsText(Patched):
    """That a name stays in the layer is checked by its text, and then its directory is opened through symlinks."""

    @staticmethod
    @replaces(roots.Root._walk)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open the whole path at once, if it is there."""
        try:
            return os.open(_path(args[0], args[1]), _STEP)
        except OSError:
            return original(*args, **kwargs)


@mutant(breaks=("OVL-HOSTILE-SYMLINK",), source="behaviour#containment; field-bugs#escape", hard=True)
class ApplyContainsAbsoluteSymlinksOnly(Patched):
    """An absolute symlink is followed from the root of the layer, and '..' in one leads on above that."""

    @staticmethod
    @replaces(roots.Root._walk)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look whether the first part is a symlink with dots."""
        root, path = args[0], args[1]
        first, _, rest = path.partition(b"/")
        link = _path(root, first)
        if os.path.islink(link) and os.readlink(link).startswith(b"../"):
            try:
                return os.open(os.path.join(link, rest), _STEP)
            except OSError:
                return original(*args, **kwargs)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-HOSTILE-SYMLINK",), source="behaviour#containment; field-bugs#escape", hard=True)
class ApplyFollowsSecondSymlink(Patched):
    """A symlink is resolved within the layer, and what it leads to is opened, though that may be another one."""

    @staticmethod
    @replaces(roots.Root._walk)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Read one link by hand, and leave the next to the kernel."""
        root, path = args[0], args[1]
        first, _, rest = path.partition(b"/")
        link = _path(root, first)
        if os.path.islink(link):
            second = _path(root, os.readlink(link).lstrip(b"/"))
            if os.path.islink(second):
                try:
                    return os.open(os.path.join(second, rest), _STEP)
                except OSError:
                    return original(*args, **kwargs)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-HOSTILE-SYMLINK-BELOW",), source="CVE-2018-15664", hard=True)
class ApplyTrustsSymlinksOfLayer(Patched):
    """Symlinks of the archive are minded, and those that the layer had before are taken to be good."""

    made: set[bytes] = set()  # noqa: RUF012 - the links of this process, which is the mutation

    @staticmethod
    @replaces(unpack._Unpacker._entry)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Remember the links."""
        if args[4].kind == b"2":
            ApplyTrustsSymlinksOfLayer.made.add(args[3])
        return original(*args, **kwargs)

    @staticmethod
    @replaces(roots.Root._walk)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open what is not among them."""
        if args[1].partition(b"/")[0] not in ApplyTrustsSymlinksOfLayer.made:
            try:
                return os.open(_path(args[0], args[1]), _STEP)
            except OSError:
                return original(*args, **kwargs)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-HOSTILE-HARD-LINK",), source="CVE-2014-9356: by an absolute hard link")
class HardLinkReachesHost(Patched):
    """The target of a hard link is a path of the host when it is absolute."""

    @staticmethod
    @replaces(unpack._Unpacker._hard_link)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Link it."""
        _, directory, name, _, member = args
        if member.target.startswith(b"/") and os.path.isfile(member.target) and not _is_there(directory, name):
            _link_or_copy(member.target, directory, name)
            return None
        return original(*args, **kwargs)


@mutant(breaks=("OVL-HOSTILE-HARD-LINK",), source="behaviour#containment; field-bugs#escape", hard=True)
class HardLinkFollowsSymlinks(Patched):
    """The target of a hard link is looked up through the symlinks of the archive, wherever they lead."""

    @staticmethod
    @replaces(unpack._Unpacker._hard_link)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave the path to the kernel, if there is a symlink on it."""
        unpacker, directory, name, _, member = args
        path = _path(unpacker._root, member.target)
        if os.path.islink(os.path.dirname(path)) and os.path.isfile(path) and not _is_there(directory, name):
            _link_or_copy(path, directory, name)
            return None
        return original(*args, **kwargs)


def _link_or_copy(path: bytes, directory: int, name: bytes) -> None:
    """A link; where the two are not in one mount a copy, as many programs do."""
    try:
        os.link(path, name, dst_dir_fd=directory)
    except OSError:
        shutil.copy2(path, os.path.join(f"/proc/self/fd/{directory}".encode(), name))


@mutant(breaks=("OVL-HOSTILE-HARD-LINK-MODE",), source="CVE-2021-32760", hard=True)
class HardLinkChmodsTarget(Patched):
    """A hard link gets the mode of its entry, and what is set is that of what the symlink points at."""

    @staticmethod
    @replaces(unpack._Unpacker._hard_link)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set it."""
        _, directory, name, _, member = args
        original(*args, **kwargs)
        if os.access(name, os.F_OK, dir_fd=directory):
            os.chmod(name, member.mode, dir_fd=directory)


@mutant(breaks=("OVL-HOSTILE-HARD-LINK-MODE",), source="CVE-2021-41089: by a symlink")
class SymlinkChmodsTarget(Patched):
    """A symlink gets the mode of its entry, and what is set is that of what it points at on the host."""

    @staticmethod
    @replaces(unpack._Unpacker._own)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set it."""
        _, directory, name, member = args
        original(*args, **kwargs)
        if member.kind == b"2" and os.access(name, os.F_OK, dir_fd=directory):
            os.chmod(name, member.mode & 0o777, dir_fd=directory)


@mutant(breaks=("OVL-HOSTILE-WHITEOUT-OUT",), source="CVE-2014-9356: by a whiteout")
class WhiteoutFollowsSymlinks(Patched):
    """The directory of a whiteout is opened through symlinks, the archive's and the layer's."""

    @staticmethod
    @replaces(roots.Root.plain_directory)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open the whole path at once, if it is there."""
        root, path = args[0], args[1]
        return _Opened(_path(root, path)) if os.path.isdir(_path(root, path)) else original(*args, **kwargs)


@mutant(breaks=("OVL-HOSTILE-OPAQUE-OUT",), source="anchore/stereoscope#694", hard=True)
class OpaqueFollowsSymlinks(Patched):
    """The directory of an opaque whiteout is found through symlinks, within the layer."""

    @staticmethod
    @replaces(roots.Root._walk)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Follow."""
        root, path, *rest = args
        for lower in _below(root):
            link = os.path.join(lower, path)
            if kwargs.get("follow") is False and os.path.islink(link):
                path = os.readlink(link)
                kwargs["make_missing"] = True
        return original(root, path, *rest, **{**kwargs, "follow": True})


def _below(root: Any) -> list[bytes]:
    """The directories of all layers of the home that the root is in."""
    home = root.path
    while home != b"/" and not os.path.isdir(home + b"/l"):
        home = os.path.dirname(home)
    return [os.path.join(home, name, b"diff") for name in os.listdir(home)]


class _Opened:
    """A descriptor for the length of a with statement."""

    def __init__(self, path: bytes) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


@mutant(breaks=("OVL-HOSTILE-WHITEOUT-DOTS",), source="containerd/containerd@384d46d8b", hard=True)
class WhiteoutOfDotHidesAll(Patched):
    """The whiteout '.wh..' is of the directory that it is in, so all that is in it is hidden."""

    @staticmethod
    @replaces(unpack._Unpacker.add)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take it for an opaque whiteout."""
        unpacker, member = args
        directory, slash, name = member.name.rpartition(b"/")
        if name == b".wh..":
            member.name = directory + slash + b".wh..wh..opq"
        return original(unpacker, member, **kwargs)


@mutant(breaks=("OVL-HOSTILE-WHITEOUT-DOTS",), source="containerd/containerd@384d46d8b", hard=True)
class WhiteoutOfDotsDeletesDirectory(Patched):
    """The whiteout '.wh...' in a directory deletes that directory."""

    @staticmethod
    @replaces(unpack._Unpacker.add)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take it for a whiteout one up."""
        unpacker, member = args
        directory, slash, name = member.name.rpartition(b"/")
        if name == b".wh..." and slash:
            above, slash, last = directory.rpartition(b"/")
            member.name = above + slash + b".wh." + last
        return original(unpacker, member, **kwargs)


@mutant(
    breaks=("OVL-HOSTILE-WHITEOUT-DOTS",),
    source="image-spec/layer.md#whiteouts: a bare .wh. is invalid; field-bugs#whiteout-dots",
    hard=True,
)
class WhiteoutOfNothingDeletesDirectory(Patched):
    """The whiteout '.wh.' has no name, and deletes what is under its directory's name with nothing added."""

    @staticmethod
    @replaces(unpack._Unpacker.add)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Delete the directory."""
        unpacker, member = args
        directory, slash, name = member.name.rpartition(b"/")
        if name == b".wh.":
            above, up, last = directory.rpartition(b"/")
            member.name = above + up + b".wh." + last if slash else b".wh..wh..opq"
        return original(unpacker, member, **kwargs)


@mutant(
    breaks=("OVL-HOSTILE-OVERLAY-XATTRS",),
    source="overlayfs.rst: redirect_dir is followed where the attribute is there",
    hard=True,
)
class ApplySetsRedirectXattrs(Patched):
    """An archive may not make a directory opaque by an attribute, and may redirect one."""

    @staticmethod
    @replaces(unpack._Unpacker._is_carried)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Know one name."""
        name = args[1]
        return original(*args, **kwargs) or (name.startswith("trusted.") and not name.endswith(".opaque"))


@mutant(breaks=("OVL-HOSTILE-OVERLAY-XATTRS",), source="behaviour#overlay-xattrs; overlayfs.rst")
class ApplySetsOverlayXattrs(Patched):
    """Whatever attribute an archive has is set, overlay's own included."""

    @staticmethod
    @replaces(unpack._Unpacker._is_carried)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take it."""
        del original, args, kwargs
        return True


@mutant(breaks=("OVL-HOSTILE-DIFF-READ",), source="CVE-2024-9676", hard=True)
class DiffReadsTargetsOfSymlinks(Patched):
    """A symlink goes into the archive with the content of what it points at on the host."""

    @staticmethod
    @replaces(pack._Packer._special)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Read it, if there is something."""
        packer, directory, name, path, status = args
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(name, dir_fd=directory)
            if target.startswith(b"/") and os.path.isfile(target):
                there = os.stat(target)
                for chunk in packer._regular(directory, target, path, there):
                    packer._out += chunk
                return None
        return original(*args, **kwargs)


def _is_there(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@mutant(breaks=("OVL-HOSTILE-CHECKSUM",), source="behaviour#damaged-archives: a wrong checksum")
class ApplyChecksFirstSumOnly(Patched):
    """The checksum of the first header is checked, to see whether it is an archive."""

    checked: set[str] = set()  # noqa: RUF012 - of the archive that is read, which is the mutation

    @staticmethod
    @replaces(reader.ArchiveReader.members)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A new archive."""
        ApplyChecksFirstSumOnly.checked.clear()
        return original(*args, **kwargs)

    @staticmethod
    @replaces(tarformat._check_sum)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Check one."""
        if not ApplyChecksFirstSumOnly.checked:
            original(*args, **kwargs)
        ApplyChecksFirstSumOnly.checked.add("first")


@mutant(breaks=("OVL-HOSTILE-SIZE",), source="boundary: a size of -1")
class ApplyAcceptsNegativeSize(Patched):
    """A size below nothing is nothing."""

    @staticmethod
    @replaces(tarformat._size)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Lift it."""
        return original(max(0, args[0]), **kwargs)
