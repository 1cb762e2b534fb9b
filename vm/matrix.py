"""The matrix file: kernels, backing filesystems, parameters of overlay and drivers, as values.

The file is read once, here and by the Vagrantfile. An error in it is reported by line and key, before anything
is made: :class:`BadMatrix`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol, TypeVar

import yaml

from conformance.spec.errors import HarnessError
from conformance.spec.profiles import PROFILES

FORMAT: Final = 1
FILE: Final = Path(__file__).with_name("matrix.yaml")
PROVIDERS: Final = ("libvirt", "virtualbox", "uml")
PRIVILEGES: Final = ("root", "user-namespace")
ACCELERATORS: Final = ("auto", "kvm", "tcg")
_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")
_RELEASE: Final = re.compile(r"\d+\.\d+")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_T = TypeVar("_T", bound=_Named)


class BadMatrix(HarnessError):
    """The matrix file is wrong; the text names the file, the line, the key and what to do."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """``memory`` is in MiB for each machine.

    ``limit`` is in seconds for each cell, after which its machine is lost; ``budget``, unless it is 0, those after
    which a cell ends and what it did not reach is UNTESTED. Both are at the speed of the host.
    """

    profile: str
    examples: int
    limit: float
    memory: int
    provider: str
    accelerator: str
    budget: float = 0


@dataclass(frozen=True, slots=True)
class Root:
    """The system of machines: a suite of Debian, by which it is named, and the packages in it."""

    suite: str
    packages: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name that drivers choose it by."""
        return self.suite


@dataclass(frozen=True, slots=True)
class Uml:
    """The same kernel as a process, user-mode Linux: of a ``package`` of the suite, or compiled from a ``source``.

    ``source`` is a package ``linux-source-X.Y``. With ``sha256`` it is this ``version`` of it, from the mirror's
    pool, as the index lists only the newest.
    """

    suite: str
    package: str = ""
    source: str = ""
    version: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of Debian: ``package`` is a pattern of names in ``suite``, of which the newest is taken.

    ``modules_sha256`` is that of the package of its modules, for a kernel whose modules are in the mirror's pool
    and in its index no more. Only with ``uml`` is it a kernel of that provider.
    """

    name: str
    release: str
    suite: str
    package: str
    modules_sha256: str = ""
    uml: Uml | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """A public box with a kernel of its own, for users with a network."""

    name: str
    release: str
    box: str


@dataclass(frozen=True, slots=True)
class Backing:
    """A backing filesystem: its type, the command that makes it and the options it is mounted with."""

    name: str
    type: str
    mkfs: tuple[str, ...] = ()
    mount: str = ""


@dataclass(frozen=True, slots=True)
class Overlay:
    """Parameters of the module overlay, and the backing filesystems that are tried with them (none: all)."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    backings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Privilege:
    """Who runs the suite in a machine: root, or root of a user namespace; and where (none: everywhere)."""

    name: str
    backings: tuple[str, ...] = ()
    overlay: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver by its connection string, and where it is judged (none: everywhere).

    ``root`` is the suite of the system that it is judged in, "" for that of ``root`` in the file.
    """

    name: str
    connection: str
    kernels: tuple[str, ...] = ()
    backings: tuple[str, ...] = ()
    overlay: tuple[str, ...] = ()
    root: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The whole file."""

    defaults: Defaults
    root: Root
    kernels: tuple[Kernel, ...]
    boxes: tuple[Box, ...]
    backings: tuple[Backing, ...]
    overlay: tuple[Overlay, ...]
    drivers: tuple[Driver, ...]
    privileges: tuple[Privilege, ...] = (Privilege("root"),)
    roots: tuple[Root, ...] = ()

    def root_of(self, driver: Driver) -> Root:
        """The system that a driver is judged in."""
        return next((one for one in self.roots if one.name == driver.root), self.root)

    def under(self, provider: str) -> Matrix:
        """The same with a provider ("": the file's), and with the kernels that it has."""
        chosen = replace(self.defaults, provider=provider or self.defaults.provider)
        kernels = tuple(one for one in self.kernels if one.uml or chosen.provider != "uml")
        return replace(self, defaults=chosen, kernels=kernels)


