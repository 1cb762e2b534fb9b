"""A store: one opened home of the driver under test, and the model of every layer in it.

A call or an operation is done to the driver and to the model, and recorded in the history, by one method here.
"""

from __future__ import annotations

import errno
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, assert_never, overload

from conformance.drivers.performing import applier_of
from conformance.drivers.protocol import Change, DriverRefused, DriverUnderTest
from conformance.harness.assertions import equal, in_path, names_of_diff, same_names, same_tree
from conformance.harness.bench import Store
from conformance.harness.deviation import Deviation
from conformance.harness.entries import entry_names
from conformance.harness.lookups import Lookups
from conformance.harness.manner import Manner, Seen
from conformance.harness.recorded import RecordedDriver
from conformance.harness.skips import not_applicable
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
from conformance.history.findings import Accepted, BadLayout, Unreadable, WrongAnswer, WrongOutcome
from conformance.history.steps import Archived, Beyond, Did, History, Looked, Tampered
from conformance.history.trace import describe
from conformance.operations import archives, ops
from conformance.operations.comparing import GHOST
from conformance.operations.layering import layer_entries
from conformance.operations.model import Tree, Unspecified
from conformance.operations.observe import observe
from conformance.operations.pools import fit
from conformance.operations.real import perform, with_links
from conformance.operations.tarforms import Tarred, archive_of
from conformance.operations.trees import Snapshot

_PLAIN: Final = Manner()
_LISTED: Final = 20  # entries of an archive that a trace lists


