"""What an archive deletes and hides: whiteouts, opaque whiteouts, and directories in the place of what hid lowers.

Within one archive whiteouts speak of what lay below it: an entry that the archive itself brings stays, whichever of
the two comes first (OCI image specification, layer.md). So what the archive brought is remembered here.

An opaque whiteout at the root of the archive hides all that lay below the layer. The kernel merges the roots of all
layers whatever their attributes say, so in a layer's diff it becomes a whiteout for each name that the lowers show.
"""

from __future__ import annotations

import errno
import os
import stat

from refdriver.archive import metadata
from refdriver.archive.clearing import Clearing, remove_if_empty
from refdriver.archive.clearing import remove_whiteouts as _remove_whiteouts
from refdriver.archive.roots import Root, by_descriptor, lstat_or_none
from refdriver.archive.tarformat import Member
from refdriver.descent import READ
from refdriver.errors import NeedsRoot
from refdriver.overlayxattr import OverlayXattrs, is_directory_below, is_whiteout_device, names_below
from refdriver.trees import remove_entry


class Deletions:
    """The deletions of one archive on its way into one root.

    In a layer's diff (``overlay``, over ``lowers``) they become overlay's marks. In a mounted tree they delete.
    ``found_older`` says whether the archive is not all that the root holds: something was there before, or was
    removed again.
    """

    def __init__(
        self, root: Root, owners: metadata.Owners, overlay: OverlayXattrs | None, lowers: tuple[str, ...]
    ) -> None:
        self._root = root
        self._owners = owners
        self._overlay = overlay
        self._lowers = lowers
        # What this archive brought is what a layer's diff holds, if that was empty; else it has to be remembered:
        # in a mounted tree a deletion copies directories up, too.
        self._written: set[bytes] | None = set() if overlay is None or os.listdir(root.path) else None
        self._clearing = Clearing(lambda path: self._brought(path), lambda but: root.forget(but=but))
        self._implied: set[bytes] = set()  # real paths of directories that whiteouts in them made, and nothing else
        self._opaque: set[bytes] = set()  # real paths of directories that this archive made opaque
        self._root_is_opaque = False
        self.found_older = self._written is not None

    def apply(self, parent: bytes, name: bytes | None, member: Member) -> None:
        """Delete a name of a directory, or all in it that lay below this archive (None); by the cleaned path.

        Raises NeedsRoot, BadArchive and IncompatibleFilesystem.
        """
        # What a whiteout names lies at exactly that path: behind a symlink there is nothing of that name.
        hides = self._hides_lowers(parent)
        # In a mounted tree a whiteout removes: where its directory is not, there is nothing to make or to remove.
        make_missing = hides and self._overlay is not None
        missing = self._missing(parent) if make_missing else []
        with self._root.plain_directory(parent, _nothing_below, make_missing=make_missing) as directory:
            if directory is None:
                return
            self._implied.update(missing)
            if name is None and not parent:
                self._make_root_opaque(member)
            elif name is None:
                self._make_opaque(directory)
            else:
                self._delete(directory, name, member, hides=hides)

    def keep(self, directory: int, name: bytes) -> None:
        """Remember an entry that the archive brought, and the directories above: a whiteout of one leaves it."""
        if self._written is None and not self._implied:
            return
        path = self._root.real_path(directory, name)
        while path and (self._written is None or path not in self._written or path in self._implied):
            self._implied.discard(path)
            if self._written is not None:
                self._written.add(path)
            path = path.rpartition(b"/")[0]

    def replace_older(self, directory: int, name: bytes) -> bool:
        """Make a parent where a whiteout or an older file is; False if the archive itself brought that file."""
        status = lstat_or_none(directory, name)
        if status is None or (
            not is_whiteout_device(status) and self._brought(self._root.real_path(directory, name))
        ):
            return False
        self.found_older = True
        os.unlink(name, dir_fd=directory)
        os.mkdir(name, 0o755, dir_fd=directory)
        os.chmod(name, 0o755, dir_fd=directory)  # whatever the umask is
        os.chown(name, *self._owners.root, dir_fd=directory)
        self.hide_what_was_hidden(directory, name)
        return True

    def hide_what_was_hidden(self, directory: int, name: bytes) -> None:
        """A new directory shows nothing of the lowers where a whiteout or a file hid them.

        It is empty: to clear it would only close descriptors that are in use.
        """
        path = self._root.real_path(directory, name)
        if self._overlay is not None and self._hides_lowers(path.strip(b"/")):
            fd = os.open(name, READ, dir_fd=directory)
            try:
                self._mark_opaque(fd, path + b"/")
            finally:
                os.close(fd)

    def remove_hidden_whiteouts(self) -> None:
        """Below a directory that hides its lowers no whiteout is needed, and it would be seen as a device.

        Once at the end for each such directory that is not below another: at each opaque whiteout it would take
        n files and n opaque whiteouts n * n steps.
        """
        done = b"\0"
        for path in sorted(self._opaque):
            if path.startswith(done):
                continue
            with self._root.plain_directory(path.strip(b"/"), None, make_missing=False) as directory:
                if directory is not None and self._is_opaque(directory):
                    _remove_whiteouts(by_descriptor(directory))
                    done = path

    def _missing(self, directory: bytes) -> list[bytes]:
        """The real paths of the directories on the way to a directory that are not there; none behind a symlink."""
        found: list[bytes] = []
        path = b"/" + directory
        while path != b"/" and not os.path.lexists(self._root.path + path):
            found.append(path)
            path = os.path.dirname(path)
        return found

    def _hides_lowers(self, directory: bytes) -> bool:
        """Whether a whiteout in this directory would hide something, or be seen as a device.

        The kernel filters whiteouts out of directories that it merges; one that shows the upper alone it passes
        on as it is (overlayfs.rst, readdir). A mounted tree has no whiteouts to be seen.
        """
        if self._overlay is None:
            return True
        parts = [part for part in directory.split(b"/") if part]
        above = [b"/".join([self._root.path, *parts[:end]]) for end in range(len(parts) + 1)]
        # Behind a symlink nothing is named, and it may lead to itself or out of the layer.
        if any(os.path.islink(one) or self._overlay.is_opaque(one) for one in above):
            return False
        return is_directory_below(self._lowers, parts, self._overlay)

    def _delete(self, directory: int, name: bytes, member: Member, *, hides: bool) -> None:
        if self._overlay is None:
            self._delete_older(directory, name, self._root.real_path(directory, name))
            return
        status = lstat_or_none(directory, name)
        if (
            status is not None
            and not is_whiteout_device(status)
            and self._brought(self._root.real_path(directory, name))
        ):
            if stat.S_ISDIR(status.st_mode):
                self._make_opaque_by_name(directory, name)
            return
        owner = self._owners.of(member)
        self._root.forget(but=directory)
        if status is not None:
            self.found_older = True
            remove_entry(name, directory)
        if not hides:
            return
        try:
            os.mknod(name, stat.S_IFCHR | 0o600, 0, dir_fd=directory)
        except PermissionError as error:
            raise NeedsRoot(f"cannot make the whiteout {member.name!r}: {error.strerror}") from error
        metadata.chown(name, owner, member, directory)

    def _delete_older(self, directory: int, name: bytes, path: bytes) -> None:
        """Remove an entry of the merged tree, but for what this archive brought."""
        status = lstat_or_none(directory, name)
        if status is None:
            return
        brought = self._brought(path)
        if stat.S_ISDIR(status.st_mode):
            fd = os.open(name, READ, dir_fd=directory)
            try:
                self._clearing.clear(fd, path + b"/")
            finally:
                os.close(fd)
            if not brought:
                remove_if_empty(directory, name)
        elif not brought:
            os.unlink(name, dir_fd=directory)

    def _make_opaque(self, directory: int) -> None:
        path = self._root.real_path(directory, b"")
        if self._written is not None or self._implied:  # else the layer was empty, and entries brought all of it
            self.found_older = True
            self._clearing.clear(directory, path)
        self._mark_opaque(directory, path)

    def _make_opaque_by_name(self, directory: int, name: bytes) -> None:
        fd = os.open(name, READ, dir_fd=directory)
        try:
            self._make_opaque(fd)
        finally:
            os.close(fd)

    def _make_root_opaque(self, member: Member) -> None:
        self._make_opaque(self._root.fd)
        if self._overlay is not None and not self._root_is_opaque:
            self._root_is_opaque = True
            for name in names_below(self._lowers, self._overlay):
                self._delete(self._root.fd, name, member, hides=True)

    def _mark_opaque(self, directory: int, path: bytes) -> None:
        if self._overlay is not None and path != b"/":
            metadata.set_xattr(by_descriptor(directory), self._overlay.opaque, b"y", b"an opaque mark")
            self._opaque.add(path)

    def _is_opaque(self, directory: int) -> bool:
        return self._overlay is not None and self._overlay.is_opaque(by_descriptor(directory))

    def _brought(self, path: bytes) -> bool:
        """Whether this archive brought what is at a real path below the root."""
        if self._written is not None:
            return path in self._written
        if path in self._implied:
            return False
        try:
            return not is_whiteout_device(os.lstat(self._root.path + path))
        except (FileNotFoundError, NotADirectoryError):
            return False


def _nothing_below(_: int, name: bytes) -> bool:
    """Below a whiteout or a file nothing can be deleted, and the lower's directory is hidden already."""
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
