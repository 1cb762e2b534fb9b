"""What has to be true after an opening of a home in which one system call of the driver failed.

An opening probes, sweeps what an earlier process left, and repairs. It may be refused for a system call that fails,
or do without it. Either way the next opening finds every layer, and a refused one leaves nothing mounted: nobody
would unmount it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.drivers.protocol import DriverFailed, DriverRefused, DriverUnderTest
from conformance.harness.deviation import Deviation, charged_to
from conformance.lab.failing import Counted, Failing
from conformance.machines.crashes import History, beginning, do, look
from conformance.machines.failing import by_kind, tree_differs

OPENING: Final = "OVL-FAILING-OPENING"
_NEW: Final = "made-afterwards"
_PATIENCE: Final = 3


@dataclass(frozen=True, slots=True)
class Opening:
    """What an opening answered, None for success, and the system calls that it made."""

    refused: DriverRefused | None
    counted: Counted


class Openings:
    """A home with two layers, one on the other, or one that is not there yet; no driver has it open."""

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

    def fill(self) -> None:
        """Make the layers; raises DriverRefused."""
        driver = self._open()
        try:
            for step in beginning(self._history):
                do(self._history.add(step), self._history, driver, self._files, lambda: None)
        finally:
            _leave(driver)

    def judged(self, most: int) -> Iterator[tuple[Opening, list[Deviation]]]:
        """Open the home with each of some system calls failing in a turn of its own, with none in the first.

        No two are of one kind. There are ``most`` turns, as each costs two processes of the driver, and some more
        until an opening was refused.
        """
        usual, found = self._turn(0)
        yield usual, found
        kinds = by_kind(usual.counted.calls)
        refused = False
        for turn, kind in enumerate(random.sample(sorted(kinds), len(kinds)), 1):
            opening, found = self._turn(random.choice(kinds[kind]))
            yield opening, found
            refused = refused or opening.refused is not None
            if turn >= most and (refused or turn >= _PATIENCE * most):
                return

    def _turn(self, number: int) -> tuple[Opening, list[Deviation]]:
        before = set(self._mounts())
        self._failing.count(number)
        try:
            with charged_to(OPENING):
                driver = self._open()
        except (DriverRefused, DriverFailed) as error:
            opening = Opening(DriverRefused(str(error)), self._failing.stop())
            found = []
            if isinstance(error, DriverFailed) and not error.alone:
                found.append(_deviation(f"it crashed: {error}"))
            if left := sorted(set(self._mounts()) - before):
                found.append(_deviation(f"it was refused, and these are mounted: {', '.join(left)}"))
            return opening, [*found, *self._works("the next opening")]
        except BaseException:
            self._failing.stop()
            raise
        opening = Opening(None, self._failing.stop())
        try:
            found = list(self._shows(driver, "it reports success"))
        finally:
            _leave(driver)
        return opening, found or list(self._works("the next opening") if number else ())

    def _works(self, which: str) -> Iterator[Deviation]:
        try:
            driver = self._open()
        except DriverRefused as refused:
            yield _deviation(f"{which} is refused: {refused}")
            return
        try:
            yield from self._shows(driver, which)
        finally:
            _leave(driver)

    def _shows(self, driver: DriverUnderTest, which: str) -> Iterator[Deviation]:
        for layer in self._history.layers.values():
            try:
                shown = look(driver, layer.id)
            except Deviation as deviation:
                yield _deviation(f"{which}: {deviation}")
                continue
            if why := tree_differs(layer.tree, shown):
                yield _deviation(f"{which}, and {layer.id} differs from its tree before:\n{why}")
        try:
            driver.create(_NEW, "")
            driver.remove(_NEW)
        except DriverRefused as refused:
            yield _deviation(f"{which}, and a layer cannot be created and removed: {refused}")


def _deviation(text: str) -> Deviation:
    return Deviation(text, requirements=(OPENING,))


def _leave(driver: DriverUnderTest) -> None:
    with suppress(DriverRefused, DriverFailed):
        driver.leave()
