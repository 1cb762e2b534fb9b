"""What a test gets: a bench, which opens stores, and the stores (implemented in stores.py and store.py).

A *bench* is one driver under test on one backing filesystem. A *store* is one opened home of it, with the model of
every layer in it. Each step of a test is written once, as a method of a store: it is done to the driver and to the
model, and recorded in the history, from which the trace, the case file and the reproducer are made.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

from hypothesis import strategies as st

from conformance.drivers.protocol import (
    Answer,
    Change,
    DriverInfo,
    DriverUnderTest,
    IdRange,
    OpenRequest,
    ProcessState,
)
from conformance.harness.place import Place
from conformance.history.calls import ApplyDiff, Call, Changes, Diff, DiffSize, Exists, Get, Metadata, Status
from conformance.operations import ops
from conformance.operations.archives import Entry
from conformance.operations.trees import Snapshot

_T = TypeVar("_T")


class Store(Protocol):
    """One opened home. What does not come out as it should is a Deviation; calls raise DriverRefused."""

    directory: Path  # the store's own, with the home and the archives in it

    @property
    def home(self) -> str:
        """The directory that holds the driver's layers."""

    @property
    def image_store(self) -> str:
        """What another store is given as an image store, so that it reads this one's layers."""

    @overload
    def do(self, call: Get) -> str: ...
    @overload
    def do(self, call: Exists) -> bool: ...
    @overload
    def do(self, call: Status | Metadata) -> Mapping[str, str]: ...
    @overload
    def do(self, call: DiffSize) -> int: ...
    @overload
    def do(self, call: Changes) -> list[Change]: ...
    @overload
    def do(self, call: ApplyDiff) -> int | None: ...
    @overload
    def do(self, call: Call) -> Any: ...
    def do(self, call: Call) -> Any:
        """The driver's answer to a call. One that is refused leaves the model as it was."""

    def refuses(self, call: Call) -> str:
        """The driver's refusal of a call that it must refuse."""

    def may_refuse(self, call: Call) -> str | None:
        """The driver's refusal of a call that it may refuse, or None if it did the call."""

    def another_opening(self) -> DriverUnderTest:
        """The same home, opened beside the driver that has it open."""

    # Layers and their trees

    def create(self, layer_id: str, parent: str = "") -> str:
        """Create a layer; its id."""

    def build(self, chain: Sequence[Iterable[ops.Operation]]) -> list[str]:
        """A layer (layer-0, layer-1, ...) for each sequence of operations, each on the one before; their ids."""

    def change(self, layer_id: str, operations: Iterable[ops.Operation]) -> None:
        """Mount a layer, do the operations in the tree and in the model, and put it."""

    def knows(self, other: Store, *layer_ids: str) -> None:
        """Layers of another store are seen in this one too, as image stores are."""

    def parent_of(self, layer_id: str) -> str:
        """The parent that the layer was created on."""

    def expected(self, layer_id: str) -> Snapshot:
        """The tree as the model has it."""

    def comparable(self, tree: Snapshot) -> Snapshot:
        """What can be compared of a tree with that of a driver: names and types, if it has no attributes."""

    def fitted(self, layer_id: str, operations: Iterable[ops.Operation]) -> tuple[ops.Operation, ...]:
        """The operations, most of those that would fail in the layer replaced (see pools.fit)."""

    def observed(self, layer_id: str) -> Snapshot:
        """The tree as the driver shows it."""

    def stays(self, layer_id: str) -> None:
        """The layer shows what the model says; its names, where it is unpacked anew from archives."""

    def may_show(self, layer_id: str) -> Snapshot | None:
        """The tree as the driver shows it, None if it refuses to: that of a layer that may be incomplete."""

    def shows_model(self, layer_id: str) -> Snapshot:
        """The layer shows what the model says."""

    def tells_links(self, layer_id: str) -> bool:
        """Whether the inode numbers in the layer's tree tell now which names are links of one inode."""

    def shows_names(self, layer_id: str, expected: Iterable[bytes]) -> Snapshot:
        """The layer shows exactly these names."""

    def shows_files(
        self, layer_id: str, there: Mapping[bytes, bytes | None], gone: Iterable[bytes] = ()
    ) -> Snapshot:
        """The layer shows files with their contents (None: whatever it is), and does not show other names."""

    def confirms(self, *layer_ids: str) -> None:
        """The driver says that there are these layers."""

    def denies(self, layer_id: str) -> None:
        """The driver says that there is no such layer."""

    # Archives

    def diff(self, layer_id: str, parent: str | None = None, *, piece: int = 0, most: int = -1) -> Path:
        """The archive of a layer, against its own parent unless another is named.

        With a ``piece`` it is read in pieces of so many bytes, and given up after ``most`` bytes (-1 for never);
        see ``needs_pieces``.
        """

    def needs_pieces(self, *, gives_up: bool = False, applies: bool = False) -> None:
        """Leave the test where nobody can read diffs in pieces, give them up, or hand archives over in pieces."""

    def may_diff(self, layer_id: str) -> Path | None:
        """The archive of a layer, None if the driver refuses to write one."""

    def diff_holds(self, layer_id: str, *expected: str) -> Path:
        """The archive of a layer, which has exactly these names."""

    def diffing(self, layer_id: str, parent: str | None = None) -> Diff:
        """The call that writes a layer's archive into a new file."""

    def apply(self, layer_id: str, archive: Path, *, piece: int = 0) -> int | None:
        """Apply an archive to a layer that exists; the size that the driver reports, if it does."""

    def applied(self, layer_id: str, entries: Iterable[Entry], form: int = tarfile.PAX_FORMAT) -> int | None:
        """Apply an archive of these entries."""

    def bring(self, other: Store, layer_id: str) -> Path:
        """Create a layer as another store has it, by its diff there; that archive."""

    def applying(self, layer_id: str, archive: Path) -> ApplyDiff:
        """The call that applies an archive to a layer."""

    def archive(self, entries: Iterable[Entry], form: int = tarfile.PAX_FORMAT) -> Path:
        """An archive of these entries, which the trace lists."""

    def bytes_of_archive(self, data: bytes, what: str, *entries: str) -> Path:
        """An archive with these bytes; ``what`` describes it in the trace, and a line for each of its entries."""

    def label(self, archive: Path) -> str:
        """The label of an archive, for calls that name one."""

    # What is no call

    def tamper(self, operations: Iterable[ops.Operation], where: str = "home") -> None:
        """Do something to the files of the store, below its home or its own directory ("directory").

        ``{link:LAYER}`` in a path or a content is what the file ``link`` of that layer holds.
        """

    def note(self, text: str) -> None:
        """A sentence for the trace, where the steps do not say it themselves."""

    def beyond(self, what: str) -> None:
        """Something was done that no script repeats."""

    def record(self, what: str, seen: str) -> None:
        """A fact for the result, where the requirements leave open what is seen."""


