"""Where tests get their stores from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance import ops
from conformance.driver import (
    Answer,
    DriverInfo,
    DriverRefused,
    DriverSource,
    DriverUnderTest,
    IdRange,
    OpenRequest,
)
from conformance.lab import namespace
from conformance.lab.kernelversion import at_least
from conformance.session import Place, Session
from conformance.spec import Capability, Requirement
from conformance.timing import Stopwatch, TimedDriver
from conformance.workbench import Leak, Story, Workbench

DECLINED = "declined: "
NOT_APPLICABLE = "not applicable: "


def not_applicable(reason: str) -> None:
    """Leave a test, because this kernel, filesystem or lane cannot show what it is about."""
    pytest.skip(NOT_APPLICABLE + reason)


@dataclass(frozen=True, slots=True)
class Fixtures:
    """What is the same for all tests of a process."""

    session: Session
    source: DriverSource
    story: Story
    watch: Stopwatch
    requirements: dict[str, Requirement]
    capabilities: dict[str, Capability]


class Bench:
    """Opens stores of the driver under test on one backing filesystem, each in a directory of its own."""

    def __init__(self, fixtures: Fixtures, place: Place, name: str) -> None:
        self._fixtures = fixtures
        self._place = place
        self._directory = Path(place.directory) / name
        self._made = 0
        self.privileged = fixtures.session.privileged
        self.story = fixtures.story
        self.examples = fixtures.session.examples

    @property
    def info(self) -> DriverInfo:
        """Who the driver is."""
        return self._fixtures.source.info

    @property
    def place(self) -> Place:
        """The backing filesystem."""
        return self._place

    def has(self, capability: str) -> bool:
        """Whether host and driver have a capability."""
        return not self.why_not(capability)

    def why_not(self, capability: str) -> str:
        """Why host or driver lacks a capability, with the word for it; "" if they have it."""
        return lacks(self._fixtures, (capability,))

    def need(self, *capabilities: str) -> None:
        """Leave the test if one of these is lacking."""
        reason = lacks(self._fixtures, capabilities)
        if reason:
            pytest.skip(reason)

    @contextmanager
    def store(
        self,
        name: str = "",
        path: Callable[[Path], Path] | None = None,
        *,
        options: Sequence[str] = (),
        id_map: Sequence[IdRange] = (),
        image_stores: Sequence[str] = (),
    ) -> Iterator[Workbench]:
        """A fresh store, gone afterwards. The first of an example begins its story.

        ``path`` may choose the store's directory below the one given, for tests of long or strange paths.
        Raises Leak if the driver leaves mounts behind when it is closed.
        """
        if name in ("", "origin"):
            self.story.begin()
        with self.directory() as directory:
            home = path(directory) if path else directory
            home.mkdir(parents=True, exist_ok=True)
            request = OpenRequest(home, tuple(options), tuple(id_map), tuple(Path(one) for one in image_stores))
            driver = self._opened(request)
            timed = TimedDriver(driver, self._fixtures.watch)
            workbench = Workbench(
                timed, directory, self.story, name, lambda: self._fixtures.source.open(request), self._left_out
            )
            try:
                yield workbench
            except BaseException:
                # What was started to reach the driver has to end, whatever became of the test.
                with suppress(DriverRefused):
                    workbench.driver.leave()
                raise
            workbench.driver.close()
            left = namespace.mounts_below(directory)
            if left:
                raise Leak(f"expected nothing mounted after the driver was closed, found {', '.join(left)}")

    def _opened(self, request: OpenRequest) -> DriverUnderTest:
        try:
            with self._fixtures.watch.in_driver():
                return self._fixtures.source.open(request)
        except DriverRefused:
            asked = [
                *request.options,
                *map(str, request.id_map),
                *(f"image store {one}" for one in request.image_stores),
            ]
            self.story.tell(f"open a home{' with ' + ', '.join(asked) if asked else ''}  -> refused")
            raise

    def _left_out(self, operation: ops.Operation) -> bool:
        declined = self.info.declined
        if isinstance(operation, ops.SetXattr) and operation.name.startswith("user."):
            return "user-xattrs" in declined
        return "any-names" in declined and not _is_utf8(operation.path)

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """An empty directory on the backing filesystem, gone afterwards with all that is mounted in it."""
        self._made += 1
        directory = self._directory / f"s{self._made}"
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            namespace.unmount_below(directory)
            shutil.rmtree(directory)

    def attempt(self, request: OpenRequest, prefix: Sequence[str] = ()) -> Answer:
        """Open the driver in a process of its own; skips the test if it runs in one that is not ours."""
        if self._fixtures.source.attempt is None:
            pytest.skip(DECLINED + "the driver runs in a process that the harness did not start")
        with self._fixtures.watch.in_driver():
            return self._fixtures.source.attempt(request, prefix)


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


def lacks(fixtures: Fixtures, needs: Sequence[str]) -> str:
    """Why something that is needed is not there, as the reason of a skip; "" if all is."""
    for need in needs:
        if need in fixtures.source.info.declined:
            return DECLINED + fixtures.source.info.declined[need]
        if need in fixtures.session.lacking:
            return NOT_APPLICABLE + fixtures.session.lacking[need]
    return ""


def reason_to_skip(fixtures: Fixtures, ids: Sequence[str], place: Place) -> str:
    """Why a test of these requirements cannot be judged on this host and filesystem; "" if it can."""
    wanted = [fixtures.requirements[one] for one in ids]
    for requirement in wanted:
        needs = ("mounts", *requirement.needs, *(("root",) if requirement.privileges == "root" else ()))
        if requirement.kernel and not at_least(requirement.kernel):
            return f"{NOT_APPLICABLE}this needs kernel {requirement.kernel} or later"
        if reason := lacks(fixtures, needs):
            return reason
    named = {name for requirement in wanted for name in requirement.backing}
    if named and place.backing not in named:
        return f"{NOT_APPLICABLE}this is about {', '.join(sorted(named))}; choose it with --backing"
    if place.unfit and not named and "overlay" not in fixtures.source.info.declined:
        return f"{NOT_APPLICABLE}{place.backing}: {place.unfit}"
    return ""
