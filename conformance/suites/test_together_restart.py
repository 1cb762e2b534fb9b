"""What a driver makes of a home that was harmed while it was away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from conformance.harness.assertions import equal, nothing, same_names, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.skips import not_applicable
from conformance.history.calls import Create, Remove, Reopen
from conformance.history.findings import FilesDiffer
from conformance.operations import ops
from conformance.operations.standard import STANDARD
from conformance.suites import earlier
from conformance.suites.reading import chain_file, needs_link_files, needs_short_links, three_layers, written


def harmed(store: Store, what: str, harm: Sequence[ops.Operation]) -> None:
    """Damage the home while no driver has it open."""
    store.note(what)
    store.tamper(harm)
    store.do(Reopen())


def short_of(home: Path, layer_id: str) -> str:
    """What a layer's file ``link`` holds, "" if it is gone."""
    link = home / layer_id / "link"
    return link.read_text() if link.exists() else ""


def whole_or_refused(store: Store, layer_id: str) -> None:
    """The layer is shown as the model has it, or refused; raises Deviation if something else is shown."""
    store.note(f"the tree of {layer_id} may be refused, and must be whole otherwise")
    shown = store.may_show(layer_id)
    if shown is not None:
        same_tree(f"{layer_id}, of a damaged home,", store.expected(layer_id), shown)


def try_to_remove(store: Store, layer_id: str) -> None:
    store.may_refuse(Remove(layer_id))


@pytest.mark.requirement("OVL-RESTART-LINK-EMPTY")
@pytest.mark.parametrize(
    "content",
    ["", "\n", ".", "../layer-0", "a/b", "x" * 300, "\u00e4" * 13, "A" * 27],
    ids=["empty", "newline", "dot", "up", "slash", "long", "no-ascii", "one-more"],
)
def test_a_malformed_link_harms_no_other(bench: Bench, content: str) -> None:
    needs_link_files(bench)
    with bench.store() as store:
        home = three_layers(store)
        links = set(os.listdir(home / "l"))
        own = (home / "layer-2" / "link").read_text()
        harmed(store, f"write {content[:20]!r} into layer-2/link", written(b"layer-2/link", content.encode()))
        whole_or_refused(store, "layer-2")
        try_to_remove(store, "layer-2")
        left = set(os.listdir(home / "l")) if (home / "l").is_dir() else set()
        others = [layer for layer in ("layer-0", "layer-1", "beside") if short_of(home, layer) not in left]
        finding = FilesDiffer(gone=tuple(f"l/{{link:{layer}}}" for layer in others))
        nothing("short links of other layers that are gone", links - left - {own}, finding)
        store.shows_model("layer-1")
        store.shows_model("beside")


@pytest.mark.quick
@pytest.mark.requirement("OVL-RESTART-LINK-GONE")
def test_a_missing_link_harms_no_other(bench: Bench) -> None:
    needs_link_files(bench)
    with bench.store() as store:
        three_layers(store)
        harmed(store, "remove layer-1/link", [ops.Unlink(b"layer-1/link")])
        whole_or_refused(store, "layer-1")
        whole_or_refused(store, "layer-2")
        if store.may_refuse(Create("on-it", "layer-1")) is None:
            store.shows_names("on-it", store.expected("layer-1").nodes)
        store.shows_model("beside")


@pytest.mark.quick
@pytest.mark.requirement("OVL-RESTART-SHORT-LINK-GONE")
def test_a_missing_short_link_shows_no_half_layer(bench: Bench) -> None:
    needs_short_links(bench)
    with bench.store() as store:
        three_layers(store)
        harmed(store, "remove the short link of layer-1", [ops.Unlink(b"l/{link:layer-1}")])
        whole_or_refused(store, "layer-2")
        whole_or_refused(store, "layer-1")
        store.shows_model("beside")


@pytest.mark.requirement("OVL-RESTART-LOWER-CUT")
@pytest.mark.parametrize("keep", [0, 1, 10, 28, 30], ids=str)
def test_a_cut_lower_shows_no_half_layer(bench: Bench, keep: int) -> None:
    """Of two lowers in 57 bytes the first takes 28: cut there, it looks whole. Of two ids in 15 it takes 7."""
    name = chain_file(bench)
    size = keep if name == "lower" else {10: 4, 28: 7, 30: 9}.get(keep, keep)
    with bench.store() as store:
        three_layers(store)
        harmed(store, f"cut layer-2/{name} to {size} bytes", [ops.Truncate(f"layer-2/{name}".encode(), size)])
        shown = store.may_show("layer-2")
        # Nothing on disk says that a lower which ends between two entries was longer; all else is seen.
        if shown is not None and keep != 28:
            same_names(f"layer-2, whose {name!r} was cut,", store.expected("layer-2").nodes, shown.nodes)
        store.shows_model("layer-1")


