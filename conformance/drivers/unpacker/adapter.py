"""A command that unpacks images, as a driver: a layer is a list of archives, and its tree what the command makes.

The harness writes an image of the archives of a layer and of those below it, and runs the command at the first
``get`` after one was applied. What the command refuses is taken back, so that the layer is as it was before.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from conformance.drivers import commands
from conformance.drivers.connection import Key, Kind, declined_in, parse_arguments
from conformance.drivers.lister import skeleton
from conformance.drivers.protocol import CallLimit, Change, DriverFailed, DriverInfo, DriverRefused, OpenRequest
from conformance.drivers.source import DriverSource
from conformance.drivers.unpacker import running
from conformance.drivers.unpacker.layout import TAG, write_docker_archive, write_layout
from conformance.drivers.unpacker.script import Unpacking
from conformance.drivers.unpacker.tool import DISK, LAYOUT, LISTS, TAR, Tool, tool_of
from conformance.lab import namespace
from conformance.lab.removal import remove_tree

KEYS: Final = (
    Key("from", "the image that the command reads: layout or docker-archive"),
    Key("result", "where the tree is: a path below {directory}, 'tar' for standard output, 'disk' for {disk}"),
    Key("root", "'no' runs the command as an ordinary user"),
)
_NO_STORE: Final = "an unpacker keeps no layers: each image is unpacked by itself"
_DECLINED: Final = {
    "writable-layers": "an unpacked tree is a result, and nobody takes a layer from it",
    **dict.fromkeys(("diff", "own-diffs"), "an unpacker writes no archives"),
    **dict.fromkeys(
        (
            "apply-stream",
            "applied-size",
            "bare-home",
            "busy-parents",
            "changes",
            "compared-links",
            "counted-gets",
            "create-options",
            "diff-size",
            "empty-ids",
            "gates-backing",
            "gates-kernel",
            "gates-zfs",
            "home-layout",
            "id-maps",
            "ids-are-paths",
            "image-mounts",
            "image-stores",
            "kernel-overlay",
            "labels",
            "layer-limits",
            "layer-options",
            "layer-store",
            "limit-128",
            "metadata",
            "options",
            "overlay",
            "own-mounts",
            "processes",
            "shared-home",
            "status",
            "whole-tree-diff",
        ),
        _NO_STORE,
    ),
}
_OF_TAR: Final = {"user-xattrs": "GNU tar, which reads the result, decodes '%3D' in the names of attributes"}
_EXTRACT: Final = (
    "tar",
    "-x",
    "-p",
    "--numeric-owner",
    "--delay-directory-restore",
    "--xattrs",
    "--xattrs-include=*",
)
_ARCHIVE: Final = ("tar", "-c", "--format=pax", "--numeric-owner", "--xattrs", "--xattrs-include=*")
_MASK: Final = 0o022


def source(arguments: str) -> DriverSource:
    """``COMMAND[?KEY=VALUE]``; raises BadConnection, and OSError when a command is missing."""
    connection = parse_arguments("unpacker", arguments)
    tool = tool_of(connection)
    of_tar = _OF_TAR if tool.result in (TAR, DISK) else {}
    return source_of(f"unpacker:{arguments}", tool, of_tar, declined_in(connection))


def source_of(
    name: str, tool: Tool, lacks: Mapping[str, str], declined: Mapping[str, str], guide: str = "docs/unpackers.md"
) -> DriverSource:
    """A command that reads images; ``lacks`` is what its kind declines, ``declined`` of its connection string."""
    by_tar = tool.result in (TAR, DISK)
    missing = [one for one in (*tool.needs, *(_EXTRACT[:1] if by_tar else ())) if not is_here(one)]
    if missing:
        how = f"; {tool.install}" if tool.install else ""
        raise OSError(f"there is no command {missing[0]!r}{how}")
    return DriverSource(
        DriverInfo(name, version_of(tool), {**_DECLINED, **lacks, **tool.decline, **declined}),
        lambda request: _Unpacker(tool, request),
        dialect=Unpacking(tool),
        sets_umask=True,
        late=True,
        unprivileged="" if tool.root else "the command runs as an ordinary user (root=no)",
        next_step=f"{guide} explains how to run the command by hand",
    )


def is_here(command: str) -> bool:
    """Whether sh(1) knows a command: one of the PATH, or its own."""
    asked = ["/bin/sh", "-c", 'command -v -- "$1" >/dev/null', "sh", command]
    return shutil.which(command) is not None or commands.run(asked, CallLimit(20), "which").status == 0


def version_of(tool: Tool) -> str:
    """The first number of the form 1.2 that the command prints of itself; "unknown" if it prints none."""
    words = ["/bin/sh", "-c", tool.version or f"{tool.needs[0]} --version"]
    try:
        done = commands.run(words, CallLimit(20), "version")
    except DriverFailed:
        return "unknown"
    found = re.search(r"[0-9]+(\.[0-9]+)+\S*|\b[0-9]+\b", (done.stdout + done.stderr).decode("utf-8", "replace"))
    return found[0].rstrip(",;)") if found else "unknown"


class _Unpacker:
    """A directory for each layer: its parent's name, its archives by number, its tree, and what that is made of."""

    def __init__(self, tool: Tool, request: OpenRequest) -> None:
        self._tool = tool
        self._request = request
        self._layers = request.directory / "layers"
        self._work = request.directory / "work"
        self._layers.mkdir(parents=True, exist_ok=True)

    def _place(self, layer_id: str) -> Path:
        return self._layers / f"layer-{quote(layer_id, safe='')}"

    def _known(self, layer_id: str) -> Path:
        place = self._place(layer_id)
        if not place.is_dir():
            raise DriverRefused(f"there is no layer {layer_id!r}")
        return place

    @property
    def home(self) -> str:
        return str(self._layers)

    @property
    def image_store(self) -> str:
        return str(self._layers)

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        del read_write
        if options:
            raise DriverRefused("a layer of an unpacker has no options")
        if parent:
            self._known(parent)
        place = self._place(layer_id)
        if place.exists():
            raise DriverRefused(f"there is a layer {layer_id!r} already")
        place.mkdir()
        (place / "parent").write_text(parent)

    def remove(self, layer_id: str) -> None:
        remove_tree(self._known(layer_id))

    def exists(self, layer_id: str) -> bool:
        return self._place(layer_id).is_dir()

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        del parent  # the layer's own
        place = self._known(layer_id)
        shutil.copyfile(archive, place / f"{len(_own(place)) + 1:04d}.tar")
        return None

    def get(self, layer_id: str, label: str = "") -> str:
        if label:
            raise DriverRefused("an unpacker takes no label")
        place = self._known(layer_id)
        archives = self._archives(layer_id)
        tree, done = place / "tree", place / "unpacked"
        if done.exists() and json.loads(done.read_text()) == [str(one) for one in archives]:
            return self._result(tree)
        _empty(tree, done)
        try:
            self._unpack(archives, tree)
        except DriverRefused:
            _empty(tree, done)
            for last in _own(place)[-1:]:
                last.unlink()
            raise
        done.write_text(json.dumps([str(one) for one in archives]))
        return self._result(tree)

    def _archives(self, layer_id: str) -> list[Path]:
        """Those of a layer and of all below it, the base first."""
        chain: list[Path] = []
        while layer_id:
            place = self._known(layer_id)
            chain[:0] = _own(place)
            layer_id = (place / "parent").read_text()
        return chain

    def _result(self, tree: Path) -> str:
        if self._tool.result in ("", TAR, DISK, *LISTS):
            return str(tree)
        found = tree / self._tool.result
        if not os.path.lexists(found):
            raise DriverFailed(f"the command left no {self._tool.result!r} in {{directory}}")
        return str(found)

    def _unpack(self, archives: Sequence[Path], tree: Path) -> None:
        """Run the command on an image of the archives; raises DriverRefused and DriverFailed."""
        _empty(self._work)
        tree.mkdir(mode=0o755)
        running.make(self._work)
        image = self._work / ("image" if self._tool.source == LAYOUT else "image.tar")
        if not archives:  # no image is without layers
            archives = [self._work / "empty.tar"]
            archives[0].write_bytes(bytes(1024))
        (write_layout if self._tool.source == LAYOUT else write_docker_archive)(image, archives)
        printed = self._work / "result.tar"
        try:
            self._run(self._command(image, archives, tree, printed))
            if self._tool.result == TAR:
                # An archive that tar refuses is no tree: whoever unpacks it gets the same answer.
                self._run([*_EXTRACT, "-f", str(printed), "-C", str(tree)])
            elif self._tool.result == DISK:
                self._copy_disk(tree, printed)
            elif self._tool.result in LISTS:
                _make_listed(self._tool.result, printed, tree)
        finally:
            namespace.unmount_below(self._work)
            remove_tree(self._work)

    def _copy_disk(self, tree: Path, archive: Path) -> None:
        """The tree of a filesystem that the command made. One that the kernel does not mount is no answer."""
        disk, mounted = self._work / "disk", self._work / "mounted"
        mounted.mkdir()
        words = ["mount", "-o", "ro,loop,nosuid,noexec", str(disk), str(mounted)]
        done = commands.run(words, self._request.limit, "get")
        if done.status:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise DriverFailed(f"{{disk}} has no filesystem that this kernel mounts: {said}")
        _empty(tree)
        tree.mkdir(mode=0o755)
        self._run([*_ARCHIVE, "-f", str(archive), "-C", str(mounted), "--exclude=./lost+found", "."])
        self._run([*_EXTRACT, "-f", str(archive), "-C", str(tree)])

    def _command(self, image: Path, archives: Sequence[Path], tree: Path, printed: Path) -> list[str]:
        values = {
            "layout": [str(image)],
            "tag": [TAG],
            "directory": [str(tree)],
            "layers": [str(one) for one in archives],
            "work": [str(self._work / "own")],
            "disk": [str(self._work / "disk")],
        }
        text = self._tool.filled(values)
        to = printed if self._tool.result in (TAR, *LISTS) else None
        return [*self._tool.prefix(), *running.words_of(text, self._work, to)]

    def _run(self, words: Sequence[str]) -> None:
        umask = _MASK if self._request.umask is None else self._request.umask
        running.run(words, self._request.limit, "get", umask=umask)

    def put(self, layer_id: str) -> None:
        self._known(layer_id)

    def status(self) -> Mapping[str, str]:
        raise DriverRefused(_NO_STORE)

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        raise DriverRefused(f"{layer_id}: {_NO_STORE}")

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        del parent, archive
        raise DriverRefused(f"{layer_id}: {_DECLINED['diff']}")

    def diff_size(self, layer_id: str, parent: str) -> int:
        raise DriverRefused(f"{layer_id} on {parent!r}: {_NO_STORE}")

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        raise DriverRefused(f"{layer_id} on {parent!r}: {_NO_STORE}")

    def reopen(self) -> _Unpacker:
        return _Unpacker(self._tool, self._request)

    def leave(self) -> None:
        """Nothing runs between two calls."""

    def close(self) -> None:
        """Nothing is mounted."""


def _make_listed(form: str, printed: Path, tree: Path) -> None:
    """The tree of a list. A list that cannot be read is no answer; its paths that no tree has are refused."""
    try:
        skeleton.make(form, printed.read_bytes(), str(tree))
    except skeleton.Outside as error:
        raise DriverRefused(str(error)) from error
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise DriverRefused(f"the list has a path that is too long for a file: {error}") from error
        raise DriverFailed(f"the command printed no list of paths ({form}): {error}") from error


def _own(place: Path) -> list[Path]:
    return sorted(place.glob("[0-9]*.tar"))


def _empty(*paths: Path) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)


KIND: Final = Kind(
    "unpacker",
    (("PRESET", "umoci"), ("COMMAND", "umoci unpack --image {layout}:{tag} {directory}?result=rootfs")),
    source,
    KEYS,
)
