"""A driver whose answers are used only where they name a directory of the driver's own.

The harness makes and removes files below every path that ``get`` answers, as root. So each answer is resolved and
compared with the directory that the store was opened with (OVL-MOUNT-CONTAINED) before anything uses it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from conformance.drivers.performing import in_pieces
from conformance.drivers.protocol import Change, DriverUnderTest, OpenRequest, ProcessOfDriver, ReaderInPieces
from conformance.drivers.source import DriverSource
from conformance.harness.deviation import Deviation
from conformance.history.findings import Finding, InWords, NotContained
from conformance.lab import mountinfo

REQUIREMENT = "OVL-MOUNT-CONTAINED"


class Escaped(Deviation):
    """A path that the driver answered is not below its own root; nothing has used the path."""

    requirements = (REQUIREMENT,)


def contained(source: DriverSource) -> DriverSource:
    """The same source; every driver that it opens answers paths of its own store only, or raises Escaped."""
    outside = tuple(source.writable) if "own-home" in source.info.declined else ()
    own_home = "own-home" not in source.info.declined

    def opened(request: OpenRequest) -> DriverUnderTest:
        # Resolved before the driver runs: later it could replace the directory by a symlink.
        bounds = Bounds(request, outside)
        return ContainedDriver(source.open(request), bounds, own_home=own_home)

    return replace(source, open=opened)


class Bounds:
    """The directory of a store, resolved, and those of the image stores that it was opened with.

    ``configured`` are roots outside of them that a running daemon was configured with; its mounts in the store's
    directory may show what is there.
    """

    def __init__(self, request: OpenRequest, configured: Sequence[Path] = ()) -> None:
        self._root = os.path.realpath(request.directory)
        self._stores = tuple(os.path.realpath(one) for one in request.image_stores)
        self._configured = tuple(os.path.realpath(one) for one in configured)

    def check(self, answer: object, what: str, *, alone: bool = True) -> str:
        """The answer, if it is the path of a directory below the store's own; raises Escaped.

        With concurrent callers, not ``alone``, another one may have removed the layer since, so it may be gone.
        """
        resolved = self._resolved(answer, what, strict=alone)
        if not os.path.isdir(resolved):
            if not alone and not os.path.lexists(resolved):
                assert isinstance(answer, str)
                return answer
            raise self._escaped(answer, what, f"{resolved!r} is no directory")
        if source := self._mounted_from_outside(resolved):
            # A script's mount table has other paths; it looks for the path alone.
            raise self._escaped(answer, what, f"{source!r}, from outside of it, is mounted there", InWords())
        assert isinstance(answer, str)
        return answer

    def check_path(self, answer: object, what: str) -> str:
        """The answer, if it is a path below the store's own directory, whether it is there or not."""
        self._resolved(answer, what, strict=False)
        assert isinstance(answer, str)
        return answer

    def _resolved(self, answer: object, what: str, *, strict: bool = True) -> str:
        if not isinstance(answer, str):
            raise self._escaped(answer, what, "a path is a str")
        if not answer.startswith("/") or "\0" in answer:
            raise self._escaped(answer, what, "this is no absolute path")
        try:
            resolved = os.path.realpath(answer, strict=strict)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise self._escaped(answer, what, f"this cannot be resolved: {why}") from error
        if not any(is_below(resolved, one) for one in (self._root, *self._stores)):
            raise self._escaped(answer, what, f"this is {resolved!r}")
        return resolved

    def _mounted_from_outside(self, resolved: str) -> str:
        """What is mounted on the path, if it is a bind mount of something outside of the store; "" if not."""
        mounts = mountinfo.mounts()
        over = mountinfo.covering(mounts, resolved)
        own = (self._root, *self._stores)  # a driver may mount the tree of an image where the image is
        beyond = {one.device for one in mounts if not any(is_below(one.point, root) for root in own)}
        if over is None or over.device not in beyond:
            return ""  # a filesystem that this store mounted
        allowed = [mountinfo.origin(mounts, one) for one in (self._root, *self._stores, *self._configured)]
        found = mountinfo.origin(mounts, resolved)
        if any(found.device == one.device and is_within(found.path, one.path) for one in allowed):
            return ""
        return found.path

    def _escaped(self, answer: object, what: str, why: str, finding: Finding | None = None) -> Escaped:
        expected = " or ".join(repr(one) for one in (self._root, *self._stores))
        said = _words_of(answer)
        said = said if len(said) <= 300 else f"{said[:300]}..."
        return Escaped(
            f"{what}: expected the path of a directory below {expected}, got {said}: {why}",
            finding or NotContained(),
        )


def _words_of(answer: object) -> str:
    match answer:
        case {"type": str(name)}:  # what the process of a Python driver sends instead of what is no value of JSON
            return f"a value of type {name}"
    return repr(answer)


def is_below(path: str, directory: str) -> bool:
    """Whether a resolved path is strictly below a resolved directory."""
    return path != directory and is_within(path, directory)


def is_within(path: str, directory: str) -> bool:
    """Whether a resolved path is a resolved directory, or below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


class ContainedDriver:
    """The driver itself in all but the paths that it answers, which are checked."""

    def __init__(self, driver: DriverUnderTest, bounds: Bounds, *, own_home: bool) -> None:
        self._driver = driver
        self._bounds = bounds
        self._own_home = own_home

    @property
    def home(self) -> str:
        if not self._own_home:
            return self._driver.home  # of a daemon outside; tests that write there need the capability own-home
        # A home that a test names by a relative path is below the directory of this process.
        return self._bounds.check_path(os.path.join(os.getcwd(), self._driver.home), "the driver's home")

    @property
    def image_store(self) -> str:
        return self._driver.image_store

    @property
    def process(self) -> ProcessOfDriver | None:
        found: ProcessOfDriver | None = getattr(self._driver, "process", None)
        return found

    @property
    def in_pieces(self) -> ReaderInPieces | None:
        """The driver, if its diffs can be read in pieces."""
        return in_pieces(self._driver)

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        self._driver.create(layer_id, parent, options, read_write=read_write)

    def remove(self, layer_id: str) -> None:
        self._driver.remove(layer_id)

    def get(self, layer_id: str, label: str = "") -> str:
        answer: object = self._driver.get(layer_id, label)
        # Tests make concurrent calls from other threads than the first.
        alone = threading.current_thread() is threading.main_thread()
        return self._bounds.check(answer, f"get {layer_id}", alone=alone)

    def put(self, layer_id: str) -> None:
        self._driver.put(layer_id)

    def exists(self, layer_id: str) -> bool:
        return self._driver.exists(layer_id)

    def status(self) -> Mapping[str, str]:
        return self._driver.status()

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        return self._driver.metadata(layer_id)

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        self._driver.diff(layer_id, parent, archive)

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        return self._driver.apply_diff(layer_id, parent, archive)

    def diff_size(self, layer_id: str, parent: str) -> int:
        return self._driver.diff_size(layer_id, parent)

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        return self._driver.changes(layer_id, parent)

    def reopen(self) -> ContainedDriver:
        return ContainedDriver(self._driver.reopen(), self._bounds, own_home=self._own_home)

    def leave(self) -> None:
        self._driver.leave()

    def close(self) -> None:
        self._driver.close()