@pytest.mark.requirement("OVL-RESTART-LOWER-ASTRAY")
@pytest.mark.parametrize("way", ["lower-absolute", "lower-dots", "short-link", "short-link-dots"])
def test_nothing_leads_out_of_the_store(bench: Bench, way: str) -> None:
    name = "lower"
    if way.startswith("short-link"):
        needs_short_links(bench)
    else:
        name = chain_file(bench)
    with bench.store() as store:
        home = three_layers(store)
        outside = store.directory / "outside"
        # Either a lower itself, or what an id has its tree in.
        made: list[ops.Operation] = [
            ops.MakeDirectory(b"outside", 0o755),
            ops.MakeDirectory(b"outside/diff", 0o755),
        ]
        made += [ops.CreateFile(b"outside/host", b"", 0o644), ops.CreateFile(b"outside/diff/host", b"", 0o644)]
        store.tamper(made, "directory")
        astray = os.path.relpath(outside, home / "l").encode()  # as a path in the store may lead, from l
        as_id = b"layer-1:" + os.path.relpath(outside, home).encode()
        file = f"layer-2/{name}".encode()
        harm: dict[str, list[ops.Operation]] = {
            "lower-absolute": written(file, bytes(outside)),
            "lower-dots": written(file, b"l/" + astray if name == "lower" else as_id),
            "short-link": [ops.Unlink(b"l/{link:layer-1}"), ops.MakeSymlink(b"l/{link:layer-1}", astray)],
            # As a link to the tree of a layer whose id is "..".
            "short-link-dots": [
                ops.Unlink(b"l/{link:layer-1}"),
                ops.MakeSymlink(b"l/{link:layer-1}", b"../../diff"),
            ],
        }
        harmed(store, f"make {way} of layer-2 lead to {outside}", harm[way])
        shown = store.may_show("layer-2")
        if shown is not None:
            what = "layer-2, without the directory outside the store,"
            same_names(what, shown.nodes.keys() - {b"host"}, shown.nodes)
        try_to_remove(store, "layer-2")
        finding = FilesDiffer(gone=("outside/host",), where="directory")
        equal("whether 'outside/host' is there after the removal", (outside / "host").exists(), True, finding)


@pytest.mark.quick
@pytest.mark.requirement("OVL-RESTART-LAYER-GONE")
def test_a_missing_layer_harms_no_other(bench: Bench) -> None:
    with bench.store() as store:
        three_layers(store)
        harmed(store, "remove the directory of layer-2", [ops.RemoveTree(b"layer-2")])
        for layer_id in ("layer-0", "layer-1", "beside"):
            store.shows_model(layer_id)
        store.create("later", "layer-1")
        store.change("later", [ops.Unlink(b"one")])
        if bench.has("diff"):
            store.diff_holds("later", ".wh.one")
        store.do(Remove("later"))
        try_to_remove(store, "layer-2")
        store.do(Reopen())
        store.shows_model("layer-1")


@pytest.mark.requirement("OVL-RESTART-VOLATILE")
def test_the_mark_of_a_volatile_mount_shows_no_half_layer(bench: Bench) -> None:
    """overlayfs.rst: the kernel refuses to mount a work directory with the directory incompat/volatile."""
    with bench.store() as store:
        home = three_layers(store)
        inside = Path("layer-2", "work", "work")  # of the layer's work directory: what the kernel makes there
        if not (home / inside).is_dir():
            not_applicable("the layer's overlay keeps no work directory in HOME/ID/work")
        made = (inside / "incompat", inside / "incompat" / "volatile")
        mark = [ops.MakeDirectory(os.fsencode(one), 0o700) for one in made]
        harmed(store, "put the mark of a volatile mount into the work directory of layer-2", mark)
        whole_or_refused(store, "layer-2")
        store.shows_model("layer-1")
        store.shows_model("beside")
        try_to_remove(store, "layer-2")


@pytest.mark.quick
@pytest.mark.requirement("OVL-RESTART-FOREIGN")
def test_foreign_files_do_no_harm(bench: Bench) -> None:
    with bench.store() as store:
        home = three_layers(store)

        litter: list[ops.Operation] = [
            ops.MakeDirectory(b"lost+found", 0o755),
            ops.CreateFile(b"README", b"not a layer", 0o644),
            ops.CreateFile(b"lost+found/x", b"", 0o644),
        ]
        harmed(store, "put a file README and a directory lost+found into the home", litter)
        for layer_id in ("layer-0", "layer-2", "beside"):
            store.shows_model(layer_id)
        store.create("later", "layer-2")
        store.shows_model("later")
        store.do(Remove("later"))
        gone = [name for name in ("lost+found/x", "README") if not (home / name).exists()]
        nothing("files of others in the home that are gone", gone, FilesDiffer(gone=tuple(gone)))
        equal("the content of README in the home", (home / "README").read_text(), "not a layer")


@pytest.mark.requirement("OVL-RESTART-FOREIGN")
@pytest.mark.parametrize("uses", earlier.USES)
def test_hidden_files_of_another_program_do_no_harm(bench: Bench, uses: bytes) -> None:
    with bench.store() as store:
        three_layers(store)
        harmed(store, "put a directory .refdriver into the home", earlier.files(uses))
        for layer_id in ("layer-0", "layer-1", "layer-2", "beside"):
            store.shows_model(layer_id)


@pytest.mark.requirement("OVL-RESTART-FOREIGN")
@pytest.mark.parametrize("form", ["hidden", "symlink"])
def test_a_copy_of_a_layer_by_another_program_is_no_child(bench: Bench, form: str) -> None:
    """A hidden directory, or a symlink to a directory elsewhere, with the files of a layer that is gone."""
    with bench.store() as store:
        store.build([STANDARD, ()])
        home, place = Path(store.home), store.directory / "kept"
        copy = home / ".kept" if form == "hidden" else place
        store.beyond(f"{copy} is a copy of layer-1" + ("" if form == "hidden" else ", and a symlink leads to it"))
        shutil.copytree(home / "layer-1", copy, symlinks=True)
        if form == "symlink":
            (home / "kept").symlink_to(place)
        store.do(Remove("layer-1"))
        store.do(Reopen())
        store.do(Remove("layer-0"))
        equal("whether the copy is there", copy.is_dir(), True)
