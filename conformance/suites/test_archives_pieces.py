"""Archives that arrive in pieces, as from a network: a read returns less than was asked for."""

from __future__ import annotations

import pytest

from conformance.harness.assertions import same_tree
from conformance.harness.bench import Bench
from conformance.lab.pieces import pipe_of
from conformance.operations import ops
from conformance.operations.standard import STANDARD

_LARGE = (*STANDARD, ops.CreateFile(b"large", b"large" * 20_000, 0o644), ops.CreateFile(b"last", b"l" * 513, 0o600))


@pytest.mark.requirement("OVL-APPLY-PIECES")
@pytest.mark.parametrize(
    ("size", "layer"),
    [(1, STANDARD), (511, _LARGE), (513, _LARGE), (4096, _LARGE)],
    ids=["1", "511", "513", "4096"],
)
def test_an_archive_arrives_in_pieces(bench: Bench, size: int, layer: tuple[ops.Operation, ...]) -> None:
    with bench.store() as store:
        store.build([layer])
        archive = store.diff("layer-0")
        store.create("copy")
        with pipe_of(archive, size, store.directory) as pipe:
            store.beyond(f"the archive was handed over in pieces of {size} bytes")
            store.apply("copy", pipe)
        expected, found = store.expected("layer-0").without_directory_times(), store.observed("copy")
        same_tree("copy, from an archive in pieces,", expected, found, times="files")
