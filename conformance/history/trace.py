"""The trace of an example: its steps as lines that a person reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, assert_never

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
from conformance.history.steps import (
    Archived,
    Beyond,
    Called,
    Did,
    Looked,
    Noted,
    Opened,
    Step,
    Tampered,
    Waited,
)
from conformance.operations import ops

_NUMBER: Final = re.compile(r"[0-9]+")
_BLOCK: Final = 8  # lines of a block that may repeat
_REPEATED: Final = 6  # times that a block is shown in full


def example_heading(*, minimal: bool) -> str:
    """What stands above a trace: hypothesis has shrunk the example, or was asked not to (``--no-shrink``)."""
    return "Minimal example:" if minimal else "Example, not shrunk:"


def trace(steps: Sequence[Step]) -> tuple[str, ...]:
    """A line or more for each step, with the name of the store where there is more than one.

    A layer that was mounted only to be looked at is one line. Of blocks of lines that repeat but for their numbers,
    as in a chain of many layers, the first two and the last are shown.
    """
    several = len({step.store for step in steps if isinstance(step, Opened)}) > 1
    lines: list[str] = []
    number = 0
    while number < len(steps):
        looked = _look(steps[number : number + 3])
        step = looked or steps[number]
        name = getattr(step, "store", "")
        prefix = f"{name}: " if several and name else ""
        lines += [prefix + line for line in _lines(step)]
        number += 3 if looked else 1
    return tuple(_folded(lines))


def _folded(lines: Sequence[str]) -> Iterator[str]:
    """The lines, with long repetitions cut short."""
    shapes = [_NUMBER.sub("#", line) for line in lines]
    at = 0
    while at < len(lines):
        size, times = _repetition(shapes, at)
        if times <= _REPEATED:
            yield lines[at]
            at += 1
            continue
        yield from lines[at : at + 2 * size]
        yield f"... and so on, {times} times in all, to:"
        at += times * size
        yield from lines[at - size : at]


def _repetition(shapes: Sequence[str], at: int) -> tuple[int, int]:
    """Of the block of lines that begins here and repeats most: its length, and how often it comes."""
    best = (1, 1)
    for size in range(1, _BLOCK + 1):
        block, times = shapes[at : at + size], 1
        while shapes[at + times * size : at + (times + 1) * size] == block and block:
            times += 1
        if times > _REPEATED and size * times > best[0] * best[1]:
            best = (size, times)
    return best


def _look(steps: Sequence[Step]) -> Looked | None:
    """The look at a tree, if these three steps are a get, a look and a put of one layer."""
    match steps:
        case [
            Called(call=Get(layer=one), refused=None),
            Looked() as looked,
            Called(call=Put(layer=other), refused=None),
        ]:
            return looked if one == other == looked.layer else None
    return None


def _lines(step: Step) -> Iterator[str]:
    match step:
        case Opened():
            yield from _opened(step)
        case Called():
            yield describe(step.call) + _outcome(step)
            yield from (f"  {words}" for words in step.listing)
        case Did():
            yield f"  {ops.describe(step.operation)}" + (f"  -> {step.error}" if step.error else "")
        case Archived():
            yield f"an archive {step.label} of:"
            yield from (f"  {words}" for words in step.words)
        case Looked():
            yield f"look at the tree of {step.layer}"
        case Tampered():
            where = "the home" if step.where == "home" else "the store's directory"
            yield f"in {where}: {ops.describe(step.operation)}"
        case Waited():
            yield "wait one second"
        case Beyond():
            yield f"({step.what})"
        case Noted():
            yield step.text
        case _:
            assert_never(step)


def _opened(step: Opened) -> Iterator[str]:
    """A home that is opened in the usual way goes without saying."""
    asked = [
        *step.options,
        *(
            f"container {'users' if step.gid_map else 'ids'} from {one} are host ids from {other}, {size} of them"
            for one, other, size in step.id_map
        ),
        *(
            f"container groups from {one} are host ids from {other}, {size} of them"
            for one, other, size in step.gid_map
        ),
        *(f"image store {one}" for one in step.image_stores),
    ]
    if asked or step.refused is not None:
        refused = "" if step.refused is None else f"  -> refused: {step.refused}"
        yield f"open a home{' with ' + ', '.join(asked) if asked else ''}{refused}"


def _outcome(step: Called) -> str:
    if step.refused is not None:
        return f"  -> {'failed' if step.failed else 'refused'}: {step.refused}"
    match step.call, step.answer:
        case Exists(), bool():
            return f"  -> {'yes' if step.answer else 'no'}"
        case ((DiffSize() | ApplyDiff()), int()):
            return f"  -> {step.answer} bytes"
    return ""


def describe(call: Call) -> str:
    """One line, such as ``create b on a``."""
    match call:
        case Create():
            kind = "" if call.options is None else ("read-write " if call.read_write else "image ")
            on = f" on {call.parent}" if call.parent else ""
            said = ", ".join(f"{key}={value}" for key, value in (call.options or {}).items())
            options = "" if call.options is None else f" with {said or 'no option'}"
            return f"create {kind and kind + 'layer '}{call.layer or repr('')}{on}{options}"
        case Remove():
            return f"remove {call.layer or repr('')}"
        case Get():
            return f"get {call.layer or repr('')}" + (f" with the label {call.label}" if call.label else "")
        case Put():
            return f"put {call.layer or repr('')}"
        case Exists():
            return f"exists {call.layer or repr('')}"
        case Status():
            return "status"
        case Metadata():
            return f"metadata {call.layer or repr('')}"
        case Diff():
            read = f", read in pieces of {call.piece} bytes" if call.piece else ""
            read += f" and given up after {call.most}" if call.most >= 0 else ""
            return f"diff {call.layer} against {call.parent or 'nothing'} into {call.archive}{read}"
        case ApplyDiff():
            read = f", from an object that gives {call.piece} bytes at most" if call.piece else ""
            return f"apply {call.archive} to {call.layer}{read}"
        case DiffSize():
            return f"diff-size of {call.layer} against {call.parent or 'nothing'}"
        case Changes():
            return f"changes of {call.layer} against {call.parent or 'nothing'}"
        case Reopen():
            return "open the home again"
        case Close():
            return "close the driver"
        case _:
            assert_never(call)
