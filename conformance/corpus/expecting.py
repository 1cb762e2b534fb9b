"""What is expected of a vector, by the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from conformance.corpus.packing import packed
from conformance.corpus.trees import entries_of
from conformance.corpus.values import FORMAT, VERSION, Entry, Expected, Layer, Tree
from conformance.corpus.vector import Vector
from conformance.drivers.unpacker.layout import digest_of
from conformance.operations.alternatives import alternatives
from conformance.operations.applying import applied
from conformance.operations.members import members_of
from conformance.operations.trees import CAPABILITY
from conformance.spec import Requirement


def expected_of(vector: Vector, requirements: Mapping[str, Requirement]) -> Expected:
    """The expected file of a vector; raises KeyError for an unknown requirement."""
    requirement = requirements[vector.requirement]
    refusal, reasons, trees = _answers(vector)
    return Expected(
        FORMAT,
        VERSION,
        vector.name,
        vector.subject,
        vector.hostile,
        requirement.id,
        requirement.level,
        requirement.sentence,
        tuple(one.text for one in requirement.source),
        vector.question,
        vector.is_open,
        tuple(sorted({need for tree in trees for need in _needs(tree.entries)})),
        layers_of(vector),
        refusal,
        reasons,
        trees,
    )


def _answers(vector: Vector) -> tuple[str, tuple[str, ...], tuple[Tree, ...]]:
    if vector.must_refuse:
        return "required", (vector.must_refuse,), ()
    layers = [members_of(one.data) for one in vector.layers]
    trees = tuple(Tree(one.words, entries_of(one.tree)) for one in alternatives(layers))
    reasons = {*applied(layers).refusable, *([vector.may_refuse] if vector.may_refuse else [])}
    return "permitted" if reasons else "forbidden", tuple(sorted(reasons)), trees


def layers_of(vector: Vector) -> tuple[Layer, ...]:
    """What an expected file says of the layers."""
    found = []
    for number, one in enumerate(vector.layers, 1):
        blob = packed(one.data, one.packing)
        file = f"layer-{number}.{one.packing.value}"
        found.append(Layer(file, one.packing.media_type, digest_of(blob), digest_of(one.data), len(blob)))
    return tuple(found)


def _needs(entries: Iterable[Entry]) -> Iterator[str]:
    """What of ``KEEPS`` a tool must keep to make a tree."""
    for one in entries:
        if one.uid or one.gid:
            yield "owners"
        if int(one.mode, 8) > 0o777 and one.type != "symlink":
            yield "special-bits"
        if one.major is not None:
            yield "devices"
        if one.xattrs.keys() - {CAPABILITY}:
            yield "xattrs"
        if CAPABILITY in one.xattrs:
            yield "capabilities"
        if one.mtime and one.mtime.nanoseconds:
            yield "fractions"
        if one.links is not None:
            yield "links"
