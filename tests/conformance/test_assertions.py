"""The assertions of suites: what each accepts, what it says of anything else, and the finding that it carries."""

from __future__ import annotations

import stat
from collections.abc import Callable

import pytest

from conformance.harness.assertions import (
    between,
    equal,
    names,
    nothing,
    one_of,
    same_bytes,
    same_entries,
    same_field,
    same_names,
)
from conformance.harness.deviation import Deviation
from conformance.history.findings import BytesDiffer, InWords, RefusalLacks, TreeDiffers, WrongAnswer

WRONG = WrongAnswer()


@pytest.mark.parametrize(
    "holds",
    [
        lambda: equal("x", {1, 2}, {2, 1}),
        lambda: nothing("x", []),
        lambda: nothing("x", 0),
        lambda: one_of("x", "b", ("a", "b")),
        lambda: between("x", 1, 1, 2),
        lambda: between("x", 2, 1, 2),
        lambda: names("the option 'size' is unknown", "none", "size"),
        lambda: same_bytes("x", b"a", b"a"),
        lambda: same_entries("x", ["a", "b"], ["a", "b"]),
        lambda: same_names("x", [b"a", b"b"], {b"b": 1, b"a": 2}),
        lambda: same_field(b"a", "mode", "0700", stat.S_IFREG | 0o700, "0700"),
    ],
)
def test_what_is_as_it_should_be_raises_nothing(holds: Callable[[], None]) -> None:
    holds()


@pytest.mark.parametrize(
    ("breaks", "said", "finding"),
    [
        (lambda: equal("x", {2, 1}, {3}, WRONG), "x: expected [3], found [1, 2]", WRONG),
        (lambda: equal("x", "1", 1), "x: expected 1, found 1", InWords()),
        (lambda: nothing("x", {"b", "a"}, WRONG), "expected no x, found ['a', 'b']", WRONG),
        (lambda: nothing("x", 2), "expected no x, found 2", InWords()),
        (lambda: one_of("x", "c", ("a", "b"), WRONG), "x: expected a or b, found c", WRONG),
        (lambda: one_of("x", None, ("a",)), "x: expected a, found None", InWords()),
        (lambda: between("x", 0, 1, 2, WRONG), "x: expected 1 to 2, found 0", WRONG),
        (lambda: between("x", 3, 1, 2), "x: expected 1 to 2, found 3", InWords()),
        (
            lambda: names("no such SIZE", "size", "none"),
            "expected the refusal to name 'size' or 'none', found: no such SIZE",
            RefusalLacks(("size", "none")),
        ),
        (
            lambda: same_bytes("x", b"ab", b"abc"),
            "x: expected the same bytes, found 2 and 3 bytes that differ",
            BytesDiffer(),
        ),
        (
            lambda: same_entries("x", ["a", "b"], ["a", "c"]),
            "x: expected the same entries in the same order, found ['b'] missing and ['c'] more",
            InWords(),
        ),
        (
            lambda: same_entries("x", ["a", "b"], ["b", "a"]),
            "x: expected the same entries in the same order, found [] missing and [] more",
            InWords(),
        ),
    ],
)
def test_anything_else_says_what_was_expected_and_found(
    breaks: Callable[[], None], said: str, finding: object
) -> None:
    with pytest.raises(Deviation) as deviation:
        breaks()
    assert str(deviation.value) == said
    assert deviation.value.finding == finding


def test_a_difference_of_trees_says_in_which_path() -> None:
    with pytest.raises(Deviation, match=r"expected the names \[b'a', b'b'\], found \[b'b', b'c'\]") as deviation:
        same_names("x", [b"a", b"b"], [b"b", b"c"])
    found = deviation.value.finding
    assert isinstance(found, TreeDiffers)
    assert [(one.path, one.what) for one in found.differences] == [(b"a", "missing"), (b"c", "unexpected")]
    with pytest.raises(Deviation, match="b'a': mode is 0600, expected 0700") as deviation:
        same_field(b"a", "mode", "0600", stat.S_IFREG | 0o700, "0700")
    found = deviation.value.finding
    assert isinstance(found, TreeDiffers)
    assert [(one.path, one.what, one.want) for one in found.differences] == [(b"a", "mode", stat.S_IFREG | 0o700)]
