"""Drivers by connection string: ``KIND:ARGUMENTS``.

A kind is a :class:`conformance.drivers.connection.Kind`: one of this package, or an entry point of the group
``overlay_conformance.adapters`` of another package. Those of this package are in a table, so that they are found
where the package is not installed, such as in a machine. An entry point may also be a function that takes all
arguments but ``writable=PATH`` and gives a DriverSource.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, cast

from conformance.drivers.connection import (
    COMMON,
    WRITABLE,
    BadConnection,
    Key,
    Kind,
    checked,
    checked_declined,
    checked_paths,
    parse,
    parse_arguments,
    writable_in,
)
from conformance.drivers.source import Dialect, DriverSource
from conformance.spec.errors import HarnessError
from conformance.spec.naming import suggestion

GROUP: Final = "overlay_conformance.adapters"


class _Own(Mapping[str, Kind]):
    """The kinds of this package. An adapter is imported when it is asked for, as most runs need one."""

    _names = (
        "python",
        "containers-storage",
        "graphdriver",
        "containerd",
        "mounter",
        "unpacker",
        "lister",
        "differ",
    )

    def __getitem__(self, name: str) -> Kind:
        if name not in self._names:
            raise KeyError(name)
        adapter = importlib.import_module(f"conformance.drivers.{name.replace('-', '_')}.adapter")
        return cast(Kind, adapter.KIND)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


KINDS: Final = _Own()


class UnknownDriver(HarnessError):
    """The connection string names no driver that can be reached; the text says what to write."""


def connect(connection: str) -> DriverSource:
    """The driver that a connection string names; raises UnknownDriver."""
    name, _, arguments = connection.partition(":")
    kind = kind_of(name)
    if kind is None:
        known = kinds()
        raise UnknownDriver(f"{connection!r} names no driver{suggestion(name, known)}; write {_forms(known)}")
    try:
        if kind.keys is None:
            arguments, writable = _without_writable(arguments)
            checked_paths(writable)
        else:
            checked(parse_arguments(name, arguments), kind.keys)
        found = kind.source(arguments)
        checked_declined(found.info.declined, "what the driver declines")
    except (ImportError, AttributeError, ValueError, OSError) as error:
        raise UnknownDriver(f"cannot reach {connection!r}: {error}") from error
    return found


def dialect_of(connection: str) -> Dialect | None:
    """How a script reaches the driver, None if there is no way; raises UnknownDriver.

    A Python driver is not imported for it: its code runs in the mount namespace of a run only.
    """
    name, _, arguments = connection.partition(":")
    kind = kind_of(name)
    if kind is None or kind.dialect_of is None:
        with closing(connect(connection)) as source:
            return source.dialect
    try:
        return kind.dialect_of(arguments)
    except ValueError as error:
        raise UnknownDriver(f"cannot reach {connection!r}: {error}") from error


def writable_of(connection: str) -> tuple[Path, ...]:
    """The paths outside the scratch directory that a driver writes to: ``writable=PATH`` of its connection string.

    Each is absolute and exists. Raises UnknownDriver for others, as :func:`connect` does.
    """
    name, _, arguments = connection.partition(":")
    kind = kind_of(name)
    try:
        if kind is not None and kind.keys is not None:
            return writable_in(parse(connection))
        return checked_paths(_without_writable(arguments)[1])
    except BadConnection as error:
        raise UnknownDriver(f"cannot reach {connection!r}: {error}") from error


def keys_of(name: str) -> tuple[Key, ...]:
    """What may follow the ``?`` in a connection string of a kind; those of every kind for one that is unknown."""
    kind = kind_of(name)
    return (*((kind and kind.keys) or ()), *COMMON)


def kind_of(name: str) -> Kind | None:
    """The kind of this name, of this package or of another one; None if there is none.

    Raises UnknownDriver for one of another package that cannot be imported.
    """
    if name in KINDS:
        return KINDS[name]
    for entry in importlib.metadata.entry_points(group=GROUP, name=name):
        return _loaded(name, entry)
    return None


def kinds() -> dict[str, Kind]:
    """All kinds by name: those of this package, and those of others that can be imported."""
    found = dict(KINDS)
    for entry in importlib.metadata.entry_points(group=GROUP):
        with suppress(UnknownDriver):
            found.setdefault(entry.name, _loaded(entry.name, entry))
    return found


def _loaded(name: str, entry: importlib.metadata.EntryPoint) -> Kind:
    try:
        found: Kind | Callable[[str], DriverSource] = entry.load()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise UnknownDriver(
            f"the adapter {name!r} ({entry.value}) cannot be imported: {said}; repair or remove its package"
        ) from error
    return found if isinstance(found, Kind) else Kind(name, (("...", "..."),), found, None)


def _forms(known: Mapping[str, Kind]) -> str:
    """What to write, kind by kind, with examples."""
    said = [
        f"{kind.name}:{form} (such as {kind.name}:{example})"
        for kind in known.values()
        for form, example in kind.forms
    ]
    return f"{', '.join(said[:-1])} or {said[-1]}"


def _without_writable(arguments: str) -> tuple[str, list[str]]:
    """Arguments of a kind of others, whatever form they have, without ``writable=PATH``; and these paths."""
    name, mark, query = arguments.partition("?")
    parts = query.split("&")
    ours = [part for part in parts if part.startswith(f"{WRITABLE.name}=")]
    rest = "&".join(part for part in parts if part not in ours)
    paths = [value for _, value in parse_arguments("", f"?{'&'.join(ours)}").options] if ours else []
    return (name + (mark + rest if rest or not ours else ""), paths)
