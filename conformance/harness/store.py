"""A driver and the model side by side: what is done to one is done to the other, and told in a story.

The story of the last example that ran is what a failure shows. Hypothesis runs the smallest failing example
last, so that is the smallest sequence of operations.
"""

from __future__ import annotations

import errno
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from conformance.drivers.protocol import DriverRefused, DriverUnderTest
from conformance.history.findings import Accepted, Finding, InWords, TreeDiffers, Unreadable, WrongOutcome
from conformance.history.tape import Archived, Beyond, Did, Looked, Tampered, Tape
from conformance.operations import archives, ops
from conformance.operations.model import Node, Snapshot, Tree, Unspecified
from conformance.operations.observe import compared, differences, observe
from conformance.operations.real import perform, with_links


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


class Story:
    """The steps of one example, in words, and as values on a tape; and facts, of all examples of a test."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tape = Tape()
        self._facts: dict[str, set[str]] = {}

    def record(self, what: str, seen: str) -> None:
        """What was seen where the requirements leave it open."""
        self._facts.setdefault(what, set()).add(seen)

    def facts(self) -> tuple[str, ...]:
        """What was recorded since the test began, a sentence each."""
        return tuple(f"{what}: {', '.join(sorted(seen))}" for what, seen in sorted(self._facts.items()))

    def forget_facts(self) -> None:
        """A new test begins."""
        self._facts.clear()

    def begin(self) -> None:
        """Forget the example before."""
        self.lines = []
        self.tape.begin()

    def tell(self, line: str) -> None:
        """One more step."""
        self.lines.append(line)


class _Seen(dict[bytes, Node]):
    """The nodes of a tree that a driver shows: a test that looks for a missing one has found a deviation."""

    def __init__(self, nodes: Mapping[bytes, Node], layer_id: str) -> None:
        super().__init__(nodes)
        self._layer_id = layer_id

    def __missing__(self, path: bytes) -> Node:
        raise Deviation(f"the tree of {self._layer_id} has no {path!r}, which a test looks for")


class Workbench:
    """One store of a driver under test, with the model of every layer in it."""

    def __init__(
        self,
        driver: DriverUnderTest,
        directory: Path,
        story: Story,
        name: str = "",
        another: Callable[[], DriverUnderTest] | None = None,
        left_out: Callable[[ops.Operation], bool] = lambda _: False,
    ) -> None:
        self.driver = driver
        self._left_out = left_out  # what the driver declines to carry, so that nobody asks for it by the way
        self._another = another
        self.directory = directory
        self._story = story
        self._store = name or "store"
        self._name = f"{name}: " if name else ""
        self._trees: dict[str, Tree] = {"": Tree()}
        self._parents: dict[str, str] = {}
        self._archives = 0

    def another_opening(self) -> DriverUnderTest:
        """The same home, opened beside the driver that has it open."""
        assert self._another is not None, "the bench gives every store a way to open its home again"
        return self._another()

    def tell(self, line: str) -> None:
        """One more step of the story."""
        self._story.tell(self._name + line)

    def record(self, what: str, seen: str) -> None:
        """A fact for the result, where the requirements leave open what is seen."""
        self._story.record(what, seen)

    def beyond(self, what: str) -> None:
        """Something was done that no script repeats."""
        self._story.tape.add(Beyond(what))

    def create(self, layer_id: str, parent: str = "", *, quiet: bool = False) -> str:
        """Make a layer in the driver and in the model; ``quiet`` if the story says so already."""
        if not quiet:
            self.tell(f"create {layer_id}" + (f" on {parent}" if parent else ""))
        self.driver.create(layer_id, parent)
        self._trees[layer_id] = self._trees[parent].child()
        self._parents[layer_id] = parent
        return layer_id

    def knows(self, other: Workbench, *layer_ids: str) -> None:
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

    def change(self, layer_id: str, operations: Iterable[ops.Operation], *, quiet: bool = False) -> None:
        """Mount a layer, do the operations in both worlds, and put it; ``quiet`` if the story says so already."""
        if not quiet:
            self.tell(f"get {layer_id}")
        root = self.driver.get(layer_id)
        try:
            for operation in operations:
                self._do(layer_id, root, operation, quiet=quiet)
        finally:
            if not quiet:
                self.tell(f"put {layer_id}")
            self.driver.put(layer_id)

    def _do(self, layer_id: str, root: str, operation: ops.Operation, *, quiet: bool) -> None:
        if self._left_out(operation):
            return
        tree = self._trees[layer_id]
        try:
            outcome = tree.expect(operation)
        except Unspecified:
            return
        line = "  " + ops.describe(operation)
        try:
            perform(root, operation)
        except OSError as error:
            self.tell(f"{line}  -> {error.strerror}")
            name = errno.errorcode.get(error.errno or 0, str(error.errno))
            self._story.tape.add(Did(self._store, layer_id, operation, name))
            if error.errno not in outcome.errors:
                wanted = _names_of(outcome.errors) or "success"
                said = f"{ops.describe(operation)}: expected {wanted}, got: {error.strerror}"
                raise Deviation(said, WrongOutcome(outcome.done)) from error
            return
        if not quiet:
            self.tell(line)
        self._story.tape.add(Did(self._store, layer_id, operation))
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
            self._story.tape.add(Tampered(self._store, where, operation))

    def parent_of(self, layer_id: str) -> str:
        """The parent that the layer was created on."""
        return self._parents[layer_id]

    def expected(self, layer_id: str) -> Snapshot:
        """The tree as the model has it."""
        return self._trees[layer_id].snapshot()

    def observed(self, layer_id: str) -> Snapshot:
        """The tree as the driver shows it."""
        root = self.driver.get(layer_id)
        try:
            found = replace(observed := observe(root), nodes=_Seen(observed.nodes, layer_id))
            self._story.tape.add(Looked(self._store, layer_id, tuple(sorted(found.nodes))))
            return found
        except OSError as error:
            raise Deviation(f"the tree of {layer_id} cannot be read: {error}", Unreadable()) from error
        finally:
            self.driver.put(layer_id)

    def check_tree(self, layer_id: str) -> Snapshot:
        """The layer shows what the model says; raises Deviation."""
        actual = self.observed(layer_id)
        try:
            same_tree(f"the tree of {layer_id}", self.expected(layer_id), actual)
        except Deviation:
            self._story.tape.stop()
            raise
        return actual

    def diff(self, layer_id: str, parent: str | None = None) -> Path:
        """The archive of a layer, against its own parent unless another is named."""
        against = self._parents[layer_id] if parent is None else parent
        self._archives += 1
        path = self.directory / f"archive-{self._archives}.tar"
        self.tell(f"diff {layer_id} against {against or 'nothing'} into {path.name}")
        self.driver.diff(layer_id, against, path)
        return path

    def applied(
        self, layer_id: str, entries: Iterable[archives.Entry], form: int = tarfile.PAX_FORMAT
    ) -> int | None:
        """Apply an archive of these entries, which the story tells one by one."""
        return self.apply(layer_id, self.archive(entries, form))

    def archive(self, entries: Iterable[archives.Entry], form: int = tarfile.PAX_FORMAT) -> Path:
        """An archive of these entries, which the story tells one by one."""
        self._archives += 1
        path = self.directory / f"archive-{self._archives}.tar"
        listed = list(entries)
        self.tell(f"an archive {path.name} of:")
        for entry in listed[:20]:
            self.tell(f"  {entry.describe()}")
        if len(listed) > 20:
            self.tell(f"  and {len(listed) - 20} more")
        return self._written(path, archives.archive(listed, form), [entry.describe() for entry in listed[:20]])

    def bytes_of_archive(self, data: bytes, what: str) -> Path:
        """An archive with these bytes."""
        self._archives += 1
        path = self.directory / f"archive-{self._archives}.tar"
        self.tell(f"an archive {path.name}: {what}, {len(data)} bytes")
        return self._written(path, data, [what])

    def _written(self, path: Path, data: bytes, words: Sequence[str]) -> Path:
        path.write_bytes(data)
        tape = self._story.tape
        tape.add(Archived(tape.label(str(path), self._store), data, tuple(words)))
        return path

    def apply(self, layer_id: str, archive: Path) -> int | None:
        """Apply an archive to a layer that exists."""
        self.tell(f"apply {archive.name} to {layer_id}")
        return self.driver.apply_diff(layer_id, self._parents[layer_id], archive)

    def must_refuse(self, what: str, *, call: Callable[[], object]) -> str:
        """The driver's refusal of a call that it must refuse; raises Deviation if it accepts."""
        self.tell(f"{what}  (to be refused)")
        try:
            call()
        except DriverRefused as refused:
            return str(refused)
        self._story.tape.stop()
        raise Deviation(f"{what}: expected a refusal, but the driver did it", Accepted())


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
