"""How a script calls a command: by the words that the adapter runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, assert_never

from conformance.drivers.command.words import Command, CommandStore, Unsupported
from conformance.history.calls import (
    ApplyDiff,
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
    Reopen,
    Status,
)
from conformance.history.steps import Called, Opened
from conformance.operations.shell import NoScript, quoted, shell_file

_WORK: Final = "@work@"  # stands for $work until the word is quoted


class CommandScript:
    """A conformance.drivers.source.Dialect. It knows what each store was opened with: a call needs that, too."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._stores: dict[str, CommandStore] = {}

    @property
    def needs(self) -> Sequence[str]:
        return (self._command.binary,)

    def prologue(self) -> str:
        return shell_file("conformance.drivers.command", "calls.sh")

    def home(self, store: str, below: str) -> str:
        return "/".join(one for one in ("$work", store, below, self._command.home) if one)

    def opened(self, step: Opened) -> str:
        at = _directory(step.store, step.below)
        groups = step.gid_map or step.id_map
        stores = tuple(f"{_WORK}/{one}" for one in step.image_stores)
        self._stores[step.store] = CommandStore(at, step.options, step.id_map, groups, stores)
        try:
            return _line(self._command.opens(self._stores[step.store]))
        except Unsupported as error:
            raise NoScript(str(error)) from error

    def called(self, step: Called) -> str:
        call = step.call
        if isinstance(call, Reopen):
            return "# every command opens the store anew"
        if isinstance(call, Diff) and call.piece:
            raise NoScript("a command writes a diff as it likes, and to its end")
        if isinstance(call, (Diff, ApplyDiff)):
            call = replace(call, archive=f"{_WORK}/{call.archive}")
        try:
            words = self._command.words(self._stores[step.store], call)
        except Unsupported as error:
            raise NoScript(str(error)) from error
        if not words:
            return "# nothing to do"
        match call:
            case Exists():
                return f"command_exists {self._command.absent} {_line(words)}"
            case Changes():
                return f"command_changes {_line(words)}"
            case DiffSize():
                return f"command_size {_line(words)}"
            case ApplyDiff() | Close() | Create() | Diff() | Get() | Metadata() | Put() | Remove() | Status():
                return _line(words)
            case _:
                assert_never(call)

    def refusal(self, said: str) -> str:
        return said

    def epilogue(self) -> str:
        return ""


def _directory(store: str, below: str) -> str:
    return "/".join(one for one in (_WORK, store, below) if one)


def _line(words: Sequence[str]) -> str:
    return " ".join(map(_word, words)) or "true"


def _word(word: str) -> str:
    """One word of shell, in which ``$work`` stands for the directory of the script."""
    said = quoted(word)
    if said.startswith('"$('):  # of printf, in which no variable is read
        if _WORK in said:
            raise NoScript("a word with the directory of the script and characters that no editor shows")
        return said
    return said.replace(_WORK, "'\"$work\"'" if said.startswith("'") else '"$work"')
