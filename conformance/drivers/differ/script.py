"""A command that compares two directories, from a shell: cp keeps the layers, and tar applies archives to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from conformance.drivers.unpacker.tool import TAR, Tool
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
    "lower": '"$df_lower"',
    "upper": '"$df_upper"',
    "archive": '"$df_archive"',
    "work": '"$df_work/own"',
}


@dataclass(frozen=True, slots=True)
class Differing:
    """The dialect of one tool."""

    tool: Tool

    @property
    def needs(self) -> Sequence[str]:
        return (*self.tool.needs, "tar", "find")

    def prologue(self) -> str:
        out = ' >"$df_archive"' if self.tool.result == TAR else ""
        lines = [
            "df_text=$(cat <<'END_OF_COMMAND'",
            self.tool.in_script(_PLACES),
            "END_OF_COMMAND",
            ")",
            "# The command: from the directories $df_lower and $df_upper to the file $df_archive",
            "df_command() {",
            '    env -C "$df_work" HOME="$df_work/own" TMPDIR="$df_work/tmp" XDG_RUNTIME_DIR="$df_work/run" \\',
            '        df_lower="$df_lower" df_upper="$df_upper" df_archive="$df_archive" df_work="$df_work" \\',
            f'        /bin/sh -ec "$df_text"{out}',
            "}",
        ]
        return "\n".join(lines) + "\n" + shell_file("conformance.drivers.differ", "calls.sh")

    def home(self, store: str, below: str) -> str:
        return f"$work/{store}{'/' + below if below else ''}/layers"

    def opened(self, step: Opened) -> str:
        if step.options or step.id_map or step.gid_map or step.image_stores:
            raise NoScript("a differ takes no options")
        place = f"$work/{step.store}" + (f"/{step.below}" if step.below else "")
        return f'df_{step.store}="{place}"\nmkdir -p "{place}/layers"'

    def called(self, step: Called) -> str:
        store, call = step.store, step.call
        match call:
            case Create() if not call.options:
                return f"df_create {store} {quoted(call.layer)} {quoted(call.parent) or repr('')}"
            case Remove():
                return f"df_remove {store} {quoted(call.layer)}"
            case Get(label=""):
                return f"df_get {store} {quoted(call.layer)}"
            case Diff() if call.piece:
                raise NoScript("a command writes a diff to its end")
            case Diff():
                parent = quoted(call.parent) or repr("")
                return f'df_diff {store} {quoted(call.layer)} {parent} "$work/{call.archive}"'
            case ApplyDiff():
                return f'df_apply {store} {quoted(call.layer)} "$work/{call.archive}"'
            case Put() | Reopen() | Close():
                return "# nothing runs between two commands"
            case Exists():
                return f"df_exists {store} {quoted(call.layer)}"
            case Create() | Get() | Status() | Metadata() | DiffSize() | Changes():
                raise NoScript("a differ has no command for this call")
            case _:
                assert_never(call)

    def refusal(self, said: str) -> str:
        return said

    def epilogue(self) -> str:
        return ""