def load(path: Path = FILE) -> Matrix:
    """The matrix of a file; raises BadMatrix."""
    try:
        node = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise BadMatrix(f"{path}: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadMatrix(f"{path}, line {line}: {error.problem}; see docs/matrix.md") from error
    if node is None:
        raise BadMatrix(f"{path}: it is empty; see docs/matrix.md")
    return _matrix(_Place(str(path), "", node))


@dataclass(frozen=True, slots=True)
class _Place:
    """A node of the file, and how to name it in a complaint."""

    file: str
    key: str
    node: yaml.Node

    def wrong(self, what: str) -> BadMatrix:
        return BadMatrix(f"{self.file}, line {self.node.start_mark.line + 1}, {self.key or 'the file'}: {what}")

    def mapping(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, _Place]:
        if not isinstance(self.node, yaml.MappingNode):
            raise self.wrong(f"has to be a mapping with {', '.join(required) or 'names and values'}")
        found: dict[str, _Place] = {}
        for key, value in self.node.value:
            name = str(key.value)
            place = _Place(self.file, f"{self.key}.{name}".lstrip("."), value)
            if name in found:
                raise _Place(self.file, place.key, key).wrong("is there twice")
            if required and name not in (*required, *optional):
                known = ", ".join((*required, *optional))
                raise _Place(self.file, place.key, key).wrong(f"no such key; there are {known}")
            found[name] = place
        missing = [name for name in required if name not in found]
        if missing:
            raise self.wrong(f"lacks {', '.join(missing)}")
        return found

    def items(self) -> list[_Place]:
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.wrong("has to be a list")
        return [_Place(self.file, f"{self.key}[{index}]", one) for index, one in enumerate(self.node.value)]

    def text(self, pattern: re.Pattern[str] | None = None, example: str = "") -> str:
        if not isinstance(self.node, yaml.ScalarNode) or not self.node.value:
            raise self.wrong("has to be a word")
        if pattern and not pattern.fullmatch(self.node.value):
            raise self.wrong(f"{self.node.value!r} is not of the form of {example}")
        return str(self.node.value)

    def one_of(self, words: Sequence[str]) -> str:
        said = self.text()
        if said not in words:
            raise self.wrong(f"{said!r} is none of {', '.join(words)}")
        return said

    def number(self) -> int:
        said = self.text()
        if not said.isdecimal() or int(said) < 1:
            raise self.wrong(f"{said!r} has to be a whole number from 1")
        return int(said)

    def seconds(self) -> float:
        said = self.text()
        match = re.fullmatch(r"(\d+)([smh])", said)
        if not match:
            raise self.wrong(f"{said!r} is not a duration; write 90s, 3m or 1h")
        return float(int(match[1]) * _UNITS[match[2]])


def _matrix(top: _Place) -> Matrix:
    keys = ("format", "defaults", "root", "kernels", "backings", "overlay", "drivers")
    found = top.mapping(keys, ("boxes", "privileges", "roots"))
    if found["format"].text() != str(FORMAT):
        raise found["format"].wrong(f"this version reads format {FORMAT}")
    kernels = _named(found["kernels"], _kernel)
    boxes: tuple[Box, ...] = _named(found["boxes"], _box) if "boxes" in found else ()
    backings = _named(found["backings"], _backing)
    names = tuple(one.name for one in backings)
    overlay = _named(found["overlay"], lambda place: _overlay(place, names))
    parameters = tuple(one.name for one in overlay)
    machines = (*(one.name for one in kernels), *(one.name for one in boxes))
    root = _root(found["root"], ())
    roots: tuple[Root, ...] = ()
    if "roots" in found:
        roots = _named(found["roots"], lambda place: _root(place, root.packages))
    suites = (root.suite, *(one.suite for one in roots))
    drivers = _named(found["drivers"], lambda place: _driver(place, machines, names, parameters, suites))
    known = tuple(one.name for one in drivers)
    privileges: tuple[Privilege, ...] = (Privilege("root"),)
    if "privileges" in found:
        privileges = _named(
            found["privileges"], lambda place: _privilege(place, machines, names, parameters, known)
        )
    return Matrix(
        _defaults(found["defaults"]),
        root,
        kernels,
        boxes,
        backings,
        overlay,
        drivers,
        privileges,
        roots,
    )


def _named(place: _Place, read: Callable[[_Place], _T]) -> tuple[_T, ...]:
    """A list of things with names, each once."""
    found: dict[str, _T] = {}
    for item in place.items():
        one = read(item)
        if one.name in found:
            raise item.wrong(f"the name {one.name!r} is there twice")
        found[one.name] = one
    if not found:
        raise place.wrong("is empty")
    return tuple(found.values())


def _defaults(place: _Place) -> Defaults:
    keys = ("profile", "examples", "limit", "memory", "provider", "accelerator")
    found = place.mapping(keys, ("budget",))
    return Defaults(
        found["profile"].one_of(PROFILES),
        found["examples"].number(),
        found["limit"].seconds(),
        found["memory"].number(),
        found["provider"].one_of(PROVIDERS),
        found["accelerator"].one_of(ACCELERATORS),
        found["budget"].seconds() if "budget" in found else 0,
    )


def _root(place: _Place, packages: tuple[str, ...]) -> Root:
    """A system; one that names no packages has those of the first."""
    found = place.mapping(("suite",), ("packages",)) if packages else place.mapping(("suite", "packages"))
    own = tuple(one.text() for one in found["packages"].items()) if "packages" in found else packages
    return Root(found["suite"].text(_NAME, "trixie"), own)


def _kernel(place: _Place) -> Kernel:
    found = place.mapping(("name", "release", "suite", "package"), ("modules-sha256", "uml"))
    return Kernel(
        found["name"].text(_NAME, "k6-12"),
        found["release"].text(_RELEASE, "6.12"),
        found["suite"].text(),
        found["package"].text(),
        found["modules-sha256"].text(_SHA256, "64 hexadecimal digits") if "modules-sha256" in found else "",
        _uml(found["uml"]) if "uml" in found else None,
    )


def _uml(place: _Place) -> Uml:
    found = place.mapping(("suite",), ("package", "source", "version", "sha256"))
    if ("package" in found) == ("source" in found):
        raise place.wrong("needs a package or a source")
    if ("version" in found) != ("sha256" in found) or ("package" in found and "version" in found):
        raise place.wrong("version and sha256 are those of a source, together")
    return Uml(
        found["suite"].text(),
        found["package"].text() if "package" in found else "",
        found["source"].text() if "source" in found else "",
        found["version"].text() if "version" in found else "",
        found["sha256"].text(_SHA256, "64 hexadecimal digits") if "sha256" in found else "",
    )


def _box(place: _Place) -> Box:
    found = place.mapping(("name", "release", "box"))
    release = found["release"].text(_RELEASE, "4.19")
    return Box(found["name"].text(_NAME, "buster"), release, found["box"].text())


def _backing(place: _Place) -> Backing:
    found = place.mapping(("name", "type"), ("mkfs", "mount"))
    return Backing(
        found["name"].text(_NAME, "xfs-noquota"),
        found["type"].text(),
        tuple(found["mkfs"].text().split()) if "mkfs" in found else (),
        found["mount"].text() if "mount" in found else "",
    )


def _overlay(place: _Place, backings: Sequence[str]) -> Overlay:
    found = place.mapping(("name",), ("parameters", "backings"))
    values = found["parameters"].mapping(()) if "parameters" in found else {}
    return Overlay(
        found["name"].text(_NAME, "metacopy"),
        {name: value.one_of(("Y", "N")) for name, value in values.items()},
        _some(found, "backings", backings),
    )


def _privilege(
    place: _Place, kernels: Sequence[str], backings: Sequence[str], overlay: Sequence[str], drivers: Sequence[str]
) -> Privilege:
    found = place.mapping(("name",), ("kernels", "backings", "overlay", "drivers"))
    return Privilege(
        found["name"].one_of(PRIVILEGES),
        _some(found, "backings", backings),
        _some(found, "overlay", overlay),
        _some(found, "drivers", drivers),
        _some(found, "kernels", kernels),
    )


def _driver(
    place: _Place, kernels: Sequence[str], backings: Sequence[str], overlay: Sequence[str], suites: Sequence[str]
) -> Driver:
    found = place.mapping(("name", "connection"), ("kernels", "backings", "overlay", "root"))
    root = found["root"].one_of(suites) if "root" in found else suites[0]
    return Driver(
        found["name"].text(_NAME, "refdriver"),
        found["connection"].text(re.compile(r"[a-z-]+:.*"), "python:refdriver:Driver"),
        _some(found, "kernels", kernels),
        _some(found, "backings", backings),
        _some(found, "overlay", overlay),
        "" if root == suites[0] else root,
    )


def _some(found: Mapping[str, _Place], key: str, known: Sequence[str]) -> tuple[str, ...]:
    return tuple(one.one_of(known) for one in found[key].items()) if key in found else ()
