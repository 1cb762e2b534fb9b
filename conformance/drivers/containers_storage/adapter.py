"""Any driver of containers/storage, behind its command line (Debian package containers-storage)."""

from __future__ import annotations

import codecs
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from conformance.drivers import commands
from conformance.drivers.connection import Key, Kind, absolute_command, declined_in, parse_arguments
from conformance.drivers.containers_storage.script import ContainersStorage
from conformance.drivers.protocol import Answer, Change, DriverFailed, DriverInfo, DriverRefused, OpenRequest
from conformance.drivers.source import DriverSource

_CHANGE = re.compile(r'(Add|Modify|Delete) "(.*)"')
KEYS: Final = (
    Key("binary", "the containers-storage command, by its path or for the PATH"),
    Key("storage-opt", "an option of containers-storage, such as overlay.mount_program=PATH", repeatable=True),
)


def source(arguments: str) -> DriverSource:
    """``DRIVER[?binary=PATH&storage-opt=KEY=VALUE]``; raises OSError when there is no such command."""
    connection = parse_arguments("containers-storage", arguments)
    driver = connection.name
    binary = absolute_command(connection.value("binary", "containers-storage"))
    found = shutil.which(binary)
    if found is None:
        raise OSError(f"there is no command {binary!r}; on Debian and Ubuntu: apt-get install containers-storage")
    options = connection.values("storage-opt")
    version = _version_of(found)
    declined = _declined(driver, options, version) | declined_in(connection)
    info = DriverInfo(f"containers-storage:{arguments}", version, declined)
    command = _Command(found, driver or "overlay", options)
    return DriverSource(
        info,
        lambda request: _ContainersStorage(command, request),
        attempt=command.attempt,
        dialect=ContainersStorage(binary, driver or "overlay", options),
        sets_umask=True,
        next_step=_next_step(command, found),
        commands=True,
    )


def _next_step(command: _Command, binary: str) -> str:
    words = command.words(OpenRequest(Path("/tmp/by-hand")))
    return (
        f"try it by hand: {shlex.join([*words, 'status'])}\n"
        f"the drivers of {binary} are overlay and vfs, and others as it was built"
    )


def _version_of(binary: str) -> str:
    match = re.search(r"[0-9]+\.[0-9.]+", _answer_to_version(binary))
    if match:
        return match[0]
    # The command has a verb for it that says nothing in some builds; then the package knows.
    query = ["dpkg-query", "--search", binary]
    if shutil.which(query[0]) is None:
        return "unknown"
    package = subprocess.run(query, capture_output=True, text=True, check=False).stdout.partition(":")[0]
    shown = ["dpkg-query", "--show", "--showformat=${Version}", package]
    return subprocess.run(shown, capture_output=True, text=True, check=False).stdout or "unknown"


def _answer_to_version(binary: str) -> str:
    """What the verb says, "" if it does not in time. It opens a store first, which in 1.43 mounts its directory.

    So the store is one of its own, not the system's in /var/lib, in a mount namespace that ends with the command.
    """
    with tempfile.TemporaryDirectory(prefix="version-", ignore_cleanup_errors=True) as directory:
        words = [binary, "--graph", f"{directory}/graph", "--run", f"{directory}/run", "version"]
        if os.geteuid() == 0 and shutil.which("unshare"):
            words = ["unshare", "--mount", "--", *words]
        try:
            done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return ""
    return done.stdout + done.stderr


