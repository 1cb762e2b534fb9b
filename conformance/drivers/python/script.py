"""A Python class, in one process of python3 that takes its calls a line each: a driver may keep things in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

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
    Reopen,
    Status,
)
from conformance.history.steps import Called, Opened
from conformance.operations.shell import quoted

# Read by people who doubt a report, so it is short and says what it does.
_SERVER = r"""# Does one call of a driver for each line on standard input, and answers with one line.
import base64, importlib, json, os, shutil, sys
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the driver prints is no answer
factory = getattr(importlib.import_module(%(module)s), %(name)s)
drivers, asked = {}, {}


def do(store, verb, words):
    if verb == "open":
        asked[store] = words
        drivers[store] = factory(words["home"], **words["options"])
        return ""
    driver = drivers[store]
    if verb == "reopen":
        if hasattr(driver, "close"):
            driver.close()
        return do(store, "open", asked[store])
    if verb == "close":
        driver.cleanup()
        return driver.close() if hasattr(driver, "close") else ""
    layer, parent = words.get("layer", ""), words.get("parent", "")
    if verb == "create" and words.get("options") is not None:
        create = driver.create_read_write if words.get("read_write", True) else driver.create
        return create(layer, parent, words["options"])
    if verb == "create":
        return driver.create(layer, parent)
    if verb == "get":
        return driver.get(layer, words["label"]) if words.get("label") else driver.get(layer)
    if verb == "diff":
        with driver.diff(layer, parent) as stream, open(words["archive"], "wb") as file:
            shutil.copyfileobj(stream, file)
        return ""
    if verb == "apply":
        with open(words["archive"], "rb", buffering=0) as file:
            return driver.apply_diff(layer, parent, file)
    if verb == "changes":
        found = driver.changes(layer, parent)
        return "\n".join(f"{one.kind.name.lower()} {one.path.decode(errors='backslashreplace')}" for one in found)
    if verb == "exists":
        return "yes" if driver.exists(layer) else "no"
    if verb == "diff-size":
        return driver.diff_size(layer, parent)
    if verb in ("status", "metadata"):
        return dict(driver.status() if verb == "status" else driver.metadata(layer))
    return getattr(driver, verb)(layer)


for line in sys.stdin:
    call = json.loads(line)
    try:
        said, status = do(call.pop("store"), call.pop("verb"), call), 0
    except Exception as error:
        said, status = f"{type(error).__name__}: {error}", 1
    text = "" if said is None else str(said)
    print(status, base64.b64encode(text.encode(errors="surrogateescape")).decode(), file=out, flush=True)
"""

_PROLOGUE = """\
PYTHON=${PYTHON:-%(python)s}
export PYTHONDONTWRITEBYTECODE=1
%(environment)scat >"$work/driver.py" <<'END_OF_DRIVER'
%(server)sEND_OF_DRIVER
mkfifo "$work/calls" "$work/answers"
"$PYTHON" "$work/driver.py" <"$work/calls" >"$work/answers" 2>"$work/driver.log" &
driver_pid=$!
exec 8>"$work/calls" 9<"$work/answers"
# driver CALL: one call, a line of JSON; prints the answer; exit status 1 if the driver raised an exception
driver() {
    printf '%%s\\n' "$1" >&8 || return 2
    read -r status answer <&9 || { echo "the driver's process ended: $(cat "$work/driver.log")"; return 2; }
    printf %%s "$answer" | base64 -d
    return "$status"
}
"""


@dataclass(frozen=True, slots=True)
class PythonClass:
    """``module:name``.

    ``interpreter`` is an absolute path, and ``path`` has the directories that its modules are imported from, so that
    a script needs nothing of the environment of whoever runs it. ``environment`` is set for the driver.
    """

    module: str
    name: str
    interpreter: str = "python3"
    path: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def needs(self) -> Sequence[str]:
        return ("${PYTHON:-" + self.interpreter + "}",)

    def prologue(self) -> str:
        words = [f"export {name}={quoted(value)}\n" for name, value in self.environment]
        if self.path:
            words.append(f"export PYTHONPATH={quoted(':'.join(self.path))}${{PYTHONPATH:+:$PYTHONPATH}}\n")
        server = _SERVER % {"module": json.dumps(self.module), "name": json.dumps(self.name)}
        return _PROLOGUE % {"server": server, "python": self.interpreter, "environment": "".join(words)}

    def home(self, store: str, below: str) -> str:
        return f"$work/{store}{'/' + below if below else ''}/overlay"

    def opened(self, step: Opened) -> str:
        options: dict[str, object] = {}
        words = [f"overlay.{word}" for word in step.options]
        if step.image_stores:
            words.append("overlay.imagestore=" + ",".join(f"@work@/{one}" for one in step.image_stores))
        if words:
            options["options"] = words
        if step.id_map:
            options["uid_maps"] = options["gid_maps"] = [list(one) for one in step.id_map]
        home = self.home(step.store, step.below).replace("$work", "@work@")
        return _driver({"store": step.store, "verb": "open", "home": home, "options": options})

    def called(self, step: Called) -> str:
        return _driver({"store": step.store, **_words(step.call)})

    def refusal(self, said: str) -> str:
        return said

    def epilogue(self) -> str:
        return 'exec 8>&- 9<&-\nkill "$driver_pid" 2>/dev/null\nwait "$driver_pid" 2>/dev/null'


def _words(call: Call) -> dict[str, object]:
    """The verb of a call as the server in the script knows it, and its words."""
    match call:
        case Create():
            options: dict[str, object] = {}
            if call.options is not None:
                options = {"options": dict(call.options), "read_write": call.read_write}
            return {"verb": "create", "layer": call.layer, "parent": call.parent, **options}
        case Remove():
            return {"verb": "remove", "layer": call.layer}
        case Get():
            return {"verb": "get", "layer": call.layer, **({"label": call.label} if call.label else {})}
        case Put():
            return {"verb": "put", "layer": call.layer}
        case Exists():
            return {"verb": "exists", "layer": call.layer}
        case Status():
            return {"verb": "status"}
        case Metadata():
            return {"verb": "metadata", "layer": call.layer}
        case Diff() | ApplyDiff():
            verb = "diff" if isinstance(call, Diff) else "apply"
            return {"verb": verb, "layer": call.layer, "parent": call.parent, "archive": f"@work@/{call.archive}"}
        case DiffSize() | Changes():
            verb = "changes" if isinstance(call, Changes) else "diff-size"
            return {"verb": verb, "layer": call.layer, "parent": call.parent}
        case Reopen():
            return {"verb": "reopen"}
        case Close():
            return {"verb": "close"}
        case _:
            assert_never(call)


def _driver(said: dict[str, object]) -> str:
    """The call, with ``$work`` in it where the words have ``@work@``."""
    word = quoted(json.dumps(said))  # JSON has neither NUL nor newline
    return "driver " + word.replace("@work@", "'\"$work\"'" if word.startswith("'") else '"$work"')
