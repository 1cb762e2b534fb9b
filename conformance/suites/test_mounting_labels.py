"""Labels of SELinux, which a mount takes or refuses."""

from __future__ import annotations

import os

import pytest

from conformance.harness.assertions import equal
from conformance.harness.bench import Bench
from conformance.harness.skips import not_applicable
from conformance.history.calls import Get, Put
from conformance.suites.images import store_with_images
from conformance.suites.mounts import nothing_mounted, two_layers

_PAGE = os.sysconf("SC_PAGESIZE")


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-LABEL-REFUSED")
def test_a_label_without_selinux_is_refused(bench: Bench) -> None:
    if not bench.why_not("selinux"):
        not_applicable("this kernel has SELinux, and takes labels")
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    with bench.store() as store:
        two_layers(store)
        # What ends the quotes of a mount option (context="...") is no part of any label.
        for one in (label, label, f'{label}",redirect_dir="on', f"{label}\\", f"{label}\n"):
            store.refuses(Get("layer-1", one))
        store.shows_model("layer-1")
        nothing_mounted(store, "after a refused get and its layer's last put")


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-LABEL-REFUSED")
def test_a_label_of_an_image_without_selinux_is_refused(bench: Bench) -> None:
    if not bench.why_not("selinux"):
        not_applicable("this kernel has SELinux, and takes labels")
    bench.need("image-stores", "image-mounts")
    with store_with_images(bench) as (_, store):
        store.refuses(Get("child", "system_u:object_r:container_file_t:s0:c1,c2"))
        store.shows_model("child")
        nothing_mounted(store, "after a refused get and its layer's last put")


@pytest.mark.requirement("OVL-MOUNT-LABEL-KEPT")
def test_a_label_is_that_of_the_tree(bench: Bench) -> None:
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    with bench.store() as store:
        two_layers(store)
        root = store.do(Get("layer-1", label))
        found = os.getxattr(f"{root}/new", "security.selinux").rstrip(b"\0").decode()
        store.do(Put("layer-1"))
        equal("the label of 'new'", found, label)


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-LABEL-LONG")
def test_a_label_longer_than_a_page_is_refused(bench: Bench) -> None:
    with bench.store() as store:
        two_layers(store)
        store.refuses(Get("layer-1", "x" * _PAGE))
        nothing_mounted(store, "after a get that was refused")
        store.shows_model("layer-1")
