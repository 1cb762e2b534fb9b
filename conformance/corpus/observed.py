"""The cases of ``observe`` (conformance/observing/questions.py) as vectors: what a table of tools shows, by itself.

Each is near a requirement and a question of docs/corpus.md. Cases that name paths outside have their vectors in
hostile.py, with paths that no system has.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Final

from conformance.corpus.silent import SILENT
from conformance.corpus.vector import Layer, Vector, expected_file, layer
from conformance.observing.question import Case
from conformance.observing.questions import cases
from conformance.observing.vectors import VECTORS

LEFT_OUT: Final[Mapping[str, str]] = {
    **dict.fromkeys(VECTORS, "silent.py has it"),
    "name-with-a-nul": "no system call takes such a name, so no tree is expected",
    "name-empty": "no system call takes such a name, so no tree is expected",
    "absolute-name": "hostile.py has it",
    "name-outside": "hostile.py has it",
    "link-target-absolute": "hostile.py has it",
    "time-after-2446": "few filesystems hold this time",
}
_PREFIX: Final = "observed-"  # of the name of a vector
_WHITEOUTS: Final = "OVL-APPLY-WHITEOUT-"
# The beginning of a name, the question, and the requirement; the first that fits counts.
_NEAR: Final = (
    ("implied-directory", "A1", "OVL-APPLY-PARENTS"),
    ("missing-directory", "A1", "OVL-APPLY-PARENTS"),
    ("one-directory", "", "OVL-APPLY-PARENTS"),
    ("root-entry-", "A2", "OVL-APPLY-NAME-FORMS"),
    ("same-name-twice", "A3", "OVL-APPLY-LAST-WINS"),
    ("file-then-directory", "A3", "OVL-APPLY-LAST-WINS"),
    ("directory-then-file", "A3", "OVL-APPLY-LAST-WINS"),
    ("directory-twice", "A3", "OVL-APPLY-LAST-WINS"),
    ("link-deleted-above", "A5", "OVL-APPLY-KINDS"),
    ("link-rewritten-above", "A6", "OVL-APPLY-KINDS"),
    ("links-below-a-layer", "", "OVL-APPLY-HARD-LINKS"),
    ("link-", "A4", "OVL-APPLY-HARD-LINKS"),
    ("file-below-a-symlink", "A8", "OVL-APPLY-PARENTS"),
    ("directory-over-a-symlink", "A8", "OVL-APPLY-KINDS"),
    ("opaque-below-a-symlink", "A7", "OVL-APPLY-OPAQUE-ORDER"),
    ("whiteout-below-a-symlink", "A7", f"{_WHITEOUTS}MISSING"),
    ("whiteout-then-file", "A10", f"{_WHITEOUTS}AFTER"),
    ("file-then-whiteout", "A10", f"{_WHITEOUTS}AFTER"),
    ("whiteout-and-entry-inside", "", f"{_WHITEOUTS}BEFORE"),
    ("whiteout-and-whiteout-inside", "A9", f"{_WHITEOUTS}INSIDE"),
    ("whiteout-of-nothing", "", f"{_WHITEOUTS}MISSING"),
    ("whiteout-without-a-name", "A11", "OVL-HOSTILE-WHITEOUT-DOTS"),
    ("whiteout-dot", "A11", "OVL-HOSTILE-WHITEOUT-DOTS"),
    ("whiteout-prefix", "A12", "OVL-WHITEOUT-HIDES"),
    ("whiteout-aufs", "A12", "OVL-APPLY-OTHER-MARKS"),
    ("whiteout-is-", "A12", "OVL-WHITEOUT-HIDES"),
    ("opaque-only", "A14", "OVL-APPLY-OPAQUE-ORDER"),
    ("opaque-and-whiteout", "A15", f"{_WHITEOUTS}UNSEEN"),
    ("opaque-", "", "OVL-APPLY-OPAQUE-ORDER"),
    ("unknown-xattr", "A16", "OVL-META-XATTRS"),
    ("trusted-overlay-xattr", "A17", "OVL-HOSTILE-OVERLAY-XATTRS"),
    ("user-overlay-xattr", "A17", "OVL-HOSTILE-OVERLAY-XATTRS"),
    ("time-", "A20", "OVL-META-TIMES"),
    ("directory-time", "", "OVL-APPLY-DIRECTORY-TIMES"),
    ("set-user-id", "", "OVL-META-SPECIAL-BITS"),
    ("device", "", "OVL-META-DEVICES"),
    ("owner", "", "OVL-META-OWNERS"),
    ("name-with-dots-inside", "A21", "OVL-APPLY-NAME-FORMS"),
    ("name-not-utf-8", "", "OVL-NAMES-BYTES"),
)


@functools.cache
def vectors_of_cases() -> Mapping[str, Vector]:
    """The vector of each case that has one."""
    there = {one.name: one for one in SILENT}
    return {
        **{one.name.removeprefix(_PREFIX): one for one in observed()},
        **{case: there[vector] for case, vector in VECTORS.items()},
    }


def expected_files() -> dict[str, str]:
    """The expected file of each case that has a vector, below a directory of ``corpus build``."""
    return {case: expected_file(one) for case, one in vectors_of_cases().items()}


def observed() -> Iterator[Vector]:
    """A vector for each case; raises ValueError for one that is near nothing."""
    for case in cases():
        if case.name not in LEFT_OUT:
            question, requirement = _near(case.name)
            may_refuse = "no text says that times before 1970 are taken" if case.name == "time-before-1970" else ""
            name = f"{_PREFIX}{case.name}"
            yield Vector(name, requirement, _layers(case), question, may_refuse=may_refuse)


def _near(name: str) -> tuple[str, str]:
    for begin, question, requirement in _NEAR:
        if name.startswith(begin):
            return question, requirement
    raise ValueError(f"the case {name} of observe is near no requirement: add it to conformance/corpus/observed.py")


def _layers(case: Case) -> tuple[Layer, ...]:
    return tuple(Layer(blocks=one) if isinstance(one, bytes) else layer(*one) for one in case.layers)
