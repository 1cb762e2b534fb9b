"""What a connection string says of an unpacker: the command, what it is given and where its result is."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Final

from conformance.drivers.connection import BadConnection, Connection, absolute_command
from conformance.spec.naming import suggestion

LAYOUT: Final = "layout"
DOCKER_ARCHIVE: Final = "docker-archive"
SOURCES: Final = (LAYOUT, DOCKER_ARCHIVE)
TAR: Final = "tar"
DISK: Final = "disk"
NAMES: Final = "names"
JSON: Final = "json"
LISTS: Final = (NAMES, JSON)  # results of a command that lists an image: see conformance.drivers.lister.skeleton
_PLACE: Final = re.compile(r"(?<!\$)\{(layout|tag|directory|layers|work|disk|lower|upper|archive)\}")
_ORDINARY: Final = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


@dataclass(frozen=True, slots=True)
class Tool:
    """A command of sh(1) with placeholders.

    ``{layout}`` is an OCI image layout, or a docker-archive if ``source`` says so; ``{tag}`` the tag of its image;
    ``{layers}`` the archives of the layers, the base first, as words; ``{directory}`` an empty directory for the
    tree; ``{work}`` an empty directory for the tool's own files; ``{disk}`` a file that is not there. ``result`` is
    where the tree is: "" for the directory itself, a path below it, "tar" for an archive on standard output, "disk"
    for a filesystem in that file, "names" or "json" for a list of paths on standard output. ``root`` says whether
    the command has the privileges of the run. ``version`` is a command that prints one. ``needs`` are the commands
    that have to be there, ``install`` what to do where they are not.

    A differ has ``{lower}`` and ``{upper}``, two directories, and ``{archive}``, a file that is not there, and no
    image; without ``{archive}`` its result is "tar".
    """

    command: str
    source: str = LAYOUT
    result: str = ""
    root: bool = True
    version: str = ""
    needs: tuple[str, ...] = ()
    install: str = ""
    decline: Mapping[str, str] = field(default_factory=dict)

    def filled(self, values: Mapping[str, Sequence[str]]) -> str:
        """The command with words for its placeholders, each quoted."""
        return _PLACE.sub(lambda match: shlex.join(values[match[1]]), self.command)

    def in_script(self, places: Mapping[str, str]) -> str:
        """The command with words of shell for its placeholders, as they are."""
        return _PLACE.sub(lambda match: places[match[1]], self.command)

    def prefix(self) -> tuple[str, ...]:
        """What stands before the shell that runs it."""
        return () if self.root else _ORDINARY


def presets(package: str = "conformance.drivers.unpacker") -> dict[str, Tool]:
    """The tools that are known by a name, from presets.toml of a package."""
    text = files(package).joinpath("presets.toml").read_text(encoding="utf-8")
    found = {}
    for name, said in tomllib.loads(text).items():
        fields = {**said, "needs": tuple(said.get("needs", ())), "command": said["command"].strip()}
        fields["source"] = fields.pop("from", LAYOUT)
        found[name] = Tool(**fields)
    return found


def _by_hand(command: str) -> Tool:
    """A command that is no preset. It runs elsewhere, so a relative path at its beginning is made absolute."""
    first, space, rest = command.partition(" ")
    first = absolute_command(first)
    return Tool(first + space + rest, needs=(first,))


def tool_of(connection: Connection) -> Tool:
    """The unpacker of a connection string; raises BadConnection, which says what to write."""
    known = presets()
    tool = _named(connection, known)
    _check_image(connection, tool, known)
    result = connection.value("result", tool.result)
    if result.startswith("/") or ".." in result.split("/"):
        raise BadConnection(f"result={result}: write a path below the directory, 'tar' or 'disk'")
    places = _PLACE.findall(tool.command)
    if result != DISK and "disk" in places:
        raise BadConnection(f"the command {tool.command!r} names a {{disk}}: write result=disk")
    if result == DISK and "disk" not in places:
        raise BadConnection(f"the command {tool.command!r} names no {{disk}}, and its result is 'disk'")
    if result not in (TAR, DISK) and "directory" not in places:
        raise BadConnection(f"the command {tool.command!r} names no {{directory}}, and its result is no 'tar'")
    return _with_options(connection, tool, result)


def lister_of(connection: Connection) -> Tool:
    """The lister of a connection string; raises BadConnection, which says what to write."""
    known = presets("conformance.drivers.lister")
    tool = _named(connection, known)
    _check_image(connection, tool, known)
    result = connection.value("result", tool.result or NAMES)
    if result not in LISTS:
        raise BadConnection(f"result={result}: write result={' or result='.join(LISTS)}")
    if {"directory", "disk"} & set(_PLACE.findall(tool.command)):
        raise BadConnection(f"the command {tool.command!r} is to print a list, and names a directory or disk")
    return _with_options(connection, tool, result)


def differ_of(connection: Connection) -> Tool:
    """The differ of a connection string; raises BadConnection, which says what to write."""
    known = presets("conformance.drivers.differ")
    tool = _named(connection, known)
    places = set(_PLACE.findall(tool.command))
    for place in ("lower", "upper"):
        if place not in places:
            raise BadConnection(
                f"the command {connection.name.strip()!r} names no {{{place}}}: write it where the directory goes,"
                f" or one of {', '.join(known)}"
            )
    if others := places - {"lower", "upper", "archive", "work"}:
        raise BadConnection(f"the command {tool.command!r} names a {{{min(others)}}}, which a differ has not")
    return replace(tool, result="" if "archive" in places else TAR)


def _named(connection: Connection, known: Mapping[str, Tool]) -> Tool:
    command = connection.name.strip()
    if not command:
        raise BadConnection(f"name a command, or one of {', '.join(known)}")
    return known.get(command) or _by_hand(command)


def _check_image(connection: Connection, tool: Tool, known: Mapping[str, Tool]) -> None:
    if not {"layout", "layers"} & set(_PLACE.findall(tool.command)):
        command = connection.name.strip()
        raise BadConnection(
            f"the command {command!r} names no image{suggestion(command, known)}: write {{layout}} or {{layers}}"
            f" where it goes, or one of {', '.join(known)}"
        )


def _with_options(connection: Connection, tool: Tool, result: str) -> Tool:
    source = connection.value("from", tool.source)
    if source not in SOURCES:
        raise BadConnection(f"from={source}: write from={' or from='.join(SOURCES)}")
    root = connection.value("root", "yes" if tool.root else "no")
    if root not in ("yes", "no"):
        raise BadConnection(f"root={root}: write root=yes or root=no")
    return replace(tool, source=source, result=result, root=root == "yes")
