"""The bench that tests get their stores from, and why a test is left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from hypothesis import strategies as st

from conformance.drivers.protocol import (
    Answer,
    DriverFailed,
    DriverInfo,
    DriverRefused,
    DriverUnderTest,
    IdRange,
    OpenRequest,
    ProcessState,
)
from conformance.drivers.source import DriverSource
from conformance.harness.attribution import of_the_driver
from conformance.harness.bench import Store
from conformance.harness.deviation import Deviation, Leak, SharedUpper
from conformance.harness.invariants import Found, Invariants
from conformance.harness.keeping import keep_archives
from conformance.harness.manner import Manner
from conformance.harness.place import Place
from conformance.harness.recorded import RecordedDriver
from conformance.harness.session import Session
from conformance.harness.skips import DECLINED, NOT_APPLICABLE, not_applicable
from conformance.harness.store import RecordedStore
from conformance.harness.timing import Stopwatch, Tries
from conformance.history.findings import Accepted, StillMounted
from conformance.history.steps import Beyond, History, Opened, Waited
from conformance.lab import namespace
from conformance.lab.backing import BACKINGS
from conformance.lab.kernelversion import at_least
from conformance.lab.removal import remove_tree
from conformance.operations import ops
from conformance.spec import Capability, Requirement
from conformance.spec.errors import HarnessError

_NEVER_FIT: Final = frozenset(one.name for one in BACKINGS if one.unfit)


@dataclass(frozen=True, slots=True)
class Fixtures:
    """What is the same for all tests of a process."""

    session: Session
    source: DriverSource
    history: History
    watch: Stopwatch
    requirements: dict[str, Requirement]
    capabilities: dict[str, Capability]
    tries: Tries = field(default_factory=Tries)
    found: Found = field(default_factory=Found)


_T = TypeVar("_T")


class GivenUp(BaseException):
    """A call hung before in this test, and any other example would take as long; hypothesis lets this through."""


class CannotReplay(HarnessError):
    """What was drawn when a case was recorded is not what this version of the suite draws."""


class Uppers:
    """Whether two mounts below a directory ever had one upper directory, looked for after each get.

    The kernel warns of it ("upperdir is in-use as upperdir/workdir of another mount"), but its log is that of the
    whole machine and names no path. A relative upper directory is named by its mount point.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.shared = ""

    def look(self) -> None:
        """Note the first one that is shared.

        The list of mounts is read in pieces: what another caller unmounts and mounts again meanwhile may be in it
        twice, so it is read once more.
        """
        if self.shared or not (found := self._twice()):
            return
        self.shared = ", ".join(sorted(upper for upper, _ in found & self._twice()))

    def _twice(self) -> set[tuple[str, frozenset[str]]]:
        """The upper directories of several overlays, with the devices of these."""
        devices: dict[str, set[str]] = {}
        for target, upper, device in namespace.overlays_below(self._directory):
            if upper:
                devices.setdefault(upper if upper.startswith("/") else target, set()).add(device)
        return {(upper, frozenset(those)) for upper, those in devices.items() if len(those) > 1}


