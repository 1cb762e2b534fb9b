"""A snapshotter of containerd, by ctr, which comes with it.

ctr cannot apply an archive to a snapshot. It imports images, and then unpacks their layers one after the other as
snapshots; so a layer that takes an archive becomes the last layer of an image, and is what came of unpacking it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never

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
from conformance.history.trace import describe
from conformance.operations.shell import NoScript, quoted, shell_file

_END = "END_OF_CONFIGURATION"
_EPILOGUE = """\
for file in "$work"/*.pid; do
    [ ! -f "$file" ] || { kill "$(cat "$file")" 2>/dev/null; wait "$(cat "$file")" 2>/dev/null; }
done"""


_STATUS: Final = re.compile(r"^[A-Z_]+: ")  # the name of a gRPC status, which ctr prints at the end, in other words


@dataclass(frozen=True, slots=True)
class Containerd:
    """The daemon's command, the snapshotter, the ctr that belongs to the daemon, and a configuration that is added.

    ``unpack`` says what ctr imports by: ``transfer``, or ``diff`` for ctr itself.
    """

    binary: str
    snapshotter: str
    ctr: str = "ctr"
    config: str = ""
    unpack: str = "diff"

    @property
    def needs(self) -> Sequence[str]:
        return (self.binary, self.ctr, "tar", "mountpoint")

    def prologue(self) -> str:
        words = {
            "binary": self.binary,
            "snapshotter": self.snapshotter,
            "ctr": self.ctr,
            "unpack": self.unpack,
            "imports": "",
        }
        lines = [f"{key}={quoted(word)}\n" for key, word in words.items()]
        if self.config:
            lines += [_added(self.config), 'imports="imports = [\\"$work/added.toml\\"]"\n']
        return "".join(lines) + shell_file("conformance.drivers.containerd", "calls.sh")

    def home(self, store: str, below: str) -> str:
        directory = f"$work/{store}{'/' + below if below else ''}"
        return f"{directory}/root/io.containerd.snapshotter.v1.{self.snapshotter}/snapshots"

    def opened(self, step: Opened) -> str:
        below = f"/{quoted(step.below)}" if step.below else ""
        return f'start {step.store} "$work/{step.store}"{below}'

    def called(self, step: Called) -> str:
        store, call = step.store, step.call
        match call:
            case Create() if not call.options:
                return f"create {store} {quoted(call.layer)}" + (f" {quoted(call.parent)}" if call.parent else "")
            case Remove():
                return f"remove {store} {quoted(call.layer)}"
            case Get(label=""):
                return f"get {store} {quoted(call.layer)}"
            case Put():
                return f"put {store} {quoted(call.layer)}"
            case Exists():
                return f"exists {store} {quoted(call.layer)}"
            case Diff() if call.piece:
                raise NoScript("ctr reads a diff as it likes, and to its end")
            case Diff():
                parent = quoted(call.parent) if call.parent else repr("")
                return f'diff_of {store} {quoted(call.layer)} {parent} "$work/{call.archive}"'
            case ApplyDiff():
                return f'apply {store} {quoted(call.layer)} "$work/{call.archive}"'
            case Create() | Get():
                raise NoScript("containerd's snapshotters take no options or labels of a layer")
            case Status() | Metadata() | DiffSize() | Changes() | Reopen() | Close():
                raise NoScript(f"ctr has nothing for {describe(call)}")
            case _:
                assert_never(call)

    def refusal(self, said: str) -> str:
        return _STATUS.sub("", said)

    def epilogue(self) -> str:
        return _EPILOGUE


def _added(config: str) -> str:
    if _END in config.splitlines():
        raise NoScript(f"the configuration of containerd has a line {_END}")
    return f"cat >\"$work/added.toml\" <<'{_END}'\n{config.rstrip()}\n{_END}\n"
