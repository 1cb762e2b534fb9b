from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdriver.cli.text import id_map
from refdriver.errors import BadOption
from refdriver.idmap import IdMap, IdMaps


@st.composite
def maps(draw: st.DrawFn) -> tuple[IdMap, ...]:
    """Ranges that do not overlap, the first of which maps container root."""
    sizes = draw(st.lists(st.integers(1, 50), min_size=1, max_size=4))
    gaps = draw(st.lists(st.integers(0, 20), min_size=len(sizes), max_size=len(sizes)))
    container, host, made = 0, draw(st.integers(0, 100_000)), []
    for size, gap in zip(sizes, gaps, strict=True):
        made.append(IdMap(container, host, size))
        container, host = container + size + gap, host + size + 2 * gap
    return tuple(draw(st.permutations(made)))


@given(maps(), maps(), st.integers(0, 400))
def test_out_and_back_again_is_the_same_id(
    uid_maps: tuple[IdMap, ...], gid_maps: tuple[IdMap, ...], one: int
) -> None:
    ids = IdMaps.of(uid_maps, gid_maps)
    if (host := ids.uid_to_host(one)) is not None:
        assert ids.uid_to_container(host) == one
    if (host := ids.gid_to_host(one)) is not None:
        assert ids.gid_to_container(host) == one


@given(maps(), st.integers(0, 400))
def test_an_id_is_mapped_if_it_is_in_a_range(uid_maps: tuple[IdMap, ...], one: int) -> None:
    inside = any(m.container_id <= one < m.container_id + m.size for m in uid_maps)
    assert (IdMaps.of(uid_maps, ()).uid_to_host(one) is not None) == inside


@given(st.integers(0, 2**32 - 2))
def test_without_maps_an_id_is_itself(one: int) -> None:
    ids = IdMaps.of((), ())
    assert ids.is_identity
    assert ids.uid_to_host(one) == ids.gid_to_container(one) == one
    assert ids.root == (0, 0)


def test_mapped_root_is_where_container_root_goes() -> None:
    assert IdMaps.of([IdMap(0, 100000, 10)], [IdMap(0, 200000, 10)]).root == (100000, 200000)


@pytest.mark.parametrize(
    "bad",
    [
        [IdMap(1, 100, 10)],
        [IdMap(0, 100, 10), IdMap(9, 200, 5)],
        [IdMap(0, 100, 10), IdMap(20, 105, 5)],
    ],
)
def test_maps_without_root_or_with_overlaps_are_refused(bad: list[IdMap]) -> None:
    with pytest.raises(BadOption):
        IdMaps.of(bad, ())
    with pytest.raises(BadOption):
        IdMaps.of((), bad)


@pytest.mark.parametrize("text", ["", "0:1", "0:1:2:3", "a:b:c", "-1:0:1", "0:0:0", "0:4294967290:10", "0: 1:2"])
def test_a_map_is_three_numbers_in_range(text: str) -> None:
    with pytest.raises(BadOption, match="id map"):
        id_map(text)


def test_a_map_as_text() -> None:
    assert id_map("0:100000:65536") == IdMap(0, 100000, 65536)
