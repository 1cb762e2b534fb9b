"""Archives in every form of tar, as Python's tarfile and GNU tar read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.drivers.protocol import DriverRefused
from conformance.harness.assertions import same_names, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import Deviation, Leak
from conformance.harness.skips import UNTESTED
from conformance.lab import gnutar
from conformance.lab.gnutar import NoAnswer
from conformance.operations import readers
from conformance.operations.comparing import compared
from conformance.operations.readers import NotRead, Reading
from conformance.operations.tarforms import archive_of
from conformance.operations.tarstrategies import archives
from conformance.operations.trees import Snapshot
from conformance.suites import opencases, tarcases
from conformance.suites.opencases import OpenCase
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
    expected = store.comparable(Snapshot(nodes, wanted.link_groups).without_directory_times())
    same_tree(f"the tree of {layer_id}", expected, found, times="files")


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


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-FORMATS")
@given(data=st.data())
def test_archives_by_the_grammar_of_tar(bench: Bench, data: st.DataObject) -> None:
    needs_gnu_tar()
    entries = bench.draw(data, archives(privileged=bench.privileged))
    blocks, record = bench.draw(data, st.sampled_from(((2, True), (2, False), (3, False), (21, True))))
    drawn = archive_of(entries, blocks, record=record)
    with bench.store() as store:
        archive = store.bytes_of_archive(drawn, "by the grammar of tar", *(one.describe() for one in entries))
        reading, differs = agreed(archive)
        store.create("layer")
        if reading is None:
            store.record("archives that tarfile and GNU tar read differently", differs)
            store.may_refuse(store.applying("layer", archive))
            return
        store.apply("layer", archive)
        shows(store, "layer", reading)


def needs_gnu_tar() -> None:
    """Leave the test where GNU tar is not there."""
    if not gnutar.is_here():
        pytest.skip(UNTESTED + "the command tar is not that of GNU, the second reader of the archives")


def agreed(archive: Path) -> tuple[Reading | None, str]:
    """What both readers say; None, and why, where they disagree."""
    try:
        one = readers.by_tarfile(archive.read_bytes())
        other = readers.by_gnu_tar(*gnutar.list_and_contents(archive))
    except (NotRead, NoAnswer) as error:
        return None, str(error)
    differs = readers.disagreement(one, other)
    return None if differs else one, differs


@pytest.mark.requirement("OVL-APPLY-FORMATS")
def test_what_no_text_decides_is_recorded(bench: Bench) -> None:
    """Sparse files, types and times: the driver refuses them, or takes them with the entry behind."""
    bench.need("attributes")
    cases = [one for one in opencases.OPEN if bench.privileged or not one.needs_root]
    with bench.store() as store:
        for number, case in enumerate(cases):
            layer_id = store.create(f"layer-{number}")
            archive = store.bytes_of_archive(case.data, case.name)
            if store.may_refuse(store.applying(layer_id, archive)) is None:
                found = store.shows_files(layer_id, {b"last": b"last"})
                store.record(*seen_in(case, found))
            else:
                store.record("forms of tar that the driver refuses", case.name)


def seen_in(case: OpenCase, found: Snapshot) -> tuple[str, str]:
    """How the tree of an archive compares with what the readers say: a fact for the result."""
    if case.disputed:
        return "forms of tar that the driver takes, on which tarfile and GNU tar disagree", case.name
    try:
        wanted = readers.by_tarfile(case.data).tree().without_links()
    except NotRead:  # a hard link whose target no path can name
        return "forms of tar that the driver takes, and tarfile does not", case.name
    differs = compared(wanted, found.without_links(), times="known")
    if differs:
        said = f"{case.name} ({differs[0].text})"
        return "forms of tar that the driver takes otherwise than tarfile and GNU tar", said
    return "forms of tar that the driver takes as tarfile and GNU tar do", case.name
