"""What is wrong with a driver, as a value: what a script has to look at to see the same."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.operations.comparing import Difference
from conformance.operations.trees import Snapshot


@dataclass(frozen=True, slots=True)
class TreeDiffers:
    """The tree that was got last is not what it should be; the trees are for the folder of the failure."""

    differences: tuple[Difference, ...]
    expected: Snapshot | None = None
    actual: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The tree that was got last cannot be read whole."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The last call of the driver should have been refused."""


@dataclass(frozen=True, slots=True)
class NotDone:
    """A call of the driver should have been done, and was refused with these words."""

    said: str = ""


@dataclass(frozen=True, slots=True)
class RefusalLacks:
    """The last call of the driver was refused, as it should be, with words that hold none of these."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WrongOutcome:
    """The last operation on a tree should have been done, or should have failed, and did otherwise."""

    done: bool


@dataclass(frozen=True, slots=True)
class FilesDiffer:
    """Paths below the store's home (or its "directory") that went, or came, and should not have."""

    gone: tuple[str, ...] = ()
    came: tuple[str, ...] = ()
    where: str = "home"


@dataclass(frozen=True, slots=True)
class RootReplaced:
    """The root of the tree that was got last is no directory any more, or lost ``name``, which it held."""

    name: bytes


@dataclass(frozen=True, slots=True)
class OutsideChanged:
    """A directory of this name in the store's own, beside the layers, is not as it was."""

    name: str


@dataclass(frozen=True, slots=True)
class WrongChange:
    """The changes that were asked for last say this of a path, and should say ``want`` ("" for nothing)."""

    path: bytes
    want: str
    got: str


@dataclass(frozen=True, slots=True)
class StillMounted:
    """Something is mounted below the stores' directories, and should not be; ``overlays`` counts these alone."""

    overlays: bool = False


@dataclass(frozen=True, slots=True)
class MountedTwice:
    """More than one mount is on the tree that was got last."""


@dataclass(frozen=True, slots=True)
class TreeGone:
    """The tree that was got last is not there any more after all the steps, seen by an entry of it."""

    name: bytes


@dataclass(frozen=True, slots=True)
class BytesDiffer:
    """The last two archives that were written should have the same bytes."""


@dataclass(frozen=True, slots=True)
class DiffDisagrees:
    """The changes that were asked for last add a path that the last diff lacks, or lack one that it brings."""

    path: bytes
    added: bool


@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """The last answer in the history, all of it, is wrong: a driver that gives it again still deviates."""


@dataclass(frozen=True, slots=True)
class NamesOfDiff:
    """The last answer, a diff, has other names than it should; otherwise as WrongAnswer."""


@dataclass(frozen=True, slots=True)
class SizeOfDiff:
    """The last answer is another size of a diff than it should be; otherwise as WrongAnswer."""


@dataclass(frozen=True, slots=True)
class BadLayout:
    """A file of the driver cannot be used as its layout says; described in words only."""


@dataclass(frozen=True, slots=True)
class NotContained:
    """The last get answered no path of a directory below the store's own."""


@dataclass(frozen=True, slots=True)
class InWords:
    """The deviation is described in words only; no reproducer can check it."""


Finding = (
    TreeDiffers
    | Unreadable
    | Accepted
    | NotDone
    | RefusalLacks
    | WrongOutcome
    | FilesDiffer
    | RootReplaced
    | OutsideChanged
    | WrongChange
    | StillMounted
    | MountedTwice
    | WrongAnswer
    | TreeGone
    | BytesDiffer
    | DiffDisagrees
    | NotContained
    | NamesOfDiff
    | SizeOfDiff
    | BadLayout
    | InWords
)
