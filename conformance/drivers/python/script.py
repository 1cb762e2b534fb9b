"""A Python class, in one process of python3 that takes its calls a line each: a driver may keep things in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, assert_never

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
from conformance.operations.shell import quoted, shell_file

_PACKAGE: Final = "conformance.drivers.python"
_END: Final = "END_OF_DRIVER"


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
        server = files(_PACKAGE).joinpath("server.py").read_text(encoding="utf-8")
        return "".join(
            (
                f"PYTHON=${{PYTHON:-{self.interpreter}}}\nexport PYTHONDONTWRITEBYTECODE=1\n",
                *words,
                f"module={quoted(self.module)}\nname={quoted(self.name)}\n",
                f"cat >\"$work/driver.py\" <<'{_END}'\n{server}{_END}\n",
                shell_file(_PACKAGE, "calls.sh"),
            )
        )

    def home(self, store: str, below: str) -> str:
        return f"$work/{store}{'/' + below if below else ''}/overlay"

    def opened(self, step: Opened) -> str:
        options: dict[str, object] = {}
        words = [f"overlay.{word}" for word in step.options]
        if step.image_stores:
            words.append("overlay.imagestore=" + ",".join(f"@work@/{one}" for one in step.image_stores))
        if words:
            options["options"] = words
        if step.id_map or step.gid_map:
            options["uid_maps"] = [list(one) for one in step.id_map]
            options["gid_maps"] = [list(one) for one in step.gid_map or step.id_map]
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
            words = {"verb": verb, "layer": call.layer, "parent": call.parent, "archive": f"@work@/{call.archive}"}
            pieces = {"piece": call.piece, "most": call.most} if isinstance(call, Diff) and call.piece else {}
            if isinstance(call, ApplyDiff) and call.piece:
                pieces = {"piece": call.piece}
            return {**words, **pieces}
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
