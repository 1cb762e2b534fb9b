"""The memory of the driver's process while a large stream passes.

The limit is half of the stream: a driver that keeps the whole file, in one piece or in many, is far above it, and
one that passes it in pieces is far below, with a garbage collector that lets its heap double, too.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Final

import pytest

from conformance.drivers.processes import forget_peak, memory_of
from conformance.harness.assertions import between
from conformance.harness.bench import Bench, Store
from conformance.harness.skips import not_applicable
from conformance.history.calls import Call, Diff, Get, Put, Remove

_FILE: Final = 256 << 20  # bytes
_LIMIT: Final = 128 << 20
_SPARE: Final = 16 << 20  # for what else the driver writes


@pytest.mark.requirement("OVL-LIFE-MEMORY")
@pytest.mark.parametrize("path", ["parent", "ancestor"])
def test_a_large_file_is_diffed_in_pieces(bench: Bench, path: str) -> None:
    """The file is a hole, and the diff goes to /dev/null."""
    bench.need("diff")
    with bench.store() as store:
        store.build([(), ()])
        store.create("child", "layer-1")
        root = store.do(Get("child"))
        store.beyond(f"a file of {_FILE} bytes was made in child")
        try:
            with open(f"{root}/large", "xb") as file:
                os.truncate(file.fileno(), _FILE)
        finally:
            store.do(Put("child"))
        parent = {"parent": "layer-1", "ancestor": "layer-0"}[path]
        _passes(bench, store, "the diff", Diff("child", parent, store.label(Path("/dev/null"))))


@pytest.mark.requirement("OVL-LIFE-MEMORY")
def test_a_large_file_is_applied_in_pieces(bench: Bench) -> None:
    bench.need("apply")
    with bench.store() as store:
        # The archive is a hole, which may get blocks when it is read: a tmpfs of 480 MiB was full, on Linux 5.10.
        said = os.statvfs(store.directory)
        if (room := said.f_bavail * said.f_frsize) < 2 * _FILE + _SPARE:
            not_applicable(f"{room} bytes are free here, and an archive and a file of {_FILE} bytes each need more")
        store.create("child")
        archive = store.directory / "large.tar"
        store.beyond(f"an archive with a file of {_FILE} bytes was made")
        with archive.open("wb") as tar:
            member = tarfile.TarInfo("large")
            member.size = _FILE
            tar.write(member.tobuf(tarfile.USTAR_FORMAT))
            os.truncate(tar.fileno(), tar.tell() + _FILE + 2 * tarfile.BLOCKSIZE)
        _passes(bench, store, "apply", store.applying("child", archive))
        store.do(Remove("child"))


def _passes(bench: Bench, store: Store, what: str, call: Call) -> None:
    process = bench.state_of(store).pid
    before = memory_of(process).resident
    if not forget_peak(process):
        not_applicable("this kernel does not forget the peak of a process's memory")
    store.do(call)
    grew = memory_of(process).peak - before
    # What was there before and is given back makes it negative.
    said = f"bytes of memory that {what} of a file of {_FILE} bytes added to the driver's process"
    between(said, max(0, grew), 0, _LIMIT - 1)
