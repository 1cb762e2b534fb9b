"""What holds after every call of a driver, whatever the test is about.

A test compares what it is about. These are looked at beside it: the mounts and the files before and after each
call, and what the driver's process keeps. A deviation ends the test in which it is found first, and that test
repeats and shrinks it; the other tests of the process go on as if it had not happened, so that one cause is one
finding.

Nothing is looked at while others use the store: concurrent callers, a second driver, a process that is killed.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, assert_never

from conformance.drivers.protocol import DriverFailed, ProcessOfDriver, ProcessState
from conformance.harness.deviation import Deviation
from conformance.history.calls import (
    ApplyDiff,
    Call,
    Changes,
    Close,
    Create,
    Diff,
    DiffSize,
    Exists,
    Get,
    Metadata,
    Put,
    Remove,
    Reopen,
    Status,
)
from conformance.history.findings import FilesDiffer, Finding, InWords
from conformance.history.trace import describe
from conformance.lab import namespace

FILES: Final = "OVL-LIFE-CALL-FILES"
MOUNTS: Final = "OVL-MOUNT-CALLS"
PROCESS: Final = "OVL-MOUNT-CWD"
DESCRIPTORS: Final = "OVL-LIFE-NO-DESCRIPTORS"
_ENTRIES: Final = 150  # of a home; a larger one, of a long chain, is not looked at, for want of time
_LEAKS: Final = 4  # calls of one kind, after its first, that each have to leave a descriptor open
_LINKS: Final = "l"
# The kernel and the driver change these where a layer is mounted.
_OF_MOUNTS: Final = ("merged", "work")


@dataclass(frozen=True, slots=True)
class Broken:
    """What a call did that it must not do. ``kind`` is what makes it another one: the call, and what it did."""

    requirement: str
    kind: str
    text: str
    finding: Finding = field(default_factory=InWords)


@dataclass(slots=True)
class Found:
    """What was found in this process, and for which test first. A bench stands for its test."""

    first: dict[tuple[str, str], object] = field(default_factory=dict)

    def is_news(self, broken: Broken, bench: object) -> bool:
        """Whether it is this test that has to report it."""
        return self.first.setdefault((broken.requirement, broken.kind), bench) is bench


class Watch(Protocol):
    """Looks before and after each call."""

    def before(self) -> None:
        """A call begins."""

    def after(self, call: Call, *, refused: bool) -> None:
        """It ended; raises Deviation."""

    def stop(self) -> None:
        """Something else uses the store from now on."""

    def tampered(self) -> None:
        """The files were changed by a test, so that the driver may mend them."""

    def reopened(self, process: ProcessOfDriver | None) -> None:
        """The home was opened again, in this process."""


class NoWatch:
    """Looks at nothing."""

    def before(self) -> None:
        """Nothing."""

    def after(self, call: Call, *, refused: bool) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""

    def tampered(self) -> None:
        """Nothing."""

    def reopened(self, process: ProcessOfDriver | None) -> None:
        """Nothing."""


Entry = tuple[int, ...]


class Invariants:
    """The watch of one store."""

    def __init__(
        self,
        selected: Collection[str],
        directory: Path,
        home: str,
        process: ProcessOfDriver | None,
        report: Callable[[Broken], bool],
        *,
        mounts: bool,
        layout: bool,
    ) -> None:
        self._selected = selected
        self._directory = directory
        self._home = home
        self._process = process
        self._report = report
        self._looks_at_mounts = mounts and MOUNTS in selected
        self._looks_at_files = layout and FILES in selected
        self._mounts: list[str] = []
        self._of_layers: dict[str, str] = {}  # mount points, and the layers whose get made them
        self._files: Mapping[str, Entry] | None = None
        self._held: Counter[str] = Counter()  # the layers that are got, and how often
        self._written = True  # whether others than the driver may have changed the files since the last look
        self._state: ProcessState | None = None
        self._growing: Counter[tuple[str, str]] = Counter()  # calls of a kind in a row that left something

    def stop(self) -> None:
        """Look at nothing any more."""
        self._looks_at_mounts = self._looks_at_files = False
        self._selected = ()

    def tampered(self) -> None:
        """Look at the files no more."""
        self._looks_at_files = False

    def reopened(self, process: ProcessOfDriver | None) -> None:
        """Look at the new process."""
        self._process = process
        self._growing.clear()
        self._state = None
        self._written = True

    def before(self) -> None:
        """Remember what there is; what was seen after the last call, where only the driver can have changed it."""
        if self._looks_at_mounts:
            self._mounts = self._mounted()
        if self._looks_at_files and self._written:
            self._files = files_of(self._home)
        self._state = self._state or self._look_at_process()

    def after(self, call: Call, *, refused: bool) -> None:
        """Compare; raises Deviation for what this test has to report."""
        for broken in self._broken(call, refused):
            if self._report(broken):
                raise Deviation(broken.text, broken.finding, (broken.requirement,))

    def _broken(self, call: Call, refused: bool) -> Iterator[Broken]:
        mounts, files, state = self._mounts, self._files, self._state
        self._count(call, refused)
        if self._looks_at_mounts:
            self._mounts = self._mounted()
        if self._looks_at_files and files is not None:
            self._files = files_of(self._home)
            self._looks_at_files = self._files is not None  # a home that is too large stays so
            self._written = self._held.total() > 0  # into a tree
        self._state = self._look_at_process()
        if isinstance(call, Reopen | Close):
            return
        said = describe(call) + (", which was refused," if refused else "")
        kind = type(call).__name__ + (" refused" if refused else "")
        if self._looks_at_mounts:
            yield from mounts_broken(call, kind, said, mounts, self._mounts, self._of_layers)
            self._keep_layers(call, mounts)
        if self._looks_at_files and files is not None and self._files is not None:
            yield from files_broken(call, kind, said, files, self._files)
        if state and self._state:
            yield from self._process_broken(kind, said, state, self._state)

    def _keep_layers(self, call: Call, before: list[str]) -> None:
        if isinstance(call, Get):
            self._of_layers |= dict.fromkeys(set(self._mounts) - set(before), call.layer)
        self._of_layers = {point: self._of_layers[point] for point in self._mounts if point in self._of_layers}

    def _count(self, call: Call, refused: bool) -> None:
        if refused:
            return
        if isinstance(call, Get):
            self._held[call.layer] += 1
        elif isinstance(call, Put):
            self._held[call.layer] = max(0, self._held[call.layer] - 1)
        elif isinstance(call, Remove):
            del self._held[call.layer]

    def _process_broken(self, kind: str, said: str, before: ProcessState, after: ProcessState) -> Iterator[Broken]:
        if PROCESS in self._selected:
            for name, old, new in (
                ("working directory", before.cwd, after.cwd),
                ("root directory", before.root, after.root),
                ("umask", oct(before.umask), oct(after.umask)),
                ("signal mask", hex(before.blocked), hex(after.blocked)),
                ("environment", before.environment, after.environment),
            ):
                if old != new:
                    text = f"{said} changed the {name} of the driver's process from {old} to {new}"
                    yield Broken(PROCESS, f"{kind}: {name}", text)
        # A tree that is got may keep a descriptor open until it is put.
        if DESCRIPTORS in self._selected and kind not in ("Get", "Put"):
            for what, more in (
                ("a descriptor open", after.descriptors > before.descriptors),
                ("a thread running", after.threads > before.threads),
            ):
                self._growing[kind, what] = self._growing[kind, what] + 1 if more else 0
                if self._growing[kind, what] > _LEAKS:  # one call of a kind may open what the driver keeps
                    text = f"{said} left {what}, as did each of the {_LEAKS} calls of its kind before"
                    yield Broken(DESCRIPTORS, f"{kind}: {what}", text)

    def _mounted(self) -> list[str]:
        home = self._home
        return [point for point in namespace.mounts_below(self._directory) if point != home]

    def _look_at_process(self) -> ProcessState | None:
        if PROCESS not in self._selected and DESCRIPTORS not in self._selected:
            return None
        if self._process is None:
            return None
        with suppress(DriverFailed):  # it ended; the test says so
            return self._process.state()
        return None


def mounts_broken(
    call: Call, kind: str, said: str, before: list[str], after: list[str], of_layers: Mapping[str, str]
) -> Iterator[Broken]:
    """What a call did to the mounts below the store's directory that it must not do.

    ``of_layers`` has the layers whose mounts are known.
    """
    was, now = Counter(before), Counter(after)
    came, went = sorted((now - was).elements()), sorted((was - now).elements())
    may_come, may_go = _MAY_MOUNT.get(type(call), (0, 0))
    if kind.endswith("refused"):
        may_come = may_go = 0
    if len(came) > may_come:
        yield Broken(MOUNTS, f"{kind}: mounts", f"{said} left more mounts than it may: {', '.join(came)}")
    if len(went) > may_go:
        yield Broken(MOUNTS, f"{kind}: unmounts", f"{said} ended more mounts than it may: {', '.join(went)}")
    if isinstance(call, Put | Remove):
        others = [point for point in went if of_layers.get(point, call.layer) != call.layer]
        if others:
            named = ", ".join(f"{point} of {of_layers[point]}" for point in others)
            yield Broken(MOUNTS, f"{kind}: another", f"{said} ended the mount of another layer: {named}")
    still = [point for point in after if isinstance(call, Remove) and call.layer in point.split("/")]
    if still and not kind.endswith("refused"):
        yield Broken(MOUNTS, f"{kind}: still", f"{said} left the layer mounted: {', '.join(still)}")
    if twice := sorted(point for point, number in (now - was).items() if number + was[point] > 1):
        yield Broken(MOUNTS, f"{kind}: twice", f"{said} mounted over what is mounted: {', '.join(twice)}")


# How many mounts each call may leave, and may end.
_MAY_MOUNT: Final[Mapping[type[Call], tuple[int, int]]] = {Get: (1, 0), Put: (0, 1), Remove: (0, 1)}


def files_broken(
    call: Call, kind: str, said: str, before: Mapping[str, Entry], after: Mapping[str, Entry]
) -> Iterator[Broken]:
    """What a call did to the files of the home that it must not do.

    A layer whose id is a path has no files of its own: that a driver takes such an id is OVL-LIFE-BAD-ID.
    """
    if isinstance(call, Create | Remove) and "/" in call.layer and not kind.endswith("refused"):
        return
    gone, came = before.keys() - after.keys(), after.keys() - before.keys()
    changed = {path for path in before.keys() & after.keys() if before[path] != after[path]}
    layer, links = _touches(call, refused=kind.endswith("refused"))
    own = {path for path in gone | came | changed if layer and path.split("/", 1)[0] == layer}
    if not kind.endswith("refused") and isinstance(call, Create | Remove | ApplyDiff | Get | Put):
        # What holds no layer is the driver's own: places for layers that are made, removed or mounted.
        own |= {path for path in gone | came | changed if not _of_layers(path, before, after)}
    gone, came, changed = gone - own, came - own, changed - own
    short = sorted(path for path in came | gone if path.startswith(f"{_LINKS}/"))
    if links and len(short) <= 1:
        gone, came = gone - set(short), came - {*short, _LINKS}  # which may be made with the first short link
    for what, paths, finding in (
        ("removed", gone, FilesDiffer(gone=_uppermost(gone))),
        ("added", came, FilesDiffer(came=_uppermost(came))),
        ("changed", changed, InWords()),
    ):
        if paths:
            yield Broken(
                FILES, f"{kind}: {what}", f"{said} {what} in the home: {', '.join(sorted(paths)[:8])}", finding
            )


def _of_layers(path: str, before: Mapping[str, Entry], after: Mapping[str, Entry]) -> bool:
    first = path.split("/", 1)[0]
    return first == _LINKS or any(
        f"{first}/{name}" in files for name in ("diff", "link") for files in (before, after)
    )


def _touches(call: Call, *, refused: bool) -> tuple[str, bool]:
    """The layer whose files a call may touch ("" for none), and whether it may add or remove a short link."""
    match call:
        case ApplyDiff():  # what a refused archive leaves is a requirement of its own
            return call.layer, False
        case Create() | Remove():
            return ("", False) if refused else (call.layer, True)
        case (
            Get() | Put() | Exists() | Status() | Metadata() | Diff() | DiffSize() | Changes() | Reopen() | Close()
        ):
            return "", False
        case _:
            assert_never(call)


def _uppermost(paths: Collection[str]) -> tuple[str, ...]:
    """Those that are below no other, but for short links, whose names are others each time."""
    named = sorted(path for path in paths if not path.startswith(f"{_LINKS}/"))
    return tuple(path for path in named if os.path.dirname(path) not in named)


def files_of(home: str) -> dict[str, Entry] | None:
    """What is below a home, without hidden files, locks and what is mounted; None if it is too much to look at.

    Of directories and character devices, whiteouts among them, mode and owner; of everything else its inode, links,
    size and times, too: a write and a change of attributes set the ctime (inode(7)).
    """
    found: dict[str, Entry] = {}
    pending = [""]
    device = os.stat(home).st_dev if os.path.isdir(home) else 0
    while pending:
        above = pending.pop()
        for entry in _entries(f"{home}/{above}"):
            name = entry.name
            if not above and (name.startswith(".") or name.endswith((".lock", ".json"))):
                continue
            if name in _OF_MOUNTS and above.count("/") == 1:
                continue
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if status.st_dev == device:
                    found[above + name] = _entry(status)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(f"{above}{name}/")
        if len(found) > _ENTRIES:
            return None
    return found


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []  # it went, or it never was


def _entry(status: os.stat_result) -> Entry:
    if stat.S_ISDIR(status.st_mode) or stat.S_ISCHR(status.st_mode):
        # The kernel shares one inode of the work directory among whiteouts, and gives it up with the next mount.
        return status.st_mode, status.st_uid, status.st_gid, status.st_rdev
    return (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_ino,
        status.st_nlink,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
