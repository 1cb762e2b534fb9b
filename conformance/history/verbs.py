"""The words for calls of a driver that causes have."""

from __future__ import annotations

from typing import assert_never

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


def verb(call: Call) -> str:
    """What is called, in the word that a trace begins with."""
    match call:
        case Create():
            return "create"
        case Remove():
            return "remove"
        case Get():
            return "get"
        case Put():
            return "put"
        case Exists():
            return "exists"
        case Status():
            return "status"
        case Metadata():
            return "metadata"
        case Diff():
            return "diff"
        case ApplyDiff():
            return "apply"
        case DiffSize():
            return "diff-size"
        case Changes():
            return "changes"
        case Reopen():
            return "open"
        case Close():
            return "close"
        case _:
            assert_never(call)
