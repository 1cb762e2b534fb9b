"""All vectors: those of the suites' tables, of questions on which tools differ, and of hostile archives.

The tables are the values that the tests apply themselves (conformance/suites: cases.py, boundaries.py,
applycases.py, tarcases.py and damaged.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from conformance.corpus.hostile import HOSTILE
from conformance.corpus.observed import observed
from conformance.corpus.packing import Packing
from conformance.corpus.silent import SILENT
from conformance.corpus.vector import Layer, Vector, chain_of, name_of, on_standard
from conformance.operations import archives
from conformance.operations.standard import STANDARD
from conformance.operations.tarforms import Tarred, archive_of
from conformance.suites import applycases, cases, damaged, tarcases
from conformance.suites.boundaries import BOUNDARIES


def _of_operations() -> Iterator[Vector]:
    for case in (*cases.CASES, *BOUNDARIES):
        yield Vector(name_of(case.requirement, case.name), case.requirement, chain_of(case.chain))


def _of_archives() -> Iterator[Vector]:
    for case in applycases.CASES:
        may_refuse = "the requirement permits it" if case.may_be_refused else ""
        name = name_of(case.requirement, case.name)
        yield Vector(name, case.requirement, on_standard(*case.entries), may_refuse=may_refuse)
    for what, (entry, _, _) in applycases.REPLACED.items():
        yield Vector(name_of("apply-kinds-alone", what), "OVL-APPLY-KINDS", on_standard(entry))
    for what, entries in applycases.UNSEEN.items():
        requirement = "OVL-APPLY-WHITEOUT-UNSEEN"
        yield Vector(name_of(requirement, what), requirement, on_standard(*entries))


def _of_forms() -> Iterator[Vector]:
    requirement = "OVL-APPLY-FORMATS"
    tables = {
        "names": tarcases.NAMES,
        "kinds": tarcases.KINDS,
        "numbers": tarcases.NUMBERS,
        "records": tarcases.RECORDS,
        "second-global-header": tarcases.SECOND_GLOBAL_HEADER,
    }
    for table, found in tables.items():
        for case in found:
            blocks = case.make(b"") + archive_of([tarcases.LAST])
            name = case.name if case.name.startswith(table) else f"{table} {case.name}"
            yield Vector(name_of("formats", name), requirement, (Layer(blocks=blocks),))
    for what, data in tarcases.ENDS.items():
        yield Vector(name_of("formats-ends", what), requirement, (Layer(blocks=data),))
    for packing in Packing:
        if packing is not Packing.PLAIN:
            base, child = on_standard(archives.file("new", b"new" * 50_000), archives.whiteout("d/.wh.a"))
            layers = (base, Layer(child.entries, packing=packing))
            name = name_of("formats", packing.value.replace(".tar", ""))
            may_refuse = "no text requires zstd" if packing.media_type.endswith("zstd") else ""
            yield Vector(name, requirement, layers, may_refuse=may_refuse)
    whole = archive_of([Tarred(b"first", content=b"first"), Tarred(b"last", content=b"last")], record=False)
    no_end = Layer(blocks=whole[:-1024])
    yield Vector("formats-no-end", "OVL-APPLY-NO-END", (no_end,), may_refuse="there is no end of the archive")


def _damaged() -> Iterator[Vector]:
    def vector(requirement: str, what: str, data: bytes, why: str) -> Vector:
        layers = (*chain_of([STANDARD]), Layer(blocks=data))
        return Vector(name_of(requirement, what), requirement, layers, hostile=True, must_refuse=why)

    yield vector("OVL-HOSTILE-CHECKSUM", "second", damaged.wrong_checksum(), "a wrong checksum")
    for what, (size, why) in damaged.SIZES.items():
        yield vector("OVL-HOSTILE-SIZE", what, damaged.with_size(size), why)
    data = damaged.with_size(damaged.MINUS_ONE, b"")
    yield vector("OVL-HOSTILE-SIZE", "minus-one-empty", data, "a size of -1 in base 256")
    for what, data in damaged.JUNK.items():
        yield vector("OVL-HOSTILE-JUNK", what, data, "no archive")
    for what, kind in damaged.EXTENSIONS.items():
        yield vector(
            "OVL-HOSTILE-NAME-BOMB", what, damaged.promising(kind), "an extension of 4 GiB that is not there"
        )
    big = archive_of([Tarred(b"new"), Tarred(b"big", content=bytes(range(256)) * 160)], record=False)
    for what, length in {"in-a-header": 700, "in-a-file": 20_000}.items():
        yield vector("OVL-APPLY-TRUNCATED", what, big[:length], "the archive is truncated")


def vectors() -> tuple[Vector, ...]:
    """All vectors, in the order of their names."""
    found: Iterable[Vector] = (
        *_of_operations(),
        *_of_archives(),
        *_of_forms(),
        *_damaged(),
        *SILENT,
        *observed(),
        *HOSTILE,
    )
    return tuple(sorted(found, key=lambda one: one.name))
