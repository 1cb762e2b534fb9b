"""Which files of a home a driver reads: damage to a file that it does not read shows nothing.

Each of these is a control, in a store of its own: the file gets another content, as valid as the one before, and
the driver has to show that, or to refuse it. Where it does neither the test is left as not applicable.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from conformance.drivers.protocol import DriverRefused
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import Deviation
from conformance.harness.skips import not_applicable
from conformance.history.calls import Create, Remove, Reopen
from conformance.operations import ops
from conformance.operations.standard import STANDARD

# The newer first: containers-storage 1.64 writes both, and reads the ids.
_CHAINS: Final = ("lower-layers", "lower")
_ANOTHER: Final = b"C" * 26  # a short link as valid as any


def three_layers(store: Store) -> Path:
    """layer-0 to layer-2, each with something of its own, and one beside them, the first by name; the home."""
    store.build([STANDARD, [ops.CreateFile(b"one", b"1", 0o644)], [ops.CreateFile(b"two", b"2", 0o644)]])
    store.create("beside", "layer-0")  # in no chain: what is mended at random leads to it
    return Path(store.home)


def written(path: bytes, content: bytes) -> list[ops.Operation]:
    """A file, written anew."""
    return [ops.Unlink(path), ops.CreateFile(path, content, 0o644)]


def chain_file(bench: Bench) -> str:
    """The file of a layer that names its lowers to this driver: "lower", or "lower-layers" where it reads that."""
    with bench.store("control") as store:
        home = three_layers(store)
        for name in _CHAINS:
            file = home / "layer-2" / name
            if file.exists():
                whole, path = file.read_bytes(), f"layer-2/{name}".encode()
                seen = _is_seen(store, written(path, whole.rpartition(b":")[2]), written(path, whole))
                if seen:
                    return name
    not_applicable(
        "the driver reads the lowers of a layer from another place than the files 'lower' and 'lower-layers'"
    )
    raise AssertionError("the test was left")


def needs_short_links(bench: Bench) -> None:
    """Leave the test if the driver finds lowers without their short links."""
    with bench.store("control") as store:
        home = three_layers(store)
        link = f"l/{(home / 'layer-1' / 'link').read_text()}".encode()
        whole = os.readlink(os.fsencode(home) + b"/" + link)
        harm: list[ops.Operation] = [ops.Unlink(link), ops.MakeSymlink(link, b"../beside/diff")]
        seen = _is_seen(store, harm, [ops.Unlink(link), ops.MakeSymlink(link, whole)])
    if not seen:
        not_applicable("the driver does not use short links: one that leads to another layer changes nothing")


def needs_link_files(bench: Bench) -> None:
    """Leave the test if the driver does not read the file ``link`` of a layer, to build on it or to remove it."""
    with bench.store("control") as store:
        three_layers(store)
        harm: list[ops.Operation] = [
            ops.Unlink(b"l/{link:layer-2}"),
            ops.MakeSymlink(b"l/" + _ANOTHER, b"../layer-2/diff"),
        ]
        store.tamper([*harm, *written(b"layer-2/link", _ANOTHER)])
        store.do(Reopen())
        seen = _renamed_link_is_seen(store)
    if not seen:
        not_applicable("the driver does not read the file 'link' of a layer: another short link changes nothing")


def _is_seen(store: Store, harm: list[ops.Operation], mended: list[ops.Operation]) -> bool:
    """Whether layer-2 lacks what layer-1 holds, or is refused, after that was done to the home."""
    store.tamper(harm)
    store.do(Reopen())
    try:
        return b"one" not in store.observed("layer-2").nodes
    except (DriverRefused, Deviation):
        return True
    finally:
        store.tamper(mended)
        store.do(Reopen())


def _renamed_link_is_seen(store: Store) -> bool:
    home = Path(store.home)
    try:
        store.do(Create("above", "layer-2"))
        lower = home / "above" / "lower"
        named = lower.exists() and _ANOTHER in lower.read_bytes()
        for layer_id in ("above", "layer-2"):
            store.do(Remove(layer_id))
        return named or not os.path.lexists(home / "l" / os.fsdecode(_ANOTHER))
    except DriverRefused:
        return True
