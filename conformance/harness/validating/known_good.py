"""A run of calls in an order that any correct driver can do: their answers, the types, and what the trees show."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, assert_never

from conformance.drivers.protocol import Change, DriverUnderTest
from conformance.harness.validating.subject import Opening, Subject, name_of, said_of
from conformance.harness.validating.values import Check, Result, Whose
from conformance.harness.validating.watch import Answered, Outcome, Watch
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
from conformance.lab import mountinfo
from conformance.spec.naming import counted

_METHODS: Final = sorted(name for name in vars(DriverUnderTest) if not name.startswith("_"))
_KINDS: Final = ("add", "modify", "delete")
_CALLS: Final = "calls"
_TYPES: Final = "types of answers"
TREE: Final = "visible trees"
_PUT: Final = "unmounting"


class _Stop(Exception):
    """Nothing that comes later can be done without this call."""


@dataclass(slots=True)
class _Seen:
    """What was seen on the way."""

    calls: int = 0
    wrong: list[Check] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    tree: list[tuple[str, bool]] = field(default_factory=list)  # with whether it is certainly the adapter's
    mounted: int = 0
    trees: int = 0
    left: list[str] = field(default_factory=list)
    declined: list[str] = field(default_factory=list)


def lacking_methods(driver: object) -> list[str]:
    """Methods and properties of the protocol that an opened driver does not have.

    What fails in a property is another check's: it is there.
    """
    found = []
    for name in _METHODS:
        with suppress(Exception):
            getattr(driver, name)
            continue
        if not hasattr(type(driver), name):
            found.append(name)
    return found


def known_good(subject: Subject, first: Opening) -> tuple[list[Check], bool]:
    """The checks of such a run, and whether it came to its end."""
    run = _Run(subject, first, _Seen())
    try:
        run.do()
        whole = True
    except _Stop:
        whole = False
    return list(run.checks()), whole


class _Run:
    def __init__(self, subject: Subject, first: Opening, seen: _Seen) -> None:
        self._subject = subject
        self._first = first
        self._seen = seen

    def do(self) -> None:
        """All of it, from an empty home to an empty home."""
        self._must(Create("base"))
        with self._tree("base") as tree:
            self._write(tree, "of-base")
        with self._tree("base") as tree:
            self._shows(tree, "base", "of-base", "what was written into it before")
        self._must(Create("child", "base"))
        with self._tree("child") as tree:
            self._shows(tree, "child", "of-base", "what its parent has")
            self._write(tree, "of-child")
        with self._tree("child") as tree:
            self._shows(tree, "child", "of-child", "what was written into it before")
        # The options of a read-write layer are a capability, even if there are none.
        self._must(Create("writable", "child", None if self._subject.lacks("layer-options") else {}))
        with self._tree("writable") as tree:
            self._shows(tree, "writable", "of-child", "what its parent has")
        self._may("status", Status())
        self._may("metadata", Metadata("child"))
        self._may("diff-size", DiffSize("child", "base"))
        self._may("changes", Changes("child", "base"))
        self._diffs()
        self._exists("child", True)
        self._exists("never-created", False)
        self._must(Reopen())
        self._exists("child", True)
        with self._tree("child") as tree:
            self._shows(tree, "child", "of-child", "what it had before the home was opened again")
        for layer in ("writable", "child", "base"):
            self._must(Remove(layer))
            self._exists(layer, False)

    def checks(self) -> Iterator[Check]:
        """One line for each thing that was looked at; more for calls that were not answered."""
        seen, subject = self._seen, self._subject
        yield from seen.wrong or [
            Check(_CALLS, Result.OK, Whose.NOBODY, f"{seen.calls} calls were answered, in the order of a client")
        ]
        if seen.declined:
            said = f"not called: {', '.join(seen.declined)}"
            yield Check(_CALLS, Result.DECLINED, Whose.NOBODY, said)
        if seen.types:
            following = "return the types of conformance.drivers.protocol.DriverUnderTest, or raise DriverFailed"
            yield subject.wrong(_TYPES, "; ".join(dict.fromkeys(seen.types)), following, certain=True)
        elif seen.calls:
            yield Check(_TYPES, Result.OK, Whose.NOBODY, "every answer has the type of its call")
        if seen.tree:
            certain = any(one for _, one in seen.tree)
            following = (
                "run the driver in the mount namespace of the suite"
                if certain
                else "look at the path that get answers while the layer is mounted; then do it by hand"
            )
            yield subject.wrong(TREE, seen.tree[0][0], following, certain=certain)
        elif seen.trees > 1:
            said = (
                f"{counted(seen.trees, 'tree')} seen by this process, with what was written and what parents have"
            )
            yield Check(TREE, Result.OK, Whose.NOBODY, said)
        if seen.left:
            yield self._still_mounted(seen.left)
        elif seen.trees:
            said = (
                f"{counted(seen.mounted, 'mount')} gone after put"
                if seen.mounted
                else "no mount: trees are directories"
            )
            yield Check(_PUT, Result.OK, Whose.NOBODY, said)

    def _still_mounted(self, left: list[str]) -> Check:
        watch: Watch = self._subject.watch
        silent = watch.started_a_process("exists") and watch.started_a_process("put") is False
        return self._subject.wrong(
            _PUT,
            f"after the only get and its put, {left[0]} is still mounted"
            + ("; put starts no command, and exists does" if silent else ""),
            "look whether put reaches the driver: the last put unmounts",
            certain=bool(silent),
        )

    def _must(self, call: Call) -> Any:
        """The answer; raises _Stop if there is none."""
        outcome = self._first.do(call, timed=True)
        if not isinstance(outcome, Answered):
            self._complain(call, outcome)
            raise _Stop
        self._seen.calls += 1
        self._type(call, outcome.value)
        return outcome.value

    def _may(self, capability: str, call: Call) -> bool:
        """Whether a call was answered without which the run goes on; it is not made if it is declined."""
        if self._subject.lacks(capability):
            if capability in self._subject.info.declined:
                self._seen.declined.append(capability)
            return False
        with suppress(_Stop):
            self._must(call)
            return True
        return False

    def _complain(self, call: Call, outcome: Outcome) -> None:
        found = self._subject.not_answered(_CALLS, said_of(call), outcome)
        self._seen.wrong.append(found)

    def _exists(self, layer: str, expected: bool) -> None:
        answer = self._must(Exists(layer))
        if isinstance(answer, bool) and answer is not expected:
            state = "there" if expected else "not there"
            said = f"exists {layer} answered {answer}, and the layer is {state}"
            following = "compare with the driver's own answer"
            self._seen.wrong.append(self._subject.wrong(_CALLS, said, following))

    def _diffs(self) -> None:
        if not self._may("diff", Diff("child", "base", "child.tar")):
            if "apply" in self._subject.info.declined:
                self._seen.declined.append("apply")
            return
        if not _is_archive(self._first.archive("child.tar")):
            self._seen.types.append("diff: expected a tar archive in the file that it was given, got none")
            return
        self._must(Create("copy", "base"))
        if self._may("apply", ApplyDiff("copy", "base", "child.tar")):
            with self._tree("copy") as tree:
                self._shows(tree, "copy", "of-child", "what was in the archive that was applied")
        self._must(Remove("copy"))

    @contextmanager
    def _tree(self, layer: str) -> Iterator[Path]:
        path = str(self._must(Get(layer)))
        self._seen.trees += 1
        mounted = _is_mounted(path)
        self._seen.mounted += mounted
        if not mounted and (where := mounted_elsewhere(path)):
            said = f"the tree of {layer} is mounted in the mount namespace of process {where}, and not in this one"
            self._seen.tree.append((said, True))
        try:
            yield Path(path)
        finally:
            self._must(Put(layer))
        if mounted and _is_mounted(path):
            self._seen.left.append(path)

    def _write(self, tree: Path, name: str) -> None:
        try:
            (tree / name).write_text(name)
        except OSError as error:
            self._seen.tree.append((f"{tree / name} cannot be written: {error.strerror}", False))

    def _shows(self, tree: Path, layer: str, name: str, what: str) -> None:
        if not (tree / name).exists():
            self._seen.tree.append(
                (f"the tree of {layer} does not show {what}: {name} is missing in {tree}", False)
            )

    def _type(self, call: Call, value: object) -> None:
        if expected := _expected(call, value):
            self._seen.types.append(f"{name_of(call)}: expected {expected}, got {type(value).__name__}")


def _expected(call: Call, value: object) -> str:
    """What the answer should be, "" if it is that."""
    match call:
        case Exists():
            return "" if isinstance(value, bool) else "bool"
        case Status() | Metadata():
            right = isinstance(value, Mapping) and all(
                isinstance(one, str) for pair in value.items() for one in pair
            )
            return "" if right else "a mapping of str to str"
        case DiffSize():
            return "" if _is_size(value) else "int"
        case ApplyDiff():
            return "" if value is None or _is_size(value) else "int or None"
        case Changes():
            right = isinstance(value, list) and all(map(_is_change, value))
            return "" if right else "a list of Change, with an absolute path as bytes, and add, modify or delete"
        case Close() | Create() | Diff() | Get() | Put() | Remove() | Reopen():
            return ""
        case _:
            assert_never(call)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_change(value: object) -> bool:
    if not isinstance(value, Change):
        return False
    path: object = value.path
    return isinstance(path, bytes) and path.startswith(b"/") and value.kind in _KINDS


def _is_archive(file: Path) -> bool:
    return file.is_file() and tarfile.is_tarfile(file)


def _is_mounted(path: str) -> bool:
    resolved = os.path.realpath(path)
    return any(one.point == resolved for one in mountinfo.mounts())


def mounted_elsewhere(path: str) -> str:
    """The id of a process with a mount on the path in another mount namespace than this one; "" if none has it."""
    resolved = os.fsencode(os.path.realpath(path))
    for entry in os.listdir("/proc"):
        with suppress(OSError):
            if entry.isdecimal():
                lines = Path("/proc", entry, "mountinfo").read_bytes().splitlines()
                if any(line.split(b" ", 5)[4] == resolved for line in lines):
                    return entry
    return ""
