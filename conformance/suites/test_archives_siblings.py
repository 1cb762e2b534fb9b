"""The cases of archives in several directories whose names begin alike: each is as if it was alone.

What a driver remembers of one directory, such as an opaque mark, it may take for that of its sibling.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, zip_longest
from typing import Final

import pytest

from conformance.harness.assertions import same_tree
from conformance.harness.bench import Bench
from conformance.operations import ops
from conformance.operations.archives import Entry
from conformance.operations.standard import STANDARD
from conformance.operations.trees import Snapshot
from conformance.suites.applycases import CASES, UNSEEN, Case
from conformance.suites.fewest import check_each

# What is behind each name at the top: names begin with others, and their bytes lie before and behind the slash's.
_ENDS: Final = ("", "-", "-0", "d")
_OPAQUE: Final = ".wh..wh..opq"
_ALL: Final = tuple(
    case
    for case in (
        *CASES,
        *(
            Case(
                "OVL-APPLY-WHITEOUT-UNSEEN", name, entries, gone=(b"x/y", b"d/a") if len(entries) > 2 else (b"x/y",)
            )
            for name, entries in UNSEEN.items()
        ),
    )
    # The root has no sibling.
    if not case.may_be_refused and all(one.name.partition("/")[0] not in ("", ".", _OPAQUE) for one in case.entries)
)


def _in_turn(groups: Sequence[Sequence[Entry]]) -> list[Entry]:
    return list(chain.from_iterable(groups))


def _interleaved(groups: Sequence[Sequence[Entry]]) -> list[Entry]:
    """The first entry of each, then the second of each, and so on."""
    return [entry for row in zip_longest(*groups) for entry in row if entry is not None]


_ORDERS: Final[dict[str, Callable[[Sequence[Sequence[Entry]]], list[Entry]]]] = {
    "in-turn": _in_turn,
    "backwards": lambda groups: _in_turn(groups[::-1]),
    "interleaved": _interleaved,
}


@pytest.mark.parametrize(
    "requirement",
    [
        pytest.param(one, marks=pytest.mark.requirement(one), id=one)
        for one in dict.fromkeys(case.requirement for case in _ALL)
    ],
)
def test_directories_with_names_alike_are_kept_apart(bench: Bench, requirement: str) -> None:
    """All cases of a requirement are tried in one archive; where that fails, each of them alone."""
    cases = [case for case in _ALL if case.requirement == requirement]
    for order in _ORDERS if bench.patient else ["interleaved"]:
        check_each(bench, cases, partial(_check, bench, order))


def _check(bench: Bench, order: str, cases: Sequence[Case]) -> None:
    numbered = [(f"{number}/", case) for number, case in enumerate(cases)]
    with bench.store() as store:
        store.create("base")
        store.change("base", [ops.CreateFile(b"below", b"below", 0o644)])
        store.create("parent", "base")
        store.change("parent", [one for place, _ in numbered for one in _standards(place)])
        store.create("child", "parent")
        groups = [[_entry(place, one, end) for place, case in numbered for one in case.entries] for end in _ENDS]
        store.applied("child", _ORDERS[order](groups))
        tree = store.shows_files(
            "child",
            {
                _name(place, path.decode(), end).encode(): content
                for place, case in numbered
                for path, content in case.there.items()
                for end in _ENDS
            },
            [
                _name(place, path.decode(), end).encode()
                for place, case in numbered
                for path in case.gone
                for end in _ENDS
            ],
        )
        for place, case in numbered:
            first, *others = (_part(tree, place, end) for end in _ENDS)
            for end, found in zip(_ENDS[1:], others, strict=True):
                what = f"the names of {place} in child that end with {end!r}, {case.name}, without that end,"
                same_tree(what, first, found)


def _name(place: str, name: str, end: str) -> str:
    top, slash, rest = name.partition("/")
    return f"{place}{top}{end}{slash}{rest}"


def _entry(place: str, entry: Entry, end: str) -> Entry:
    target = _name(place, entry.target, end) if entry.kind == tarfile.LNKTYPE else entry.target
    return replace(entry, name=_name(place, entry.name, end), target=target)


def _standards(place: str) -> list[ops.Operation]:
    """The usual tree, with each end of its names at the top."""
    made: list[ops.Operation] = [ops.MakeDirectory(place.rstrip("/").encode(), 0o755)]
    return made + [
        replace(one, path=_name(place, one.path.decode(), end).encode()) for end in _ENDS for one in STANDARD
    ]


def _part(tree: Snapshot, place: str, end: str) -> Snapshot:
    """What of a tree has an end behind its names at the top, without that, and without times."""
    found = {}
    for path, node in tree.nodes.items():
        inside = path.decode().removeprefix(place)
        top, slash, rest = inside.partition("/")
        if len(inside) < len(path) and top[1:] == end:
            found[f"{top[0]}{slash}{rest}".encode()] = node
    return Snapshot(found, frozenset()).with_times(lambda _: None)