def _permits_zfs(version: str) -> bool:
    """Whether this version opens on zfs (containers/storage#1432 is in 1.44); so does one that nobody can tell."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is None or tuple(map(int, numbers.groups())) >= (1, 44)


def _declined(driver: str, options: Sequence[str], version: str) -> dict[str, str]:
    """What the command, or the driver behind it, does not offer by design."""
    declined = {
        "applied-size": "the applydiff command prints no size",
        "compared-links": "a file that did not change is in no diff of two trees, so a new name of it is a copy",
        "early-times": "containers/storage sets the epoch where an archive has a time before it, or after 2262",
        "fine-times": "archives of containers/storage carry whole seconds",
        "image-mounts": "the mount command knows layers of the store itself only; others may be built on",
        "metadata": "the containers-storage command does not show the driver's metadata of a layer",
        "whole-tree-diff": "the diff command compares with the parent when no layer is named, never with nothing",
        "id-maps": "the command maps the owners of single layers, and not of a store",
        "labels": "the command takes a label when a layer is made, and not when it is mounted",
        "layer-options": "the command has no read-write layers with storage options of their own",
        "create-options": "the command takes no storage options of a layer",
        "empty-ids": "the create-layer command makes up an id where none is given",
        "limit-128": "a chain may have 500 lowers since 2019, checked by the mount (containers/storage#489, #1392)",
        "bare-home": "containers/storage keeps a list of its layers beside them (overlay-layers/layers.json)",
        "gates-kernel": "containers/storage no longer compares kernel releases; it probes what it needs",
    }
    if _permits_zfs(version):
        declined["gates-zfs"] = "zfs has room for overlay since OpenZFS 2.2, and is taken (containers/storage#1432)"
    if driver in ("vfs", "btrfs"):
        copies = f"the {driver} driver makes whole trees; it mounts no overlay, so it has no limit of depth"
        declined |= dict.fromkeys(
            ("overlay", "kernel-overlay", "home-layout", "limit-128", "gates-backing", "options", "image-stores"),
            copies,
        )
        declined["own-mounts"] = copies
    if any("mount_program" in one for one in options):
        program = "a mount program stands in for the kernel's overlay"
        declined |= dict.fromkeys(("kernel-overlay", "gates-backing"), program)
    if "kernel-overlay" in declined:
        declined["lower-links"] = "diffs compare two trees here, and a file that did not change is in none of them"
    return declined


class _Command:
    """The command line, but for its verb and its store."""

    def __init__(self, binary: str, driver: str, options: tuple[str, ...]) -> None:
        self.driver = driver
        self._binary = binary
        self._options = options

    def words(self, request: OpenRequest) -> list[str]:
        """The command of one store."""
        place = ["--graph", str(request.directory / "graph"), "--run", str(request.directory / "run")]
        asked = [f"overlay.{word}" for word in request.options]
        if request.image_stores:
            asked.append("overlay.imagestore=" + ",".join(map(str, request.image_stores)))
        options = [word for one in (*self._options, *asked) for word in ("--storage-opt", one)]
        return [self._binary, *place, "--storage-driver", self.driver, *options]

    def attempt(self, request: OpenRequest, prefix: Sequence[str]) -> Answer:
        """Open a store and close it, behind a command prefix."""
        words = [*prefix, *self.words(request), "status"]
        done = commands.run(words, request.limit, "status")
        return Answer(done.status == 0, (done.stdout + done.stderr).decode("utf-8", "replace"))


class _ContainersStorage:
    def __init__(self, command: _Command, request: OpenRequest) -> None:
        self._root = request.directory / "graph"
        self._driver = command.driver
        self._command = [*request.prefix, *command.words(request)]
        self._request = request
        self._ask("status")  # so that a store that cannot be opened is refused when it is opened

    def _run(self, *words: str) -> commands.Done:
        limit, umask = self._request.limit, self._request.umask
        return commands.run([*self._command, *words], limit, words[0], umask=umask)

    def _ask(self, *words: str) -> str:
        done = self._run(*words)
        output = done.stdout.decode("utf-8", "surrogateescape")
        if done.status:
            complaint = (done.stderr.decode("utf-8", "replace") + output).strip()
            raise DriverRefused(complaint or f"{words[0]} exited with {done.status}")
        return output

    @property
    def home(self) -> str:
        return str(self._root / self._driver)

    @property
    def image_store(self) -> str:
        return str(self._root)

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        del read_write  # no options are taken for either kind
        if options:
            raise DriverRefused("the containers-storage command takes no options for a layer")
        kind = ["--readonly"] if options is None else []  # an image's, which may be written all the same
        self._ask("create-layer", *kind, "-i", layer_id, *_named(parent))

    def remove(self, layer_id: str) -> None:
        self._ask("delete-layer", layer_id)

    def get(self, layer_id: str, label: str = "") -> str:
        if label:
            raise DriverRefused("the containers-storage command takes no label for a mount")
        return self._ask("mount", layer_id).removesuffix("\n")

    def put(self, layer_id: str) -> None:
        self._ask("unmount", layer_id)

    def exists(self, layer_id: str) -> bool:
        return self._run("exists", layer_id).status == 0

    def status(self) -> Mapping[str, str]:
        said = self._run("status")  # which writes to standard error
        lines = (
            line.partition(": ") for line in (said.stdout + said.stderr).decode("utf-8", "replace").splitlines()
        )
        return {name.strip(): value for name, colon, value in lines if colon}

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        return {"metadata": self._ask("metadata", layer_id)}

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        self._ask("diff", "-u", "-f", str(archive), layer_id, *_named(parent))

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        del parent  # the command takes the layer's own
        output = self._ask("applydiff", "-f", str(archive), layer_id)
        return int(output) if output.strip().isdigit() else None

    def diff_size(self, layer_id: str, parent: str) -> int:
        output = self._ask("diffsize", layer_id, *_named(parent))
        if not (words := output.split()) or not words[-1].isdecimal():
            raise DriverFailed(f"diffsize printed no size: {output[:200]!r}")
        return int(words[-1])

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        output = self._ask("changes", layer_id, *_named(parent))
        return [Change(_unquoted(path), kind.lower()) for kind, path in _CHANGE.findall(output)]

    def reopen(self) -> _ContainersStorage:
        return self  # every command opens the store anew

    def leave(self) -> None:
        """Nothing runs between two commands."""

    def close(self) -> None:
        self._ask("shutdown", "-f")


def _named(parent: str) -> list[str]:
    return [parent] if parent else []


def _unquoted(text: str) -> bytes:
    """What Go's %q wrote: escapes for what is not printable, UTF-8 for the rest."""
    raw = text.encode("utf-8", "surrogateescape")
    escaped = re.sub(rb"[\x80-\xff]", lambda match: b"\\x%02x" % match[0][0], raw)
    return codecs.escape_decode(re.sub(rb"\\u[0-9a-f]{4}", _utf8_escape, escaped))[0]


def _utf8_escape(match: re.Match[bytes]) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in chr(int(match[0][2:], 16)).encode())


KIND: Final = Kind("containers-storage", (("DRIVER", "overlay"),), source, KEYS)
