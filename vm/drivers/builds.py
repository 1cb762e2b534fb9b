"""The file of builds: packages by suite, version and digest, and what is judged with them, as values."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from conformance.spec.errors import HarnessError
from conformance.spec.naming import suggestion
from conformance.spec.profiles import PROFILES
from conformance.spec.values import BadValue, Key, RequirementId, from_plain

DIRECTORY: Final = "overlay-conformance-build-"  # how names of directories of runs begin
FILE: Final = Path(__file__).with_name("builds.toml")
FILES: Final = (FILE, Path(__file__).with_name("unpackers.toml"))
PYPI: Final = "PyPI"  # the suite of a root that is a distribution of Python
Name = Annotated[str, Key(pattern=r"^[a-z][a-z0-9.-]*$")]
_ROOT: Final = re.compile(r"\{root:([^{}]*)\}")
_T = TypeVar("_T", "Root", "Build")


class BadBuilds(HarnessError):
    """The file of builds is wrong, or has no build of a name; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Question:
    """What every build is asked, so that their results can be compared.

    ``why`` says how the requirements were chosen; none stands for all of the profile.
    """

    profile: Annotated[str, Key(among=PROFILES)]
    examples: Annotated[int, Key(minimum=1)]
    seed: int
    why: str
    requirements: tuple[RequirementId, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """The page of a file of builds: its name below the documents, and the directory of its data.

    ``about`` comes first, ``notes`` follow the verdicts. ``kind`` is what a build is a version of. ``reports`` says
    whether the page lists the reports for upstream.
    """

    name: str = "real-drivers.md"
    title: str = "Real drivers"
    data: str = "docs/drivers"
    kind: str = "driver"
    about: str = ""
    notes: str = ""
    reports: bool = False


@dataclass(frozen=True, slots=True)
class Root:
    """A package of a suite, unpacked with its libraries; ``sha256`` is the digest of the package.

    ``also`` names packages of the suite that are unpacked with it. With the suite ``PyPI`` it is a distribution of
    Python, installed with what it needs in an environment of its own; the digest is that of its file.
    """

    name: Name
    suite: str
    package: str
    version: str
    sha256: Annotated[str, Key(pattern="^[0-9a-f]{64}$")]
    upstream: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Build:
    """What is judged: a connection string, with the commands of its roots in the PATH.

    ``{root:NAME}`` in the connection string is the directory of a root, ``{dir}`` a directory that is made for the
    run and removed after it, with the ``files`` by their names. There the shell runs ``before``. Then ``service``
    runs as long as the judging, which begins when something listens on ``socket``. In all of these ``{dir}`` is
    replaced. ``env`` are variables of the run, with both. Builds with the same ``line`` are versions of one driver,
    in the order of the file. Without ``reproducers``, the run of a slow tool takes half of the time. ``column``
    names the build's column in docs/divergence.md, if it has one.
    """

    name: Name
    line: str
    roots: tuple[str, ...]
    connection: str
    backing: str = "host"
    files: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    service: str = ""
    socket: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    reproducers: bool = True
    column: str = ""

    def connection_in(self, roots: Path, directory: Path | None = None) -> str:
        """The connection string, with roots below this directory, and the directory of a run."""
        found = _in_roots(self.connection, roots)
        return found if directory is None else placed(found, directory)

    def env_in(self, roots: Path, directory: Path) -> dict[str, str]:
        """The variables, with roots below this directory, and the directory of a run."""
        return {name: placed(_in_roots(value, roots), directory) for name, value in self.env.items()}

    @property
    def is_alone(self) -> bool:
        """Whether its reproducers need nothing but the commands of its roots, by their names in the PATH."""
        return not (self.files or self.before or self.service or self.env or _ROOT.search(self.connection))


@dataclass(frozen=True, slots=True)
class Absent:
    """A driver that no build has, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Builds:
    """The whole file."""

    format: Literal[1]
    question: Question
    build: tuple[Build, ...]
    root: tuple[Root, ...] = ()
    absent: tuple[Absent, ...] = ()
    page: Page = field(default_factory=Page)

    def chosen(self, names: Iterable[str]) -> tuple[Build, ...]:
        """The builds of these names in the order of the file, all if there are none; raises BadBuilds."""
        wanted = tuple(names)
        check_names(wanted, [self])
        return tuple(one for one in self.build if not wanted or one.name in wanted)

    def has(self, name: str) -> bool:
        """Whether a build has this name."""
        return any(one.name == name for one in self.build)

    def roots_of(self, builds: Iterable[Build]) -> tuple[Root, ...]:
        """The roots that builds need, each once."""
        known = {one.name: one for one in self.root}
        return tuple(known[name] for name in dict.fromkeys(name for one in builds for name in one.roots))

    def is_newest(self, build: Build) -> bool:
        """Whether a build is the newest of its line."""
        return self.lines()[build.line][-1] == build

    def lines(self) -> Mapping[str, tuple[Build, ...]]:
        """The builds of each line."""
        found: dict[str, list[Build]] = {}
        for one in self.build:
            found.setdefault(one.line, []).append(one)
        return {line: tuple(same) for line, same in found.items()}


def check_names(names: Iterable[str], files: Iterable[Builds]) -> None:
    """Raise BadBuilds for a name that no build of these files has."""
    known = {one.name for builds in files for one in builds.build}
    for name in names:
        if name not in known:
            hint = suggestion(name, known)
            raise BadBuilds(f"no build {name}{hint}; 'overlay-conformance drivers list' lists them")


def _in_roots(text: str, roots: Path) -> str:
    return _ROOT.sub(lambda found: str(roots / found[1]), text)


def placed(text: str, directory: Path) -> str:
    """A text with the directory of a run in it."""
    return text.replace("{dir}", str(directory))


def load(file: Path = FILE) -> Builds:
    """Read the file of builds; raises BadBuilds."""
    try:
        builds = from_plain(Builds, tomllib.loads(file.read_text()))
    except (OSError, ValueError, BadValue) as error:
        raise BadBuilds(f"{file}: {error}") from error
    roots, names = _by_name(builds.root, file), _by_name(builds.build, file)
    for one in names.values():
        for root in (*one.roots, *_ROOT.findall(" ".join([one.connection, *one.env.values()]))):
            if root not in roots:
                raise BadBuilds(f"{file}: build {one.name} names the root {root}, which the file does not have")
            if root not in one.roots:
                raise BadBuilds(f"{file}: build {one.name}: add {root} to its roots, as its connection names it")
    return builds


def _by_name(found: Iterable[_T], file: Path) -> dict[str, _T]:
    known: dict[str, _T] = {}
    for one in found:
        if one.name in known:
            raise BadBuilds(f"{file}: {one.name} is there twice; rename one of them")
        known[one.name] = one
    return known
