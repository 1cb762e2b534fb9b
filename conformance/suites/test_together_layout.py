"""The layout on disk that drivers of this family share."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from conformance.harness.assertions import equal, nothing
from conformance.harness.bench import Bench, Store
from conformance.history.calls import Reopen
from conformance.operations import ops
from conformance.operations.standard import STANDARD

_SHORT = re.compile(r"[A-Z2-7]{26}")


def chain_of_three(store: Store) -> Path:
    store.build([STANDARD, [ops.Unlink(b"a")], [ops.CreateFile(b"new", b"new", 0o644)]])
    return Path(store.home)


@pytest.mark.quick
@pytest.mark.requirement("OVL-LAYOUT-LINK")
def test_short_links(bench: Bench) -> None:
    with bench.store() as store:
        home = chain_of_three(store)
        for layer_id in ("layer-0", "layer-1", "layer-2"):
            link = (home / layer_id / "link").read_text(errors="replace")
            what = f"whether {layer_id}/link, {link!r}, is 26 characters of A-Z and 2-7"
            equal(what, _SHORT.fullmatch(link) is not None, True)
            equal(f"the target of l/{link}", os.readlink(home / "l" / link), f"../{layer_id}/diff")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LAYOUT-LOWER")
def test_lower_names_the_chain(bench: Bench) -> None:
    with bench.store() as store:
        home = chain_of_three(store)
        links = [(home / f"layer-{number}" / "link").read_text(errors="replace") for number in range(3)]
        for number in (1, 2):
            wanted = ":".join(f"l/{link}" for link in reversed(links[:number]))
            found = (home / f"layer-{number}" / "lower").read_text(errors="replace")
            equal(f"layer-{number}/lower", found, wanted)
        equal("whether a base layer has a file 'lower'", (home / "layer-0" / "lower").exists(), False)


@pytest.mark.quick
@pytest.mark.requirement("OVL-LAYOUT-DIRECTORIES")
def test_directories_of_a_layer(bench: Bench) -> None:
    with bench.store() as store:
        home = chain_of_three(store)
        store.create("fresh", "layer-2")  # which was never mounted
        for layer_id in ("layer-2", "fresh"):
            missing = [name for name in ("diff", "work", "link", "lower") if not (home / layer_id / name).exists()]
            nothing(f"missing files of {layer_id}", missing)
        equal("layer-2/diff, into which 'new' was written", os.listdir(home / "layer-2" / "diff"), ["new"])


@pytest.mark.quick
@pytest.mark.requirement("OVL-LAYOUT-READ")
@pytest.mark.parametrize("below", [("work", "merged"), ("work",)], ids=["as-made", "as-left"])
def test_a_store_by_another_hand(bench: Bench, below: tuple[str, ...]) -> None:
    """containers/storage takes the mount point away when it unmounts a layer."""
    with bench.store() as store:
        store.build([STANDARD])
        store.note("lay out 'foreign-0' and, on it, 'foreign-1' by hand")
        shorts = [b"A" * 26, b"B" * 26]
        made: list[ops.Operation] = []
        for number, short in enumerate(shorts):
            layer = b"foreign-%d" % number
            made += [
                ops.MakeDirectory(layer, 0o755),
                ops.MakeDirectory(layer + b"/diff", 0o755),
                ops.CreateFile(layer + b"/link", short, 0o644),
                ops.MakeSymlink(b"l/" + short, b"../" + layer + b"/diff"),
                ops.CreateFile(layer + b"/diff/file-%d" % number, b"", 0o644),
            ]
        made += [ops.MakeDirectory(b"foreign-1/" + name.encode(), 0o700) for name in below]
        store.tamper([*made, ops.CreateFile(b"foreign-1/lower", b"l/" + shorts[0], 0o644)])
        store.do(Reopen())
        for layer_id, wanted in (("foreign-0", {b"file-0"}), ("foreign-1", {b"file-0", b"file-1"})):
            store.confirms(layer_id)
            store.shows_names(layer_id, wanted)
