"""Any driver of containers/storage, behind its command line (Debian package containers-storage)."""

from __future__ import annotations

import codecs
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl

from conformance.driver import Change, DriverInfo, DriverRefused, DriverSource

_CHANGE = re.compile(r'(Add|Modify|Delete) "(.*)"')
_LIMITS = 300  # seconds; a command that takes longer hangs


def source(arguments: str) -> DriverSource:
    """``DRIVER[?binary=PATH&storage-opt=KEY=VALUE]``; raises OSError when there is no such command."""
    driver, _, query = arguments.partition("?")
    options = parse_qsl(query, strict_parsing=bool(query))
    binary = dict(options).get("binary", "containers-storage")
    found = shutil.which(binary)
    if found is None:
        raise OSError(f"there is no command {binary!r}; on Debian and Ubuntu: apt-get install containers-storage")
    words = [word for key, value in options if key == "storage-opt" for word in ("--storage-opt", value)]
    version = subprocess.run([found, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"[0-9]+\.[0-9.]+", version)
    info = DriverInfo(f"containers-storage:{arguments}", match[0] if match else "unknown", _declined(driver))
    return DriverSource(info, lambda directory: _ContainersStorage(found, driver or "overlay", words, directory))


def _declined(driver: str) -> dict[str, str]:
    """What the command, or the driver behind it, does not offer by design."""
    declined = {
        "metadata": "the containers-storage command does not show the driver's metadata of a layer",
        "whole-tree-diff": "the diff command compares with the parent when no layer is named, never with nothing",
    }
    if driver == "vfs":
        declined["overlay"] = "the vfs driver copies layers; it mounts no overlay and has no limit of depth"
    return declined


class _ContainersStorage:
    def __init__(self, binary: str, driver: str, options: list[str], directory: Path) -> None:
        self._arguments = (binary, driver, options, directory)
        self._root = directory / "graph"
        self._driver = driver
        place = ["--graph", str(self._root), "--run", str(directory / "run")]
        self._command = [binary, *place, "--storage-driver", driver, *options]

    def _ask(self, *words: str) -> str:
        done = subprocess.run(
            [*self._command, *words], capture_output=True, check=False, timeout=_LIMITS, stdin=subprocess.DEVNULL
        )
        output = done.stdout.decode("utf-8", "surrogateescape")
        if done.returncode:
            complaint = (done.stderr.decode("utf-8", "replace") + output).strip()
            raise DriverRefused(complaint or f"{words[0]} exited with {done.returncode}")
        return output

    @property
    def home(self) -> str:
        return str(self._root / self._driver)

    def create(self, layer_id: str, parent: str) -> None:
        self._ask("create-layer", "-i", layer_id, *_named(parent))

    def remove(self, layer_id: str) -> None:
        self._ask("delete-layer", layer_id)

    def get(self, layer_id: str) -> str:
        return self._ask("mount", layer_id).removesuffix("\n")

    def put(self, layer_id: str) -> None:
        self._ask("unmount", layer_id)

    def exists(self, layer_id: str) -> bool:
        done = subprocess.run([*self._command, "exists", layer_id], capture_output=True, check=False)
        return done.returncode == 0

    def status(self) -> Mapping[str, str]:
        lines = (line.partition(": ") for line in self._ask("status").splitlines())
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
        return int(self._ask("diffsize", layer_id, *_named(parent)).split()[-1])

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        output = self._ask("changes", layer_id, *_named(parent))
        return [Change(_unquoted(path), kind.lower()) for kind, path in _CHANGE.findall(output)]

    def reopen(self) -> _ContainersStorage:
        return self  # every command opens the store anew

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
