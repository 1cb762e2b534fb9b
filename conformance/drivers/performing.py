"""Calls performed on a driver: the one place that maps values of history.calls to the methods of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, assert_never, cast

from conformance.drivers.protocol import DriverUnderTest, ReaderInPieces
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


class ApplierInPieces(Protocol):
    """A driver that takes archives from an object that it reads.

    An opened driver has the method where that is so. It is no part of DriverUnderTest: commands and daemons get a
    file or a stream.
    """

    def apply_in_pieces(self, layer_id: str, parent: str, archive: Path, piece: int) -> int | None:
        """As ``apply_diff``, from an object that has nothing but ``read``, which gives ``piece`` bytes at most."""


def perform(driver: DriverUnderTest, call: Call, file_of: Callable[[str], Path]) -> object:
    """The answer of the driver, of the type that its method has; ``file_of`` gives the file of an archive's label.

    Raises DriverRefused and DriverFailed, as the method does. ``Reopen`` answers the driver of the new opening.
    """
    match call:
        case Create():
            driver.create(call.layer, call.parent, call.options, read_write=call.read_write)
        case Remove():
            driver.remove(call.layer)
        case Get():
            return driver.get(call.layer, call.label)
        case Put():
            driver.put(call.layer)
        case Exists():
            return driver.exists(call.layer)
        case Status():
            return driver.status()
        case Metadata():
            return driver.metadata(call.layer)
        case Diff():
            _diff(driver, call, file_of(call.archive))
        case ApplyDiff():
            return _apply(driver, call, file_of(call.archive))
        case DiffSize():
            return driver.diff_size(call.layer, call.parent)
        case Changes():
            return driver.changes(call.layer, call.parent)
        case Reopen():
            return driver.reopen()
        case Close():
            driver.close()
        case _:
            assert_never(call)
    return None


def _diff(driver: DriverUnderTest, call: Diff, archive: Path) -> None:
    if not call.piece:
        driver.diff(call.layer, call.parent, archive)
        return
    reader = in_pieces(driver)
    assert reader is not None, "a test asks before (Store.reads_in_pieces)"
    reader.diff_in_pieces(call.layer, call.parent, archive, call.piece, call.most)


def _apply(driver: DriverUnderTest, call: ApplyDiff, archive: Path) -> int | None:
    if not call.piece:
        return driver.apply_diff(call.layer, call.parent, archive)
    applier = applier_of(driver)
    assert applier is not None, "a test asks before (Store.needs_pieces)"
    return applier.apply_in_pieces(call.layer, call.parent, archive, call.piece)


def applier_of(driver: object) -> ApplierInPieces | None:
    """The driver, or the one that it wraps, if it takes archives from an object that it reads."""
    found = in_pieces(driver)
    return cast(ApplierInPieces, found) if hasattr(found, "apply_in_pieces") else None


def in_pieces(driver: object) -> ReaderInPieces | None:
    """The driver, or the one that it wraps, if its diffs can be read in pieces."""
    found: ReaderInPieces | None = getattr(driver, "in_pieces", None)
    if found is None and hasattr(driver, "diff_in_pieces"):
        return cast(ReaderInPieces, driver)
    return found
