"""Failures that have the same cause, as far as their words tell: one block on a terminal, one row of a page.

A cause is derived from what a result file has of an outcome, so that a run and a report group alike. It never
decides on a verdict. Two failures have one cause if the same call was answered in the same wrong way, or trees
differ in the same way. What is like nothing else has the cause that its requirement is violated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from conformance.history.printable import one_line
from conformance.spec import LEVELS, Requirement
from conformance.spec.verdicts import TestOutcome, Verdict

EXPLAINED: Final = (Verdict.ERROR, Verdict.FAIL, Verdict.XPASS)
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
# The first difference of these that a tree has is what the others follow from.
_ORDER: Final = (
    *("{} is shown instead of {}", "deleted or hidden entries are visible", "entries are missing"),
    *("readdir lists names that lstat does not find", "content differs", "targets of symlinks differ"),
    *("device numbers differ", "extended attributes are lost or changed", "owners differ", "modes differ"),
    *("hard links are separate files", "separate files are hard links"),
    *("times are rounded to whole seconds", "modification times differ"),
)
_OF_FIELD: Final = {
    "content": "content differs",
    "target": "targets of symlinks differ",
    "device": "device numbers differ",
    "xattrs": "extended attributes are lost or changed",
    "owner": "owners differ",
}
_BY_WORDS: Final = (
    ("unexpected: ", "deleted or hidden entries are visible"),
    ("missing: ", "entries are missing"),
    ("listed by readdir, and not found by lstat", "readdir lists names that lstat does not find"),
    ("expected to be hard links of one inode", "hard links are separate files"),
    ("hard links of one inode, and should not be", "separate files are hard links"),
)
_LIKE: Final = (  # what a first line has, and what it means
    (re.compile(r"^expected no b?['\"].* in .*, and it is there$"), "deleted or hidden entries are visible"),
    (re.compile(r"^expected no changed paths of the host"), "the host outside of the layer is changed"),
    (
        re.compile(r"^a test changes the driver's files|^the driver's file .* cannot be used"),
        "the home lacks files of its layout",
    ),
    (re.compile(r"^the names in the diff of"), "a diff names other entries than it should"),
    (re.compile(r"^the size of the diff of"), "the size of a diff is wrong"),
)


@dataclass(frozen=True, slots=True)
class Cause:
    """Failures of one cause; ``words`` name it, and ``outcomes`` are in the order in which they came."""

    number: int
    words: str
    outcomes: tuple[TestOutcome, ...] = field(default=())

    @property
    def requirements(self) -> tuple[str, ...]:
        """All requirements that they are charged to."""
        return tuple(dict.fromkeys(one for outcome in self.outcomes for one in outcome.requirements))

    def level(self, requirements: dict[str, Requirement]) -> str:
        """The highest level of its requirements."""
        found = {requirements[one].level for one in self.requirements if one in requirements}
        return next((level for level in LEVELS if level in found), "")


def causes_of(outcomes: Iterable[TestOutcome]) -> list[Cause]:
    """The causes of all failures, numbered in the order of their first; other outcomes are left out."""
    found: dict[str, list[TestOutcome]] = {}
    for outcome in outcomes:
        if outcome.verdict in EXPLAINED:
            found.setdefault(cause_of(outcome), []).append(outcome)
    return [Cause(number, words, tuple(same)) for number, (words, same) in enumerate(found.items(), 1)]


def cause_of(outcome: TestOutcome) -> str:
    """The cause of a failure in words, which are the same for the same cause."""
    first, _, rest = outcome.reason.partition("\n")
    own = f"{', '.join(outcome.requirements)} is violated"
    match outcome.verdict:
        case Verdict.ERROR:
            return f"the harness failed in {outcome.test.partition('[')[0]}"
        case Verdict.XPASS:
            return f"{', '.join(outcome.requirements)}: the known failure did not occur"
    if first.endswith(_DIFFERS):
        return _of_tree(rest.splitlines()) or own
    if first.startswith(_REFUSED):
        return _of_refusal(first.removeprefix(_REFUSED), outcome)
    if "Traceback (most recent call last)" in rest:
        return _of_bug(first, rest)
    if "expected a refusal, but the driver" in first or "expected it refused" in first:
        return _accepted(first, outcome)
    if is_unanswered(outcome):
        return _shape(first.partition(": ")[0])
    if re.match(r"^b?['\"]", first):
        return _of_tree([first]) or own
    return next((words for like, words in _LIKE if like.search(first)), own)


def is_unanswered(outcome: TestOutcome) -> bool:
    """Whether a call has no answer, or one of a wrong type; the lines behind the first say where it stood."""
    return bool(re.match(r"the driver's process died|the driver did not answer|\w+ answered ", outcome.reason))


def where_it_stood(outcome: TestOutcome) -> list[str]:
    """Of a call that is not answered, the frames of the driver; what the kernel knows where there are none."""
    lines = (
        [one.strip() for one in outcome.reason.splitlines()[1:] if one.strip()] if is_unanswered(outcome) else []
    )
    own = [one for one in lines if one.startswith("File ") and not _OF_OTHERS.search(one)]
    return own or lines


def _of_tree(lines: Iterable[str]) -> str:
    """What the first of the differences in order is; "" if none is known."""
    kinds = {words for line in lines for words in _kinds(line)}
    swapped = sorted(one for one in kinds if " is shown instead of " in one)
    if swapped:
        return swapped[0]
    return next((words for words in _ORDER if words in kinds), "")


def _kinds(line: str) -> Iterator[str]:
    for beginning, words in _BY_WORDS:
        if line.startswith(beginning):
            yield words
    found = _FIELD.match(line)
    if not found:
        return
    what, seen, wanted = found.groups()
    if what == "mode" and seen[:1] != wanted[:1]:
        yield f"a {_KINDS.get(seen[:1], 'node')} is shown instead of a {_KINDS.get(wanted[:1], 'node')}"
    elif what == "mode":
        yield "modes differ"
    elif what == "mtime in ns":
        yield _of_times(seen, wanted)
    else:
        yield _OF_FIELD[what]


def _of_times(seen: str, wanted: str) -> str:
    if (
        seen.isdecimal()
        and wanted.isdecimal()
        and not int(seen) % _SECOND
        and abs(int(seen) - int(wanted)) < _SECOND
    ):
        return "times are rounded to whole seconds"
    return "modification times differ"


def _of_refusal(said: str, outcome: TestOutcome) -> str:
    """The same call, and the same class of exception with the same error."""
    kind = re.match(r"^([A-Za-z_][\w.]*): ", said)
    errno = _ERRNO.search(said)
    error = errno[1] if errno else _shape(said[kind.end() :] if kind else said)[:80]
    words = [kind[1]] if kind else []
    words += [error] if re.search(r"[a-z]", error) else []
    return f"{_failing_call(outcome)} is refused with {': '.join(words)}"


def _failing_call(outcome: TestOutcome) -> str:
    """The verb of the last call that was refused."""
    for step in reversed(outcome.steps):
        call, refused, _ = step.partition("  -> refused: ")
        if refused:
            return _verb(call)
    return "a call"


def _verb(call: str) -> str:
    found = re.search(r"\b(create|remove|get|put|exists|status|metadata|diff-size|diff|apply|changes|open)\b", call)
    return found[1] if found else "a call"


def _of_bug(first: str, detail: str) -> str:
    """The class of the exception, and the last function of the driver that it came through."""
    frames = [(file, function) for file, function in _FRAME.findall(detail) if not _OF_OTHERS.search(file)]
    where = f" in {frames[-1][1]} of {frames[-1][0].rpartition('/')[2]}" if frames else ""
    return f"{_PATH.sub('/', one_line(first.partition(' (')[0]))[:100]}{where}"


def _accepted(first: str, outcome: TestOutcome) -> str:
    """The same call that should have been refused, in one family: an option, a layer, an archive."""
    family = outcome.requirements[0].split("-")[1].lower()
    verb = "open" if "expected it refused" in first else _verb(first)
    return f"{verb} is accepted where it must be refused ({family})"


def _shape(text: str) -> str:
    """A text without what is different in each run: paths, numbers and names in quotes."""
    plain = _PATH.sub("/", one_line(text))
    return re.sub(r"\d+", "0", re.sub(r"'[^']*'", "''", plain)).strip()