class RecordedStore:
    """A bench.Store, whose driver and history it has; the Protocol says what the methods do."""

    def __init__(
        self,
        driver: RecordedDriver,
        directory: Path,
        history: History,
        name: str = "",
        another: Callable[[], DriverUnderTest] | None = None,
        left_out: Callable[[ops.Operation], bool] = lambda _: False,
        *,
        privileged: bool = True,
        manner: Manner = _PLAIN,
    ) -> None:
        self.driver = driver
        self._manner = manner
        self._left_out = left_out  # what the driver declines to carry, so that nobody asks for it by the way
        self._another = another
        self.directory = directory
        self._history = history
        self._store = name or "store"
        self._trees: dict[str, Tree] = {"": Tree(privileged=privileged)}
        self._parents: dict[str, str] = {}
        self._privileged = privileged
        self.lookups = Lookups(history)
        self._held: Counter[str] = Counter()  # gets without a put, by layer
        self._archives = 0

    @property
    def home(self) -> str:
        return self.driver.home

    @property
    def image_store(self) -> str:
        return self.driver.image_store

    def another_opening(self) -> DriverUnderTest:
        assert self._another is not None, "the bench gives every store a way to open its home again"
        return self._another()

    def note(self, text: str) -> None:
        self._history.note(text, self._store)

    def record(self, what: str, seen: str) -> None:
        self._history.record(what, seen)

    def beyond(self, what: str) -> None:
        self.driver.invariants.stop()
        self._history.add(Beyond(what))

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
        answer = self._asked(call)
        match call:
            case Create() if call.parent in self._trees:
                self._trees[call.layer] = self._trees[call.parent].child()
                self._parents[call.layer] = call.parent
            case Get():
                self._held[call.layer] += 1
            case Put():
                self._held[call.layer] = max(0, self._held[call.layer] - 1)
            case Reopen():
                self.driver = answer
            case (
                ApplyDiff()
                | Changes()
                | Close()
                | Create()
                | Diff()
                | DiffSize()
                | Exists()
                | Metadata()
                | Remove()
                | Status()
            ):
                pass
            case _:
                assert_never(call)
        return answer

    def _asked(self, call: Call) -> Any:
        answer = self.driver.do(call)
        if self._manner.late and isinstance(call, ApplyDiff):
            self.driver.do(Get(call.layer))
            self.driver.do(Put(call.layer))
        return answer

    def refuses(self, call: Call) -> str:
        try:
            self._asked(call)
        except DriverRefused as refused:
            return str(refused)
        self._history.stop()
        said = f"{describe(call)}: expected a refusal, but the driver did it"
        raise Deviation(said, Accepted())

    def confirms(self, *layer_ids: str) -> None:
        for layer_id in layer_ids:
            self._says_of(layer_id, "there is")

    def denies(self, layer_id: str) -> None:
        self._says_of(layer_id, "there is no")

    def _says_of(self, layer_id: str, expected: str) -> None:
        said = "there is" if self.do(Exists(layer_id)) else "there is no"
        equal(f"what the driver says of {layer_id}", f"{said} such layer", f"{expected} such layer", WrongAnswer())

    def may_refuse(self, call: Call) -> str | None:
        try:
            self.do(call)
        except DriverRefused as refused:
            return str(refused)
        return None

    def create(self, layer_id: str, parent: str = "") -> str:
        self.do(Create(layer_id, parent))
        return layer_id

    def knows(self, other: Store, *layer_ids: str) -> None:
        assert isinstance(other, RecordedStore), "stores of one run are of one kind"
        for layer_id in layer_ids:
            self._trees[layer_id] = other._trees[layer_id]
            self._parents[layer_id] = other._parents[layer_id]

    def build(self, chain: Sequence[Iterable[ops.Operation]]) -> list[str]:
        ids: list[str] = []
        for number, operations in enumerate(chain):
            ids.append(self.create(f"layer-{number}", ids[-1] if ids else ""))
            self.change(ids[-1], operations)
        return ids

    def change(self, layer_id: str, operations: Iterable[ops.Operation]) -> None:
        if self._manner.filled:
            self._fill(layer_id, operations)
            return
        root = self.do(Get(layer_id))
        try:
            for operation in operations:
                self._do(layer_id, root, operation)
            self.lookups.look(layer_id, root, self._trees[layer_id].snapshot().nodes, self._names_below(layer_id))
        finally:
            self.do(Put(layer_id))

    def _names_below(self, layer_id: str) -> set[bytes]:
        below: dict[str, Tree] = {}  # an id can be given again, to a layer on what was built on its former one
        while (layer_id := self._parents.get(layer_id, "")) in self._trees and layer_id not in below:
            below[layer_id] = self._trees[layer_id]
        return {path for tree in below.values() for path in tree.paths()}

    def _fill(self, layer_id: str, operations: Iterable[ops.Operation]) -> None:
        """Apply an archive of what the operations do that succeed; nothing, if they do nothing."""
        tree = self._trees[layer_id]
        before = tree.copy()
        for operation in operations:
            if not self._left_out(operation) and tree.permits(operation):
                tree.apply(operation)
        entries = layer_entries(before, tree)
        if entries:
            # What is wrong in it is seen where the layer is looked at.
            self.driver.do(self.applying(layer_id, self._of_harness(entries)))

    def _of_harness(self, entries: Sequence[Tarred]) -> Path:
        words = [entry.describe() for entry in entries[:_LISTED]]
        return self._written(archive_of(entries), [*words, *_and_more(len(entries))])

    def _do(self, layer_id: str, root: str, operation: ops.Operation) -> None:
        if self._left_out(operation):
            return
        tree = self._trees[layer_id]
        try:
            outcome = tree.expect(operation)
        except Unspecified:
            return
        try:
            perform(root, operation)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, str(error.errno))
            self._history.add(Did(self._store, layer_id, operation, name))
            if error.errno not in outcome.errors:
                wanted = _names_of(outcome.errors) or "success"
                said = f"{ops.describe(operation)}: expected {wanted}, got: {error.strerror}"
                raise Deviation(said, WrongOutcome(outcome.done)) from error
            return
        self._history.add(Did(self._store, layer_id, operation))
        if not outcome.done:
            said = f"{ops.describe(operation)}: expected {_names_of(outcome.errors)}, but it was done"
            raise Deviation(said, WrongOutcome(False))
        tree.apply(operation)

    def tamper(self, operations: Iterable[ops.Operation], where: str = "home") -> None:
        self.driver.invariants.tampered()
        root = self.driver.home if where == "home" else os.fspath(self.directory)
        for operation in operations:
            try:
                perform(root, with_links(operation, self.driver.home))
            except OSError as error:
                if where != "home":
                    raise
                raise Deviation(
                    f"a test changes the driver's files ({ops.describe(operation)}): expected them as the layout"
                    f" of a home has them, and got: {error}",
                    BadLayout(),
                ) from error
            self._history.add(Tampered(self._store, where, operation))

    def parent_of(self, layer_id: str) -> str:
        return self._parents[layer_id]

    def expected(self, layer_id: str) -> Snapshot:
        return self._manner.seen(self._trees[layer_id].snapshot())

    def comparable(self, tree: Snapshot) -> Snapshot:
        return self._manner.seen(tree)

    def fitted(self, layer_id: str, operations: Iterable[ops.Operation]) -> tuple[ops.Operation, ...]:
        return fit(self._trees[layer_id].copy(), operations)

    def observed(self, layer_id: str) -> Snapshot:
        root = self.do(Get(layer_id))
        try:
            observed = observe(root)
            found = replace(seen := self._manner.seen(observed), nodes=Seen(seen.nodes, layer_id))
            self.lookups.look(layer_id, root, observed.nodes, self._names_below(layer_id))
            self._history.add(Looked(self._store, layer_id, tuple(sorted(found.nodes))))
            return found
        except OSError as error:
            raise Deviation(f"the tree of {layer_id} cannot be read: {error}", Unreadable()) from error
        finally:
            self.do(Put(layer_id))

    def shows_model(self, layer_id: str) -> Snapshot:
        links = self.tells_links(layer_id)
        actual, expected, times = self.observed(layer_id), self.expected(layer_id), "known"
        if self._manner.filled:  # by archives, of which a driver may decline the fractions of times
            expected, times = expected.without_directory_times(), "files"
        elif not self._manner.timed:
            expected = expected.without_directory_times()
        try:
            same_tree(f"the tree of {layer_id}", expected, actual, times=times, links=links)
        except Deviation:
            self._history.stop()
            raise
        return actual

    def stays(self, layer_id: str) -> None:
        if self._manner.filled:  # nothing keeps its tree, and what the driver loses of metadata has its own tests
            self.shows_names(layer_id, self.expected(layer_id).nodes)
        else:
            self.shows_model(layer_id)

    def may_show(self, layer_id: str) -> Snapshot | None:
        try:
            return self.observed(layer_id)
        except DriverRefused:
            return None

    def shows_names(self, layer_id: str, expected: Iterable[bytes]) -> Snapshot:
        actual = self.observed(layer_id)
        same_names(f"the tree of {layer_id}", expected, actual.nodes)
        return actual

    def shows_files(
        self, layer_id: str, there: Mapping[bytes, bytes | None], gone: Iterable[bytes] = ()
    ) -> Snapshot:
        tree = self.observed(layer_id)
        for path, node in tree.nodes.items():
            if node is GHOST:
                raise in_path(path, "ghost", f"{path!r} is listed in {layer_id} and cannot be looked up")
        for path, content in there.items():
            if path not in tree.nodes:
                raise in_path(path, "missing", f"expected {path!r} in {layer_id}, found {sorted(tree.nodes)}")
            if content is not None and not self._manner.listed and tree.nodes[path].content != content:
                said = f"expected {content!r} in {path!r}, found {tree.nodes[path].content[:60]!r}"
                raise in_path(path, "content", said, content)
        for path in gone:
            if path in tree.nodes:
                raise in_path(path, "unexpected", f"expected no {path!r} in {layer_id}, and it is there")
        return tree

    def diff_holds(self, layer_id: str, *expected: str) -> Path:
        archive = self.diff(layer_id)
        names_of_diff(layer_id, set(entry_names(archive)), set(expected))
        return archive

    def tells_links(self, layer_id: str) -> bool:
        # In a user namespace, the kernel cannot follow the origin of a file that it copied up. Until the mount
        # ends, such a file and a link to it show two inode numbers (observed on Linux 6.18).
        return self._privileged or not self._held[layer_id]

    def needs_pieces(self, *, gives_up: bool = False, applies: bool = False) -> None:
        reader = self.driver.in_pieces
        if reader is None:
            not_applicable("the adapter gets the diffs of this driver whole, and nobody reads them in pieces")
        elif applies and applier_of(reader) is None:
            not_applicable("the adapter hands archives to this driver as files or streams")
        elif gives_up and not reader.gives_up:
            not_applicable("nobody can tell when the driver is done with a diff that is given up")

    def diff(self, layer_id: str, parent: str | None = None, *, piece: int = 0, most: int = -1) -> Path:
        if self._manner.archived:
            below = self._trees[self._parents[layer_id] if parent is None else parent]
            return self._of_harness(layer_entries(below, self._trees[layer_id]))
        call = replace(self.diffing(layer_id, parent), piece=piece, most=most)
        self.do(call)
        return self._history.file_of(call.archive)

    def may_diff(self, layer_id: str) -> Path | None:
        call = self.diffing(layer_id)
        return None if self.may_refuse(call) is not None else self._history.file_of(call.archive)

    def diffing(self, layer_id: str, parent: str | None = None) -> Diff:
        against = self._parents[layer_id] if parent is None else parent
        return Diff(layer_id, against, self.label(self._next_archive()))

    def applied(
        self, layer_id: str, entries: Iterable[archives.Entry], form: int = tarfile.PAX_FORMAT
    ) -> int | None:
        return self.apply(layer_id, self.archive(entries, form))

    def archive(self, entries: Iterable[archives.Entry], form: int = tarfile.PAX_FORMAT) -> Path:
        listed = list(entries)
        words = [entry.describe() for entry in listed[:_LISTED]]
        return self._written(archives.archive(listed, form), [*words, *_and_more(len(listed))])

    def bytes_of_archive(self, data: bytes, what: str, *entries: str) -> Path:
        return self._written(data, [f"{what}, {len(data)} bytes", *entries])

    def _written(self, data: bytes, words: Sequence[str]) -> Path:
        path = self._next_archive()
        path.write_bytes(data)
        self._history.add(Archived(self.label(path), data, tuple(words)))
        return path

    def _next_archive(self) -> Path:
        self._archives += 1
        return self.directory / f"archive-{self._archives}.tar"

    def label(self, archive: Path) -> str:
        return self._history.label(archive, self._store)

    def apply(self, layer_id: str, archive: Path, *, piece: int = 0) -> int | None:
        return self.do(replace(self.applying(layer_id, archive), piece=piece))

    def bring(self, other: Store, layer_id: str) -> Path:
        archive = other.diff(layer_id)
        self.create(layer_id, other.parent_of(layer_id))
        self.apply(layer_id, archive)
        return archive

    def applying(self, layer_id: str, archive: Path) -> ApplyDiff:
        return ApplyDiff(layer_id, self._parents[layer_id], self.label(archive))


def _and_more(number: int) -> list[str]:
    return [f"and {number - _LISTED} more"] if number > _LISTED else []


def _names_of(errors: Iterable[int]) -> str:
    return " or ".join(sorted(os.strerror(number) for number in errors))
