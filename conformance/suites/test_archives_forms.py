"""Archives in every form of tar, as Python's tarfile and GNU tar read them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from conformance.drivers.protocol import DriverRefused
from conformance.harness.assertions import same_names, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import Deviation, Leak
from conformance.operations import readers
from conformance.operations.readers import Reading
from conformance.operations.trees import Snapshot
from conformance.suites import tarcases
from conformance.suites.tarcases import TarCase


def is_applied(store: Store, layer_id: str, data: bytes, what: Sequence[str], reading: Reading) -> None:
    """A new layer to which an archive is applied shows what the archive says; raises Deviation."""
    store.create(layer_id)
    store.apply(layer_id, store.bytes_of_archive(data, *what))
    shows(store, layer_id, reading)


def shows(store: Store, layer_id: str, reading: Reading) -> None:
    """The layer shows what a reading says: its entries, and whatever directories they need."""
    found, wanted = store.observed(layer_id), reading.tree()
    same_names(f"the tree of {layer_id}", readers.names_of(reading.entries), found.nodes)
    nodes = {path: wanted.nodes.get(path, found.nodes[path]) for path in found.nodes}
    expected = Snapshot(nodes, wanted.link_groups)
    same_tree(f"the tree of {layer_id}", expected.without_directory_times(), found, times="files")


def check_all(bench: Bench, cases: Sequence[TarCase]) -> None:
    """All cases in one archive; where that fails, one of them alone if it fails so, too."""
    wanted = [
        one for one in cases if (bench.privileged or not one.needs_root) and (not one.needs or bench.has(one.needs))
    ]
    try:
        _check(bench, wanted)
    except (Deviation, DriverRefused) as error:
        if isinstance(error, Leak) or not bench.shrinks:
            raise
        bench.failed(error)
        for case in wanted:
            _check(bench, [case])
        _check(bench, wanted)


def _check(bench: Bench, cases: Sequence[TarCase]) -> None:
    data = tarcases.joined(cases)
    with bench.store() as store:
        is_applied(store, "layer", data, [one.name for one in cases], readers.by_tarfile(data))


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-FORMATS")
@pytest.mark.parametrize(
    "cases",
    [tarcases.NAMES, tarcases.KINDS, tarcases.NUMBERS, tarcases.RECORDS, tarcases.SECOND_GLOBAL_HEADER],
    ids=["names", "kinds", "numbers", "records", "second-global-header"],
)
def test_every_form_of_an_entry(bench: Bench, cases: Sequence[TarCase]) -> None:
    check_all(bench, cases)


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-FORMATS")
def test_every_end_of_an_archive(bench: Bench) -> None:
    with bench.store() as store:
        for number, (name, data) in enumerate(tarcases.ENDS.items()):
            is_applied(store, f"layer-{number}", data, [name], readers.by_tarfile(data))
