"""The transfer service: the second way by which archives become layers of containerd, which ctr 2 and engines take.

An image is sent as a stream, and the service unpacks its layers itself, one after the other. Of an image that it
pulls it applies each layer for itself, on no parent, and stacks them when it commits them, if
``max_concurrent_unpacks`` is above 1 (containerd 2.2; core/transfer/local/pull.go). So the image comes from a
registry then. The image of a call has two layers: what the layer holds already, which is a snapshot under the name
that the service looks for, and the archive.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
import threading
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from conformance.drivers.containerd import messages
from conformance.drivers.containerd.client import Client, Refused
from conformance.drivers.containerd.registry import serving
from conformance.drivers.containerd.services import MEDIA_TYPE, Snapshots, media_type_of, plugins_of
from conformance.drivers.containerd.wire import decode, encode
from conformance.drivers.protocol import DriverRefused
from conformance.drivers.unpacker.layout import LayerBlob, architecture, digest_of, write_images

_TYPES: Final = "containerd.types.transfer."
_PIECE: Final = 32 << 10  # bytes of a message; containerd's own clients send as many
_GZIP: Final = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Unpacking:
    """How archives become layers: by the transfer service, with ``parallel`` layers at once."""

    parallel: int = 1

    def configuration(self, snapshotter: str) -> str:
        """What the daemon has to be configured with (TOML)."""
        differ = '\ndiffer = "erofs"' if snapshotter == "erofs" else ""
        limit = f"max_concurrent_unpacks = {self.parallel}\n" if self.parallel > 1 else ""
        return (
            f'[plugins."io.containerd.transfer.v1.local"]\n{limit}'
            '[[plugins."io.containerd.transfer.v1.local".unpack_config]]\n'
            f'platform = "linux/{architecture()}"\nsnapshotter = "{snapshotter}"{differ}\n'
        )

    def check(self, client: Client, snapshotter: messages.Plugin) -> None:
        """Raise DriverRefused if this containerd cannot unpack in this way."""
        found = [one for one in plugins_of(client) if one.type == "io.containerd.transfer.v1"]
        if not found:
            raise Refused("UNIMPLEMENTED", "this containerd has no transfer service; 1.7 and later have it")
        if said := found[0].init_err.message:
            raise Refused("UNAVAILABLE", f"containerd did not load its transfer service: {said}")
        if self.parallel > 1 and "rebase" not in snapshotter.capabilities:
            raise Refused(
                "UNIMPLEMENTED",
                f"the snapshotter {snapshotter.id} of this containerd cannot give a layer its parent when it is"
                " committed (capability 'rebase'), so layers are unpacked one after the other; leave out parallel=,"
                " or take containerd 2.2 or later with overlayfs or erofs",
            )


class Transfers:
    """The service, for one snapshotter; ``parallel`` layers at once."""

    def __init__(self, client: Client, snapshots: Snapshots, snapshotter: str, parallel: int) -> None:
        self._client, self._snapshots, self._name = client, snapshots, snapshotter
        self._parallel = parallel

    def apply(self, key: str, archive: Path) -> None:
        """Put an archive on what an active snapshot holds; the snapshot has what it had if this is refused."""
        empty = _empty_layer()
        base = digest_of(empty.data)
        with self._client.lease():
            self._snapshots.commit(base, key, kept=False)
            below = base
            try:
                layer = _layer_of(archive)
                self._import((empty, layer)) if self._parallel == 1 else self._pull((empty, layer))
                below = _chain_id(base, layer.diff_id)
                if not self._snapshots.exists(below):
                    raise DriverRefused(
                        f"the transfer service unpacked nothing for the snapshotter {self._name}: is it in the"
                        " unpack_config of this containerd (ctr plugins ls -d id==local)?"
                    )
            finally:
                self._snapshots.prepare(key, below if self._snapshots.exists(below) else base)

    def _import(self, layers: tuple[LayerBlob, ...]) -> None:
        name = f"image-{uuid.uuid4().hex}"
        request = self._request("ImageImportStream", messages.ImageImportStream(name), "")
        with _Sending(self._client, name, _image(layers)):
            self._client.call("transfer/Transfer", request, messages.Empty)

    def _pull(self, layers: tuple[LayerBlob, ...]) -> None:
        name = f"conformance.invalid/image-{uuid.uuid4().hex}:1"
        with tempfile.TemporaryDirectory(prefix="image-") as place:
            layout = Path(place, "image")
            write_images(layout, {"latest": layers}, architecture())
            (manifest,) = json.loads((layout / "index.json").read_bytes())["manifests"]
            with serving(layout, manifest["digest"]) as reference:
                source = messages.Registry(reference, messages.RegistryResolver("http"))
                self._client.call("transfer/Transfer", self._request("OCIRegistry", source, name), messages.Empty)
        self._client.call("images/Delete", messages.Name(name), messages.Empty)

    def _request(self, kind: str, source: object, name: str) -> messages.TransferRequest:
        platform = messages.Platform("linux", architecture())
        unpacks = [messages.UnpackConfiguration(platform, self._name)]
        store = messages.ImageStore(name, unpacks)
        return messages.TransferRequest(_any(f"{_TYPES}{kind}", source), _any(f"{_TYPES}ImageStore", store))


def remove(snapshots: Snapshots, key: str) -> None:
    """Remove the snapshot of a layer, and those that archives were unpacked to below it.

    containerd's collection of garbage would take these, too, but would leave each in the list of its parent's
    children, so that the parent could not be removed any more (containerd/containerd#11908).
    """
    parent = snapshots.parent_of(key)
    snapshots.remove(key)
    while parent.startswith("sha256:"):
        parent, gone = snapshots.parent_of(parent), parent
        snapshots.remove(gone)


class _Sending:
    """A stream of bytes to the daemon, which may be read as soon as this is entered."""

    def __init__(self, client: Client, name: str, data: bytes) -> None:
        self._client, self._name, self._data = client, name, data
        self._registered, self._over = threading.Event(), False
        self._call: Any = None

    def __enter__(self) -> None:
        self._call = self._client.exchange("streaming/Stream", self._requests(), messages.Any)
        try:
            self._call.next()  # the daemon knows the name now
        except BaseException:
            self.__exit__()
            raise
        self._registered.set()

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._registered.set()
        self._call.cancel()

    def _requests(self) -> Iterator[messages.Any]:
        """Run by a thread of grpc. A receiver that wants no more says nothing, and then the call is cancelled."""
        yield _any("containerd.services.streaming.v1.StreamInit", messages.StreamInit(self._name))
        self._registered.wait()
        position, window = 0, 0
        while position < len(self._data) and not self._over:
            if window <= 0:
                answer = self._call.next_or_none()
                if answer is None:
                    return
                window += decode(messages.WindowUpdate, answer.value).update
                continue
            piece = self._data[position : position + min(_PIECE, window)]
            yield _any(f"{_TYPES}Data", messages.StreamData(piece))
            position, window = position + len(piece), window - len(piece)


def _any(kind: str, message: object) -> messages.Any:
    return messages.Any(kind, encode(message))


def _image(layers: tuple[LayerBlob, ...]) -> bytes:
    """A tar archive of an image layout."""
    with tempfile.TemporaryDirectory(prefix="image-") as place, io.BytesIO() as out:
        write_images(Path(place, "image"), {"latest": layers}, architecture())
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.add(Path(place, "image"), arcname=".", filter=_named)
        return out.getvalue()


def _named(about: tarfile.TarInfo) -> tarfile.TarInfo:
    about.name = about.name.removeprefix("./")
    return about


def _empty_layer() -> LayerBlob:
    """A layer with nothing in it, which no image has had: its digest names a snapshot."""
    with io.BytesIO() as out:
        with tarfile.open(
            fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": uuid.uuid4().hex}
        ):
            pass
        data = out.getvalue()
    return LayerBlob(data, digest_of(data), MEDIA_TYPE)


def _layer_of(archive: Path) -> LayerBlob:
    data = archive.read_bytes()
    kind = media_type_of(data)
    plain = data
    if kind.endswith("+gzip"):
        try:
            plain = zlib.decompress(data, _GZIP)
        except zlib.error as error:
            raise DriverRefused(f"{archive.name} is no whole gzip stream, so it has no diff id: {error}") from error
    return LayerBlob(data, digest_of(plain), kind)


def _chain_id(below: str, diff_id: str) -> str:
    """The name of a snapshot of a layer (config.md of the OCI image specification, layer ChainID)."""
    return f"sha256:{hashlib.sha256(f'{below} {diff_id}'.encode()).hexdigest()}"