class BackingBench:
    """A bench.Bench: each store is in a directory of its own. The Protocol says what the methods do."""

    def __init__(
        self,
        fixtures: Fixtures,
        place: Place,
        name: str,
        replayed: Sequence[Any] | None = None,
        *,
        shrinks: bool = True,
        watched: bool = True,
    ) -> None:
        self._fixtures = fixtures
        self._watched = watched  # whether invariants are compared after each call
        self.shrinks = shrinks  # whether a failure is shrunk
        self._replayed = replayed
        self._drawn_for: object = None
        self._stores: dict[str, str] = {}
        self._place = place
        self._directory = Path(place.directory) / name
        self._made = 0
        self.hung: DriverFailed | None = None  # of an earlier example of this test
        self.privileged = fixtures.session.privileged and not fixtures.source.unprivileged
        self.commands = fixtures.source.commands
        self.patient = not self.commands and place in fixtures.session.places[:1]
        self.history = fixtures.history
        self.tries = fixtures.tries
        self.examples = fixtures.session.examples

    @property
    def info(self) -> DriverInfo:
        return self._fixtures.source.info

    @property
    def place(self) -> Place:
        return self._place

    def has(self, capability: str) -> bool:
        return not self.why_not(capability)

    def why_not(self, capability: str) -> str:
        return lacks(self._fixtures, (capability,), self._place)

    @property
    def recorded(self) -> list[Any] | None:
        return None if self._replayed is None else list(self._replayed)

    def draw(self, data: st.DataObject, strategy: st.SearchStrategy[_T]) -> _T:
        if self.hung:  # as before, for hypothesis; but what was drawn for the failure stays recorded
            return data.draw(strategy)
        drawn = self.history.drawn
        if self._drawn_for is not data:  # hypothesis makes one for each example
            self._drawn_for = data
            drawn.clear()
        if self._replayed is not None:
            if len(drawn) >= len(self._replayed):
                raise CannotReplay("this test draws more than it did when the case was recorded")
            value: _T = self._replayed[len(drawn)]
        else:
            value = data.draw(strategy)
        drawn.append(value)
        return value

    def need(self, *capabilities: str) -> None:
        reason = lacks(self._fixtures, capabilities, self._place)
        if reason:
            pytest.skip(reason)

    def begin(self) -> None:
        self.history.begin()

    def begin_drawing(self) -> None:
        self.tries.begin()
        self.history.drawn.clear()

    def drew(self, value: object) -> None:
        self.history.drawn.append(value)

    def failed(self, error: Exception) -> None:
        self.tries.failed(error)
        self.history.stop()

    def note(self, text: str) -> None:
        self.history.note(text)

    def wait_a_second(self) -> None:
        time.sleep(1)
        self.history.add(Waited())

    @contextmanager
    def store(
        self,
        name: str = "",
        path: Callable[[Path], Path] | None = None,
        *,
        options: Sequence[str] = (),
        id_map: Sequence[IdRange] = (),
        gid_map: Sequence[IdRange] = (),
        image_stores: Sequence[str] = (),
        umask: int | None = None,
    ) -> Iterator[RecordedStore]:
        if umask is not None and not self._fixtures.source.sets_umask:
            not_applicable("the umask of the driver's process cannot be set: the harness did not start it")
        if self.hung:
            raise GivenUp
        if name in ("", "origin"):
            self.history.begin()
        with self.directory() as directory:
            home = path(directory) if path else directory
            home.mkdir(parents=True, exist_ok=True)
            stores = tuple(Path(one) for one in image_stores)
            limit = self._fixtures.session.limit
            request = OpenRequest(
                home, tuple(options), tuple(id_map), tuple(gid_map), image_stores=stores, umask=umask, limit=limit
            )
            below = "" if home == directory else f"/{os.path.relpath(home, directory)}"
            self._stores[str(directory)] = (name or "store") + below
            driver = self._opened(request, directory)
            uppers = Uppers(directory)
            look = uppers.look if self.has("own-mounts") else lambda: None
            invariants = self._invariants(driver, directory)
            recorded = RecordedDriver(driver, self._fixtures.watch, self.history, name or "store", look, invariants)
            workbench = RecordedStore(
                recorded,
                directory,
                self.history,
                name,
                lambda: self._beside(request, invariants),
                self._left_out,
                privileged=self.privileged,
                manner=self._manner(),
            )
            if umask is not None:
                workbench.note(f"the umask of the driver's process is {umask:03o}")
            try:
                with of_the_driver(directory):
                    yield workbench
                workbench.lookups.report()
            except BaseException:
                keep_archives(self.history)
                self.history.stop()
                # What was started to reach the driver has to end, whatever became of the test.
                with suppress(DriverRefused, DriverFailed):
                    workbench.driver.leave()
                raise
            workbench.driver.close()
            if uppers.shared:
                raise SharedUpper(f"two mounts had the same upper directory: {uppers.shared}")
            left = namespace.mounts_below(directory)
            if left:
                said = f"expected nothing mounted after the driver was closed, found {', '.join(left)}"
                raise Leak(said, StillMounted())

    def _manner(self) -> Manner:
        declined = self.info.declined
        late, timed = self._fixtures.source.late, not self._place.renews_times
        listed, typed = "attributes" in declined, "file-types" not in declined
        return Manner("writable-layers" in declined, "diff" in declined, late, timed, listed, typed)

    def refuses(self, options: Sequence[str] = ()) -> str:
        try:
            with self.store("other", options=options) as store:
                self.history.stop()
                left = sorted(os.listdir(store.home))
                said = f"open a home with the options {list(options)}: expected a refusal, but the driver opened it"
                raise Deviation(f"{said}; it holds {left}", Accepted())
        except DriverRefused as refused:
            return str(refused)

    def state_of(self, store: Store) -> ProcessState:
        assert isinstance(store, RecordedStore), "stores of one run are of one kind"
        process = store.driver.process
        if process is None:
            not_applicable("no process of the driver, that lasts from call to call, can be looked at")
        assert process is not None, "the test was left"
        return process.state()

    def _invariants(self, driver: DriverUnderTest, directory: Path) -> Invariants:
        found = self._fixtures.found
        return Invariants(
            self._fixtures.session.selected if self._watched else (),
            directory,
            driver.home,
            getattr(driver, "process", None),
            lambda broken: found.is_news(broken, self),
            mounts=self.has("own-mounts"),
            layout=self.has("home-layout"),
        )

    def _beside(self, request: OpenRequest, invariants: Invariants) -> DriverUnderTest:
        self.need("processes")  # what owns its home alone may wait for it, or break the opening that there is
        invariants.stop()
        self.history.add(Beyond("a second driver opened the home concurrently"))
        return self._fixtures.source.open(request)

    def _opened(self, request: OpenRequest, directory: Path) -> DriverUnderTest:
        step = Opened(
            self._stores[str(directory)].partition("/")[0],
            "" if request.directory == directory else os.path.relpath(request.directory, directory),
            str(directory),
            request.options,
            _triples(request.id_map),
            _triples(request.gid_map),
            tuple(self._store_of(one) for one in request.image_stores),
        )
        try:
            with self._fixtures.watch.in_driver():
                driver = self._fixtures.source.open(request)
            self.history.add(step)
            return driver
        except DriverRefused as refused:
            self.history.add(replace(step, refused=str(refused)))
            raise

    def _store_of(self, image_store: Path) -> str:
        """The store that an image store is, with the path below it; the path itself if it is none of ours."""
        for directory, name in self._stores.items():
            if image_store.is_relative_to(directory):
                return name
        return str(image_store)

    def _left_out(self, operation: ops.Operation) -> bool:
        declined = self.info.declined
        if isinstance(operation, ops.SetTimes) and not 0 <= operation.mtime_ns < 2**63:
            return "early-times" in declined
        if isinstance(operation, ops.SetXattr) and operation.name.startswith("user."):
            return "user-xattrs" in declined or bool(self._place.no_user_xattrs)
        return "any-names" in declined and not _is_utf8(operation.path)

    @contextmanager
    def directory(self) -> Iterator[Path]:
        self._made += 1
        directory = self._directory / f"s{self._made}"
        directory.mkdir(parents=True)
        try:
            yield directory
        except DriverFailed as failure:
            if failure.hangs:
                self.hung = failure
            raise
        finally:
            namespace.unmount_below(directory)
            if left := namespace.mounts_below(directory):
                raise OSError(
                    f"{left[0]} cannot be unmounted; {directory} is left, as it may show files of the host"
                )
            remove_tree(directory)

    def record(self, what: str, seen: str) -> None:
        self.history.record(what, seen)

    def open_at(self, directory: Path, prefix: Sequence[str] = ()) -> DriverUnderTest:
        if prefix:
            self._starter()
        what = "system calls of the driver fail" if prefix else "the store is on a disk whose power is cut"
        self.history.add(Beyond(what))
        request = OpenRequest(directory, prefix=tuple(prefix), limit=self._fixtures.session.limit)
        with self._fixtures.watch.in_driver():
            driver = self._fixtures.source.open(request)
        return RecordedDriver(driver, self._fixtures.watch, self.history, "store")

    def attempt(self, request: OpenRequest, prefix: Sequence[str] = ()) -> Answer:
        start = self._starter()
        self.history.add(Beyond("the driver was opened in a process of its own, on a simulated kernel"))
        with self._fixtures.watch.in_driver():
            return start(replace(request, limit=self._fixtures.session.limit), prefix)

    def _starter(self) -> Callable[[OpenRequest, Sequence[str]], Answer]:
        """How a process of the driver is started; leaves the test where the harness starts none."""
        if self._fixtures.source.attempt is None:
            pytest.skip(DECLINED + "the driver runs in a process that the harness did not start")
        return self._fixtures.source.attempt


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


