"""What has to be true after a process was killed at one of its system calls, in the middle of an apply.

The layer held something before. A process that opens the home then shows the layer without the archive or with all
of it, or refuses it; the other layers are as before, and the layer can be removed and recreated.
"""

from __future__ import annotations

import random
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from conformance.drivers.performing import perform
from conformance.drivers.protocol import DriverFailed, DriverRefused, DriverUnderTest
from conformance.harness.deviation import Deviation
from conformance.history.calls import ApplyDiff, Create, Remove
from conformance.lab.failing import Failing
from conformance.machines.crashes import History, beginning, content_of, do, left_behind, look
from conformance.machines.failing import by_kind, tree_differs
from conformance.operations import archives
from conformance.operations.trees import Node, Snapshot

KILLED: Final = "OVL-RESTART-KILLED"
APPLIED: Final = "OVL-RESTART-KILLED-APPLY"
_PARENT: Final = "layer-1"
_LAYER: Final = "layer-2"
_FIRST: Final = "first.tar"
_OWN: Final = "of-the-first"
_BROUGHT: Final = (_OWN, "d-2")  # names of its archives that no other layer has (crashes.content_of)
_NAMING: Final = ("rename", "renameat", "renameat2", "link", "linkat")  # calls by which a tree gets its place


class Interrupted:
    """A store with two layers, one on the other, and a third one on these that archives are applied to."""

    def __init__(self, open_store: Callable[[], DriverUnderTest], failing: Failing, files: Path) -> None:
        self._open = open_store
        self._failing = failing
        self._files = files
        self.driver = open_store()
        history = History()
        for step in beginning(history):
            do(history.add(step), history, self.driver, files, lambda: None)
        self._kept = history.layers[_PARENT].tree
        self._create = Create(_LAYER, _PARENT)
        history.add(self._create)
        self._apply = ApplyDiff(_LAYER, _PARENT, f"{_LAYER}.tar")
        archives.write(files / self._apply.archive, content_of(history.layers[_LAYER]))
        history.add(self._apply)
        archives.write(files / _FIRST, [archives.file(_OWN, b"own")])
        self._states = (_with_own(self._kept), _with_own(history.layers[_LAYER].tree))

    def calls(self) -> tuple[str, ...]:
        """The system calls of an apply that nobody interrupts."""
        self._prepare()
        self._failing.count()
        try:
            self._perform(self._apply)
        finally:
            counted = self._failing.stop()
        self._perform(Remove(_LAYER))
        return counted.calls

    def killed_at(self, number: int) -> tuple[str, list[Deviation]]:
        """Kill the process at a system call, and open the home again: which call it was, and what is wrong then."""
        self._prepare()
        self._failing.kill(number)
        with suppress(DriverRefused, DriverFailed):
            self._perform(self._apply)
        at = self._failing.stop().failed
        self.reopen()
        return at, list(self._judge())

    def _prepare(self) -> None:
        self._perform(self._create)
        self._perform(ApplyDiff(_LAYER, _PARENT, _FIRST))

    def _perform(self, call: Create | ApplyDiff | Remove) -> None:
        perform(self.driver, call, self._files.joinpath)

    def _judge(self) -> Iterator[Deviation]:
        shown = look(self.driver, _LAYER)
        if shown is not None and not isinstance(shown, DriverRefused):
            why = [tree_differs(one, shown) for one in self._states]
            if all(why):
                said = f"{_LAYER} shows neither what it held before, nor that with the archive:"
                said = "\n".join((said, why[0], "and", why[1]))
                yield Deviation(said, requirements=(APPLIED,))
        if why_not := self._removed():
            yield Deviation(why_not, requirements=(KILLED,))
        if why_other := tree_differs(self._kept, look(self.driver, _PARENT)):
            yield Deviation(f"{_PARENT} differs from its tree before:\n{why_other}", requirements=(KILLED,))
        self.reopen()  # the latest time to take it away
        home = Path(self.driver.home)
        if lost := [*left_behind(home, [_LAYER]), *(str(one) for name in _BROUGHT for one in home.rglob(name))]:
            said = f"{_LAYER} was removed, and these paths are still in the home: {', '.join(lost)}"
            yield Deviation(said, requirements=(APPLIED,))

    def _removed(self) -> str:
        """Why the layer cannot be removed and recreated, "" if it can; it is gone afterwards."""
        try:
            if self.driver.exists(_LAYER):
                self._perform(Remove(_LAYER))
            self._prepare()
            self._perform(self._apply)
            why = tree_differs(self._states[1], look(self.driver, _LAYER))
            self._perform(Remove(_LAYER))
        except DriverRefused as refused:
            return f"{_LAYER} cannot be removed and recreated: {refused}"
        return f"{_LAYER}, recreated, differs from its archives:\n{why}" if why else ""

    def reopen(self) -> None:
        """Leave the home, and open it in another process."""
        self.leave()
        self.driver = self._open()

    def leave(self) -> None:
        """Leave the home as a process that ends does."""
        with suppress(DriverRefused, DriverFailed):
            self.driver.leave()


def _with_own(tree: Snapshot) -> Snapshot:
    own = Node(stat.S_IFREG | 0o644, 0, 0, archives.TIME * 10**9, b"own")
    return Snapshot({**tree.nodes, _OWN.encode(): own}, tree.link_groups)


def chosen(others: int, calls: Sequence[str]) -> list[int]:
    """The numbers of calls to kill at: the first of each kind that gives a name, and some of other kinds."""
    kinds = by_kind(calls)
    naming = [numbers[0] for kind, numbers in kinds.items() if kind.partition(" ")[0] in _NAMING]
    rest = [numbers[len(numbers) // 2] for kind, numbers in kinds.items() if numbers[0] not in naming]
    return sorted({*naming, *(random.sample(rest, min(others, len(rest))))})
