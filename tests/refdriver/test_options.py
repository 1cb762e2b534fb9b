from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdriver.errors import BadOption
from refdriver.options import Options, parse_layer_options, parse_options, parse_size

UNITS = {"": 1, "b": 1, "k": 2**10, "kb": 2**10, "KiB": 2**10, "m": 2**20, "G": 2**30, "tb": 2**40, "P": 2**50}


@given(st.integers(0, 4096), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_a_size_is_a_number_times_its_unit(number: int, unit: str, space: str) -> None:
    assert parse_size(f"{number}{space}{unit}") == number * UNITS[unit]


@pytest.mark.parametrize(
    ("text", "size"),
    [("10", 10), ("10b", 10), ("1.5G", 3 * 2**29), ("10 kb", 10240), ("10KiB", 10240), ("1.9", 1), ("0.0001k", 0)],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "-1G",
        "10  k",
        "10kk",
        "k",
        "1.",
        ".5",
        "1e3",
        "0x10",
        "10ib",
        "9999999999P",
        "\u0661",
        "10\n",
    ],
)
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(BadOption, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("word", "value"),
    [(w, True) for w in ["1", "t", "T", "TRUE", "true", "True"]]
    + [(w, False) for w in ["0", "f", "F", "FALSE", "false", "False"]],
)
@pytest.mark.parametrize(
    "key", ["overlay.override_kernel_check", "overlay2.override_kernel_check", "Overlay.OVERRIDE_kernel_check"]
)
def test_override_kernel_check_takes_the_words_of_go(key: str, word: str, value: bool) -> None:
    assert parse_options([f"{key}={word}"]) == Options(override_kernel_check=value)


@pytest.mark.parametrize("word", ["yes", "on", "tRUE", "", "2"])
def test_other_words_are_neither_true_nor_false(word: str) -> None:
    with pytest.raises(BadOption, match="override_kernel_check"):
        parse_options([f"overlay.override_kernel_check={word}"])


@given(st.text(st.characters(categories=["L", "N"]), max_size=8))
def test_an_unknown_option_is_refused_by_name(name: str) -> None:
    key = f"overlay.x{name}".lower()
    with pytest.raises(BadOption) as caught:
        parse_options([f"{key}=1"])
    assert key in str(caught.value)


@pytest.mark.parametrize("word", ["overlay.size", "size=1", "overlay3.size=1", "overlay.overlay2.size=1", "=1", ""])
def test_words_without_a_known_key_and_a_value_are_refused(word: str) -> None:
    with pytest.raises(BadOption):
        parse_options([word])


def test_image_stores_are_cleaned_and_kept_in_order(scratch: Path) -> None:
    for name in ("a", "b", "c"):
        (scratch / name).mkdir()
    words = [f"overlay.imagestore={scratch}//a/,{scratch}/x/../b", f"overlay2.imagestore={scratch}/c"]
    assert parse_options(words).image_stores == tuple(f"{scratch}/{name}" for name in "abc")


@pytest.mark.parametrize("value", ["", "relative", "/nonexistent-image-store", "{file}", "{dir},", "/a\0b"])
def test_an_image_store_must_be_an_absolute_existing_directory(scratch: Path, value: str) -> None:
    (scratch / "file").touch()
    (scratch / "dir").mkdir()
    with pytest.raises(BadOption, match="image store"):
        parse_options([f"overlay.imagestore={value.format(file=scratch / 'file', dir=scratch / 'dir')}"])


def test_a_layer_takes_only_a_size() -> None:
    assert parse_layer_options({}) is None
    assert parse_layer_options({"Size": "1k"}) == 1024
    with pytest.raises(BadOption, match="colour"):
        parse_layer_options({"colour": "red"})
