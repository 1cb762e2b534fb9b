"""A store: one opened home of the driver under test, and the model of every layer in it.

A call or an operation is done to the driver and to the model, and recorded in the history, by one method here.
"""

from __future__ import annotations

import errno
import lzma
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, overload

from conformance.drivers.protocol import Change, DriverRefused, DriverUnderTest
from conformance.harness.recorded import RecordedDriver
from conformance.history.calls import (
    ApplyDiff,
    Call,
    Changes,
    Create,
    Diff,
    DiffSize,
    Exists,
    Get,
    Metadata,
    Put,
    Reopen,
    Status,
)
from conformance.history.findings import Accepted, Finding, InWords, TreeDiffers, Unreadable, WrongOutcome
from conformance.history.steps import Archived, Beyond, Did, History, Looked, Tampered
from conformance.history.trace import describe
from conformance.operations import archives, ops
from conformance.operations.model import Node, Snapshot, Tree, Unspecified
from conformance.operations.observe import compared, differences, observe
from conformance.operations.real import perform, with_links

_LISTED: Final = 20  # entries of an archive that a trace lists


class Deviation(AssertionError):
    """The driver does something else than a requirement says; the text is expected against actual.

    ``finding`` is the same as a value, from which a script is made; without one there is no script.
    ``requirements`` are those that say so, where a test looks at more; () for all that it looks at.
    """

    requirements: tuple[str, ...] = ()

    def __init__(self, text: str, finding: Finding | None = None, requirements: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.finding: Finding = finding or InWords()
        self.requirements = requirements or self.requirements


@contextmanager
def charged_to(*requirements: str) -> Iterator[None]:
    """A deviation in this block violates these requirements, unless it names others itself.

    For tests of several requirements: a failure is charged to what it violates, and to nothing else.
    """
    try:
        yield
    except Deviation as deviation:
        deviation.requirements = deviation.requirements or requirements
        raise


class Leak(Deviation):
    """The driver left something behind; this is judged by a requirement of its own, whatever the test was about."""

    requirements = ("OVL-LIFE-NO-LEAKS",)


class SharedUpper(Deviation):
    """Two mounts had one upper directory; this is judged by a requirement of its own, as a leak is."""

    requirements = ("OVL-MOUNT-UPPER-ONCE",)


class _Seen(dict[bytes, Node]):
    """The nodes of a tree that a driver shows: a test that looks for a missing one has found a deviation."""

    def __init__(self, nodes: Mapping[bytes, Node], layer_id: str) -> None:
        super().__init__(nodes)
        self._layer_id = layer_id

    def __missing__(self, path: bytes) -> Node:
        raise Deviation(f"the tree of {self._layer_id} has no {path!r}, which a test looks for")


class Store:
    """One store of a driver under test, with the model of every layer in it."""

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
    ) -> None:
        self.driver = driver
        self._left_out = left_out  # what the driver declines to carry, so that nobody asks for it by the way
        self._another = another
        self.directory = directory
        self._history = history
        self._store = name or "store"
        self._trees: dict[str, Tree] = {"": Tree(privileged=privileged)}
        self._parents: dict[str, str] = {}
        self._privileged = privileged
        self._held: Counter[str] = Counter()  # gets without a put, by layer
        self._archives = 0

    @property
    def home(self) -> str:
        """The directory that holds the driver's layers."""
        return self.driver.home

    @property
    def image_store(self) -> str:
        """What another store is given as an image store, so that it reads this one's layers."""
        return self.driver.image_store

    def another_opening(self) -> DriverUnderTest:
        """The same home, opened beside the driver that has it open."""
        assert self._another is not None, "the bench gives every store a way to open its home again"
        return self._another()

    def note(self, text: str) -> None:
        """A sentence for the trace, where the steps do not say it themselves."""
        self._history.note(text, self._store)

    def record(self, what: str, seen: str) -> None:
        """A fact for the result, where the requirements leave open what is seen."""
        self._history.record(what, seen)

    def beyond(self, what: str) -> None:
        """Something was done that no script repeats."""
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
        """Perform a call on the driver and on the model; the driver's answer.

        Raises DriverRefused and DriverFailed, after which the model is as it was.
        """
        answer = self.driver.do(call)
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
        return answer

    def refuses(self, call: Call) -> str:
        """The driver's refusal of a call that it must refuse; raises Deviation if it accepts."""
        try:
            self.driver.do(call)
        except DriverRefused as refused:
            return str(refused)
        self._history.stop()
        raise Deviation(f"{describe(call)}: expected a refusal, but the driver did it", Accepted())

    def may_refuse(self, call: Call) -> str | None:
        """Perform a call that the driver may refuse; its refusal, or None if it did the call."""
        try:
            self.do(call)
        except DriverRefused as refused:
            return str(refused)
        return None

    def create(self, layer_id: str, parent: str = "") -> str:
        """Create a layer; its id."""
        self.do(Create(layer_id, parent))
        return layer_id

    def knows(self, other: Store, *layer_ids: str) -> None:
        """Layers of another store are seen in this one too, as image stores are."""
        for layer_id in layer_ids:
            self._trees[layer_id] = other._trees[layer_id]
            self._parents[layer_id] = other._parents[layer_id]

    def build(self, chain: Sequence[Iterable[ops.Operation]]) -> list[str]:
        """A layer for each sequence of operations, each on the one before; their ids."""
        ids: list[str] = []
        for number, operations in enumerate(chain):
            ids.append(self.create(f"layer-{number}", ids[-1] if ids else ""))
            self.change(ids[-1], operations)
        return ids

    def change(self, layer_id: str, operations: Iterable[ops.Operation]) -> None:
        """Mount a layer, do the operations in the tree and in the model, and put it."""
        root = self.do(Get(layer_id))
        try:
            for operation in operations:
                self._do(layer_id, root, operation)
        finally:
            self.do(Put(layer_id))

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
        """Do something to the files of the store, below its home or its own directory ("directory").

        ``{link:LAYER}`` in a path or a content is what the file ``link`` of that layer holds.
        """
        root = self.driver.home if where == "home" else os.fspath(self.directory)
        for operation in operations:
            try:
                perform(root, with_links(operation, self.driver.home))
            except OSError as error:
                if where != "home":
                    raise
                raise Deviation(
                    f"a test changes the driver's files ({ops.describe(operation)}): expected them as the layout"
                    f" of a home has them, and got: {error}"
                ) from error
            self._history.add(Tampered(self._store, where, operation))

    def parent_of(self, layer_id: str) -> str:
        """The parent that the layer was created on."""
        return self._parents[layer_id]

    def expected(self, layer_id: str) -> Snapshot:
        """The tree as the model has it."""
        return self._trees[layer_id].snapshot()

    def observed(self, layer_id: str) -> Snapshot:
        """The tree as the driver shows it."""
        root = self.do(Get(layer_id))
        try:
            found = replace(observed := observe(root), nodes=_Seen(observed.nodes, layer_id))
            self._history.add(Looked(self._store, layer_id, tuple(sorted(found.nodes))))
            return found
        except OSError as error:
            raise Deviation(f"the tree of {layer_id} cannot be read: {error}", Unreadable()) from error
        finally:
            self.do(Put(layer_id))

    def shows_model(self, layer_id: str) -> Snapshot:
        """The layer shows what the model says; raises Deviation."""
        links = self.tells_links(layer_id)
        actual = self.observed(layer_id)
        try:
            same_tree(f"the tree of {layer_id}", self.expected(layer_id), actual, links=links)
        except Deviation:
            self._history.stop()
            raise
        return actual

    def tells_links(self, layer_id: str) -> bool:
        """Whether the inode numbers in the layer's tree tell which names are links of one inode.

        In a user namespace, the kernel cannot follow the origin of a file that it copied up. Until the mount ends,
        such a file and a link to it show two inode numbers (observed on Linux 6.18).
        """
        return self._privileged or not self._held[layer_id]

    def diff(self, layer_id: str, parent: str | None = None) -> Path:
        """The archive of a layer, against its own parent unless another is named."""
        call = self.diffing(layer_id, parent)
        self.do(call)
        return self._history.file_of(call.archive)

    def diffing(self, layer_id: str, parent: str | None = None) -> Diff:
        """The call that writes a layer's archive into a new file."""
        against = self._parents[layer_id] if parent is None else parent
        return Diff(layer_id, against, self.label(self._next_archive()))

    def applied(
        self, layer_id: str, entries: Iterable[archives.Entry], form: int = tarfile.PAX_FORMAT
    ) -> int | None:
        """Apply an archive of these entries, which the trace lists."""
        return self.apply(layer_id, self.archive(entries, form))

    def archive(self, entries: Iterable[archives.Entry], form: int = tarfile.PAX_FORMAT) -> Path:
        """An archive of these entries, which the trace lists."""
        listed = list(entries)
        words = [entry.describe() for entry in listed[:_LISTED]]
        if len(listed) > _LISTED:
            words.append(f"and {len(listed) - _LISTED} more")
        return self._written(archives.archive(listed, form), words)

    def bytes_of_archive(self, data: bytes, what: str) -> Path:
        """An archive with these bytes."""
        return self._written(data, [f"{what}, {len(data)} bytes"])

    def _written(self, data: bytes, words: Sequence[str]) -> Path:
        path = self._next_archive()
        path.write_bytes(data)
        self._history.add(Archived(self.label(path), data, tuple(words)))
        return path

    def _next_archive(self) -> Path:
        self._archives += 1
        return self.directory / f"archive-{self._archives}.tar"

    def label(self, archive: Path) -> str:
        """The label of an archive, for calls that name one."""
        return self._history.label(archive, self._store)

    def apply(self, layer_id: str, archive: Path) -> int | None:
        """Apply an archive to a layer that exists."""
        return self.do(self.applying(layer_id, archive))

    def applying(self, layer_id: str, archive: Path) -> ApplyDiff:
        """The call that applies an archive to a layer."""
        return ApplyDiff(layer_id, self._parents[layer_id], self.label(archive))


