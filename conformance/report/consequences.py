"""What a user of the driver would see go wrong: the sentence of a failure for people who do not write drivers.

It is the consequence of the requirement, where the driver did what was asked and the result is wrong. A test of
any requirement can fail for another cause: the driver refuses a call, raises an error of its own or does not
answer, an operation in a layer has another outcome, or a tree differs in what the requirement is not about. Then
the sentence is that of the cause, and says no more than what was observed. Result files do not have it: it is
derived from the specification and the failure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, assert_never

from conformance.report.causes import value_of
from conformance.spec import Requirement
from conformance.spec.causes import Cause, CauseKind, TreeDifference
from conformance.spec.verdicts import TestOutcome, Verdict

LABEL: Final = "a user would see"
_SHOWN: Final = (Verdict.FAIL, Verdict.XFAIL)
_REFUSED: Final = {
    "open": "The engine cannot open its store and does not start.",
    "close": "The engine cannot close its store when it stops.",
    "create": "A container or image cannot be created.",
    "remove": "A container or image cannot be deleted, and its disk space stays in use.",
    "get": "A container that needs the layer does not start.",
    "put": "A stopped container cannot be unmounted.",
    "exists": "The engine cannot tell whether it has an image or container.",
    "status": "docker info fails, or lacks the facts of the store.",
    "metadata": "docker inspect fails, or lacks the directories of a container.",
    "diff": "A container cannot be committed, or an image cannot be pushed.",
    "apply": "An image with such a layer cannot be pulled or loaded.",
    "diff-size": "docker ps -s fails, or shows no size.",
    "changes": "docker diff fails.",
}
_DEFECT: Final = "A command of the engine fails with an internal error of the driver."
_UNANSWERED: Final = (
    "A command of the engine hangs, or fails because the driver crashed or gave an unusable answer."
)
_ERROR: Final = "A program in a container gets an unexpected error from an operation on its files."
_DONE: Final = "An operation on files in a container succeeds where it has to fail."
_LAYOUT: Final = "Another engine on the same store, such as Podman, does not find its files."
_TREES: Final = {
    TreeDifference.KIND: "A container finds another type of file than the one that was written.",
    TreeDifference.UNEXPECTED: "Files that should be deleted or hidden are visible in a container.",
    TreeDifference.MISSING: "Files are missing in a container.",
    TreeDifference.GHOST: "Directory listings in a container show names that cannot be opened.",
    TreeDifference.UNLISTED: "Deleted files in a container can still be opened by their names.",
    TreeDifference.CONTENT: "Files in a container have wrong content.",
    TreeDifference.TARGET: "Symlinks in a container point to other files.",
    TreeDifference.DEVICE: "Device nodes in a container refer to other devices.",
    TreeDifference.XATTRS: "Files in a container have lost extended attributes, or have wrong ones.",
    TreeDifference.OWNER: "Files in a container belong to other users, so services can lose access to them.",
    TreeDifference.MODE: "Files in a container have other permissions, so services can lose access to them.",
    TreeDifference.LINKED: "Hard links in a container are separate files, so an edit reaches only one name.",
    TreeDifference.APART: "Separate files in a container are hard links, so an edit of one changes the other.",
    TreeDifference.ROUNDED: "Files in a container have times in whole seconds, so build tools see them as changed.",
    TreeDifference.MTIME: "Files in a container have wrong times, so build tools can see them as changed.",
}
# The others are about names, types and content.
_OF_METADATA: Final = frozenset(
    (
        TreeDifference.DEVICE,
        TreeDifference.XATTRS,
        TreeDifference.OWNER,
        TreeDifference.MODE,
        TreeDifference.LINKED,
        TreeDifference.APART,
        TreeDifference.ROUNDED,
        TreeDifference.MTIME,
    )
)
_FAMILIES_OF_METADATA: Final = ("metadata", "id maps")
_FAMILIES_WITHOUT_TREES: Final = (
    *("opening and options", "kernel and filesystem gates", "changes", "sizes", "status and metadata"),
    *("capabilities", "quota", "kernel"),
)
# What a reason begins with whose cause has no kind of its own.
_REASONS: Final = (
    (re.compile(r".*: expected [\w ,]+, got: "), _ERROR),
    (re.compile(r".*: expected [\w ,]+, but it was done$", re.M), _DONE),
    (re.compile(r"the driver refused an archive that it must apply: "), _REFUSED["apply"]),
)


def consequence_of(outcome: TestOutcome, requirements: Mapping[str, Requirement]) -> str:
    """The sentence of a failure of the driver; "" for any other outcome, and for unknown requirements."""
    known = [requirements[one] for one in outcome.requirements if one in requirements]
    if outcome.verdict not in _SHOWN or not known:
        return ""
    said = (sentence for pattern, sentence in _REASONS if pattern.match(outcome.reason))
    return _of_cause(value_of(outcome), known[0]) or next(said, "") or known[0].consequence


def _of_cause(cause: Cause, requirement: Requirement) -> str:
    """The sentence of a cause that the requirement is not about; "" if there is none."""
    match cause.kind:
        case CauseKind.REFUSED:
            return _REFUSED.get(cause.call, "")
        case CauseKind.DEFECT:
            return _DEFECT
        case CauseKind.UNANSWERED:
            return _UNANSWERED
        case CauseKind.LAYOUT:
            return _LAYOUT
        case CauseKind.TREE:
            difference = cause.difference or TreeDifference.KIND
            is_about_it = (requirement.family in _FAMILIES_OF_METADATA) == (difference in _OF_METADATA)
            return "" if is_about_it and requirement.family not in _FAMILIES_WITHOUT_TREES else _TREES[difference]
        case (
            CauseKind.REQUIREMENT
            | CauseKind.ACCEPTED
            | CauseKind.HOST_CHANGED
            | CauseKind.DIFF_NAMES
            | CauseKind.DIFF_SIZE
        ):
            return ""
        case _:
            assert_never(cause.kind)
