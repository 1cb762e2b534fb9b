"""Results of builds as data: for each an archive ``NAME.tar.xz`` with its result file and its reproducers."""

from __future__ import annotations

import json
import lzma
import re
import sysconfig
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from conformance.report import records
from conformance.report.records import BadResults, Part, Run
from conformance.spec import load_requirements
from conformance.spec.values import as_plain, from_plain
from conformance.spec.verdicts import TestOutcome, Verdict
from vm.disclosing import undisclosed
from vm.drivers.builds import DIRECTORY, Build, Builds, Question
from vm.published import RESULTS, SUFFIX, packed

SECONDS: Final = "seconds.json"  # CPU time of the run, and of all that it started
_LARGEST: Final = 64 << 20  # bytes of a file in an archive
_RELEASE: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_ROOT: Final = re.compile(r"/[\w./-]*/drivers/([a-z][a-z0-9.-]*)(?=/)")
_DIRECTORY: Final = re.compile(rf"/[\w./-]*/{DIRECTORY}\w+")
_KEPT: Final = ("repro.sh", "failure.md")


@dataclass(frozen=True, slots=True)
class Judged:
    """A build, the versions of its packages, its result, and its scripts by the folder that an outcome names.

    ``failures`` are the requirements that FAIL, each with an outcome that decides it. ``cpu`` is the CPU time of
    the run with all that it started, in seconds; 0 if it was not measured.
    """

    build: Build
    version: str
    part: Part
    scripts: Mapping[str, str]
    failures: tuple[tuple[str, TestOutcome], ...]
    cpu: float = 0.0


def archive_of(build: Build, data: Path) -> Path:
    """The archive of a build."""
    return data / f"{build.name}{SUFFIX}"


def why_not_whole(part: Part, question: Question) -> str:
    """What is missing of a build's result for the question, "" if nothing is."""
    run = part.run
    asked = (question.profile, question.examples, question.seed)
    if (run.profile, run.examples, run.seed) != asked:
        return "it answers another question (profile, examples or seed)"
    if run.failure:
        return f"the run failed: {run.failure.splitlines()[0]}"
    broken = [one.requirement for one in part.results() if one.verdict is Verdict.ERROR]
    if broken:
        return f"the harness failed in {', '.join(broken[:3])}"
    if question.requirements and set(question.requirements) != set(run.selected):
        return "it answers another question (requirements)"
    return ""


def is_answer(part: Part, question: Question) -> bool:
    """Whether a result is whole and of the requirements of this version, so that nothing has to be judged again."""
    return not why_not_whole(part, question) and part.run.specification == records.digest_of(load_requirements())


def keep(build: Build, output: Path, data: Path, private: Iterable[str]) -> Path:
    """Put the result of a build and its reproducers into the archive.

    Failures of ``private`` requirements have neither text nor steps nor script there. Nothing names paths of this
    machine, or the suffix of its kernel. Raises BadResults, OSError.
    """
    hidden = frozenset(private)
    (part,) = records.read(output / RESULTS)
    kernel = part.run.kernel

    def anywhere(text: str) -> str:
        return of_no_machine(text.replace(f"{output.absolute()}/", ""), kernel)

    run = from_plain(Run, _mapped(as_plain(_named_as_built(part.run, build)), anywhere))
    outcomes = [from_plain(TestOutcome, _mapped(as_plain(one), anywhere)) for one in part.outcomes]
    parts = [Part(run, tuple(undisclosed(one, hidden) for one in outcomes))]
    files = {RESULTS: "".join(f"{line}\n" for line in records.lines_of(parts)).encode()}
    if (output / SECONDS).exists():
        files[SECONDS] = (output / SECONDS).read_bytes()
    for folder in {one.evidence for part in parts for one in part.outcomes if one.evidence}:
        for name in _KEPT:
            path = output / folder / name
            if path.is_file():
                text = path.read_bytes().decode(errors="surrogateescape")
                files[f"{folder}/{name}"] = anywhere(text).encode(errors="surrogateescape")
    data.mkdir(parents=True, exist_ok=True)
    file = archive_of(build, data)
    beside = file.with_name(f".{file.name}.part")
    beside.write_bytes(packed(files))
    beside.replace(file)
    return file


def _named_as_built(run: Run, build: Build) -> Run:
    return replace(run, connection=build.connection, driver=build.connection)


def of_no_machine(text: str, kernel: str) -> str:
    """A text with roots and the directory of a run as the file of builds names them, and a plain release.

    Tracebacks of tools in Python name the library of this one as ``{python}``.
    """
    if release := _RELEASE.match(kernel):
        text = text.replace(kernel, release[0])
    text = text.replace(sysconfig.get_path("stdlib"), "{python}")
    return _DIRECTORY.sub("{dir}", _ROOT.sub(lambda found: f"{{root:{found[1]}}}", text))


def _mapped(value: object, change: Callable[[str], str]) -> object:
    """A plain value with each of its texts changed."""
    match value:
        case str():
            return change(value)
        case Mapping():
            return {name: _mapped(one, change) for name, one in value.items()}
        case list() | tuple():
            return [_mapped(one, change) for one in value]
        case _:
            return value


def read(build: Build, builds: Builds, data: Path) -> Judged | None:
    """What is kept of a build, None if nothing is; raises BadResults."""
    file = archive_of(build, data)
    if not file.exists():
        return None
    files = _files(file)
    if RESULTS not in files:
        raise BadResults(f"{file}: there is no {RESULTS}; judge {build.name} again")
    (part,) = records.parts_of(files.pop(RESULTS).decode().splitlines(), str(file))
    scripts = {
        path.rpartition("/")[0]: text.decode(errors="replace")
        for path, text in files.items()
        if path.endswith("/repro.sh")
    }
    version = " with ".join(one.version for one in builds.roots_of([build])) or part.run.version
    cpu = json.loads(files[SECONDS])["cpu"] if SECONDS in files else 0.0
    return Judged(build, version, part, scripts, tuple(_failures(part)), cpu)


def _failures(part: Part) -> Iterator[tuple[str, TestOutcome]]:
    for result in part.results():
        if result.verdict is Verdict.FAIL:
            for outcome in part.outcomes:
                if outcome.verdict is Verdict.FAIL and result.requirement in outcome.requirements:
                    yield result.requirement, outcome


def all_of(builds: Builds, data: Path) -> list[Judged]:
    """What is kept, in the order of the file of builds; raises BadResults."""
    return [found for one in builds.build if (found := read(one, builds, data))]


def _files(file: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(file, "r:xz") as archive:
            for about in archive:
                content = archive.extractfile(about) if about.isreg() and about.size <= _LARGEST else None
                if content is None:
                    raise BadResults(f"{file}: {about.name} is no part of a result of 'drivers judge'")
                found[about.name] = content.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise BadResults(f"{file}: this is no archive of results ({error})") from error
    return found
