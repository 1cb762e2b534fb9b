"""A corpus as a directory: docs/corpus.md describes it. Two builds of one version have equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from conformance.corpus.expecting import expected_of
from conformance.corpus.packing import packed
from conformance.corpus.values import FORMAT, VERSION, Expected, Index, Listed
from conformance.corpus.vector import EXPECTED, Vector
from conformance.drivers.unpacker.layout import LayerBlob, write_images
from conformance.spec import load_requirements
from conformance.spec.values import as_plain

MACHINE: Final = "amd64"  # the architecture of all images, whatever the host is


def build(directory: Path, vectors: Sequence[Vector], schemas: Mapping[str, Mapping[str, Any]]) -> None:
    """Write vectors, indexes, OCI layouts, the README and ``schemas`` by file name; raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty; name a new directory")
    for hostile in (False, True):
        part = directory / "hostile" if hostile else directory
        part.mkdir(exist_ok=True)
        _write_part(part, [one for one in vectors if one.hostile == hostile], hostile=hostile)
    text = files("conformance.corpus").joinpath("directory.md").read_text(encoding="utf-8")
    (directory / "README.md").write_text(text.format(version=VERSION, format=FORMAT))
    (directory / "schemas").mkdir()
    for name, schema in schemas.items():
        _write(directory / "schemas" / name, schema)


def _write_part(directory: Path, vectors: Sequence[Vector], *, hostile: bool) -> None:
    requirements = load_requirements()
    listed, images = [], {}
    for vector in vectors:
        place = directory / "vectors" / vector.name
        place.mkdir(parents=True)
        expected = expected_of(vector, requirements)
        blobs = [packed(one.data, one.packing) for one in vector.layers]
        for said, blob in zip(expected.layers, blobs, strict=True):
            (place / said.file).write_bytes(blob)
        images[vector.name] = [
            LayerBlob(blob, said.diff_id, said.media_type)
            for said, blob in zip(expected.layers, blobs, strict=True)
        ]
        _write(place / EXPECTED, as_plain(expected))
        listed.append(_listed(expected))
    write_images(directory / "oci", images, MACHINE)
    _write(directory / "corpus.json", as_plain(Index(FORMAT, VERSION, hostile, "oci", tuple(listed))))


def _listed(one: Expected) -> Listed:
    path = f"vectors/{one.name}/{EXPECTED}"
    return Listed(one.name, one.subject, one.requirement, one.question, one.open, one.refusal, path, one.needs)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")
