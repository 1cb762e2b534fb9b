"""A mounter as a driver under test: the harness keeps the layers, and the mounter mounts them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from conformance.drivers.mounter import reading, writing
from conformance.drivers.mounter.layers import Layers, Stack
from conformance.drivers.mounter.mounters import Mounter, make_read_only, unmount
from conformance.drivers.protocol import Change, DriverFailed, DriverRefused, OpenRequest
from conformance.lab import daemons, libc


@dataclass(slots=True)
class _Held:
    """A layer that was got: what is mounted, how often, and the processes that serve it."""

    stack: Stack
    pids: frozenset[int]
    count: int = 0
    late: threading.Event = field(default_factory=threading.Event)
    timer: threading.Timer | None = None


class OpenedMounter:
    """The layers of one home."""

    def __init__(self, mounter: Mounter, request: OpenRequest, namespace: str, *, names_of_aufs: bool) -> None:
        self._mounter, self._request, self._namespace = mounter, request, namespace
        self._names_of_aufs = names_of_aufs
        self._layers = Layers(request.directory / "home")
        self._held: dict[str, _Held] = {}
        self._left: set[int] = set()  # processes of mounts that were not ended by their unmount

    @property
    def home(self) -> str:
        return str(self._layers.home)

    @property
    def image_store(self) -> str:
        return ""  # declined

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        del read_write
        if options:
            raise DriverRefused(f"a mounter takes no options of a layer: {dict(options)}")
        held = self._held.get(parent)
        if held and not held.stack.read_only:
            raise DriverRefused(f"{parent!r} is mounted, and its upper directory would be a lower of another mount")
        self._layers.create(layer_id, parent)

    def remove(self, layer_id: str) -> None:
        if layer_id in self._held:
            raise DriverRefused(f"{layer_id!r} is mounted")
        merged = self._layers.upper(layer_id).with_name("merged")
        while os.path.ismount(merged):  # which puts should have ended, as a test says
            libc.detach(merged)
        self._layers.remove(layer_id)

    def get(self, layer_id: str, label: str = "") -> str:
        if label:
            raise DriverRefused("a mounter takes no SELinux label")
        held = self._held.get(layer_id) or self._hold(layer_id)
        held.count += 1
        return str(self._layers.home / held.stack.merged)

    def _hold(self, layer_id: str) -> _Held:
        stack = self._layers.begin_view(layer_id)
        merged = self._layers.home / stack.merged
        try:
            held = _Held(stack, self._mounter.mount(self._layers.home, stack, self._request.limit))
        except BaseException:
            self._layers.end_view(layer_id)
            raise
        if stack.read_only:
            try:
                make_read_only(merged)
            except OSError as error:
                with suppress(DriverRefused):
                    unmount(merged)
                daemons.kill(held.pids)
                raise DriverFailed(f"{merged} cannot be made read-only: {error.strerror}") from error
        self._watch(held)
        self._held[layer_id] = held
        return held

    def _watch(self, held: _Held) -> None:
        """End the processes of a mount that is held longer than a call may take: one of its operations hangs."""
        if not held.pids:
            return

        def expire() -> None:
            held.late.set()
            daemons.kill(held.pids)

        held.timer = threading.Timer(self._request.limit.left(), expire)
        held.timer.daemon = True
        held.timer.start()

    def put(self, layer_id: str) -> None:
        held = self._held.get(layer_id)
        if held is None:
            raise DriverRefused(f"{layer_id!r} is not mounted")
        if held.count > 1:
            held.count -= 1
            return
        self._release(layer_id, held)

    def _release(self, layer_id: str, held: _Held) -> None:
        self._mounter.unmount(self._layers.home, held.stack, self._request.limit)
        del self._held[layer_id]
        if held.timer:
            held.timer.cancel()
        if os.path.ismount(self._layers.home / held.stack.merged):  # which is for a test to see
            self._left |= held.pids
            return
        daemons.wait(held.pids)
        self._layers.end_view(layer_id)
        if held.late.is_set():
            raise self._request.limit.exceeded("an operation in a mounted tree")

    def exists(self, layer_id: str) -> bool:
        return layer_id in self._layers

    def status(self) -> Mapping[str, str]:
        raise DriverRefused("a mounter has no status")

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        raise DriverRefused(f"a mounter has no metadata of layers such as {layer_id!r}")

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        if parent == self._layers.named(layer_id).parent:
            if layer_id in self._held:
                self._sync(self._held[layer_id])
            upper, lowers = self._layers.upper(layer_id), self._layers.lowers(layer_id)
            entries = writing.native(upper, lowers, names_of_aufs=self._names_of_aufs)
            if entries is not None:
                writing.write(upper, entries, archive)
                return
        tree = self.get(layer_id)
        try:
            self._compare(parent, tree, archive)
        finally:
            self.put(layer_id)

    def _compare(self, parent: str, tree: str, archive: Path) -> None:
        before = self.get(parent) if parent else ""
        try:
            writing.write(tree, writing.compared(before, tree), archive)
        finally:
            if parent:
                self.put(parent)

    def _sync(self, held: _Held) -> None:
        """Write what a mount has in memory to its upper directory."""
        descriptor = os.open(self._layers.home / held.stack.merged, os.O_RDONLY | os.O_DIRECTORY)
        try:
            libc.syncfs(descriptor)
        finally:
            os.close(descriptor)

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        del parent  # the layer knows its own
        upper = self._layers.upper(layer_id)
        if layer_id in self._held:
            raise DriverRefused(f"{layer_id!r} is mounted, and what is below a mount must not change")
        if self._layers.children(layer_id):
            raise DriverRefused(f"{layer_id!r} has children, whose lower it is")
        reading.apply(archive, upper, self._layers.lowers(layer_id), self._namespace)
        return None

    def diff_size(self, layer_id: str, parent: str) -> int:
        raise DriverRefused(f"a mounter tells no size of what {layer_id!r} changes in {parent!r}")

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        raise DriverRefused(f"a mounter lists no changes of {layer_id!r} in {parent!r}")

    def reopen(self) -> OpenedMounter:
        self.leave()
        return OpenedMounter(self._mounter, self._request, self._namespace, names_of_aufs=self._names_of_aufs)

    def leave(self) -> None:
        """Unmount everything: what is mounted is the harness's record, which goes with this object."""
        try:
            for layer_id, held in list(self._held.items()):
                self._release(layer_id, held)
        finally:
            self.end()

    def close(self) -> None:
        self.leave()

    def end(self) -> None:
        """End the processes of all mounts that are left."""
        for held in self._held.values():
            if held.timer:
                held.timer.cancel()
            self._left |= held.pids
        daemons.kill(self._left)
        self._left.clear()
