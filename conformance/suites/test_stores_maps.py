"""Everything that a layer keeps of an entry, under maps of users and of groups that differ."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from conformance.drivers.protocol import IdRange
from conformance.harness.assertions import nothing, same_tree
from conformance.harness.bench import Bench
from conformance.harness.deviation import Deviation
from conformance.history.findings import TreeDiffers, WrongAnswer
from conformance.operations import archives
from conformance.operations.standard import STANDARD
from conformance.suites.applycases import CASES as ARCHIVES
from conformance.suites.boundaries import BOUNDARIES
from conformance.suites.cases import CASES, Layer
from conformance.suites.fewest import check_fewest
from conformance.suites.held import held
from conformance.suites.lattice import LATTICE
from conformance.suites.mapped import Maps, mapped, requirement_of, together, translated

# Every owner of the cases, in ranges that are neither in the same order nor of the same length on both sides.
_ORIGIN = Maps(
    (IdRange(0, 3_000_000, 2_200_000), IdRange(2**31 - 1, 100_000, 2), IdRange(2**32 - 2, 200_000, 1)),
    (IdRange(0, 7_000_000, 2_100_000), IdRange(2_100_000, 400_000, 500), IdRange(2**31 - 1, 1_500_000_000, 2**31)),
)
_COPY = Maps(
    (IdRange(0, 500_000, 65_536), IdRange(65_536, 900_000, 2_200_000), IdRange(2**31 - 1, 2**31 - 1, 2**31)),
    (IdRange(0, 1, 2_200_000), IdRange(2**31 - 1, 2**31 + 1, 2), IdRange(2**32 - 2, 2**32 - 2, 1)),
)


@pytest.mark.requirement("OVL-IDMAP-TRIP")
def test_every_case_of_metadata_goes_from_maps_to_maps(bench: Bench) -> None:
    cases = [one for one in (*CASES, *BOUNDARIES, *LATTICE) if one.requirement.startswith("OVL-META-")]
    # Times have nothing to do with owners: those of CASES are enough.
    cases = [one for one in cases if one not in LATTICE or one.times == "none"]
    chain = held(bench, together(cases))
    check_fewest(bench, chain, lambda fewer: _goes_from_maps_to_maps(bench, fewer))


def _goes_from_maps_to_maps(bench: Bench, chain: Sequence[Layer]) -> None:
    """The chain has owners as in the container. Other deviations than owners are those of their requirement."""
    links, times = bench.has("lower-links"), "known" if bench.has("fine-times") else "files"
    with (
        bench.store("origin", id_map=_ORIGIN.users, gid_map=_ORIGIN.groups) as store,
        bench.store("copy", id_map=_COPY.users, gid_map=_COPY.groups) as copy,
    ):
        for layer_id in store.build(mapped(chain, _ORIGIN)):
            store.shows_model(layer_id)
            copy.bring(store, layer_id)
            expected = translated(store.expected(layer_id), _ORIGIN, _COPY).without_directory_times()
            found = copy.observed(layer_id)
            try:
                same_tree(f"{layer_id} in a store with other id maps", expected, found, times=times, links=links)
            except Deviation as deviation:
                deviation.requirements = _charged(deviation)
                raise


def _charged(deviation: Deviation) -> tuple[str, ...]:
    """The requirement of the case that differs, where it differs in something else than owners."""
    finding = deviation.finding
    if isinstance(finding, TreeDiffers) and all(one.what != "owner" for one in finding.differences):
        return (requirement_of(finding.differences[0].path),)
    return ()


@pytest.mark.requirement("OVL-IDMAP-APPLY")
@pytest.mark.parametrize("itself", [False, True], ids=["over-a-layer-below", "over-what-the-layer-holds"])
def test_all_that_an_archive_of_root_brings_belongs_to_the_mapped_root(bench: Bench, itself: bool) -> None:
    """Directories that it implies, and what it has in the place of something else, too."""
    root = _ORIGIN.on_host(0, 0)
    (standard,) = mapped([STANDARD], _ORIGIN)
    named = {one.name: one.entries for one in ARCHIVES} | {"implied-for-file": [archives.file("a/new/f")]}
    with bench.store("origin", id_map=_ORIGIN.users, gid_map=_ORIGIN.groups) as store:
        store.create("base")
        store.change("base", standard)
        for number, (name, entries) in enumerate(named.items()):
            layer_id = store.create(f"layer-{number}", "" if itself else "base")
            if itself:
                store.change(layer_id, standard)
            if store.may_refuse(store.applying(layer_id, store.archive(entries))) is None:
                nodes = store.observed(layer_id).nodes
                others = {path: (one.uid, one.gid) for path, one in nodes.items() if (one.uid, one.gid) != root}
                nothing(f"entries of {layer_id} ({name}) of another owner than {root}", others, WrongAnswer())
