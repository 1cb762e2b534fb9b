"""What a driver makes of a home that was harmed while it was away."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import ops
from conformance.bench import Bench
from conformance.driver import DriverRefused
from conformance.strategies import STANDARD
from conformance.workbench import Deviation, Workbench, same_tree


def three_layers(store: Workbench) -> Path:
    """layer-0 to layer-2, each with something of its own, and the home."""
    store.build(
        [STANDARD, [ops.Unlink(b"a"), ops.CreateFile(b"one", b"1", 0o644)], [ops.CreateFile(b"two", b"2", 0o644)]]
    )
    store.create("sibling", "layer-0")
    return Path(store.driver.home)


def harmed(store: Workbench, what: str, harm: Callable[[], object]) -> None:
    """Do harm to the home while no driver has it open."""
    store.tell(f"{what}, and open the home again")
    harm()
    store.driver = store.driver.reopen()


def whole_or_refused(store: Workbench, layer_id: str) -> bool:
    """The layer is shown as the model has it, or refused; raises Deviation if something else is shown."""
    store.tell(f"get {layer_id}  (whole, or refused)")
    try:
        shown = store.observed(layer_id)
    except DriverRefused as refused:
        store.tell(f"  refused: {refused}")
        return False
    same_tree(f"{layer_id}, of a home that was harmed,", store.expected(layer_id), shown)
    return True


def try_to_remove(store: Workbench, layer_id: str) -> None:
    store.tell(f"remove {layer_id}")
    try:
        store.driver.remove(layer_id)
    except DriverRefused as refused:
        store.tell(f"  refused: {refused}")


@pytest.mark.requirement("OVL-RESTART-LINK-EMPTY")
@pytest.mark.parametrize(
    "content",
    ["", "\n", ".", "../layer-0", "a/b", "x" * 300],
    ids=["empty", "newline", "dot", "up", "slash", "long"],
)
def test_a_malformed_link_harms_no_other(bench: Bench, content: str) -> None:
    with bench.store() as store:
        home = three_layers(store)
        links = set(os.listdir(home / "l"))
        own = (home / "layer-2" / "link").read_text()
        harmed(
            store,
            f"write {content[:20]!r} into layer-2/link",
            lambda: (home / "layer-2" / "link").write_text(content),
        )
        whole_or_refused(store, "layer-2")
        try_to_remove(store, "layer-2")
        left = set(os.listdir(home / "l")) if (home / "l").is_dir() else set()
        if links - left - {own}:
            raise Deviation(f"short links of other layers are gone: {sorted(links - left - {own})}")
        store.check_tree("layer-1")
        store.check_tree("sibling")


@pytest.mark.requirement("OVL-RESTART-LINK-GONE")
def test_a_missing_link_harms_no_other(bench: Bench) -> None:
    with bench.store() as store:
        home = three_layers(store)
        harmed(store, "remove layer-1/link", lambda: (home / "layer-1" / "link").unlink())
        whole_or_refused(store, "layer-1")
        whole_or_refused(store, "layer-2")
        try:
            store.driver.create("on-it", "layer-1")
        except DriverRefused as refused:
            store.tell(f"create on-it on layer-1 -> refused: {refused}")
        else:
            shown = set(store.observed("on-it").nodes)
            if shown != set(store.expected("layer-1").nodes):
                raise Deviation(f"a layer on layer-1, which lost its link, shows {sorted(shown)}")
        store.check_tree("sibling")


@pytest.mark.requirement("OVL-RESTART-SHORT-LINK-GONE")
def test_a_missing_short_link_shows_no_half_layer(bench: Bench) -> None:
    with bench.store() as store:
        home = three_layers(store)
        short = (home / "layer-1" / "link").read_text()
        harmed(store, "remove the short link of layer-1", lambda: (home / "l" / short).unlink())
        whole_or_refused(store, "layer-2")
        whole_or_refused(store, "layer-1")
        store.check_tree("sibling")


@pytest.mark.requirement("OVL-RESTART-LOWER-CUT")
@pytest.mark.parametrize("keep", [0, 1, 10, 28, 30], ids=str)
def test_a_cut_lower_shows_no_half_layer(bench: Bench, keep: int) -> None:
    """Of two lowers in 57 bytes the first takes 28: cut there, it looks whole."""
    with bench.store() as store:
        home = three_layers(store)
        lower = home / "layer-2" / "lower"
        harmed(store, f"cut layer-2/lower to {keep} bytes", lambda: os.truncate(lower, keep))
        try:
            shown = set(store.observed("layer-2").nodes)
        except DriverRefused as refused:
            store.tell(f"get layer-2 -> refused: {refused}")
        else:
            # Nothing on disk says that a lower which ends between two entries was longer; all else is seen.
            if keep != 28 and shown != set(store.expected("layer-2").nodes):
                raise Deviation(f"layer-2, whose 'lower' was cut, shows {sorted(shown)}")
        store.check_tree("layer-1")


@pytest.mark.requirement("OVL-RESTART-LOWER-ASTRAY")
@pytest.mark.parametrize("way", ["lower-absolute", "lower-dots", "short-link"])
def test_nothing_leads_out_of_the_store(bench: Bench, way: str) -> None:
    with bench.store() as store:
        home = three_layers(store)
        outside = store.directory / "outside"
        outside.mkdir()
        (outside / "host").touch()
        lower, short = home / "layer-2" / "lower", home / "l" / (home / "layer-1" / "link").read_text()

        def harm() -> None:
            if way == "short-link":
                short.unlink()
                short.symlink_to(outside)
            else:
                lower.write_text(str(outside) if way == "lower-absolute" else "l/../../outside")

        harmed(store, f"make {way} of layer-2 lead to {outside}", harm)
        try:
            shown = set(store.observed("layer-2").nodes)
        except DriverRefused as refused:
            store.tell(f"get layer-2 -> refused: {refused}")
        else:
            if b"host" in shown:
                raise Deviation("layer-2 shows a directory outside the store")
        try_to_remove(store, "layer-2")
        if not (outside / "host").exists():
            raise Deviation("removing the layer removed what is outside the store")


@pytest.mark.requirement("OVL-RESTART-FOREIGN")
def test_foreign_files_do_no_harm(bench: Bench) -> None:
    with bench.store() as store:
        home = three_layers(store)

        def litter() -> None:
            (home / "lost+found").mkdir()
            (home / "README").write_text("not a layer")
            (home / "lost+found" / "x").touch()

        harmed(store, "put a file README and a directory lost+found into the home", litter)
        for layer_id in ("layer-0", "layer-2", "sibling"):
            store.check_tree(layer_id)
        store.create("later", "layer-2")
        store.check_tree("later")
        store.driver.remove("later")
        if not (home / "lost+found" / "x").exists() or (home / "README").read_text() != "not a layer":
            raise Deviation("files in the home that are not the driver's were changed or removed")
