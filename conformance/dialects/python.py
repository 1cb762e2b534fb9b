"""A Python class, in one process of python3 that takes its calls a line each: a driver may keep things in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from conformance.shell import NoScript, quoted
from conformance.tape import Called, Opened

# Read by people who doubt a report, so it is short and says what it does.
_SERVER = r"""# Opens %(module)s:%(name)s, does one call for each line on standard input, and answers with one line.
import base64, importlib, json, shutil, sys
factory = getattr(importlib.import_module("%(module)s"), "%(name)s")
drivers, asked, out = {}, {}, sys.stdout
sys.stdout = sys.stderr


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
: "${PYTHON:=python3}"
cat >"$work/driver.py" <<'END_OF_DRIVER'
%(server)sEND_OF_DRIVER
mkfifo "$work/calls" "$work/answers"
"$PYTHON" "$work/driver.py" <"$work/calls" >"$work/answers" 2>"$work/driver.log" &
driver_pid=$!
exec 8>"$work/calls" 9<"$work/answers"
# driver CALL: one call, a line of JSON; prints the answer, ends with 1 if the driver raised something
driver() {
    printf '%%s\\n' "$1" >&8 || return 2
    read -r status answer <&9 || { echo "the driver's process ended: $(cat "$work/driver.log")"; return 2; }
    printf %%s "$answer" | base64 -d
    return "$status"
}
"""


@dataclass(frozen=True, slots=True)
class PythonClass:
    """``module:name``, which the PYTHONPATH of whoever runs the script has to hold."""

    module: str
    name: str

    @property
    def needs(self) -> Sequence[str]:
        return ("${PYTHON:-python3}",)

    def prologue(self) -> str:
        return _PROLOGUE % {"server": _SERVER % {"module": self.module, "name": self.name}}

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
        said: dict[str, object] = {"store": step.store, "verb": step.verb}
        said |= {key: getattr(step, key) for key in ("layer", "parent", "label") if getattr(step, key)}
        if step.archive:
            said["archive"] = f"@work@/{step.archive}"
        if step.options is not None:
            said |= {"options": dict(step.options), "read_write": step.read_write}
        return _driver(said)

    def epilogue(self) -> str:
        return 'exec 8>&- 9<&-\nkill "$driver_pid" 2>/dev/null\nwait "$driver_pid" 2>/dev/null'


def _driver(said: dict[str, object]) -> str:
    """The call, with ``$work`` in it where the words have ``@work@``."""
    try:
        word = quoted(json.dumps(said))
    except NoScript:  # JSON has neither NUL nor newline
        raise
    return "driver " + word.replace("@work@", "'\"$work\"'" if word.startswith("'") else '"$work"')
