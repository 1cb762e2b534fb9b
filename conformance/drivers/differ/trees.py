"""Trees of a differ's layers, made by the harness: an archive applied to a directory, as the model says."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from conformance.drivers.mounter import writing
from conformance.drivers.protocol import DriverRefused
from conformance.lab.removal import remove_tree
from conformance.operations.applying import applied
from conformance.operations.members import members_of
from conformance.operations.readers import NotRead
from conformance.operations.trees import Node, Snapshot


def apply(archive: Path, tree: Path, scratch: Path) -> None:
    """Apply an archive to a directory; ``scratch`` is a directory for files of its own.

    Raises DriverRefused for what is no archive of a layer, and OSError. The root keeps its metadata.
    """
    whole, made = scratch / "whole.tar", scratch / "made"
    writing.write(tree, writing.compared("", str(tree)), whole)
    try:
        layers = [members_of(one.read_bytes()) for one in (whole, archive)]
    except NotRead as error:
        raise DriverRefused(f"the archive cannot be read: {error}") from error
    finally:
        whole.unlink(missing_ok=True)
    status = os.stat(tree)
    made.mkdir()
    make(applied(layers).tree, os.fsencode(made))
    os.chown(made, status.st_uid, status.st_gid)
    os.chmod(made, stat.S_IMODE(status.st_mode))
    os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))
    remove_tree(tree)
    made.rename(tree)


def make(tree: Snapshot, root: bytes) -> None:
    """Make a tree in an empty directory; raises OSError."""
    first = {path: min(group) for group in tree.link_groups for path in group}
    directories = []
    for path, node in sorted(tree.nodes.items()):
        at = os.path.join(root, path)
        if node.is_directory:
            os.mkdir(at, 0o700)
            directories.append((at, node))
        elif first.get(path, path) != path:
            os.link(os.path.join(root, first[path]), at, follow_symlinks=False)
        else:
            _make_file(at, node)
            _describe(at, node)
    for at, node in reversed(directories):
        _describe(at, node)


def _make_file(at: bytes, node: Node) -> None:
    if node.is_symlink:
        os.symlink(node.target, at)
    elif node.is_regular:
        with open(at, "xb") as file:
            file.write(node.content)
    else:
        os.mknod(at, stat.S_IFMT(node.mode) | 0o600, os.makedev(*node.device))


def _describe(at: bytes, node: Node) -> None:
    """Owner before mode and attributes, as chown(2) clears setuid and security.capability."""
    os.chown(at, node.uid, node.gid, follow_symlinks=False)
    if not node.is_symlink:
        os.chmod(at, stat.S_IMODE(node.mode))
    for name, value in node.xattrs.items():
        os.setxattr(at, name, value, follow_symlinks=False)
    if node.mtime_ns is not None:
        os.utime(at, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)
