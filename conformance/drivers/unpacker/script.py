"""A command that unpacks images, from a shell: the image is written by printf, sha256sum and tar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import assert_never

from conformance.drivers.unpacker.layout import NAME, TAG, architecture
from conformance.drivers.unpacker.tool import LAYOUT, LISTS, TAR, Tool
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

_PLACES = {
    "layout": ('"$image"',),
    "directory": ('"$up_tree"',),
    "layers": ('"$@"',),
    "work": ('"$up_work/own"',),
    "tag": (TAG,),
    "disk": ('"$up_work/disk"',),
}


@dataclass(frozen=True, slots=True)
class Unpacking:
    """The dialect of one tool."""

    tool: Tool

    @property
    def needs(self) -> Sequence[str]:
        return (*self.tool.needs, "tar", "sha256sum", *(("python3",) if self.tool.result in LISTS else ()))

    def prologue(self) -> str:
        command = self.tool.in_script({name: " ".join(words) for name, words in _PLACES.items()})
        out = '>"$up_work/result.tar" ' if self.tool.result in (TAR, *LISTS) else ""
        prefix = "".join(f"{word} " for word in self.tool.prefix())
        lines = [
            f"source_of_image={self.tool.source if self.tool.source != LAYOUT else 'layout'}",
            f"name={NAME} tag={TAG} architecture={architecture()}",
            f"result={quoted(self.tool.result)}",
            "up_text=$(cat <<'END_OF_COMMAND'",
            command,
            "END_OF_COMMAND",
            ")",
            "# The command: of the image in $image, of the archives of its layers, into $up_tree",
            "up_command() {",
            f'    {prefix}env -C "$up_work" HOME="$up_work/own" TMPDIR="$up_work/tmp" XDG_RUNTIME_DIR="$up_work/run" \\',
            '        image="$image" up_tree="$up_tree" up_work="$up_work" \\',
            f'        /bin/sh -ec "$up_text" sh "$@" {out}'.rstrip(),
            "}",
        ]
        if self.tool.result in LISTS:
            lines += _skeleton()
        return "\n".join(lines) + "\n" + shell_file("conformance.drivers.unpacker", "calls.sh")

    def home(self, store: str, below: str) -> str:
        return f"$work/{store}{'/' + below if below else ''}/layers"

    def opened(self, step: Opened) -> str:
        if step.options or step.id_map or step.gid_map or step.image_stores:
            raise NoScript("an unpacker takes no options")
        place = f"$work/{step.store}" + (f"/{step.below}" if step.below else "")
        return f'up_{step.store}="{place}"\nmkdir -p "{place}/layers"'

    def called(self, step: Called) -> str:
        store, call = step.store, step.call
        match call:
            case Create() if not call.options:
                return f"up_create {store} {quoted(call.layer)} {quoted(call.parent) or repr('')}"
            case Remove():
                return f"up_remove {store} {quoted(call.layer)}"
            case Get(label=""):
                return f"up_get {store} {quoted(call.layer)}"
            case ApplyDiff():
                return f'up_apply {store} {quoted(call.layer)} "$work/{call.archive}"'
            case Put() | Reopen() | Close():
                return "# nothing runs between two commands"
            case Exists():
                return f"up_exists {store} {quoted(call.layer)}"
            case Create() | Get() | Status() | Metadata() | Diff() | DiffSize() | Changes():
                raise NoScript("an unpacker has no command for this call")
            case _:
                assert_never(call)

    def refusal(self, said: str) -> str:
        return said

    def epilogue(self) -> str:
        return ""


def _skeleton() -> list[str]:
    """A function that makes empty files of a list of paths."""
    program = files("conformance.drivers.lister").joinpath("skeleton.py").read_text(encoding="utf-8")
    return ["up_skeleton() {", "    python3 - \"$@\" <<'END_OF_PROGRAM'", program + "END_OF_PROGRAM", "}"]
