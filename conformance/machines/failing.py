"""What has to be true after a call in which one system call of the driver failed.

The failure is chosen by its number, so every place of a driver can be met where it asks the kernel for something.
The driver may always refuse the call, and a command that serves this call alone may crash. If it reports success
instead, the call has its whole effect, as its caller will not repeat it. Whatever it answers, the other layers are
as before, and the layer of the call can be removed and recreated, at the latest by a process that opens the home
again.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, assert_never

from conformance.drivers.performing import perform
from conformance.drivers.protocol import Change, DriverFailed, DriverRefused, DriverUnderTest
from conformance.harness.deviation import Deviation, charged_to
from conformance.history.calls import (
    ApplyDiff,
    Changes,
    Create,
    Diff,
    DiffSize,
    Get,
    Put,
    Remove,
)
from conformance.history.trace import describe
from conformance.lab.failing import Failing
from conformance.machines.crashes import History, State, Step, beginning, content_of, differs, do, left_behind, look
from conformance.operations import archives
from conformance.operations.observe import observe
from conformance.operations.readers import NotRead, by_tarfile
from conformance.operations.trees import Snapshot

REPORTED: Final = "OVL-FAILING-REPORTED"
OTHERS: Final = "OVL-FAILING-OTHERS"
AGAIN: Final = "OVL-FAILING-AGAIN"
SHOWN: Final = "OVL-FAILING-SHOWN"
LITTER: Final = "OVL-FAILING-LITTER"

Changing = Create | ApplyDiff | Remove
Failable = Changing | Get | Put | Diff | Changes | DiffSize
_ANCESTOR: Final = "layer-0"
_PARENT: Final = "layer-1"
_LAYER: Final = "layer-2"
_ARCHIVE: Final = "failing.tar"
_NUMBERS: Final = re.compile(r"[0-9A-Z]{26}|[0-9]+")  # with the names of short links
_DIGITS: Final = 12  # of a digest
_MOST_LINES: Final = 3  # of a difference
CALLS: Final[Mapping[str, Failable]] = {
    "create": Create(_LAYER, _PARENT),
    "apply": ApplyDiff(_LAYER, _PARENT, f"{_LAYER}.tar"),
    "remove": Remove(_LAYER),
    "get": Get(_LAYER),
    "put": Put(_LAYER),
    "diff": Diff(_LAYER, _PARENT, _ARCHIVE),
    "changes": Changes(_LAYER, _PARENT),
    "diff-size": DiffSize(_LAYER, _PARENT),
    # What is no diff of the directory of a layer compares two trees, by other system calls.
    "diff-of-ancestor": Diff(_LAYER, _ANCESTOR, _ARCHIVE),
    "changes-of-ancestor": Changes(_LAYER, _ANCESTOR),
}
"""The calls in which a system call fails, by their names."""


Answer = DriverRefused | Snapshot | frozenset[str] | int | None
"""Of get a tree, of diff and changes lines in any order, of diff_size a number; None of the others."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call answered, its system calls ("fsync of /home/l"), and the one that failed; "" if none did."""

    answer: Answer
    failed: str
    calls: tuple[str, ...]
    crash: DriverFailed | None = None

    @property
    def refused(self) -> DriverRefused | None:
        """The refusal, if it was one."""
        return self.answer if isinstance(self.answer, DriverRefused) else None


