"""A Docker graph-driver plugin, by curl."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never
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
from conformance.operations.shell import NoScript, quoted

_PROLOGUE = """\
# said: the answer of the plugin; exit status 1 if it holds an error
said() {
    cat "$work/answer"
    ! grep -q '"Err": *"[^"]' "$work/answer"
}
# call STORE NAME JSON: one call of the plugin protocol
call() {
    curl -sS --max-time 300 --unix-socket "$(cat "$work/$1.socket")" -H 'Content-Type: application/json' \\
        -d "$3" "http://plugin/$2" >"$work/answer" || return 1
    said
}
get() { call "$1" GraphDriver.Get "$2" >/dev/null && sed 's/.*"Dir": *"\\([^"]*\\)".*/\\1/' "$work/answer"; }
exists() { call "$1" GraphDriver.Exists "$2" >/dev/null || return 1
    if grep -q '"Exists": *true' "$work/answer"; then echo yes; else echo no; fi; }
diff_size() { call "$1" GraphDriver.DiffSize "$2" >/dev/null && sed 's/.*"Size": *\\([0-9]*\\).*/\\1/' "$work/answer"; }
# Kinds of changes are numbers: 0 modified, 1 added, 2 deleted; 0 and the order of keys may be left to the reader.
changes() { call "$1" GraphDriver.Changes "$2" >/dev/null || return 1
    tr '{' '\\n' <"$work/answer" | grep '"Path"' | while read -r line; do
        path=$(printf %s "$line" | sed 's/.*"Path": *"\\([^"]*\\)".*/\\1/')
        case $line in *'"Kind": 1'*|*'"Kind":1'*) echo "add $path" ;; *'"Kind": 2'*|*'"Kind":2'*) echo "delete $path" ;;
        *) echo "modify $path" ;; esac
    done; }
diff() {
    code=$(curl -sS --max-time 300 -w '%{http_code}' -o "$3" --unix-socket "$(cat "$work/$1.socket")" -H 'Content-Type: application/json' \\
        -d "$2" http://plugin/GraphDriver.Diff) || return 1
    [ "$code" = 200 ] || { cat "$3"; return 1; }
}
apply() { curl -sS --max-time 300 --unix-socket "$(cat "$work/$1.socket")" -X POST -T "$3" \\
    "http://plugin/GraphDriver.ApplyDiff?$2" >"$work/answer" || return 1
    said; }
"""
_STARTED = """\
# start STORE: a plugin of its own for each store
start() {
    echo "$work/$1.sock" >"$work/$1.socket"
    rm -f "$work/$1.sock"
    %(command)s >"$work/$1.log" 2>&1 &
    echo $! >"$work/$1.pid"
    until curl -sS --unix-socket "$work/$1.sock" -d '{}' http://plugin/Plugin.Activate >/dev/null 2>&1; do
        kill -0 "$(cat "$work/$1.pid")" 2>/dev/null || { cat "$work/$1.log"; return 1; }
        sleep 0.05
    done
}
open_plugin() { start "$1" && eval "init=\\$init_$1" && call "$1" GraphDriver.Init "$init"; }
reopen_plugin() { kill "$(cat "$work/$1.pid")"; wait "$(cat "$work/$1.pid")"; open_plugin "$1"; }
"""
_RUNNING = """\
# start STORE: the plugin runs already
start() { echo %(socket)s >"$work/$1.socket"; call "$1" Plugin.Activate '{}'; }
open_plugin() { start "$1" && eval "init=\\$init_$1" && call "$1" GraphDriver.Init "$init"; }
"""
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
        if not self.command:
            return _PROLOGUE + _RUNNING % {"socket": quoted(self.socket)}
        words = " ".join(shlex.quote(word).replace("{socket}", "'\"$work/$1.sock\"'") for word in self.command)
        return _PROLOGUE + _STARTED % {"command": words.replace("''", "")}

    def home(self, store: str, below: str) -> str:
        return f"$work/{store}{'/' + below if below else ''}/overlay"

    def opened(self, step: Opened) -> str:
        options = [f"overlay.{word}" for word in step.options]
        if step.image_stores:
            options.append("overlay.imagestore=" + ",".join(f"@work@/{one}" for one in step.image_stores))
        maps = [{"container_id": one, "host_id": other, "size": size} for one, other, size in step.id_map]
        home = self.home(step.store, step.below).replace("$work", "@work@")
        said = {"Home": home, "Opts": options, "UIDMaps": maps, "GIDMaps": maps}
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
