"""What a driver says about itself and its layers."""

from __future__ import annotations

import os

import pytest

from conformance.harness.assertions import equal, nothing, one_of
from conformance.harness.bench import Bench
from conformance.history.calls import Get, Metadata, Put, Status
from conformance.lab import namespace
from conformance.operations import ops
from conformance.operations.standard import STANDARD
from conformance.suites.images import store_with_images
from conformance.suites.openings import backing_filesystem

# By the magic of statfs(2); drivers write some of them in several ways.
_NAMES = {
    0xEF53: ("extfs", "ext2", "ext3", "ext4"),
    0x58465342: ("xfs",),
    0x9123683E: ("btrfs",),
    0x01021994: ("tmpfs",),
    0xF2F52010: ("f2fs",),
}


@pytest.mark.smoke
@pytest.mark.requirement("OVL-LIFE-METADATA")
def test_metadata_names_the_upper(bench: Bench) -> None:
    with bench.store() as store:
        store.build([(), ()])
        said = store.do(Metadata("layer-1"))
        wanted = f"{store.home}/layer-1/diff"
        found = any(wanted in value for value in said.values())
        equal(f"whether {wanted} is in the metadata of layer-1, {dict(said)}", found, True)


@pytest.mark.quick
@pytest.mark.requirement("OVL-STATUS-METADATA-LOWERS")
def test_metadata_names_the_lowers(bench: Bench) -> None:
    with bench.store() as store:
        ids = store.build([STANDARD, (), ()])
        lowers = dict(store.do(Metadata("layer-2"))).get("LowerDir", "")
        wanted = [f"{store.home}/{layer_id}/diff" for layer_id in reversed(ids[:-1])]
        equal("the LowerDir of layer-2", lowers.split(":"), wanted)
        of_base = [name for name in store.do(Metadata("layer-0")) if name == "LowerDir"]
        nothing("LowerDir in the metadata of a base layer", of_base)


@pytest.mark.quick
@pytest.mark.requirement("OVL-STATUS-METADATA-NAMES")
def test_metadata_names_the_directories_of_the_mount(bench: Bench) -> None:
    """A caller mounts by them, or shows them to people (docker inspect)."""
    with bench.store() as store:
        store.build([STANDARD, ()])
        said = dict(store.do(Metadata("layer-1")))
        names = ("UpperDir", "WorkDir", "MergedDir")
        equal("names in the metadata of layer-1", [name for name in names if name in said], list(names))
        equal("the MergedDir of layer-1", said["MergedDir"], store.do(Get("layer-1")))
        store.do(Put("layer-1"))
        for name in ("UpperDir", "WorkDir"):
            below = said[name].startswith(f"{store.home}/layer-1/")
            equal(f"whether the {name}, {said[name]}, is a directory of layer-1", below, True)
        store.change("layer-1", [ops.CreateFile(b"new", b"new", 0o644)])
        equal("whether UpperDir has the file that was created", os.path.exists(f"{said['UpperDir']}/new"), True)


@pytest.mark.quick
@pytest.mark.requirement("OVL-STATUS-METADATA-NAMES")
def test_metadata_of_an_image_names_where_it_is_mounted(bench: Bench) -> None:
    bench.need("image-stores", "image-mounts")
    with store_with_images(bench) as (_, store):
        said = dict(store.do(Metadata("child")))
        if "MergedDir" in said:
            equal("the MergedDir of an image", said["MergedDir"], store.do(Get("child")))
            store.do(Put("child"))


@pytest.mark.quick
@pytest.mark.requirement("OVL-STATUS-METADATA-MISSING")
def test_a_missing_layer_has_no_metadata(bench: Bench) -> None:
    with bench.store() as store:
        store.create("base")
        store.refuses(Metadata("missing"))


@pytest.mark.smoke
@pytest.mark.requirement("OVL-STATUS-BACKING")
def test_the_status_names_the_filesystem(bench: Bench) -> None:
    with bench.store() as store:
        said = backing_filesystem(dict(store.do(Status())))
        magic = namespace.filesystem_magic(store.directory)
        names = _NAMES.get(magic, ())
        if names:
            one_of(f"the filesystem that the status names (magic {magic:#x})", said.lower(), names)


def status_says(bench: Bench, name: str, wanted: tuple[str, ...]) -> None:
    """The status has a line of that name with one of these values; raises Deviation."""
    with bench.store() as store:
        said = {key.lower(): value.strip('"<> ') for key, value in store.do(Status()).items()}
        one_of(f"{name!r} in the status, {said}", said.get(name), wanted)


@pytest.mark.quick
@pytest.mark.requirement("OVL-STATUS-D-TYPE")
def test_the_status_says_that_there_is_d_type(bench: Bench) -> None:
    status_says(bench, "supports d_type", ("true",))


@pytest.mark.quick
@pytest.mark.requirement("OVL-STATUS-NATIVE-DIFF")
def test_the_status_says_whether_diffs_are_native(bench: Bench) -> None:
    """A driver may compare trees always, whatever the kernel allows."""
    status_says(bench, "native overlay diff", ("true", "false"))
