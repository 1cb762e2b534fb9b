"""Which errors of a Python driver are no refusals but mistakes in its code."""

from __future__ import annotations

from typing import Final

# Only these classes themselves: a class that a driver derives from one of them is its own choice, and a refusal.
DEFECTS: Final[frozenset[type[BaseException]]] = frozenset(
    (
        AssertionError,
        AttributeError,
        ImportError,
        IndentationError,
        IndexError,
        KeyError,
        MemoryError,
        ModuleNotFoundError,
        NameError,
        NotImplementedError,
        RecursionError,
        ReferenceError,
        StopAsyncIteration,
        StopIteration,
        SyntaxError,
        SystemError,
        TabError,
        TypeError,
        UnboundLocalError,
        ZeroDivisionError,
    )
)


def is_refusal(error: BaseException) -> bool:
    """Whether a driver raises this to refuse a call."""
    return isinstance(error, Exception) and type(error) not in DEFECTS