class Scene:
    """A store with two layers, one on the other, and a third one on these that calls are about."""

    def __init__(
        self,
        open_store: Callable[[], DriverUnderTest],
        failing: Failing,
        files: Path,
        mounts: Callable[[], Sequence[str]],
    ) -> None:
        self._open = open_store
        self._failing = failing
        self._files = files
        self._mounts = mounts
        self._history = History()
        self.driver = open_store()
        for step in beginning(self._history):
            self._do(step)
        self._kept = self._history.layers[_PARENT].tree
        look(self.driver, _PARENT)
        self._quiet = frozenset(mounts())  # the driver's own
        self._history.add(Create(_LAYER, _PARENT))
        apply = self._history.add(self._history.applying(_LAYER))
        assert isinstance(apply, ApplyDiff), "it is the step that was added"
        archives.write(files / apply.archive, content_of(self._history.layers[_LAYER]))
        self._filled = self._history.layers[_LAYER].tree

    def _do(self, step: Step) -> None:
        do(self._history.add(step), self._history, self.driver, self._files, lambda: None)

    def _perform(self, call: Failable) -> object:
        return perform(self.driver, call, self._files.joinpath)

    def judged(
        self, call: Failable, numbers: Callable[[Sequence[str]], Iterable[int]]
    ) -> Iterator[tuple[Outcome, list[Deviation]]]:
        """Make the call, with each of some system calls failing in a turn of its own: how it went, what is wrong.

        ``numbers`` are those to fail, of these. The first turn has no failure.
        """
        if not isinstance(call, Changing):
            self._fill()
        usual, found = self._turn(call, 0, None)
        yield usual, found
        for number in numbers(usual.calls):
            yield self._turn(call, number, usual)
        if not isinstance(call, Changing):
            yield usual, list(self._settled())

    def _turn(self, call: Failable, number: int, usual: Outcome | None) -> tuple[Outcome, list[Deviation]]:
        self._prepare(call)
        outcome = self._attempt(call, number)
        found = list(self._judge(call, outcome, (usual or outcome).answer))
        return outcome, [*found, *(self._settled() if isinstance(call, Changing) else ())]

    def _fill(self) -> None:
        self._perform(CALLS["create"])
        self._perform(CALLS["apply"])

    def _prepare(self, call: Failable) -> None:
        """Bring the layer into the state in which the call can be made."""
        match call:
            case ApplyDiff():
                self._perform(CALLS["create"])
            case Remove():
                self._fill()
            case Put():
                self.driver.get(_LAYER)
            case Create() | Get() | Diff() | Changes() | DiffSize():
                pass
            case _:
                assert_never(call)

    def _attempt(self, call: Failable, number: int) -> Outcome:
        """Make the call with one of its system calls failing, none for 0; raises DriverFailed."""
        self._failing.count(number)
        try:
            with charged_to(REPORTED):
                answer = self._perform(call)
        except DriverRefused as refused:
            return self._outcome(refused)
        except DriverFailed as crash:
            outcome = replace(self._outcome(DriverRefused(str(crash))), crash=crash)
            if not crash.alone:
                self.reopen()
            return outcome
        except BaseException:
            self._failing.stop()
            raise
        outcome = self._outcome(None)
        match call:
            case Get():
                return replace(outcome, answer=_observed(str(answer)))
            case Diff():
                return replace(outcome, answer=lines_of_diff(self._files / _ARCHIVE))
            case Changes():
                assert isinstance(answer, list), "it has that type"
                return replace(outcome, answer=self._listed(answer))
            case DiffSize():
                assert isinstance(answer, int), "it has that type"
                return replace(outcome, answer=answer)
            case Create() | ApplyDiff() | Remove() | Put():
                return outcome
            case _:
                assert_never(call)

    def _outcome(self, refused: DriverRefused | None) -> Outcome:
        counted = self._failing.stop()
        return Outcome(refused, counted.failed, counted.calls)

    def _listed(self, changes: list[Change]) -> Answer:
        """The changes, but for directories that are only modified, which some list for what is in them."""
        directories = {b"/" + path for path, node in self._filled.nodes.items() if node.is_directory}
        return frozenset(
            f"{one.kind} {os.fsdecode(one.path)!r}"
            for one in changes
            if one.kind != "modify" or one.path not in directories
        )

    def _judge(self, call: Failable, outcome: Outcome, usual: Answer) -> Iterator[Deviation]:
        """What is wrong with the call, which answers ``usual`` otherwise, and with its layer."""
        if outcome.crash and not outcome.crash.alone:
            yield Deviation(f"'{describe(call)}' crashed: {outcome.crash}", requirements=(REPORTED,))
        match call:
            case _ if outcome.refused is None:
                yield from self._reported(call, outcome.answer, usual)
            case Create() | Remove():
                yield from self._shown(call)
            case ApplyDiff():
                pass  # what is left of it, its caller removes
            case Get() | Put():
                yield from self._mounts_again(call)
            case Diff() | Changes() | DiffSize():
                yield from self._answers_again(call, usual)
            case _:
                assert_never(call)

    def _settled(self) -> Iterator[Deviation]:
        """What is wrong with the store afterwards; the layer is gone then."""
        yield from self._again()
        if lost := left_behind(Path(self.driver.home), [_LAYER]):
            said = f"{_LAYER} was removed, and these paths are still in the home: {', '.join(lost)}"
            yield Deviation(said, requirements=(LITTER,))
        if why := self._differs(_PARENT, self._kept):
            yield Deviation(f"{_PARENT} differs from its tree before:\n{why}", requirements=(OTHERS,))

    def _reported(self, call: Failable, answer: Answer, usual: Answer) -> Iterator[Deviation]:
        why = ""
        match call:
            case Create():
                why = self._differs(_LAYER, self._kept)
            case ApplyDiff():
                why = self._differs(_LAYER, self._filled)
            case Remove():
                shown = self._look(_LAYER)
                why = "" if shown is None or isinstance(shown, DriverRefused) else "the layer is there"
            case Get():
                assert isinstance(answer, Snapshot), "_attempt() observed it"
                why = tree_differs(self._filled, answer)
                self.driver.put(_LAYER)
                why = why or self._left_mounted()
            case Put():
                why = self._left_mounted()
            case Diff() | Changes() | DiffSize():
                why = unlike(usual, answer)
            case _:
                assert_never(call)
        if why:
            yield Deviation(f"'{describe(call)}' reports success, and {why}", requirements=(REPORTED,))

    def _shown(self, call: Create | Remove) -> Iterator[Deviation]:
        shown = self._look(_LAYER)
        if shown is None or isinstance(shown, DriverRefused):
            return
        if why := tree_differs(self._kept if isinstance(call, Create) else self._filled, shown):
            text = f"'{describe(call)}' was refused, and {_LAYER} shows a tree that it never had:\n{why}"
            yield Deviation(text, requirements=(SHOWN,))

    def _mounts_again(self, call: Get | Put) -> Iterator[Deviation]:
        """After a refused get or put, another get shows the tree, and a put unmounts it.

        Whether a refused put was counted is the driver's choice, so it is repeated first.
        """
        if isinstance(call, Put):
            with suppress(DriverRefused, DriverFailed):
                self.driver.put(_LAYER)
        elif left := self._left_mounted():
            yield Deviation(f"'{describe(call)}' was refused, and {left}", requirements=(AGAIN,))
        why = self._differs(_LAYER, self._filled) or self._left_mounted()
        if why:
            yield Deviation(
                f"'{describe(call)}' was refused, and after a get and a put {why}", requirements=(AGAIN,)
            )

    def _answers_again(self, call: Failable, usual: Answer) -> Iterator[Deviation]:
        again = self._attempt(call, 0)
        if why := unlike(usual, again.answer):
            yield Deviation(f"'{describe(call)}' was refused, and repeated: {why}", requirements=(AGAIN,))

    def _left_mounted(self) -> str:
        left = sorted(set(self._mounts()) - self._quiet)
        return f"{', '.join(left)} is mounted" if left else ""

    def _again(self) -> Iterator[Deviation]:
        """The layer can be removed, and recreated; a process that opens the home again may have to do it."""
        found = self._recreated()
        if found:
            self.reopen()
            found = self._recreated()
        if found:
            yield Deviation(found, requirements=(AGAIN,))

    def _recreated(self) -> str:
        """Why the layer cannot be removed and recreated, "" if it can; it is gone afterwards."""
        there = True
        try:
            there = self.driver.exists(_LAYER)
            self.driver.remove(_LAYER)
        except DriverRefused as refused:
            if there:
                return f"{_LAYER} exists and cannot be removed: {refused}"
        try:
            self._fill()
            why = self._differs(_LAYER, self._filled)
            self.driver.remove(_LAYER)
        except DriverRefused as refused:
            return f"{_LAYER} cannot be recreated: {refused}"
        return f"{_LAYER}, recreated, differs from its archive:\n{why}" if why else ""

    def reopen(self) -> None:
        """Leave the home, and open it in another process."""
        self.leave()
        self.driver = self._open()

    def leave(self) -> None:
        """Leave the home as a process that ends does."""
        with suppress(DriverRefused, DriverFailed):
            self.driver.leave()

    def _differs(self, layer: str, expected: State) -> str:
        return tree_differs(expected, self._look(layer))

    def _look(self, layer: str) -> State | DriverRefused | Deviation:
        """What a layer shows; what was answered instead of a path in the store is a deviation."""
        try:
            return look(self.driver, layer)
        except Deviation as deviation:
            return deviation


