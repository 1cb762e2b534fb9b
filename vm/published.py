"""Published results: archives of cells, one for each kernel and driver, that a run can go on from.

An archive ``KERNEL.DRIVER.tar.xz`` has for each cell its result file, the scripts and words of its failures, and
the seconds of its steps. Equal cells make equal bytes.
"""

from __future__ import annotations

import io
import json
import lzma
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from conformance.report import records
from conformance.report.records import BadResults, Part
from vm import timings
from vm.disclosing import undisclosed

SUFFIX: Final = ".tar.xz"
CELLS: Final = "cells"  # below the output of a run, and in an archive
RESULTS: Final = "results.jsonl"
_KEPT: Final = ("repro.sh", "failure.md", "kernel.log")  # of an evidence folder
_TIMES: Final = "seconds.json"
_LARGEST: Final = 64 << 20  # bytes of a file in an archive; a result file has about a megabyte


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of an archive: its path there, and its content."""

    path: str
    content: bytes


def publish(
    output: Path, names: Iterable[str], data: Path, hidden: Callable[[str], Set[str]] = lambda _: frozenset()
) -> list[Path]:
    """Put cells of an output into the archives of a directory; cells of the same name are replaced.

    ``hidden`` says of a connection which requirements' failures have neither text nor steps nor script there.
    Returns the archives that were written. Raises BadResults, OSError.
    """
    by_archive: dict[str, list[str]] = {}
    for name in names:
        by_archive.setdefault(_archive_of(name), []).append(name)
    times = timings.read(output / "timings.json")
    data.mkdir(parents=True, exist_ok=True)
    written = []
    for archive, cells in sorted(by_archive.items()):
        file = data / archive
        members = {one.path: one for one in _members(file)} if file.exists() else {}
        replaced = tuple(f"{CELLS}/{name}/" for name in cells)
        members = {path: one for path, one in members.items() if not path.startswith(replaced)}
        for name in cells:
            members |= {one.path: one for one in _of_cell(output, name, times.get(name, {}), hidden)}
        beside = file.with_name(f".{archive}.part")
        beside.write_bytes(packed({path: one.content for path, one in members.items()}))
        beside.replace(file)
        written.append(file)
    return written


def take(data: Path, output: Path, wanted: Iterable[str]) -> list[str]:
    """Put published cells where a run looks for them, unless there are some; the names of those that were put.

    Raises BadResults.
    """
    names = set(wanted)
    there = {path.parent.name for path in (output / CELLS).glob(f"*/{RESULTS}")}
    taken: set[str] = set()
    times = timings.Timings(output / "timings.json")
    for archive in sorted({_archive_of(name) for name in names - there}):
        file = data / archive
        for member in _members(file) if file.exists() else ():
            name = PurePosixPath(member.path).parts[1]
            if name not in names - there:
                continue
            taken.add(name)
            target = output / member.path
            if target.name == _TIMES:
                for step, seconds in json.loads(member.content).items():
                    times.add(name, step, seconds)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(member.content)
    return sorted(taken)


def all_of(data: Path) -> list[str]:
    """The names of all published cells; raises BadResults."""
    found = {PurePosixPath(one.path).parts[1] for file in data.glob(f"*{SUFFIX}") for one in _members(file)}
    return sorted(found)


@contextmanager
def unpacked(directory: Path) -> Iterator[Path]:
    """An output of a run as it is; of a directory of archives, an output with their cells, for a while.

    Raises BadResults.
    """
    if not any(directory.glob(f"*{SUFFIX}")):
        yield directory
        return
    with tempfile.TemporaryDirectory() as made:
        take(directory, Path(made), all_of(directory))
        yield Path(made)


def _archive_of(cell: str) -> str:
    kernel, driver, *_ = cell.split(".")
    return f"{kernel}.{driver}{SUFFIX}"


def _of_cell(
    output: Path, name: str, seconds: Mapping[str, float], hidden: Callable[[str], Set[str]]
) -> Iterator[_Member]:
    folder = output / CELLS / name
    results, secret = _disclosed(folder / RESULTS, hidden)
    yield _Member(f"{CELLS}/{name}/{RESULTS}", results)
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and path.name in _KEPT and not inside.startswith(secret):
            yield _Member(f"{CELLS}/{name}/{inside}", path.read_bytes())
    yield _Member(f"{CELLS}/{name}/{_TIMES}", (json.dumps(dict(seconds), sort_keys=True) + "\n").encode())


def _disclosed(file: Path, hidden: Callable[[str], Set[str]]) -> tuple[bytes, tuple[str, ...]]:
    """A result file as it may be published, and how the paths of evidence begin that may not."""
    parts = records.read(file)
    told = [_told(part, hidden(part.run.connection)) for part in parts]
    if told == parts:
        return file.read_bytes(), ()
    secret = {
        f"{before.evidence}/"
        for old, new in zip(parts, told, strict=True)
        for before, after in zip(old.outcomes, new.outcomes, strict=True)
        if before.evidence != after.evidence
    }
    return "".join(f"{line}\n" for line in records.lines_of(told)).encode(), tuple(secret)


def _told(part: Part, hidden: Set[str]) -> Part:
    return replace(part, outcomes=tuple(undisclosed(one, hidden) for one in part.outcomes))


def packed(files: Mapping[str, bytes]) -> bytes:
    """An archive of files by their paths; equal files make equal bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(files):
            about = tarfile.TarInfo(path)
            about.size, about.mode = len(files[path]), 0o644
            archive.addfile(about, io.BytesIO(files[path]))
    return lzma.compress(plain.getvalue(), preset=9)


def _members(file: Path) -> Iterator[_Member]:
    """What is in an archive, as far as it is of our form; raises BadResults for any other."""
    try:
        with tarfile.open(file, "r:xz") as archive:
            for about in archive:
                parts = PurePosixPath(about.name).parts
                if not about.isreg() or parts[0] != CELLS or len(parts) < 3 or ".." in parts:
                    raise BadResults(f"{file}: {about.name} is no part of a cell; 'matrix publish' writes archives")
                if about.size > _LARGEST:
                    raise BadResults(f"{file}: {about.name} has more than {_LARGEST} bytes")
                content = archive.extractfile(about)
                assert content is not None, "it is a regular file"
                yield _Member(about.name, content.read())
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise BadResults(f"{file}: this is no archive of cells ({error})") from error
