"""Which lines of the driver each test executes, measured once, on the correct driver.

The harness writes the number of the test that runs to a file, which the process of the driver maps into its memory.
There a trace function (:func:`sys.settrace`) appends a line to another file for whatever a test executes first. So
nothing is lost when the process is killed, and several processes and threads of the driver can be measured.
"""

from __future__ import annotations

import _thread
import json
import mmap
import os
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

_NUMBER: Final = "test"  # four bytes: the number of the test that runs
_LINES: Final = "lines"  # NUMBER, MODULE and LINE, a line each
_SIZE: Final = 4
# Their lines are those of a statement that is traced anyway, and each item is a call.
_INLINE: Final = frozenset(("<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>"))
_CALLS: Final = 300  # of one function by one test, which are traced


class Marker:
    """The harness's side: says which test runs. Number 0 is none."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        (directory / _LINES).touch()
        self._file = directory / _NUMBER
        self._file.write_bytes(bytes(_SIZE))

    def set(self, number: int) -> None:
        """Test ``number`` runs from now on."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(number.to_bytes(_SIZE, "little"))


def record(directory: Path, package: str) -> None:
    """The driver's side: note what this process executes in the modules of a package, from now on."""
    descriptor = os.open(directory / _NUMBER, os.O_RDONLY | os.O_CLOEXEC)
    number = mmap.mmap(descriptor, _SIZE, prot=mmap.PROT_READ)
    os.close(descriptor)
    lines = os.open(directory / _LINES, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    seen: set[tuple[bytes, int, int]] = set()
    calls: Counter[tuple[bytes, int]] = Counter()
    prefix = f"{package}."

    def note(frame: FrameType, at: int) -> None:
        key = (number[:], id(frame.f_code), at)  # the hash of the code itself is slow
        if key not in seen:
            seen.add(key)
            said = f"{int.from_bytes(key[0], 'little')} {frame.f_globals['__name__']} {at}\n"
            os.write(lines, said.encode())

    def line(frame: FrameType, event: str, argument: object) -> Any:
        del argument
        if event == "line":
            note(frame, frame.f_lineno)
        return line

    def call(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_name in _INLINE:
            return None
        name = frame.f_globals.get("__name__") or ""
        if name != package and not str(name).startswith(prefix):
            return None
        key = (number[:], id(frame.f_code))
        calls[key] += 1
        if calls[key] > _CALLS:
            if calls[key] == _CALLS + 1:  # taken for executed to its last line, and traced no longer
                for at in _lines_of(frame.f_code):
                    note(frame, at)
            return None
        return line(frame, "line" if event == "call" else event, argument)

    threading.settrace(call)
    sys.settrace(call)
    _trace_threads_below_threading(call)


def _lines_of(code: CodeType) -> list[int]:
    return [at for _, _, at in code.co_lines() if at is not None]


def _trace_threads_below_threading(trace: Callable[[FrameType, str, object], Any]) -> None:
    """Trace what a driver starts by _thread, which threading.settrace does not reach."""
    start_new_thread = _thread.start_new_thread

    def traced(run: Callable[..., object], *arguments: Any) -> int:
        def traced_run(*given: Any, **named: Any) -> None:
            sys.settrace(trace)
            run(*given, **named)

        return start_new_thread(traced_run, *arguments)

    _thread.start_new_thread = traced


@dataclass(frozen=True, slots=True)
class Reach:
    """Which tests execute a line, by names of tests, and how many seconds each test took without a mutation."""

    tests: Mapping[tuple[str, int], frozenset[str]]
    seconds: Mapping[str, float]

    @classmethod
    def read(cls, directory: Path, names: Sequence[str], seconds: Mapping[str, float]) -> Reach:
        """What was recorded below a directory; ``names`` count from 1. What ran outside of tests is left out."""
        numbered = dict(enumerate(names, start=1))
        found: dict[tuple[str, int], set[str]] = defaultdict(set)
        for line in (directory / _LINES).read_text().splitlines():
            number, module, at = line.split(" ")
            if int(number) in numbered:
                found[module, int(at)].add(numbered[int(number)])
        return cls({key: frozenset(tests) for key, tests in found.items()}, seconds)

    def keep(self, file: Path) -> None:
        """Write it to a file, whole or not at all."""
        names = sorted(self.seconds)
        number = {name: at for at, name in enumerate(names)}
        lines = [[*key, sorted(number[one] for one in tests)] for key, tests in self.tests.items()]
        beside = file.with_name(f"{file.name}.part")
        beside.write_text(json.dumps({"tests": [[one, self.seconds[one]] for one in names], "lines": lines}))
        beside.replace(file)

    @classmethod
    def kept(cls, file: Path) -> Reach:
        """What such a file has."""
        said = json.loads(file.read_text())
        names = [name for name, _ in said["tests"]]
        lines = {(module, at): frozenset(names[one] for one in tests) for module, at, tests in said["lines"]}
        return cls(lines, dict(said["tests"]))

    def of(self, module: str, lines: tuple[int, int]) -> frozenset[str]:
        """The tests that execute one of the lines."""
        return frozenset().union(*(self.tests.get((module, at), ()) for at in range(lines[0], lines[1] + 1)))
