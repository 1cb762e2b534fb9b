"""POSIX access control lists: kept by copy-up, and what becomes of them in an archive."""

from __future__ import annotations

import os
from typing import Final

import pytest

from conformance.harness.assertions import equal
from conformance.harness.bench import Bench, Store
from conformance.harness.skips import not_applicable
from conformance.history.calls import Get, Put
from conformance.operations import ops
from conformance.operations.lattice import ACL

_ACCESS: Final = "system.posix_acl_access"
_DEFAULT: Final = "system.posix_acl_default"
_SET: Final = (("f", _ACCESS), ("d", _ACCESS), ("d", _DEFAULT))


@pytest.mark.requirement("OVL-TREE-COPY-UP")
def test_access_control_lists_are_kept_by_a_copy_up(bench: Bench) -> None:
    """No specification says whether archives carry them: the result has it."""
    base: list[ops.Operation] = [ops.CreateFile(b"f", b"content", 0o640), ops.MakeDirectory(b"d", 0o750)]
    with bench.store("origin") as store, bench.store("copy") as copy:
        store.create("layer-0")
        store.change("layer-0", base)
        root = store.do(Get("layer-0"))
        try:
            for path, name in _SET:
                os.setxattr(f"{root}/{path}", name, ACL, follow_symlinks=False)
        except OSError as error:
            not_applicable(f"access control lists cannot be set here: {error.strerror}")
        finally:
            store.do(Put("layer-0"))
        store.beyond("access control lists were set in layer-0: setfacl -m u:1234:rw f, and so on")
        wanted = lists_of(store, "layer-0")
        equal("the access control lists that were set", wanted, dict.fromkeys(_SET, ACL))
        store.create("layer-1", "layer-0")
        root = store.do(Get("layer-1"))
        try:
            with open(os.open(f"{root}/f", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW), "ab") as file:
                file.write(b" and more")
            os.utime(f"{root}/d", ns=(10**18, 10**18), follow_symlinks=False)
        finally:
            store.do(Put("layer-1"))
        equal("the access control lists after a copy-up", lists_of(store, "layer-1"), wanted)
        copy.bring(store, "layer-0")
        kept = lists_of(copy, "layer-0")
        copy.record(
            "POSIX ACLs after diff and apply", "kept" if kept == wanted else f"lost ({len(kept)} of 3 kept)"
        )


def lists_of(store: Store, layer_id: str) -> dict[tuple[str, str], bytes]:
    """The access control lists of a layer, by path and name of the attribute."""
    root = store.do(Get(layer_id))
    try:
        return {
            (path, name): os.getxattr(f"{root}/{path}", name)
            for path, name in _SET
            if name in os.listxattr(f"{root}/{path}")
        }
    finally:
        store.do(Put(layer_id))