def chosen(least: int, calls: Sequence[str]) -> list[int]:
    """The numbers of calls to fail: one of each system call, and others until there are ``least`` kinds."""
    kinds = by_kind(calls)
    drawn = random.sample(sorted(kinds), len(kinds))
    first = {kind.partition(" ")[0]: kind for kind in reversed(drawn)}
    others = [kind for kind in drawn if kind not in first.values()]
    taken = [*first.values(), *others[: max(0, least - len(first))]]
    return sorted(random.choice(kinds[one]) for one in taken)


def by_kind(calls: Sequence[str]) -> Mapping[str, list[int]]:
    """The numbers of calls: of each system call on files whose paths differ in numbers, or in short links, only."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for number, call in enumerate(calls, 1):
        kinds[_NUMBERS.sub("#", call)].append(number)
    return kinds


def lines_of_diff(archive: Path) -> frozenset[str]:
    """What the archive of a diff brings, in lines.

    A driver may compare two trees where it cannot read its own notes, so the entries of directories, and the
    metadata of whiteouts, may be others.
    """
    try:
        said = by_tarfile(archive.read_bytes())
    except NotRead as error:
        return frozenset({str(error)})
    lines, begin = set[str](), 0
    for one in said.entries:
        name, size = os.fsdecode(one.name), one.size if one.kind == "-" else 0
        content, begin = said.contents[begin : begin + size], begin + size
        if name.rpartition("/")[2].startswith(".wh."):
            lines.add(f"the whiteout {name!r}")
        elif one.kind != "d":
            digest = hashlib.sha256(content + one.target).hexdigest()[:_DIGITS]
            lines.add(f"{name!r} ({one.kind}, {one.mode:o}, {one.uid}:{one.gid}, {size} bytes, digest {digest})")
    return frozenset(lines)


def _observed(root: str) -> Snapshot:
    try:
        return observe(root)
    except OSError as error:
        text = f"a get reports success, and its tree cannot be read: {error}"
        raise Deviation(text, requirements=(REPORTED,)) from error


def tree_differs(expected: State, shown: State | DriverRefused | Deviation) -> str:
    """In what an answer differs from a tree, in words; "" if in nothing."""
    if isinstance(shown, DriverRefused):
        return f"it is refused: {shown}"
    if isinstance(shown, Deviation):
        return str(shown)
    return differs(expected, shown)


def unlike(usual: object, answer: object) -> str:
    """In what an answer is not the usual one, "" if it is."""
    if usual == answer:
        return ""
    if not isinstance(usual, frozenset) or not isinstance(answer, frozenset):
        return f"expected {usual}, got {answer}"
    said = ((len(lines), sorted(lines)[:_MOST_LINES]) for lines in (usual - answer, answer - usual))
    words = (f"{count} lines, such as {', '.join(some)}" if count else "nothing" for count, some in said)
    return "it lacks {} and has besides {}".format(*words)