class Bench(Protocol):
    """One driver under test on one backing filesystem."""

    privileged: bool  # whether the run is real root
    commands: bool  # whether each call of the driver is a process of its own
    patient: bool  # whether there is time for many calls: none starts a process, and this is the first filesystem
    examples: int  # how many examples a property is tried with
    shrinks: bool  # whether a failure is shrunk

    @property
    def info(self) -> DriverInfo:
        """Who the driver is."""

    @property
    def place(self) -> Place:
        """The backing filesystem."""

    def has(self, capability: str) -> bool:
        """Whether host and driver have a capability."""

    def why_not(self, capability: str) -> str:
        """Why host or driver lacks a capability, as the reason of a skip; "" if they have it."""

    def need(self, *capabilities: str) -> None:
        """Leave the test if one of these is lacking."""

    # Stores

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
    ) -> AbstractContextManager[Store]:
        """A fresh store, gone afterwards. The first of an example (named "" or "origin") begins its history.

        ``path`` may choose the store's directory below the one given, for tests of long or strange paths.
        An OSError about what is in the store is a deviation of the driver (harness.attribution). Raises Leak if the
        driver leaves mounts behind when it is closed. Where no ``umask`` can be set, one leaves the test.
        """

    def refuses(self, options: Sequence[str] = ()) -> str:
        """The driver's refusal to open a fresh home with options that it must refuse."""

    def directory(self) -> AbstractContextManager[Path]:
        """An empty directory on the backing filesystem, gone afterwards with all that is mounted in it."""

    def open_at(self, directory: Path, prefix: Sequence[str] = ()) -> DriverUnderTest:
        """The driver on a directory of the test, behind a command prefix if it takes one; raises DriverRefused."""

    def attempt(self, request: OpenRequest, prefix: Sequence[str] = ()) -> Answer:
        """Open the driver in a process of its own; skips the test if it runs in one that is not ours."""

    def state_of(self, store: Store) -> ProcessState:
        """That of the process of the store's driver just now; leaves the test where it cannot be looked at."""

    # Examples

    @property
    def recorded(self) -> list[Any] | None:
        """What was drawn when the case that is replayed was recorded; None in a run of its own."""

    def draw(self, data: st.DataObject, strategy: st.SearchStrategy[_T]) -> _T:
        """A value of a property's example, recorded in the history; in a replay, the recorded one."""

    def begin(self) -> None:
        """Forget the steps of the example before, for a test that opens no store at first."""

    def begin_drawing(self) -> None:
        """An example begins that the test draws without ``draw``."""

    def drew(self, value: object) -> None:
        """Record a value of such an example."""

    def failed(self, error: Exception) -> None:
        """The example failed: what comes now only tidies up, or is another example."""

    def note(self, text: str) -> None:
        """A sentence for the trace."""

    def record(self, what: str, seen: str) -> None:
        """A fact for the result, where the requirements leave open what is seen."""

    def wait_a_second(self) -> None:
        """Wait until the clock shows another second, whether it is cut or rounded."""