def same_tree(
    what: str,
    expected: Snapshot,
    actual: Snapshot,
    *,
    times: str = "known",
    links: bool = True,
    times_of: str = "OVL-APPLY-FILE-TIMES",
) -> None:
    """Two trees are equal; raises Deviation with what differs. ``links`` says whether hard links count.

    Where nothing but times of files differs (``times`` is "files"), that is charged to ``times_of``.
    """
    if not links:
        expected, actual = expected.without_links(), actual.without_links()
    found = compared(expected, actual, times=times)
    if found:
        lines = [f"{what} differs from the expected tree:", *differences(expected, actual, times=times)]
        only_times = times == "files" and all(one.what == "mtime" for one in found)
        charged = (times_of,) if only_times else ()
        raise Deviation("\n".join(lines), TreeDiffers(tuple(found), expected, actual), charged)


def members(archive: Path) -> list[tarfile.TarInfo]:
    """The entries of an archive, read by another implementation than any driver's."""
    try:
        with tarfile.open(archive) as tar:
            return tar.getmembers()
    except (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise Deviation(f"Python's tarfile cannot read the diff: {error}") from error


def entry_names(archive: Path) -> list[str]:
    """The names of an archive without what writers put around them."""
    return [
        member.name.removeprefix("./").rstrip("/") for member in members(archive) if member.name not in (".", "./")
    ]


def content_of(archive: Path) -> list[tuple[object, ...]]:
    """What an archive says, entry by entry, but for the times of whiteouts, which some writers make up."""
    return [
        (
            member.name,
            member.type,
            member.mode,
            (member.uid, member.gid),
            member.size,
            member.linkname,
            0 if "/.wh." in f"/{member.name}" else member.mtime,
        )
        for member in members(archive)
    ]


def everything_below(directory: str) -> set[str]:
    """Every path below a directory, for before and after."""
    return {os.path.join(root, name) for root, below, files in os.walk(directory) for name in (*below, *files)}


def _names_of(errors: Iterable[int]) -> str:
    return " or ".join(sorted(os.strerror(number) for number in errors))
