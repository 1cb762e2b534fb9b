"""The cause of a failure, from what was raised and the history of the example."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from typing import Final, assert_never

from conformance.drivers.protocol import DriverFailed, DriverRefused
from conformance.harness.deviation import Deviation
from conformance.history import findings
from conformance.history.findings import Accepted, BadLayout, NamesOfDiff, OutsideChanged, SizeOfDiff, TreeDiffers
from conformance.history.printable import one_line
from conformance.history.steps import Called, Opened, Step
from conformance.history.verbs import verb
from conformance.operations.comparing import Difference
from conformance.operations.trees import Node
from conformance.spec.causes import UNKNOWN, Cause, CauseKind, TreeDifference

_SECOND: Final = 10**9
_ERROR: Final = 100  # characters
_WHERE: Final = 3  # lines of where a call stood
_LINE: Final = 300  # characters of each
_PATH: Final = re.compile(r"/[^ :;,()'\"`\]]*")
_QUOTED: Final = re.compile(r"""'[^']*'|"[^"\s]*\"""")  # with words in it, double quotes are around a message
_ERRNO: Final = re.compile(r"\[Errno \d+\] ([A-Z][\w ,-]*)")
_OF_OTHERS: Final = re.compile(r'/conformance/|/lib/python3|site-packages|^<|"<')
_KINDS: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def cause_of(error: BaseException | None, steps: Sequence[Step]) -> Cause:
    """The cause of a failed test; ``steps`` are of its minimal example."""
    match error:
        case Deviation():
            return _of_finding(error, steps)
        case DriverRefused():
            words = [*([error.kind] if error.kind else []), *_letters(error.error or _said(error))]
            return Cause(CauseKind.REFUSED, _refused_call(steps), ": ".join(words))
        case DriverFailed() if error.defect is not None:
            where = (error.defect,) if error.defect else ()
            # Names in quotes stay: they are names of the driver's code.
            said = _PATH.sub("/", one_line(str(error).partition("\n")[0].partition(" (")[0]))
            return Cause(CauseKind.DEFECT, error=said[:_ERROR], where=where)
        case DriverFailed():
            return Cause(CauseKind.UNANSWERED, error=shape(str(error), ": ")[:_ERROR], where=_stood(error.detail))
    return UNKNOWN


def shape(text: str, end: str = "\n") -> str:
    """A text of a driver, up to ``end``, without what is different in each run: paths, numbers, quoted names."""
    plain = _PATH.sub("/", one_line(text.partition("\n")[0].partition(end)[0]))
    return re.sub(r"\d+", "0", _QUOTED.sub(lambda found: found[0][0] * 2, plain)).strip()


def _said(error: DriverRefused) -> str:
    """What the driver said: the error of a system call if its words quote one, as those of shutil do."""
    text = str(error).removeprefix(f"{error.kind}: ")
    errno = _ERRNO.search(text)
    return errno[1] if errno else shape(text)


def _letters(said: str) -> list[str]:
    return [said[:_ERROR]] if re.search(r"[a-z]", said) else []


def _refused_call(steps: Sequence[Step]) -> str:
    """The last call that was refused, "" where none was recorded, as of concurrent calls."""
    for step in reversed(steps):
        if isinstance(step, (Called, Opened)) and step.refused is not None:
            return verb(step.call) if isinstance(step, Called) else "open"
    return ""


def _last_call(steps: Sequence[Step]) -> str:
    for step in reversed(steps):
        if isinstance(step, (Called, Opened)):
            return verb(step.call) if isinstance(step, Called) else "open"
    return ""


def _stood(detail: str) -> tuple[str, ...]:
    """The frames of the driver; what the kernel knows, or a process printed, where there are none."""
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("File ") and not _OF_OTHERS.search(line)]
    return tuple(one_line(line)[:_LINE] for line in (own or lines)[:_WHERE])


# ---- Trees.


def _of_finding(deviation: Deviation, steps: Sequence[Step]) -> Cause:
    match deviation.finding:
        case TreeDiffers() as finding:
            found = sorted(
                (cause for one in finding.differences for cause in _of_difference(one, finding)), key=_rank
            )
            return found[0] if found else UNKNOWN
        case OutsideChanged():
            return Cause(CauseKind.HOST_CHANGED)
        case Accepted():
            return Cause(CauseKind.ACCEPTED, _last_call(steps))
        case NamesOfDiff():
            return Cause(CauseKind.DIFF_NAMES)
        case SizeOfDiff():
            return Cause(CauseKind.DIFF_SIZE)
        case BadLayout():
            return Cause(CauseKind.LAYOUT)
        case (
            findings.Unreadable()
            | findings.NotDone()
            | findings.RefusalLacks()
            | findings.WrongOutcome()
            | findings.FilesDiffer()
            | findings.RootReplaced()
            | findings.WrongChange()
            | findings.StillMounted()
            | findings.MountedTwice()
            | findings.WrongAnswer()
            | findings.TreeGone()
            | findings.BytesDiffer()
            | findings.DiffDisagrees()
            | findings.NotContained()
            | findings.InWords()
        ) | None:
            return UNKNOWN
        case _:
            assert_never(deviation.finding)


def _rank(cause: Cause) -> tuple[int, str, str]:
    order = list(TreeDifference)
    return (order.index(cause.difference) if cause.difference else len(order)), cause.shown, cause.wanted


def _of_difference(one: Difference, finding: TreeDiffers) -> Iterator[Cause]:
    want = finding.expected.nodes.get(one.path) if finding.expected else None
    seen = finding.actual.nodes.get(one.path) if finding.actual else None
    match one.what:
        case "mode" if want and seen and stat.S_IFMT(want.mode) != stat.S_IFMT(seen.mode):
            kind = TreeDifference.KIND
            yield Cause(CauseKind.TREE, difference=kind, shown=_kind(seen), wanted=_kind(want))
        case "mtime":
            if want and seen:  # a time that was looked at alone has no tree
                rounded = _is_rounded(seen.mtime_ns, want.mtime_ns)
                difference = TreeDifference.ROUNDED if rounded else TreeDifference.MTIME
                yield Cause(CauseKind.TREE, difference=difference)
        case what:
            yield Cause(CauseKind.TREE, difference=TreeDifference(what))


def _kind(node: Node) -> str:
    return _KINDS.get(stat.S_IFMT(node.mode), "node")


def _is_rounded(seen: int | None, wanted: int | None) -> bool:
    if seen is None or wanted is None:
        return False
    return seen % _SECOND == 0 and abs(seen - wanted) < _SECOND