def lacks(fixtures: Fixtures, needs: Sequence[str], place: Place) -> str:
    """Why something that is needed is not there, as the reason of a skip; "" if all is."""
    for need in needs:
        if need in fixtures.source.info.declined:
            return DECLINED + fixtures.source.info.declined[need]
        if need == "root" and fixtures.source.unprivileged:
            return NOT_APPLICABLE + fixtures.source.unprivileged
        if need in fixtures.session.lacking:
            return NOT_APPLICABLE + fixtures.session.lacking[need]
        if need == "user-xattrs" and place.no_user_xattrs:
            return NOT_APPLICABLE + place.no_user_xattrs
    return ""


def _of_host(fixtures: Fixtures) -> tuple[str, ...]:
    """What every test needs: mounts, unless nobody mounts layers."""
    return () if "layer-store" in fixtures.source.info.declined else ("mounts",)


def _triples(ranges: Iterable[IdRange]) -> tuple[tuple[int, int, int], ...]:
    return tuple((one.container, one.host, one.size) for one in ranges)


def reason_to_skip(fixtures: Fixtures, ids: Sequence[str], place: Place) -> str:
    """Why a test of these requirements cannot be judged on this host and filesystem; "" if it can."""
    wanted = [fixtures.requirements[one] for one in ids]
    for requirement in wanted:
        needs = (*_of_host(fixtures), *requirement.needs, *(("root",) if requirement.privileges == "root" else ()))
        if requirement.kernel and not at_least(requirement.kernel):
            return f"{NOT_APPLICABLE}this needs kernel {requirement.kernel} or later"
        if reason := lacks(fixtures, needs, place):
            return reason
    if place.missing:
        return f"{NOT_APPLICABLE}{place.missing}"
    named = {name for requirement in wanted for name in requirement.backing}
    if named and place.backing not in named:
        return f"{NOT_APPLICABLE}this applies to {', '.join(sorted(named))}; select it with --backing"
    # What names a filesystem that never holds layers is about that; others may be unfit on a kernel only.
    about_that = bool(named) and place.backing in _NEVER_FIT
    if place.unfit and not about_that and "overlay" not in fixtures.source.info.declined:
        return f"{NOT_APPLICABLE}{place.backing}: {place.unfit}"
    return ""
