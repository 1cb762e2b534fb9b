"""The requirements and the capabilities: what they say, and where they come from.

An id is never renumbered and never reused. There is a file of requirements for each few families, read in the
order of their names; what a whole family needs is said once.

The TOML is read here without conformance.spec.values: importing cattrs would take the commands that only print as
long as all else they do. A test reads the same files strictly.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from conformance.spec.references import Reference, parse_reference

LEVELS: Final = ("MUST", "SHOULD", "MAY")
PRIVILEGES: Final = ("namespace", "root")
VARIES: Final = ("kernel", "backing", "overlay")
_ID: Final = re.compile(r"OVL(-[A-Z0-9]+){2,}")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One normative sentence; ``level`` is a word of RFC 2119, ``since`` the version it came in.

    ``consequence`` is a sentence about a driver that violates it: what goes wrong for people who run containers,
    build images or operate the store. It explains and demands nothing, so no digest of the specification has it.
    ``needs`` names capabilities. ``privileges`` is what it takes to test it: a user namespace, or real root.
    ``kernel`` is the oldest release that can be held to it, "" for any that mounts overlays. ``backing`` names
    backing filesystems; then it is judged on these alone. ``varies`` says what its outcome can depend on besides
    the driver: the kernel, the backing filesystem, the parameters of overlay; a matrix of machines judges it once
    for each combination of these. ``source`` says where it comes from.
    """

    id: str
    family: str
    level: str
    sentence: str
    consequence: str
    source: tuple[Reference, ...]
    since: str
    needs: tuple[str, ...] = ()
    privileges: str = "namespace"
    kernel: str = ""
    backing: tuple[str, ...] = ()
    varies: tuple[str, ...] = VARIES


@dataclass(frozen=True, slots=True)
class Capability:
    """What a host (``of`` is "host") or a driver ("driver") may lack; nobody is judged whole without a core one.

    ``convention`` says whose habit it is, where no specification asks it of every layer store; "" if one does.
    """

    name: str
    of: str
    meaning: str
    core: bool = False
    convention: str = ""


def load_requirements() -> dict[str, Requirement]:
    """All requirements by id; raises ValueError for one that is malformed."""
    return {one.id: one for one in _requirements()}


@functools.cache
def _requirements() -> tuple[Requirement, ...]:
    capabilities = load_capabilities()
    found: dict[str, Requirement] = {}
    for family, entry in _entries():
        requirement = _requirement(family, entry)
        if requirement.id in found:
            raise ValueError(f"requirement {requirement.id} is defined twice")
        unknown = set(requirement.needs) - capabilities.keys()
        if unknown:
            raise ValueError(f"requirement {requirement.id} needs unknown capabilities: {sorted(unknown)}")
        found[requirement.id] = requirement
    return tuple(found.values())


def load_capabilities() -> dict[str, Capability]:
    """All capabilities by name."""
    return {one.name: one for one in _capabilities()}


@functools.cache
def _capabilities() -> tuple[Capability, ...]:
    text = files("conformance.spec").joinpath("capabilities.toml").read_text(encoding="utf-8")
    return tuple(Capability(name, **fields) for name, fields in tomllib.loads(text).items())


def is_core(requirement: Requirement, capabilities: Mapping[str, Capability]) -> bool:
    """Whether no driver is called conformant that was not judged by it.

    Core is what every driver must do anywhere: of level MUST, not of single filesystems or newer kernels, and in
    need of core capabilities only.
    """
    everywhere = not requirement.backing and not requirement.kernel
    return requirement.level == "MUST" and everywhere and all(capabilities[one].core for one in requirement.needs)


def conventions(requirement: Requirement, capabilities: Mapping[str, Capability]) -> tuple[str, ...]:
    """Whose habits the requirement states: those of the capabilities that it needs, each once.

    A driver of another family declines one of these capabilities, and is not judged by the requirement.
    """
    return tuple(dict.fromkeys(found for one in requirement.needs if (found := capabilities[one].convention)))


def load_retired() -> frozenset[str]:
    """Ids of requirements that are no more; they are never used again."""
    text = files("conformance.spec").joinpath("retired.toml").read_text(encoding="utf-8")
    return frozenset(tomllib.loads(text)["retired"])


@functools.cache
def load_stems() -> Mapping[str, str]:
    """The stem of the file that defines each requirement, by id: of 04-tree.toml it is "tree"."""
    return {
        entry["id"]: stem for stem, families in _files() for family in families for entry in family["requirement"]
    }


@functools.cache
def _files() -> tuple[tuple[str, Sequence[Mapping[str, Any]]], ...]:
    """The stem and the families of each file of requirements, in the order of their names."""
    directory = files("conformance.spec").joinpath("requirements")
    return tuple(
        (
            path.name.removesuffix(".toml").partition("-")[2],
            tomllib.loads(path.read_text(encoding="utf-8"))["family"],
        )
        for path in sorted(directory.iterdir(), key=lambda one: one.name)
        if path.name.endswith(".toml")
    )


def _entries() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for _, families in _files():
        for family in families:
            shared = tuple(family.get("needs", ()))
            for entry in family["requirement"]:
                needs = (*shared, *entry.get("needs", ()))
                yield family["name"], {"varies": family["varies"], **entry, "needs": needs}


def _requirement(family: str, entry: Mapping[str, Any]) -> Requirement:
    lists = {name: tuple(entry.get(name, ())) for name in ("needs", "backing", "varies")}
    source = _source(entry)
    if not str(entry.get("consequence", "")).endswith("."):
        raise ValueError(
            f"requirement {entry.get('id')} needs a consequence: what a user of the driver would see go wrong"
        )
    defaults = {"family": family, "level": "MUST", "since": "0.2.0"}
    requirement = Requirement(**{**defaults, **entry, **lists, "source": source})
    if not _ID.fullmatch(requirement.id):
        raise ValueError(f"requirement {requirement.id!r}: an id is OVL-FAMILY-WORDS in capitals")
    if requirement.level not in LEVELS or requirement.privileges not in PRIVILEGES:
        raise ValueError(f"requirement {requirement.id} needs a level of {LEVELS}, privileges of {PRIVILEGES}")
    if set(requirement.varies) - set(VARIES):
        raise ValueError(f"requirement {requirement.id} varies with some of {VARIES}, not {requirement.varies}")
    if not requirement.sentence.endswith("."):
        raise ValueError(f"requirement {requirement.id} needs a whole sentence")
    return requirement


def _source(entry: Mapping[str, Any]) -> tuple[Reference, ...]:
    """The references of a requirement; raises ValueError with its id if there is none or one is malformed."""
    written = entry.get("source")
    if not isinstance(written, list) or not written or not all(isinstance(one, str) for one in written):
        raise ValueError(f"requirement {entry.get('id')} needs a source: a list of references")
    try:
        return tuple(parse_reference(one) for one in written)
    except ValueError as error:
        raise ValueError(f"requirement {entry.get('id')}: {error}") from error
