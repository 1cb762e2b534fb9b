"""A vector: a chain of layers as a value, and the requirement that it shows. What is expected is computed."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from conformance.corpus.packing import Packing
from conformance.operations import archives, ops
from conformance.operations.layering import layer_entries
from conformance.operations.model import Tree
from conformance.operations.standard import STANDARD
from conformance.operations.tarforms import PAX, Form, Tarred, archive_of

_IN_PAX: Final = Form(PAX)
_SUBJECTS: Final = (
    ("OVL-APPLY-WHITEOUT-", "whiteouts"),
    ("OVL-WHITEOUT-", "whiteouts"),
    ("OVL-APPLY-OPAQUE-", "opaque"),
    ("OVL-OPAQUE-", "opaque"),
    ("OVL-APPLY-OTHER-MARKS", "whiteouts"),
    ("OVL-APPLY-HARD-LINKS", "links"),
    ("OVL-APPLY-LOWER-LINKS", "links"),
    ("OVL-META-HARD-LINKS", "links"),
    ("OVL-APPLY-PARENTS", "implied"),
    ("OVL-APPLY-DIRECTORY-TIMES", "metadata"),
    ("OVL-APPLY-FILE-TIMES", "metadata"),
    ("OVL-META-", "metadata"),
    ("OVL-APPLY-NAME-FORMS", "names"),
    ("OVL-NAMES-", "names"),
    ("OVL-APPLY-FORMATS", "formats"),
    ("OVL-APPLY-NO-END", "formats"),
    ("OVL-APPLY-TRUNCATED", "damaged"),
    ("OVL-HOSTILE-", "hostile"),
    ("OVL-", "kinds"),
)


# Questions on which tools differ, and which a requirement decides: it permits the listed answers and no others.
DECIDED: Final = frozenset({"A3", "A9", "A10", "A11", "A14", "A15", "A17"})


@dataclass(frozen=True, slots=True)
class Layer:
    """One archive: its entries, or its bytes where entries do not say them; and how it is compressed."""

    entries: tuple[Tarred, ...] = ()
    blocks: bytes = b""
    packing: Packing = Packing.PLAIN

    @property
    def data(self) -> bytes:
        """The uncompressed archive."""
        return self.blocks or _archive(self.entries)


@functools.cache
def _archive(entries: tuple[Tarred, ...]) -> bytes:
    return archive_of(entries)


EXPECTED: Final = "expected.json"


@dataclass(frozen=True, slots=True)
class Vector:
    """A chain of layers, the base first.

    ``question`` is one on which tools differ, such as A1. ``must_refuse`` says why the last layer has to be
    refused, ``may_refuse`` why it may be; the model adds the reasons that it sees itself.
    """

    name: str
    requirement: str
    layers: tuple[Layer, ...]
    question: str = ""
    hostile: bool = False
    must_refuse: str = ""
    may_refuse: str = ""

    @property
    def is_open(self) -> bool:
        """Whether no text decides a part of it, so that a tree that is not listed is an observation."""
        return bool(self.question) and self.question not in DECIDED

    @property
    def subject(self) -> str:
        """What it is about."""
        if self.must_refuse:
            return "damaged"
        return next(subject for begin, subject in _SUBJECTS if self.requirement.startswith(begin))


def layer(*entries: Tarred | archives.Entry, packing: Packing = Packing.PLAIN) -> Layer:
    """A layer of entries."""
    return Layer(tuple(one if isinstance(one, Tarred) else _tarred(one) for one in entries), packing=packing)


def _tarred(entry: archives.Entry) -> Tarred:
    return Tarred(
        os.fsencode(entry.name),
        entry.kind,
        entry.content,
        os.fsencode(entry.target),
        entry.mode,
        *entry.owner,
        entry.mtime * 10**9,
        *entry.device,
        form=_IN_PAX,
        records=tuple((os.fsencode(key), os.fsencode(value)) for key, value in entry.records.items()),
    )


def chain_of(chain: Sequence[Sequence[ops.Operation]]) -> tuple[Layer, ...]:
    """The archives of a chain of operations, each of what its layer changes."""
    found = []
    tree = Tree()
    for operations in chain:
        below, tree = tree, tree.child()
        for operation in operations:
            tree.apply(operation)
        found.append(Layer(tuple(layer_entries(below, tree))))
    return tuple(found)


def on_standard(*entries: Tarred | archives.Entry) -> tuple[Layer, ...]:
    """A layer over the usual tree."""
    return (*chain_of([STANDARD]), layer(*entries))


def name_of(*words: str) -> str:
    """A name, which is a tag of an image, too: small letters, digits, dots and dashes."""
    text = "-".join(words).lower().removeprefix("ovl-")
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-.")


def expected_file(vector: Vector) -> str:
    """The path of the expected file of a vector below a directory of ``corpus build``."""
    return f"{'hostile/' if vector.hostile else ''}vectors/{vector.name}/{EXPECTED}"
