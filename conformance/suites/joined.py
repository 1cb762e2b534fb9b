"""Several chains of layers as one, each in a directory of its own: mounts cost more than files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from conformance.operations import ops
from conformance.suites.cases import Layer


def joined(chains: Mapping[bytes, Sequence[Layer]]) -> list[Layer]:
    """The chains by the directory in which each is done; the first layer makes the directories."""
    layers: list[list[ops.Operation]] = [[] for _ in range(max(map(len, chains.values())))]
    for directory, chain in chains.items():
        layers[0].append(ops.MakeDirectory(directory, 0o755))
        for level, layer in enumerate(chain):
            layers[level] += [_below(directory, one) for one in layer]
    return [tuple(layer) for layer in layers]


def _below(directory: bytes, operation: ops.Operation) -> ops.Operation:
    moved: dict[str, Any] = {name: directory + b"/" + path for name, path in ops.paths_of(operation).items()}
    return replace(operation, **moved)
