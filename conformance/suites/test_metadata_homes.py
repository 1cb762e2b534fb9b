"""Paths of homes with special characters, and ids of layers that are much alike."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from conformance.drivers.protocol import DriverRefused
from conformance.harness.bench import Bench
from conformance.history.calls import Get, Put, Remove, Reopen
from conformance.operations import ops
from conformance.operations.standard import STANDARD
from conformance.suites.homes import chain_with_few_files
from conformance.suites.mounts import nothing_mounted, tree_stays

_SPECIAL = "a:b, c\\d"
_WIDE = "ä" * 100


@pytest.mark.requirement("OVL-NAMES-HOME")
@pytest.mark.parametrize(
    ("name", "lowers"), [(_SPECIAL, 2), (_SPECIAL, 30), (_WIDE, 14)], ids=["2", "30", "14-of-two-bytes"]
)
def test_special_characters_in_a_home_of_any_length(bench: Bench, name: str, lowers: int) -> None:
    """Of a path of some 250 bytes, 2 lowers fit into a page by absolute paths, and 30 do not.

    With letters of two bytes 14 do not, while they would if a letter were a byte.
    """

    def special(directory: Path) -> Path:
        return directory / (name + "h" * (150 - len(name))) / (40 * "h" + name)

    with bench.store("origin", special) as store:
        store.note(f"a home below a directory called {name!r} and more")
        top = chain_with_few_files(store, lowers)
        store.change(top, [ops.Unlink(b"file-0"), ops.CreateFile(b"new", b"new", 0o644)])
        store.shows_model(top)


@pytest.mark.requirement("OVL-NAMES-HOME")
@pytest.mark.parametrize("lowers", [2, 30])
@pytest.mark.parametrize("form", ["up", "relative"])
def test_a_home_by_another_form_of_its_path(bench: Bench, form: str, lowers: int) -> None:
    """Of some 250 bytes, as above. What a driver makes of a relative path no text decides."""

    def formed(directory: Path) -> Path:
        (directory / "below").mkdir()
        home = directory / "below" / ".." / ("h" * 200)
        return home if form == "up" else Path(os.path.relpath(home))

    if form == "relative" or lowers > 2:
        bench.need(
            "home-layout"
        )  # else the paths are an adapter's, and beyond a page another requirement is violated
    with ExitStack() as opened:
        try:
            store = opened.enter_context(bench.store("origin", formed))
        except DriverRefused:
            if form == "up":
                raise
            bench.record("a home with a relative path", "is refused")
            return
        top = chain_with_few_files(store, lowers)
        store.change(top, [ops.Unlink(b"file-0"), ops.CreateFile(b"new", b"new", 0o644)])
        store.shows_model(top)
        store.do(Reopen())
        store.shows_model(top)
        if form == "relative":
            bench.record("a home with a relative path", "is taken")


# Each with one that it begins, ends, or is but for its case.
_ALIKE = ("ab", "abc", "a", "b", "AB", "ab.", "ab-1", "0ab")


@pytest.mark.quick
@pytest.mark.requirement("OVL-NAMES-LAYER-IDS")
def test_ids_that_are_much_alike_are_of_different_layers(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        for layer_id in _ALIKE:
            store.create(layer_id, "layer-0")
            store.change(layer_id, [ops.CreateFile(os.fsencode(f"of-{layer_id}"), b"", 0o644)])
        roots = {layer_id: store.do(Get(layer_id)) for layer_id in _ALIKE if layer_id != "ab"}
        store.shows_model("ab")
        store.do(Remove("ab"))
        for layer_id, root in roots.items():
            tree_stays(root, f"of {layer_id}, which is held, after ab was removed,", f"of-{layer_id}")
            store.shows_model(layer_id)
            store.do(Put(layer_id))
        store.create("ab", "layer-0")
        store.shows_model("ab")
        nothing_mounted(store, "after the last put")
