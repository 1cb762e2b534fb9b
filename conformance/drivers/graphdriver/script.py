"""A Docker graph-driver plugin, by curl."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never
from urllib.parse import urlencode

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

_PACKAGE: Final = "conformance.drivers.graphdriver"
_EPILOGUE = """\
for file in "$work"/*.pid; do
    [ ! -f "$file" ] || { kill "$(cat "$file")" 2>/dev/null; wait "$(cat "$file")" 2>/dev/null; }
done"""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A socket of a plugin that runs, or the command that starts one (with ``{socket}`` in a word)."""

    socket: str = ""
    command: tuple[str, ...] = ()

    @property
    def needs(self) -> Sequence[str]:
        return ("curl", *self.command[:1])

    def prologue(self) -> str:
        calls = shell_file(_PACKAGE, "calls.sh")
        if not self.command:
            return calls + f"socket={quoted(self.socket)}\n" + shell_file(_PACKAGE, "running.sh")
        words = " ".join(shlex.quote(word).replace("{socket}", "'\"$1\"'") for word in self.command)
        # As the process itself, so that it is what the script ends.
        plugin = "plugin() { exec " + words.replace("''", "") + "; }\n"
        return calls + plugin + shell_file(_PACKAGE, "started.sh")

    def home(self, store: str, below: str) -> str:
        return f"$work/{store}{'/' + below if below else ''}/overlay"

    def opened(self, step: Opened) -> str:
        options = [f"overlay.{word}" for word in step.options]
        if step.image_stores:
            options.append("overlay.imagestore=" + ",".join(f"@work@/{one}" for one in step.image_stores))
        users, groups = (
            [{"container_id": one, "host_id": other, "size": size} for one, other, size in ranges]
            for ranges in (step.id_map, step.gid_map or step.id_map)
        )
        home = self.home(step.store, step.below).replace("$work", "@work@")
        said = {"Home": home, "Opts": options, "UIDMaps": users, "GIDMaps": groups}
        return f"init_{step.store}={_json(said)}\nopen_plugin {step.store}"

    def called(self, step: Called) -> str:  # noqa: C901 - one case for each call
        store, call = step.store, step.call
        match call:
            case Create():
                said: dict[str, object] = {"ID": call.layer, "Parent": call.parent}
                if call.options is None:
                    return f"call {store} GraphDriver.Create {_json(said)}"
                verb = "CreateReadWrite" if call.read_write else "Create"
                return f"call {store} GraphDriver.{verb} {_json(said | {'StorageOpt': dict(call.options)})}"
            case Remove():
                return f"call {store} GraphDriver.Remove {_json({'ID': call.layer})}"
            case Get():
                return f"get {store} {_json({'ID': call.layer, 'MountLabel': call.label})}"
            case Put():
                return f"call {store} GraphDriver.Put {_json({'ID': call.layer})}"
            case Exists():
                return f"exists {store} {_json({'ID': call.layer})}"
            case Diff() if call.piece:
                raise NoScript("curl reads a diff as it likes, and to its end")
            case Diff():
                return f'diff {store} {_both(call)} "$work/{call.archive}"'
            case ApplyDiff():
                query = urlencode({"id": call.layer, "parent": call.parent})
                return f'apply {store} {quoted(query)} "$work/{call.archive}"'
            case DiffSize():
                return f"diff_size {store} {_both(call)}"
            case Changes():
                return f"changes {store} {_both(call)}"
            case Status():
                return f"call {store} GraphDriver.Status '{{}}'"
            case Metadata():
                return f"call {store} GraphDriver.GetMetadata {_json({'ID': call.layer})}"
            case Close():
                return f"call {store} GraphDriver.Cleanup '{{}}'"
            case Reopen():
                if not self.command:
                    raise NoScript("a plugin that runs already cannot be opened again")
                return f"reopen_plugin {store}"
            case _:
                assert_never(call)

    def refusal(self, said: str) -> str:
        return said

    def epilogue(self) -> str:
        return _EPILOGUE if self.command else ""


def _both(call: Diff | DiffSize | Changes) -> str:
    return _json({"ID": call.layer, "Parent": call.parent})


def _json(said: object) -> str:
    """JSON in single quotes, with ``$work`` where the words have ``@work@``."""
    word = json.dumps(said).replace("'", "\\u0027")
    return "'" + word.replace("@work@", "'\"$work\"'") + "'"
