"""The causes of failures in result files of earlier versions, which have them in words only.

Nothing that this version writes is read here. When the results of 0.3.0 are not compared with any more, this module
can go: such a failure has the cause that its requirement is violated then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from conformance.history.printable import one_line
from conformance.spec.causes import UNKNOWN, Cause, CauseKind, TreeDifference
from conformance.spec.verdicts import TestOutcome

_SECOND: Final = 10**9
_REFUSED: Final = "the driver refused a step that it must do: "
_DIFFERS: Final = "differs from the expected tree:"
_FIELD: Final = re.compile(
    r"^b?['\"].*['\"]: (mode|owner|content|target|device|xattrs|mtime in ns) is (.*), expected (.*)$"
)
_ERRNO: Final = re.compile(r"\[Errno \d+\] ([A-Z][\w ,-]*)")
_FRAME: Final = re.compile(r'^  File "([^"]+)", line \d+, in (\S+)$', re.M)
_OF_OTHERS: Final = re.compile(r'/conformance/|/lib/python3|site-packages|^<|"<')
_PATH: Final = re.compile(r"/[^ :;,()'\"`\]]*")
_KINDS: Final = {
    "-": "file",
    "d": "directory",
    "l": "symlink",
    "p": "fifo",
    "s": "socket",
    "c": "device",
    "b": "device",
}
_OF_FIELD: Final = {
    "content": TreeDifference.CONTENT,
    "target": TreeDifference.TARGET,
    "device": TreeDifference.DEVICE,
    "xattrs": TreeDifference.XATTRS,
    "owner": TreeDifference.OWNER,
}
_BY_WORDS: Final = (
    ("unexpected: ", TreeDifference.UNEXPECTED),
    ("missing: ", TreeDifference.MISSING),
    ("listed by readdir, and not found by lstat", TreeDifference.GHOST),
    ("expected to be hard links of one inode", TreeDifference.LINKED),
    ("hard links of one inode, and should not be", TreeDifference.APART),
)
_LIKE: Final = (  # what a first line has, and what it means
    (
        re.compile(r"^expected no b?['\"].* in .*, and it is there$"),
        Cause(CauseKind.TREE, difference=TreeDifference.UNEXPECTED),
    ),
    (re.compile(r"^expected no changed paths of the host"), Cause(CauseKind.HOST_CHANGED)),
    (
        re.compile(r"^a test changes the driver's files|^the driver's file .* cannot be used"),
        Cause(CauseKind.LAYOUT),
    ),
    (re.compile(r"^the names in the diff of"), Cause(CauseKind.DIFF_NAMES)),
    (re.compile(r"^the size of the diff of"), Cause(CauseKind.DIFF_SIZE)),
)


def cause_of(outcome: TestOutcome) -> Cause:
    """The cause that the reason and the trace of a failure tell."""
    first, _, rest = outcome.reason.partition("\n")
    if first.endswith(_DIFFERS):
        return _of_tree(rest.splitlines())
    if first.startswith(_REFUSED):
        return _of_refusal(first.removeprefix(_REFUSED), outcome)
    if "Traceback (most recent call last)" in rest:
        return _of_defect(first, rest)
    if "expected a refusal, but the driver" in first or "expected it refused" in first:
        return Cause(CauseKind.ACCEPTED, "open" if "expected it refused" in first else _verb(first))
    if re.match(r"the driver's process died|the driver did not answer|\w+ answered ", first):
        return Cause(CauseKind.UNANSWERED, error=_shape(first.partition(": ")[0]), where=_stood(rest))
    if re.match(r"^b?['\"]", first):
        return _of_tree([first])
    return next((cause for like, cause in _LIKE if like.search(first)), UNKNOWN)


def _stood(rest: str) -> tuple[str, ...]:
    lines = [one.strip() for one in rest.splitlines() if one.strip()]
    own = [one for one in lines if one.startswith("File ") and not _OF_OTHERS.search(one)]
    return tuple(own or lines)


def _of_tree(lines: Iterable[str]) -> Cause:
    """The first of the differences in order."""
    order = list(TreeDifference)
    found = sorted((cause for line in lines for cause in _differences(line)), key=lambda one: (one[0], one[1:]))
    if not found:
        return UNKNOWN
    place, shown, wanted = found[0]
    return Cause(CauseKind.TREE, difference=order[place], shown=shown, wanted=wanted)


def _differences(line: str) -> Iterator[tuple[int, str, str]]:
    """Place in the order, and of a wrong type of file both types."""
    order = list(TreeDifference)
    for beginning, difference in _BY_WORDS:
        if line.startswith(beginning):
            yield order.index(difference), "", ""
    found = _FIELD.match(line)
    if not found:
        return
    what, seen, wanted = found.groups()
    if what == "mode" and seen[:1] != wanted[:1]:
        kinds = [_KINDS.get(one[:1], "node") for one in (seen, wanted)]
        yield order.index(TreeDifference.KIND), kinds[0], kinds[1]
    elif what == "mode":
        yield order.index(TreeDifference.MODE), "", ""
    elif what == "mtime in ns":
        yield order.index(_of_times(seen, wanted)), "", ""
    else:
        yield order.index(_OF_FIELD[what]), "", ""


def _of_times(seen: str, wanted: str) -> TreeDifference:
    if (
        seen.isdecimal()
        and wanted.isdecimal()
        and not int(seen) % _SECOND
        and abs(int(seen) - int(wanted)) < _SECOND
    ):
        return TreeDifference.ROUNDED
    return TreeDifference.MTIME


def _of_refusal(said: str, outcome: TestOutcome) -> Cause:
    """The same call, and the same class of exception with the same error."""
    kind = re.match(r"^([A-Za-z_][\w.]*): ", said)
    errno = _ERRNO.search(said)
    error = errno[1] if errno else _shape(said[kind.end() :] if kind else said)[:80]
    words = [kind[1]] if kind else []
    words += [error] if re.search(r"[a-z]", error) else []
    return Cause(CauseKind.REFUSED, _failing_call(outcome), ": ".join(words))


def _failing_call(outcome: TestOutcome) -> str:
    """The verb of the last call that was refused."""
    for step in reversed(outcome.steps):
        call, refused, _ = step.partition("  -> refused: ")
        if refused:
            return _verb(call)
    return ""


def _verb(call: str) -> str:
    found = re.search(r"\b(create|remove|get|put|exists|status|metadata|diff-size|diff|apply|changes|open)\b", call)
    return found[1] if found else ""


def _of_defect(first: str, detail: str) -> Cause:
    """The class of the exception, and the last function of the driver that it came through."""
    frames = [(file, function) for file, function in _FRAME.findall(detail) if not _OF_OTHERS.search(file)]
    where = (f"{frames[-1][1]} of {frames[-1][0].rpartition('/')[2]}",) if frames else ()
    return Cause(CauseKind.DEFECT, error=_PATH.sub("/", one_line(first.partition(" (")[0]))[:100], where=where)


def _shape(text: str) -> str:
    """A text without what is different in each run: paths, numbers and names in quotes."""
    plain = _PATH.sub("/", one_line(text))
    return re.sub(r"\d+", "0", re.sub(r"'[^']*'", "''", plain)).strip()
