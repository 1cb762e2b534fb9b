"""The layout on disk that drivers of this family share."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from conformance.harness.store import Deviation, Store
from conformance.harness.stores import Bench
from conformance.history.calls import Exists, Reopen
from conformance.history.findings import TreeDiffers
from conformance.operations import ops
from conformance.operations.observe import names_differ
from conformance.operations.strategies import STANDARD

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
            if not _SHORT.fullmatch(link):
                raise Deviation(f"{layer_id}/link holds {link!r}, expected 26 characters of A-Z and 2-7")
            if not (home / "l" / link).is_symlink():
                raise Deviation(f"{layer_id}/link holds {link!r}, and l/{link} is no symlink")
            target = os.readlink(home / "l" / link)
            if target != f"../{layer_id}/diff":
                raise Deviation(f"l/{link} leads to {target!r}, expected '../{layer_id}/diff'")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LAYOUT-LOWER")
def test_lower_names_the_chain(bench: Bench) -> None:
    with bench.store() as store:
        home = chain_of_three(store)
        links = [(home / f"layer-{number}" / "link").read_text(errors="replace") for number in range(3)]
        for number in (1, 2):
            wanted = ":".join(f"l/{link}" for link in reversed(links[:number]))
            found = (home / f"layer-{number}" / "lower").read_text(errors="replace")
            if found != wanted:
                raise Deviation(f"layer-{number}/lower holds {found!r}, expected {wanted!r}")
        if (home / "layer-0" / "lower").exists():
            raise Deviation("a base layer has a file 'lower'")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LAYOUT-DIRECTORIES")
def test_directories_of_a_layer(bench: Bench) -> None:
    with bench.store() as store:
        home = chain_of_three(store)
        store.create("fresh", "layer-2")  # which was never mounted
        for layer_id in ("layer-2", "fresh"):
            missing = [name for name in ("diff", "work", "link", "lower") if not (home / layer_id / name).exists()]
            if missing:
                raise Deviation(f"{layer_id} lacks {missing}")
        if os.listdir(home / "layer-2" / "diff") != ["new"]:
            raise Deviation(
                f"layer-2/diff holds {os.listdir(home / 'layer-2' / 'diff')}, expected what was written: new"
            )


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
            if not store.do(Exists(layer_id)):
                raise Deviation(f"{layer_id} was laid out by hand, and does not exist")
            shown = set(store.observed(layer_id).nodes)
            if shown != wanted:
                said = f"{layer_id} shows {sorted(shown)}, expected {sorted(wanted)}"
                raise Deviation(said, TreeDiffers(tuple(names_differ(wanted, shown))))
