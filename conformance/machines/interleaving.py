"""What has to be true after one call was done in the middle of another one, between two of its system calls.

Concurrent callers meet in such a moment by luck. Here the driver's process, or the thread of it that serves the
first call, waits before one of its system calls, chosen by its number, while the second call begins. The second
one ends first, or waits itself for what the first one holds; then the first one goes on. Whatever they answer, it
is what they answer in some order, the layers show what that order leaves, and nothing else remains.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, assert_never

from conformance.drivers.performing import perform
from conformance.drivers.protocol import DriverFailed, DriverRefused, DriverUnderTest
from conformance.harness.deviation import Deviation
from conformance.history.calls import ApplyDiff, Create, Diff, Get, Put, Remove
from conformance.lab.failing import Failing
from conformance.machines.crashes import History, beginning, content_of, differs, do, left_behind, look
from conformance.machines.failing import by_kind, lines_of_diff, tree_differs, unlike
from conformance.machines.meetings import (
    ANCESTOR,
    APPLY,
    CHILD,
    CREATE,
    DIFF,
    DIFF_OF_ANCESTOR,
    DIFF_OF_CHILD,
    FILL,
    LAYER,
    OTHER,
    PARENT,
    Beside,
    Ended,
    Held,
    Meeting,
    Open,
    World,
    describe,
    worlds_of,
)
from conformance.operations import archives
from conformance.operations.observe import observe
from conformance.operations.trees import Snapshot

LINEAR: Final = "OVL-PARALLEL-LINEAR"
GETS: Final = "OVL-PARALLEL-GET"
DIFFS: Final = "OVL-PARALLEL-DIFF"
PROCESSES: Final = "OVL-PARALLEL-PROCESSES"

_OF_NAMES: Final = re.compile("open|getdents|mkdir|mknod|rename|link|symlink|unlink|rmdir|mount|umount|readlink")
"""How names of system calls begin by which calls know of each other, and not of content or metadata."""
_QUIET: Final = 0.015  # seconds without a system call, after which the second call waits for the first
_BEGUN: Final = 0.02  # seconds in which a call begins that no process is started for
_STEP: Final = 0.003  # seconds between two looks
_HELD_LIMIT: Final = 60.0  # seconds until the first call waits or ends, as a call may take


@dataclass(frozen=True, slots=True)
class Turn:
    """Two calls that met, or a call alone: the system call that was waited before, and all there were."""

    ended: tuple[Ended, ...]
    at: str
    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Got:
    """A get without a put: whose, of which layer, and what it answered."""

    driver: DriverUnderTest
    layer: str
    root: str


class Stage:
    """A store with three layers, each on the one before, and openings of it for two calls at once."""

    def __init__(
        self,
        open_store: Callable[[], DriverUnderTest],
        failing: Failing,
        files: Path,
        mounts: Callable[[], Sequence[str]],
        *,
        processes: bool = False,
        starts: bool = False,
    ) -> None:
        """``processes`` says that the second call is one of another opening, and not of the same.

        ``starts`` says that a process is started for each call, which takes most of its time.
        """
        self._failing = failing
        self._files = files
        self._mounts = mounts
        self._open = open_store
        self._processes = processes
        self._starts = starts
        self._broken = False
        self._alone = 0.0  # seconds of the call alone
        history = History()
        self._driver = open_store()
        self._other = open_store() if processes else self._driver
        for step in beginning(history):
            do(history.add(step), history, self._driver, files, lambda: None)
        for step in (Create(LAYER, PARENT), FILL):
            do(history.add(step), history, self._driver, files, lambda: None)
        self._trees = {name: history.layers[name].tree for name in (ANCESTOR, PARENT, LAYER)}
        self._trees |= dict.fromkeys((CHILD, OTHER), self._trees[LAYER])
        history.add(CREATE)
        archives.write(files / APPLY.archive, content_of(history.layers[CHILD]))
        history.add(APPLY)
        self._applied = history.layers[CHILD].tree
        look(self._driver, PARENT)
        self._quiet = frozenset(mounts())  # the driver's own
        self._diffs = self._of_each_diff()
        self._fills_used = self._fills_what_is_used()
        self._got: list[_Got] = []

    def _of_each_diff(self) -> dict[tuple[str, str], set[object]]:
        """What the diffs bring that are made alone; that of the child without and with its content."""
        found = {(one.layer, one.parent): {self._perform(self._driver, one)} for one in (DIFF, DIFF_OF_ANCESTOR)}
        found[CHILD, PARENT] = set()
        for step in (CREATE, APPLY):
            self._perform(self._driver, step)
            found[CHILD, PARENT].add(self._perform(self._driver, DIFF_OF_CHILD))
        self._perform(self._driver, Remove(CHILD))
        return found

    def _fills_what_is_used(self) -> bool:
        """Whether the driver applies an archive to a layer that was got, whose tree nothing defines then."""
        self._perform(self._driver, CREATE)
        self._driver.get(CHILD)
        try:
            self._perform(self._driver, APPLY)
            return True
        except DriverRefused:
            return False
        finally:
            self._driver.put(CHILD)
            self._perform(self._driver, Remove(CHILD))

    def _perform(self, driver: DriverUnderTest, call: Beside) -> object:
        match call:
            case Open():
                self._open().leave()
                return None
            case Diff():
                perform(driver, call, self._files.joinpath)
                return lines_of_diff(self._files / call.archive)
            case Create() | ApplyDiff() | Remove() | Get() | Put():
                return perform(driver, call, self._files.joinpath)
            case _:
                assert_never(call)

    def _ended(self, driver: DriverUnderTest, call: Beside) -> Ended:
        try:
            return Ended(call, self._perform(driver, call))
        except DriverRefused as refused:
            return Ended(call, refused)
        except DriverFailed as failed:
            if failed.hangs or not isinstance(call, Diff):
                raise
            # A stream that has begun has no other way to say no than to end too early.
            return Ended(call, DriverRefused(str(failed)))

    # ---- Turns.

    def judged(
        self, meeting: Meeting, chosen: Callable[[Sequence[str]], Iterable[tuple[int, Beside]]]
    ) -> Iterator[tuple[Turn, list[Deviation]]]:
        """Let the call wait before some of its system calls, with another call in the middle: what is wrong then.

        Of these system calls, ``chosen`` are the numbers of those to wait before, and what is done meanwhile. In
        the first turn the call is alone. Nothing follows a turn after which a call alone is refused.
        """
        if self._broken:
            return
        usual, found = self._turn(meeting, 0, None)
        yield usual, found
        for number, beside in chosen(usual.calls):
            if self._broken:
                return
            yield self._turn(meeting, number, beside)

    def _turn(self, meeting: Meeting, number: int, beside: Beside | None) -> tuple[Turn, list[Deviation]]:
        self._prepare(meeting, beside)
        layers = frozenset({ANCESTOR, PARENT, LAYER, *([CHILD] * meeting.child)})
        before = World(layers, False, (LAYER,) * meeting.gets)
        turn = self._meet(meeting.held, number, beside)
        self._count(turn.ended)
        return turn, [*self._judge(turn.ended, before), *self._settled()]

    def _prepare(self, meeting: Meeting, beside: Beside | None) -> None:
        if meeting.child:
            self._perform(self._driver, CREATE)
        # An opening may know its own gets alone, so who puts has got.
        users = [*[self._driver] * (meeting.gets - 1), self._other if isinstance(beside, Put) else self._driver]
        self._got = [_Got(one, LAYER, one.get(LAYER)) for one in users[: meeting.gets]]

    def _meet(self, held: Held, number: int, beside: Beside | None) -> Turn:
        """Do a call, and another one before its system call of this number; none for 0."""
        self._failing.hold(number)
        began = monotonic()
        try:
            with ThreadPoolExecutor(2) as callers:
                first = callers.submit(self._ended, self._driver, held)
                if beside is None:
                    ended = first.result()
                    self._alone = monotonic() - began if self._starts else 0.0
                    return self._done([ended])
                first.add_done_callback(lambda _: self._failing.there_is_none())
                try:
                    self._failing.wait_until_held(_HELD_LIMIT)
                    second = callers.submit(self._ended, self._other, beside)
                    self._wait_for(second)
                finally:
                    self._failing.let_go()
                return self._done([first.result(), second.result()])
        except BaseException:
            self._failing.stop()
            raise

    def _wait_for(self, second: Future[Ended]) -> None:
        """Wait until the call has ended, or waits itself: for what the first one holds."""
        before = made = self._failing.made()
        began = quiet_since = monotonic()
        while not second.done():
            wait([second], _STEP)
            now, last, made = monotonic(), made, self._failing.made()
            quiet_since = now if made != last else quiet_since
            if now - quiet_since > _QUIET and (made > before or now - began > _BEGUN + self._alone):
                return

    def _done(self, ended: Sequence[Ended]) -> Turn:
        counted = self._failing.stop()
        return Turn(tuple(ended), counted.failed, counted.calls)

    def _count(self, ended: Sequence[Ended]) -> None:
        for one, driver in zip(ended, (self._driver, self._other), strict=False):
            if isinstance(one.call, Get) and not one.refused:
                self._got.append(_Got(driver, one.call.layer, str(one.answer)))
            if isinstance(one.call, Put) and not one.refused:
                self._got.remove(next(got for got in self._got if got.driver is driver))

    # ---- What has to be true.

    def _deviation(self, text: str, requirement: str) -> Deviation:
        return Deviation(text, requirements=(PROCESSES if self._processes else requirement,))

    def _judge(self, ended: Sequence[Ended], before: World) -> Iterator[Deviation]:
        said = "; ".join(map(str, ended))
        try:
            changed = (one for one in (LAYER, CHILD, OTHER) if self._driver.exists(one))
            left = frozenset((ANCESTOR, PARENT, *changed))
        except DriverRefused as refused:
            yield self._deviation(f"after {said}: whether a layer exists is refused: {refused}", LINEAR)
            return
        worlds = [one for one in worlds_of(ended, before, fills_used=self._fills_used) if one.layers == left]
        if not worlds:
            text = f"no order of these calls explains their outcomes and what is left, {sorted(left)}"
            yield self._deviation(f"{text}: {said}", LINEAR)
        for one in ended:
            if isinstance(one.call, Diff) and not one.refused:
                alone = self._diffs[one.call.layer, one.call.parent]
                if one.answer not in alone:
                    why = unlike(next(iter(alone)), one.answer)
                    text = f"after {said}: '{describe(one.call)}' is not what it is alone: {why}"
                    yield self._deviation(text, DIFFS)
        if worlds and all(len(world.gets) == len(self._got) for world in worlds) and not self._undefined(ended):
            for layer, root in sorted({(got.layer, got.root) for got in self._got}):
                if layer in left and (why := self._shown_at(root, self._states(layer, worlds, ended))):
                    yield self._deviation(f"after {said}: a get of {layer} shows another tree: {why}", GETS)
        # What is mounted may show an archive that was applied meanwhile at once, or after the next mount.
        mounted = {got.layer for got in self._got} if self._undefined(ended) else set()
        for layer in sorted((left & {LAYER, CHILD, OTHER}) - mounted):
            states = self._states(layer, worlds, ended)
            if states and (why := self._differs(layer, states)):
                yield self._deviation(f"after {said}: {layer} shows another tree: {why}", LINEAR)

    def _undefined(self, ended: Sequence[Ended]) -> bool:
        """Whether no text says what the gets show, as an archive may have been applied to what is mounted."""
        return self._fills_used and any(isinstance(one.call, ApplyDiff) for one in ended)

    def _shown_at(self, root: str, states: Sequence[Snapshot]) -> str:
        """In what the tree of a get without a put is none of these; "" if it is one, or nothing is known of it."""
        try:
            shown = observe(root)
        except OSError as error:
            return str(error)
        why = [differs(state, shown) for state in states]
        return why[0] if why and all(why) else ""

    def _states(self, layer: str, worlds: Sequence[World], ended: Sequence[Ended]) -> list[Snapshot]:
        """The trees that a layer may show; none where an apply to it was refused, as any may be what is left."""
        if layer == CHILD and any(isinstance(one.call, ApplyDiff) and one.refused for one in ended):
            return []
        filled = {world.filled and layer == CHILD for world in worlds}
        return [self._applied if one else self._trees[layer] for one in filled]

    def _differs(self, layer: str, states: Sequence[Snapshot]) -> str:
        """In what a layer differs from all of these states; "" if it is one of them."""
        try:
            shown = look(self._driver, layer)
        except Deviation as deviation:
            return str(deviation)
        why = [tree_differs(state, shown) for state in states]
        return why[0] if all(why) else ""

    def _settled(self) -> Iterator[Deviation]:
        """Give back what is held, and bring the store into its state before; what cannot be, is wrong."""
        for got in self._got:
            try:
                got.driver.put(got.layer)
            except DriverRefused:
                continue  # its layer may be gone; what stays mounted is found below
        if left := sorted(set(self._mounts()) - self._quiet):
            yield self._deviation(f"after the last put {', '.join(left)} is mounted", GETS)
        try:
            yield from self._restored()
        except DriverRefused as refused:
            self._broken = True
            yield self._deviation(f"after these calls, one alone is refused: {refused}", LINEAR)

    def _restored(self) -> Iterator[Deviation]:
        for layer in (OTHER, CHILD):
            if self._driver.exists(layer):
                self._driver.remove(layer)
        if lost := left_behind(Path(self._driver.home), [OTHER, CHILD]):
            text = f"layers were removed, and these paths are still in the home: {', '.join(lost)}"
            yield self._deviation(text, LINEAR)
        if not self._driver.exists(LAYER):
            self._perform(self._driver, Create(LAYER, PARENT))
            self._perform(self._driver, FILL)
        if why := self._differs(PARENT, [self._trees[PARENT]]):
            yield self._deviation(f"after these calls, {PARENT} shows another tree: {why}", LINEAR)

    def leave(self) -> None:
        """Leave the home as processes that end do."""
        for driver in {id(one): one for one in (self._other, self._driver)}.values():
            with suppress(DriverRefused, DriverFailed):
                driver.leave()


def drawn(most: int, beside: Sequence[Beside], calls: Sequence[str]) -> list[tuple[int, Beside]]:
    """System calls to wait before, of different kinds as long as there are some, and what to do then, in turns.

    Those about names and mounts come first, as by these the calls know of each other; of each kind the first.
    """
    kinds = by_kind(calls)
    found: list[tuple[int, Beside]] = []
    while kinds and len(found) < most:
        mixed = random.sample(sorted(kinds), len(kinds))
        mixed.sort(key=lambda kind: not _OF_NAMES.match(kind))
        for kind in mixed:
            number = random.choice(kinds[kind]) if len(found) >= len(kinds) else kinds[kind][0]
            found.append((number, beside[len(found) % len(beside)]))
    return found[:most]
