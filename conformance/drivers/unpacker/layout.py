"""Images of plain archives: an OCI image layout, or the archive that ``docker save`` writes.

Each archive is a layer, uncompressed and byte for byte, so its digest is its diff id. Sources: image-layout.md,
manifest.md and config.md of the OCI image specification, and the image specifications of Docker,
v1 to v1.2.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TAG: Final = "latest"
NAME: Final = "localhost/conformance"  # of the image in a docker-archive
_TYPE: Final = "application/vnd.oci.image."
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}


def architecture() -> str:
    """This machine's, as Go names it (GOARCH): tools refuse images of others."""
    machine = platform.machine()
    return _MACHINES.get(machine, machine)


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """The bytes of a layer, compressed or not; ``diff_id`` is the digest of the uncompressed archive."""

    data: bytes
    diff_id: str
    media_type: str = f"{_TYPE}layer.v1.tar"


def write_layout(directory: Path, archives: Sequence[Path]) -> None:
    """An OCI image layout with one image, tagged TAG; ``directory`` is made."""
    layers = [LayerBlob(data, digest_of(data)) for data in (one.read_bytes() for one in archives)]
    write_images(directory, {TAG: layers}, architecture())


def write_images(directory: Path, images: Mapping[str, Sequence[LayerBlob]], machine: str) -> None:
    """An OCI image layout with an image for each tag, whose layers are the base first; ``directory`` is made."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    tagged = [_image(blobs, tag, layers, machine) for tag, layers in images.items()]
    (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": tagged}))
    (directory / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))


def _image(blobs: Path, tag: str, layers: Sequence[LayerBlob], machine: str) -> Mapping[str, Any]:
    """The descriptor of an image that is written."""
    described = [_blob(blobs, one.data, one.media_type) for one in layers]
    config = _blob(blobs, _config([one.diff_id for one in layers], machine), f"{_TYPE}config.v1+json")
    kind = f"{_TYPE}manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": described}
    annotations = {"org.opencontainers.image.ref.name": tag}
    return {**_blob(blobs, _json(manifest), kind), "annotations": annotations}


def write_docker_archive(path: Path, archives: Sequence[Path]) -> None:
    """A docker-archive with one image, NAME:TAG, which readers of older versions of the format read, too."""
    digests = [digest_of(one.read_bytes()) for one in archives]
    config = _config(digests, architecture())
    ids = _ids(digests)
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [f"{NAME}:{TAG}"], "Layers": [f"{one}/layer.tar" for one in ids]}]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, "manifest.json", _json(manifest))
        _add(tar, "repositories", _json({NAME: {TAG: ids[-1]}}))
        _add(tar, name, config)
        for below, one, archive in zip(["", *ids], ids, archives, strict=False):
            _add(tar, f"{one}/VERSION", b"1.0")
            _add(tar, f"{one}/json", _json({"id": one, "os": "linux", **({"parent": below} if below else {})}))
            _add(tar, f"{one}/layer.tar", archive.read_bytes())


def _ids(digests: Sequence[str]) -> list[str]:
    """An id for each layer, of 64 digits as the first version of the format has them."""
    found = [""]
    for one in digests:
        found.append(hashlib.sha256(f"{found[-1]} {one}".encode()).hexdigest())
    return found[1:]


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _blob(blobs: Path, data: bytes, kind: str) -> Mapping[str, Any]:
    """A descriptor of a blob that is written."""
    digest = digest_of(data)
    (blobs / digest.partition(":")[2]).write_bytes(data)
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def _config(diff_ids: Sequence[str], machine: str) -> bytes:
    rootfs = {"type": "layers", "diff_ids": list(diff_ids)}
    return _json({"architecture": machine, "os": "linux", "config": {}, "rootfs": rootfs})


def digest_of(data: bytes) -> str:
    """The digest of a blob, as descriptors have it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
