"""Assertions of tests: each compares what was seen with what was expected, and raises Deviation with both.

``what`` says in the text what was looked at. ``finding`` is what a reproducer looks at; without one there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from typing import Any

from conformance.harness.deviation import Deviation
from conformance.history.findings import BytesDiffer, Finding, NamesOfDiff, RefusalLacks, SizeOfDiff, TreeDiffers
from conformance.operations.comparing import Difference, compared, differences, names_differ
from conformance.operations.trees import Snapshot


def equal(what: str, seen: object, expected: object, finding: Finding | None = None) -> None:
    """What was seen is what was expected."""
    if seen != expected:
        raise Deviation(f"{what}: expected {_listed(expected)}, found {_listed(seen)}", finding)


def names_of_diff(of: str, seen: object, expected: object) -> None:
    """The last answer, a diff, has the expected names; ``of`` says which."""
    equal(f"the names in the diff of {of}", seen, expected, NamesOfDiff())


def size_of_diff(of: str, seen: object, expected: object) -> None:
    """The last answer is the expected size of a diff; ``of`` says which."""
    equal(f"the size of the diff of {of}", seen, expected, SizeOfDiff())


def nothing(what: str, found: Sized | int, finding: Finding | None = None) -> None:
    """Nothing of this kind was found: an empty collection, or the number 0."""
    if found:
        raise Deviation(f"expected no {what}, found {_listed(found)}", finding)


def one_of(what: str, seen: object, allowed: Sequence[object], finding: Finding | None = None) -> None:
    """What was seen is one of several that are right."""
    if seen not in allowed:
        raise Deviation(f"{what}: expected {' or '.join(map(str, allowed))}, found {seen}", finding)


def between(what: str, seen: float, least: float, most: float, finding: Finding | None = None) -> None:
    """A number is within bounds, both included."""
    if not least <= seen <= most:
        raise Deviation(f"{what}: expected {least} to {most}, found {seen}", finding)


def names(refusal: str, *words: str) -> None:
    """A refusal, of the last call or opening, holds one of these words, in their case."""
    if not any(word in refusal for word in words):
        said = f"expected the refusal to name {' or '.join(map(repr, words))}, found: {refusal}"
        raise Deviation(said, RefusalLacks(words))


def same_bytes(what: str, expected: bytes, actual: bytes) -> None:
    """The last two archives have the same bytes."""
    if expected != actual:
        sizes = f"{len(expected)} and {len(actual)} bytes"
        raise Deviation(f"{what}: expected the same bytes, found {sizes} that differ", BytesDiffer())


def same_entries(what: str, expected: Sequence[object], actual: Sequence[object]) -> None:
    """Two archives have the same entries in the same order (entries.content_of)."""
    if expected != actual:
        lacking, more = (
            [one for one in first if one not in second]
            for first, second in ((expected, actual), (actual, expected))
        )
        said = f"expected the same entries in the same order, found {lacking} missing and {more} more"
        raise Deviation(f"{what}: {said}")


def same_names(what: str, expected: Iterable[bytes], actual: Iterable[bytes]) -> None:
    """The tree that was observed last has exactly these names."""
    wanted, found = set(expected), set(actual)
    if wanted != found:
        finding = TreeDiffers(tuple(names_differ(wanted, found)))
        raise Deviation(f"{what}: expected the names {_listed(wanted)}, found {_listed(found)}", finding)


def same_field(path: bytes, field: str, seen: str, want: Any, wanted: str) -> None:
    """A field of a path in the tree that was observed last; ``field`` and ``want`` are of comparing.Difference."""
    if seen != wanted:
        raise in_path(path, field, f"{path!r}: {field} is {seen}, expected {wanted}", want)


def in_path(path: bytes, what: str, said: str, want: Any = None) -> Deviation:
    """A deviation in one path of the tree that was observed last."""
    return Deviation(said, TreeDiffers((Difference(path, what, said, want),)))


def same_tree(
    what: str,
    expected: Snapshot,
    actual: Snapshot,
    *,
    times: str = "known",
    links: bool = True,
    times_of: str = "OVL-APPLY-FILE-TIMES",
) -> None:
    """Two trees are equal; raises Deviation with what differs. ``links`` says whether hard links count.

    Where nothing but times of files differs (``times`` is "files"), that is charged to ``times_of``.
    """
    if not links:
        expected, actual = expected.without_links(), actual.without_links()
    found = compared(expected, actual, times=times)
    if found:
        lines = [f"{what} differs from the expected tree:", *differences(expected, actual, times=times)]
        only_times = times == "files" and all(one.what == "mtime" for one in found)
        charged = (times_of,) if only_times else ()
        raise Deviation("\n".join(lines), TreeDiffers(tuple(found), expected, actual), charged)


def _listed(value: object) -> object:
    return sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
