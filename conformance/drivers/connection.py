"""Connection strings, ``KIND:NAME?KEY=VALUE&KEY=VALUE``: one parser for all kinds of drivers.

A value may hold any character but ``&``; ``%XX`` and ``+`` mean what they mean in the query of a URL (RFC 3986,
section 2.1, and application/x-www-form-urlencoded): ``%26`` is ``&``, ``%2B`` is ``+``, and ``+`` is a space.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_plus

from conformance.drivers.source import Dialect, DriverSource
from conformance.spec import load_capabilities
from conformance.spec.errors import HarnessError
from conformance.spec.naming import suggestion

_UNQUOTED: Final = "/:=,{}~@ "  # of what quote() would escape, so that a command can still be read


class BadConnection(HarnessError, ValueError):
    """A connection string that cannot be used; the text says what to write instead."""


@dataclass(frozen=True, slots=True)
class Key:
    """An option that a kind of drivers takes; ``meaning`` is a phrase for people."""

    name: str
    meaning: str
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection string in its parts: ``options`` are keys and values, decoded, in their order."""

    kind: str
    name: str
    options: tuple[tuple[str, str], ...] = ()

    def value(self, key: str, default: str = "") -> str:
        """The value of a key that is there once at most."""
        return dict(self.options).get(key, default)

    def values(self, key: str) -> tuple[str, ...]:
        """All values of a key."""
        return tuple(value for name, value in self.options if name == key)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of drivers, as this package and others register it (conformance.drivers.registry).

    ``forms`` are what may follow ``NAME:``, each with an example. ``source`` takes the arguments, without
    ``writable=PATH``, and raises ValueError, OSError, ImportError or AttributeError, with what to do next. ``keys``
    are what may follow the ``?``, besides those of every kind; None if ``source`` reads its arguments itself.
    ``dialect_of`` is how a reproducer reaches the driver, where that can be said without opening it.
    """

    name: str
    forms: tuple[tuple[str, str], ...]
    source: Callable[[str], DriverSource]
    keys: tuple[Key, ...] | None = ()
    dialect_of: Callable[[str], Dialect | None] | None = None


DECLINE: Final = Key("decline", "CAPABILITY:REASON, what the driver lacks by design", repeatable=True)
WRITABLE: Final = Key(
    "writable", "an absolute path outside the scratch directory that the driver writes to", repeatable=True
)
COMMON: Final = (DECLINE, WRITABLE)  # of every kind


def parse(text: str) -> Connection:
    """The parts of a connection string; raises BadConnection for options that are no ``KEY=VALUE``."""
    kind, _, arguments = text.partition(":")
    return parse_arguments(kind, arguments)


def parse_arguments(kind: str, arguments: str) -> Connection:
    """The same, for a connection string whose kind was read already."""
    name, mark, query = arguments.partition("?")
    return Connection(kind, name, tuple(_option(part) for part in query.split("&")) if mark else ())


def _option(part: str) -> tuple[str, str]:
    key, _, value = part.partition("=")
    if not key or "=" not in part:
        raise BadConnection(
            f"{part!r} is no option: write KEY=VALUE, '?' before the first, '&' between two ('%26' in a value)"
        )
    return _decoded(key), _decoded(value)


def _decoded(word: str) -> str:
    return unquote_plus(word, errors="surrogateescape")


def format_connection(connection: Connection) -> str:
    """The connection string that :func:`parse` reads as this."""
    query = "&".join(f"{_encoded(key, '-')}={_encoded(value, _UNQUOTED)}" for key, value in connection.options)
    return f"{connection.kind}:{connection.name}" + (f"?{query}" if query else "")


def _encoded(word: str, safe: str) -> str:
    return quote(word, safe=safe, errors="surrogateescape")


def checked(connection: Connection, keys: Iterable[Key]) -> Connection:
    """The connection, whose keys are those of its kind and of every kind; raises BadConnection."""
    known = {key.name: key for key in (*keys, *COMMON)}
    takes = f"{connection.kind} takes: {', '.join(sorted(known))}"
    for key, count in Counter(key for key, _ in connection.options).items():
        if key not in known:
            raise BadConnection(f"there is no option {key!r}{suggestion(key, known)}; {takes}")
        if count > 1 and not known[key].repeatable:
            raise BadConnection(f"the option {key!r} is there {count} times; {connection.kind} takes it once")
    for key, value in connection.options:
        if not value:
            raise BadConnection(f"the option {key!r} has no value; it is {known[key].meaning}")
    declined_in(connection)
    writable_in(connection)
    return connection


def declined_in(connection: Connection) -> dict[str, str]:
    """What the options ``decline=CAPABILITY:REASON`` say; raises BadConnection."""
    declined: dict[str, str] = {}
    for said in connection.values(DECLINE.name):
        name, _, reason = said.partition(":")
        if name in declined:
            raise BadConnection(f"the capability {name!r} is declined twice")
        declined[name] = reason
    return checked_declined(declined, "decline=CAPABILITY:REASON")


def checked_declined(said: object, where: str) -> dict[str, str]:
    """A mapping of capabilities of a driver to reasons; raises BadConnection, which names ``where`` it was said."""
    if not isinstance(said, Mapping):
        raise BadConnection(f"{where} is a mapping of capabilities to reasons, not {type(said).__name__}")
    known = {name for name, one in load_capabilities().items() if one.of == "driver"}
    for name, reason in said.items():
        if not isinstance(name, str) or name not in known:
            more = suggestion(name, known) if isinstance(name, str) else ""
            raise BadConnection(
                f"{where}: there is no capability {name!r} of a driver{more};"
                " docs/specification.md#capabilities lists them"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise BadConnection(f"{where}: the capability {name!r} needs a reason, which is a text")
    return {str(name): str(reason) for name, reason in said.items()}


def writable_in(connection: Connection) -> tuple[Path, ...]:
    """The paths of the options ``writable=PATH``; raises BadConnection for one that is relative or not there."""
    return checked_paths(connection.values(WRITABLE.name))


def checked_paths(said: Sequence[str]) -> tuple[Path, ...]:
    """Paths that are absolute and exist, the root directory apart; raises BadConnection."""
    for path in said:
        if not os.path.isabs(path) or not os.path.lexists(path):
            problem = "is not there" if os.path.isabs(path) else "is relative"
            raise BadConnection(f"writable={path} {problem}; name an absolute path that exists")
        if os.path.realpath(path) == "/":
            raise BadConnection("writable=/ would protect nothing; name the paths that the driver writes to")
    return tuple(map(Path, said))


def absolute_command(command: str) -> str:
    """A command that is named by a path, by its absolute one; a bare name, for the PATH, as it is."""
    return os.path.abspath(command) if "/" in command else command
