"""A mounter by mkdir, mount or the command, and tar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from conformance.drivers.mounter.mounters import PLACEHOLDERS
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

_VARIABLES: Final = dict(zip(PLACEHOLDERS, ("$lowers", "$upper", "$work_of", "$merged"), strict=True))


@dataclass(frozen=True, slots=True)
class MounterScript:
    """``command`` is that of a command that mounts, () for the kernel; ``ending`` unmounts, () for umount(8)."""

    command: tuple[str, ...] = ()
    ending: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    new_calls: bool = False

    @property
    def needs(self) -> Sequence[str]:
        words = [*self.command[:1], *self.ending[:1]]
        return (*words, "mount", "umount", "mountpoint", "tar", "setfattr", "getfattr", "mknod")

    def prologue(self) -> str:
        if self.command:
            mount = " ".join(map(_word, self.command))
        elif self.new_calls:
            mount = 'LIBMOUNT_FORCE_MOUNT2=never mount -t overlay overlay -o "$each_lower,$directories" "$merged"'
        else:
            mount = 'mount -t overlay overlay -o "lowerdir=$lowers,$directories" "$merged"'
        end = " ".join(map(_word, self.ending)) if self.ending else 'umount "$merged"'
        said = "".join(f",{one}" for one in self.options)
        lines = [f"options={quoted(said)}", f"mount_it() {{ {mount}; }}", f"unmount_it() {{ {end}; }}", ""]
        if self.new_calls:
            check = "mount (util-linux) that uses the new mount calls came with 2.39"
            lines.insert(0, f"mount --version | grep -q 'mount_setattr\\|idmapping' || cannot_tell '{check}'")
        aufs = "yes" if self.command else ""
        lines.insert(0, f"names_of_aufs={aufs}")
        return "\n".join(lines) + shell_file("conformance.drivers.mounter", "calls.sh")

    def home(self, store: str, below: str) -> str:
        return f"$work/{store}{'/' + below if below else ''}/home"

    def opened(self, step: Opened) -> str:
        if step.options or step.id_map or step.gid_map or step.image_stores:
            raise NoScript("a mounter takes no options of a store")
        below = f"/{quoted(step.below)}" if step.below else ""
        return f'home_{step.store}="$work/{step.store}"{below}/home\nopen_home {step.store}'

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
                raise NoScript("tar writes a diff as it likes, and to its end")
            case Diff():
                return f'diff_of {store} {quoted(call.layer)} {quoted(call.parent)} "$work/{call.archive}"'
            case ApplyDiff():
                return f'apply {store} {quoted(call.layer)} "$work/{call.archive}"'
            case Reopen() | Close():
                return "# nothing runs between two mounts"
            case Create() | Get():
                raise NoScript("a mounter takes no options or labels of a layer")
            case Status() | Metadata() | DiffSize() | Changes():
                raise NoScript(f"a mounter has nothing for {describe(call)}")
            case _:
                assert_never(call)

    def refusal(self, said: str) -> str:
        """The last line: what a command printed, or the kernel's errno, which mount(8) words in its own way."""
        return said.rpartition("\n")[2].rpartition(": ")[2]

    def epilogue(self) -> str:
        return ""


def _word(word: str) -> str:
    """A word of the command with variables for placeholders, which stand in double quotes."""
    text = word
    if not any(one in word for one in PLACEHOLDERS):
        return quoted(word)
    for character in '\\"$`':
        text = text.replace(character, f"\\{character}")
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, f"${{{variable[1:]}}}")
    return f'"{text}"'
