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


def write_layout(directory: Path, archives: Sequence[Path]) -> None:
    """An OCI image layout with one image, tagged TAG; ``directory`` is made."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layers = [_blob(blobs, one.read_bytes(), "layer.v1.tar") for one in archives]
    config = _blob(blobs, _config(layers), "config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": f"{_TYPE}manifest.v1+json", "config": config, "layers": layers}
    described = _blob(blobs, _json(manifest), "manifest.v1+json")
    tagged = {**described, "annotations": {"org.opencontainers.image.ref.name": TAG}}
    (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [tagged]}))
    (directory / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))


def write_docker_archive(path: Path, archives: Sequence[Path]) -> None:
    """A docker-archive with one image, NAME:TAG, which readers of older versions of the format read, too."""
    digests = [_digest(one.read_bytes()) for one in archives]
    config = _config([{"digest": one} for one in digests])
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
    digest = _digest(data)
    (blobs / digest.partition(":")[2]).write_bytes(data)
    return {"mediaType": _TYPE + kind, "digest": digest, "size": len(data)}


def _config(layers: Sequence[Mapping[str, Any]]) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [one["digest"] for one in layers]}
    return _json({"architecture": architecture(), "os": "linux", "config": {}, "rootfs": rootfs})


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
