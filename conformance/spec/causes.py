"""What kind of deviation a failure is, as a value: failures with equal values may have one cause.

A test that fails sets it (harness.causing), result files keep it, and report.causes makes words of it. It never
decides on a verdict.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

from conformance.spec.values import Key


class CauseKind(enum.Enum):
    """What the test saw. REQUIREMENT: nothing that failures of other requirements could have in common."""

    REQUIREMENT = "requirement"
    TREE = "tree"
    REFUSED = "refused"
    ACCEPTED = "accepted"
    DEFECT = "defect"
    UNANSWERED = "unanswered"
    HOST_CHANGED = "host-changed"
    LAYOUT = "layout"
    DIFF_NAMES = "diff-names"
    DIFF_SIZE = "diff-size"


class TreeDifference(enum.Enum):
    """In what a tree differs, the most important first: later differences follow from earlier ones."""

    KIND = "kind"
    UNEXPECTED = "unexpected"
    MISSING = "missing"
    GHOST = "ghost"
    UNLISTED = "unlisted"
    CONTENT = "content"
    TARGET = "target"
    DEVICE = "device"
    XATTRS = "xattrs"
    OWNER = "owner"
    MODE = "mode"
    LINKED = "linked"
    APART = "apart"
    ROUNDED = "rounded"
    MTIME = "mtime"


@dataclass(frozen=True, slots=True)
class Cause:
    """The kind of a deviation, and what tells it from others of its kind."""

    kind: CauseKind
    call: Annotated[
        str, Key("Of refused and accepted: the call, such as create; open for an opening.", omitted=True)
    ] = ""
    error: Annotated[
        str,
        Key(
            "Of refused, defect and unanswered: exception class and error, without paths and numbers.", omitted=True
        ),
    ] = ""
    where: Annotated[
        tuple[str, ...],
        Key(
            "Of defect: function and file of the driver. Of unanswered: where the driver's code, or the kernel,"
            " was.",
            omitted=True,
        ),
    ] = ()
    difference: Annotated[TreeDifference | None, Key("Of tree: the most important difference.", omitted=True)] = (
        None
    )
    shown: Annotated[str, Key("Of the difference 'kind': the type of file that is there.", omitted=True)] = ""
    wanted: Annotated[str, Key("Of the difference 'kind': the type of file that was expected.", omitted=True)] = ""


UNKNOWN = Cause(CauseKind.REQUIREMENT)
