from __future__ import annotations

import contextlib
import os
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refdriver.errors import BadOption, MountFailed
from refdriver.labels import label_option
from refdriver.mounts import MountRequest, escape, option_data, plan_mount

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30)


def kernel_unescape(text: str) -> str:
    """What the kernel makes of an escaped path: a backslash keeps the next character (fs/overlayfs/params.c)."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


@given(names)
def test_the_kernel_reads_an_escaped_path_back(name: str) -> None:
    assert kernel_unescape(escape(name)) == name


@given(names)
def test_no_separator_is_left_bare(name: str) -> None:
    assert not re.search(r"[:,]", re.sub(r"\\.", "", escape(name), flags=re.DOTALL))


def request(lowers: int, home: str = "/home", outside: int = 0, label: str = "") -> MountRequest:
    inside = tuple(f"{home}/l/{number:026}" for number in range(lowers - outside))
    stores = tuple(f"/a/store/overlay/l/{number:026}" for number in range(outside))
    return MountRequest(
        inside + stores, f"{home}/id/diff", f"{home}/id/work", f"{home}/id/merged", (label_option(label),)
    )


@given(
    st.integers(1, 128),
    st.integers(0, 128),
    st.integers(1, 400),
    st.integers(0, 5000),
    st.sampled_from([4096, 16384, 65536]),
)
def test_what_is_planned_fits_in_a_page_less_its_last_byte(
    lowers: int, outside: int, home_length: int, label_length: int, page: int
) -> None:
    home = "/" + "h" * home_length
    asked = request(lowers, home, min(lowers, outside), "x" * label_length)
    short_names = len(label_option("x" * label_length)) + len("lowerdir=,upperdir=128,workdir=129,") + 4 * lowers
    if short_names >= page:  # the longest of the three forms' shortest names: it may fit, or be refused
        with contextlib.suppress(MountFailed):
            assert len(plan_mount(asked, home, page).data) <= page - 1
        return
    plan = plan_mount(asked, home, page)
    assert len(plan.data) <= page - 1


@given(st.integers(1, 128), st.integers(0, 128), st.integers(1, 400))
def test_the_first_form_that_fits_is_taken(lowers: int, outside: int, home_length: int) -> None:
    home = "/" + "h" * home_length
    outside = min(lowers, outside)
    asked = request(lowers, home, outside)
    plan = plan_mount(asked, home, 4096)
    absolute = len(option_data(asked)) <= 4095
    assert (not plan.directory and not plan.links) == absolute
    if not absolute:
        assert bool(plan.links) == (outside > 0)
        assert (plan.directory == home) == (outside == 0)


@given(st.integers(1, 128), st.integers(0, 128), st.integers(200, 400))
def test_every_form_names_the_same_directories_in_the_same_order(
    lowers: int, outside: int, home_length: int
) -> None:
    home = "/" + "h" * home_length
    asked = request(lowers, home, min(lowers, outside))
    plan = plan_mount(asked, home, 4096)
    links = dict(plan.links)
    options = dict(word.split("=", 1) for word in os.fsdecode(plan.data).split(","))

    def real(path: str) -> str:
        return links.get(path) or os.path.join(plan.directory or "/", path)

    assert [real(path) for path in options["lowerdir"].split(":")] == list(asked.lowers)
    assert real(options["upperdir"]) == asked.upper
    assert real(options["workdir"]) == asked.work


def test_a_label_that_leaves_no_room_is_refused_by_size() -> None:
    with pytest.raises(MountFailed, match=r"mount label too large \d{4}"):
        plan_mount(request(1, label="x" * 5000), "/home", 4096)


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_the_boundary_is_one_byte_below_the_page(spare: int) -> None:
    asked = request(3)
    page = len(option_data(asked)) + 1 + spare
    plan = plan_mount(asked, "/home", page)
    assert (plan.directory == "") == (spare >= 0)


def test_a_mount_that_only_reads_has_no_upper() -> None:
    assert option_data(MountRequest(("/a", "/b"), "", "", "/m")) == b"lowerdir=/a:/b"


@given(st.text(max_size=40))
def test_a_label_cannot_add_options(label: str) -> None:
    assume(label)
    try:
        option = label_option(label)
    except BadOption:
        assert any(character in '"\\' or not character.isprintable() for character in label)
    else:
        assert option == f'context="{label}"'
        assert option.count('"') == 2


def test_no_label_no_option() -> None:
    assert label_option("") == ""
