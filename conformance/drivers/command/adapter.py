"""The adapter of a command: each call is a process of its own, within the limit of a call."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from conformance.drivers import commands
from conformance.drivers.command.script import CommandScript
from conformance.drivers.command.words import Command, CommandStore, Unsupported
from conformance.drivers.protocol import Answer, Change, DriverFailed, DriverInfo, DriverRefused, OpenRequest
from conformance.drivers.source import DriverSource
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
    Status,
)

_KINDS: Final[Mapping[str, str]] = {"a": "add", "m": "modify", "c": "modify", "d": "delete"}


def source_of(info: DriverInfo, command: Command, *, next_step: str = "") -> DriverSource:
    """The driver behind a command; raises OSError if the command is not installed."""
    if shutil.which(command.binary) is None:
        raise OSError(f"there is no command {command.binary!r}")
    return DriverSource(
        info,
        lambda request: _CommandDriver(command, request),
        attempt=lambda request, prefix: _attempt(command, request, prefix),
        dialect=CommandScript(command),
        sets_umask=True,
        next_step=next_step,
        commands=True,
    )


def _store_of(request: OpenRequest) -> CommandStore:
    users, groups = (
        tuple((one.container, one.host, one.size) for one in ranges)
        for ranges in (request.id_map, request.gid_map or request.id_map)
    )
    stores = tuple(map(str, request.image_stores))
    return CommandStore(str(request.directory), request.options, users, groups, stores)


def _attempt(command: Command, request: OpenRequest, prefix: Sequence[str]) -> Answer:
    done = commands.run([*prefix, *command.opens(_store_of(request))], request.limit, "open")
    return Answer(done.status == 0, (done.stdout + done.stderr).decode("utf-8", "replace"))


class _CommandDriver:
    def __init__(self, command: Command, request: OpenRequest) -> None:
        self._command = command
        self._request = request
        self._store = _store_of(request)
        try:
            words = command.opens(self._store)
        except Unsupported as error:
            raise DriverRefused(str(error)) from error
        _text_of(self._run(words, "open"), "open")

    def _run(self, words: Sequence[str], call: str) -> commands.Done:
        if not words:
            return commands.Done(0, b"", b"")
        request = self._request
        return commands.run([*request.prefix, *words], request.limit, call, umask=request.umask)

    def _done(self, call: Call) -> commands.Done:
        try:
            words = self._command.words(self._store, call)
        except Unsupported as error:
            raise DriverRefused(str(error)) from error
        return self._run(words, type(call).__name__.lower())

    def _ask(self, call: Call) -> str:
        return _text_of(self._done(call), type(call).__name__.lower())

    @property
    def home(self) -> str:
        return os.path.join(self._store.directory, self._command.home)

    @property
    def image_store(self) -> str:
        return os.path.join(self._store.directory, self._command.image_store).rstrip("/")

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        self._ask(Create(layer_id, parent, options, read_write))

    def remove(self, layer_id: str) -> None:
        self._ask(Remove(layer_id))

    def get(self, layer_id: str, label: str = "") -> str:
        return self._ask(Get(layer_id, label)).removesuffix("\n")

    def put(self, layer_id: str) -> None:
        self._ask(Put(layer_id))

    def exists(self, layer_id: str) -> bool:
        done = self._done(Exists(layer_id))
        if done.status == self._command.absent:
            return False
        _text_of(done, "exists")
        return True

    def status(self) -> Mapping[str, str]:
        return _pairs(self._ask(Status()))

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        return _pairs(self._ask(Metadata(layer_id)))

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        self._ask(Diff(layer_id, parent, str(archive)))

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        output = self._ask(ApplyDiff(layer_id, parent, str(archive)))
        return _size(output, "apply") if output.strip() else None

    def diff_size(self, layer_id: str, parent: str) -> int:
        return _size(self._ask(DiffSize(layer_id, parent)), "diff-size")

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        return [self._change(line) for line in self._ask(Changes(layer_id, parent)).splitlines()]

    def _change(self, line: str) -> Change:
        kind, _, path = line.partition(" ")
        if (named := _KINDS.get(kind[:1].lower())) and path.startswith("/"):
            return Change(self._command.path_of(path), named)
        raise DriverFailed(f"changes printed a line that is no KIND /PATH: {line[:200]!r}")

    def reopen(self) -> _CommandDriver:
        return self  # every command opens the store anew

    def leave(self) -> None:
        """Nothing runs between two commands."""

    def close(self) -> None:
        self._ask(Close())


def _text_of(done: commands.Done, call: str) -> str:
    """Standard output of a command that did what it was asked; raises DriverRefused for one that did not."""
    output = done.stdout.decode("utf-8", "surrogateescape")
    if done.status:
        said = (done.stderr.decode("utf-8", "replace") + output).strip()
        raise DriverRefused(said or f"{call} exited with status {done.status}")
    return output


def _size(output: str, call: str) -> int:
    if not (words := output.split()) or not words[-1].isdecimal():
        raise DriverFailed(f"{call} printed no size: {output[:200]!r}")
    return int(words[-1])


def _pairs(output: str) -> dict[str, str]:
    lines = (line.partition(": ") for line in output.splitlines())
    return {name.strip(): value for name, colon, value in lines if colon}
