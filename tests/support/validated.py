"""A driver that copies trees, an adapter for it, and adapters that are each broken in one way.

The kind ``validated:NAME`` is one of these adapters (entry_points.txt beside it in a test).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from conformance.drivers.connection import Kind
from conformance.drivers.protocol import Change, DriverFailed, DriverInfo, DriverRefused, OpenRequest
from conformance.drivers.source import DriverSource


class Refusal(Exception):
    """An error of the driver itself."""


class Copying:
    """The driver: correct, as far as it goes."""

    def __init__(self, home: Path, options: tuple[str, ...] = (), owner: tuple[int, int] = (-1, -1)) -> None:
        if options:
            raise Refusal(f"unknown option {options[0]}")
        self.home = home
        self.owner = owner
        self.closed = False
        home.mkdir(exist_ok=True)

    def tree(self, layer: str) -> Path:
        if self.closed:
            raise Refusal("the home is closed")
        if not (self.home / layer).is_dir():
            raise Refusal(f"there is no layer {layer}")
        return self.home / layer / "tree"

    def create(self, layer: str, parent: str, options: Mapping[str, str]) -> None:
        for name in options:
            raise Refusal(f"unknown option {name} of a layer")
        if (self.home / layer).exists():
            raise Refusal(f"layer {layer} exists")
        below = self.tree(parent) if parent else None
        (self.home / layer).mkdir()
        if below:
            shutil.copytree(below, self.home / layer / "tree", symlinks=True)
        else:
            (self.home / layer / "tree").mkdir()
        os.chown(self.home / layer / "tree", *self.owner)

    def remove(self, layer: str) -> None:
        shutil.rmtree(self.tree(layer).parent)

    def names(self, layer: str, parent: str) -> list[str]:
        below = set(os.listdir(self.tree(parent))) if parent else set()
        return sorted(set(os.listdir(self.tree(layer))) - below)


class Good:
    """The adapter."""

    def __init__(self, request: OpenRequest) -> None:
        self.limit = request.limit
        self.request = request
        self.directory = request.directory
        owner = (
            (request.id_map[0].host, (request.gid_map or request.id_map)[0].host) if request.id_map else (-1, -1)
        )
        self.stores = request.image_stores
        self.driver: Copying = self.asked(lambda: Copying(self.place(), self.options(), owner))

    def place(self) -> Path:
        return self.directory / "home"

    def options(self) -> tuple[str, ...]:
        return self.request.options

    def asked(self, do: Any) -> Any:
        try:
            return do()
        except Refusal as error:
            raise DriverRefused(str(error)) from error

    @property
    def home(self) -> str:
        return str(self.driver.home)

    @property
    def image_store(self) -> str:
        return str(self.directory)

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        del read_write
        self.asked(lambda: self.driver.create(layer_id, parent, dict(options or {})))

    def remove(self, layer_id: str) -> None:
        self.asked(lambda: self.driver.remove(layer_id))

    def get(self, layer_id: str, label: str = "") -> Any:
        del label
        return str(self.asked(lambda: self.driver.tree(layer_id)))

    def put(self, layer_id: str) -> None:
        self.asked(lambda: self.driver.tree(layer_id))

    def exists(self, layer_id: str) -> Any:
        return not self.driver.closed and (self.driver.home / layer_id).is_dir()

    def status(self) -> Any:
        return {"copies": "yes"}

    def metadata(self, layer_id: str) -> Any:
        return {"tree": str(self.asked(lambda: self.driver.tree(layer_id)))}

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        names = self.asked(lambda: self.driver.names(layer_id, parent))
        with tarfile.open(archive, "w") as file:
            for name in names:
                file.add(self.driver.tree(layer_id) / name, name)

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> Any:
        del parent
        tree = self.asked(lambda: self.driver.tree(layer_id))
        with tarfile.open(archive) as file:
            file.extractall(tree, filter="tar")
        return 0

    def diff_size(self, layer_id: str, parent: str) -> Any:
        return len(self.asked(lambda: self.driver.names(layer_id, parent)))

    def changes(self, layer_id: str, parent: str) -> Any:
        return [
            Change(b"/" + os.fsencode(one), "add")
            for one in self.asked(lambda: self.driver.names(layer_id, parent))
        ]

    def reopen(self) -> Any:
        return type(self)(self.request)

    def leave(self) -> None:
        self.driver.closed = True

    def close(self) -> None:
        self.leave()


class RaisesErrorsOfItsOwn(Good):
    def asked(self, do: Any) -> Any:
        return do()  # the driver's Refusal goes through


class ReportsRefusalsAsFailures(Good):
    def asked(self, do: Any) -> Any:
        try:
            return do()
        except Refusal as error:
            raise DriverFailed(str(error)) from error


class IgnoresErrors(Good):
    def asked(self, do: Any) -> Any:
        try:
            return do()
        except Refusal:
            return self.driver.home if hasattr(self, "driver") else None

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        if self.exists(layer_id):
            super().diff(layer_id, parent, archive)

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> Any:
        return super().apply_diff(layer_id, parent, archive) if self.exists(layer_id) else 0

    def diff_size(self, layer_id: str, parent: str) -> Any:
        return super().diff_size(layer_id, parent) if self.exists(layer_id) else 0

    def changes(self, layer_id: str, parent: str) -> Any:
        return super().changes(layer_id, parent) if self.exists(layer_id) else []


class RefusesWithoutWords(Good):
    def asked(self, do: Any) -> Any:
        try:
            return do()
        except Refusal:
            raise DriverRefused("") from None


class CrashesAfterClose(Good):
    def leave(self) -> None:
        super().leave()
        del self.driver


class AnswersAfterClose(Good):
    def leave(self) -> None:
        self.closed = True

    def get(self, layer_id: str, label: str = "") -> Any:
        if hasattr(self, "closed"):
            return self.home
        return super().get(layer_id, label)


class CrashesWhenRepeated(Good):
    def put(self, layer_id: str) -> None:
        super().put(layer_id)
        count = self.__dict__.setdefault("puts", {})
        count[layer_id] = count.get(layer_id, 0) + 1
        if count[layer_id] - self.__dict__.get("gets", {}).get(layer_id, 0) > 0:
            raise KeyError("count")

    def get(self, layer_id: str, label: str = "") -> Any:
        answer = super().get(layer_id, label)
        count = self.__dict__.setdefault("gets", {})
        count[layer_id] = count.get(layer_id, 0) + 1
        return answer


class AnswersText(Good):
    def exists(self, layer_id: str) -> Any:
        return "yes" if super().exists(layer_id) else "no"


class AnswersPairs(Good):
    def changes(self, layer_id: str, parent: str) -> Any:
        return [(one.kind, one.path) for one in super().changes(layer_id, parent)]


class AnswersSizeAsText(Good):
    def diff_size(self, layer_id: str, parent: str) -> Any:
        return str(super().diff_size(layer_id, parent))


class AnswersPath(Good):
    def get(self, layer_id: str, label: str = "") -> Any:
        return Path(super().get(layer_id, label))


class AnswersAnotherRoot(Good):
    def get(self, layer_id: str, label: str = "") -> Any:
        return super().get(layer_id, label).removeprefix(str(self.directory))


class WritesNoArchive(Good):
    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        del archive
        self.asked(lambda: self.driver.names(layer_id, parent))


class SharesItsHome(Good):
    def place(self) -> Path:
        return self.directory.parent / "everything"

    @property
    def home(self) -> str:
        return str(self.directory / "home")

    def get(self, layer_id: str, label: str = "") -> Any:
        path = super().get(layer_id, label)
        subprocess.run(["mkdir", "-p", self.directory / layer_id], check=True)
        subprocess.run(["mount", "--bind", path, self.directory / layer_id], check=True)
        return str(self.directory / layer_id)

    def put(self, layer_id: str) -> None:
        super().put(layer_id)
        subprocess.run(["umount", self.directory / layer_id], check=False, capture_output=True)


class RemembersLayers(Good):
    """Of all stores, in one place."""

    known: ClassVar[set[str]] = set()

    def create(self, layer_id: str, parent: str, options: Any = None, *, read_write: bool = True) -> None:
        super().create(layer_id, parent, options, read_write=read_write)
        self.known.add(layer_id)

    def remove(self, layer_id: str) -> None:
        super().remove(layer_id)
        self.known.discard(layer_id)

    def exists(self, layer_id: str) -> Any:
        return layer_id in self.known


class DropsOptions(Good):
    def options(self) -> tuple[str, ...]:
        return ()


class DropsLayerOptions(Good):
    def create(self, layer_id: str, parent: str, options: Any = None, *, read_write: bool = True) -> None:
        del options
        super().create(layer_id, parent, None, read_write=read_write)


class DropsMaps(Good):
    def __init__(self, request: OpenRequest) -> None:
        super().__init__(OpenRequest(request.directory, request.options, image_stores=request.image_stores))
        self.limit, self.request = request.limit, request


class DropsGroups(Good):
    def __init__(self, request: OpenRequest) -> None:
        plain = OpenRequest(request.directory, request.options, request.id_map, image_stores=request.image_stores)
        super().__init__(plain)
        self.limit, self.request = request.limit, request


class HasNoLimit(Good):
    def __init__(self, request: OpenRequest) -> None:
        plain = OpenRequest(
            request.directory, request.options, request.id_map, request.gid_map, request.image_stores
        )
        super().__init__(plain)
        self.request = request


class NeverEnds(Good):
    def status(self) -> Any:
        while True:
            time.sleep(1)


class LacksMethods:
    def __init__(self, request: OpenRequest) -> None:
        self.good = Good(request)

    def __getattr__(self, name: str) -> Any:
        if name in ("leave", "metadata"):
            raise AttributeError(name)
        return getattr(self.good, name)


class RemovesWhatItLeaves(Good):
    def leave(self) -> None:
        super().leave()
        for one in self.driver.home.iterdir():
            shutil.rmtree(one)

    def close(self) -> None:
        super().leave()


class CannotLeave(Good):
    def leave(self) -> None:
        raise NotImplementedError("leave")

    def close(self) -> None:
        super().leave()


class Mounts(Good):
    """A correct adapter, too: its trees are mounts."""

    command = ("mount", "--bind")

    def get(self, layer_id: str, label: str = "") -> Any:
        path = super().get(layer_id, label)
        count = self.__dict__.setdefault("count", {})
        if not count.get(path):
            subprocess.run([*self.command, path, path], check=True)
        count[path] = count.get(path, 0) + 1
        return path

    def put(self, layer_id: str) -> None:
        path = super().get(layer_id)
        count = self.__dict__.setdefault("count", {})
        if count.get(path):
            count[path] -= 1
            if not count[path]:
                subprocess.run(["umount", path], check=True)


class ForgetsPuts(Mounts):
    def put(self, layer_id: str) -> None:
        pass

    def exists(self, layer_id: str) -> Any:
        path = self.driver.home / layer_id
        return subprocess.run(["test", "-d", path], check=False).returncode == 0

    def remove(self, layer_id: str) -> None:
        subprocess.run(["umount", self.driver.home / layer_id / "tree"], check=False, capture_output=True)
        super().remove(layer_id)


class MountsElsewhere(Good):
    """The driver has a mount namespace of its own, so that the path is there, and the tree is not."""

    def __init__(self, request: OpenRequest) -> None:
        super().__init__(request)
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def get(self, layer_id: str, label: str = "") -> Any:
        path = super().get(layer_id, label)
        shown = self.directory / f"shown-{layer_id}"
        shown.mkdir(exist_ok=True)
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"mount --bind {path} {shown}; echo done\n")
        self.process.stdin.flush()
        self.process.stdout.readline()
        return str(shown)

    def leave(self) -> None:
        super().leave()
        if self.process.poll() is None:
            self.process.communicate()

    def reopen(self) -> Any:
        self.leave()
        return super().reopen()


class LeavesProcesses(Good):
    def __init__(self, request: OpenRequest) -> None:
        super().__init__(request)
        self.daemon = subprocess.Popen(["sleep", "1000"])


DECLINED = dict.fromkeys(("overlay", "own-mounts", "counted-gets"), "it copies trees")


def source(arguments: str) -> DriverSource:
    """One of the adapters above."""
    adapter = globals()[arguments]
    info = DriverInfo(f"validated:{arguments}", "1.0", DECLINED)
    return DriverSource(info, adapter)


KIND = Kind("validated", (("ADAPTER", "Good"),), source)
