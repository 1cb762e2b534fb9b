"""Operations as POSIX shell, the third reader of operations besides the model and the kernel.

A script is read by people who have none of this, so each operation is the command that they would type. Names
and contents are quoted by single quotes, or by printf(1) where they have bytes that no editor shows.
"""

from __future__ import annotations

import base64
import os
import stat
from importlib.resources import files
from typing import Final, assert_never

from conformance.operations import ops
from conformance.spec.errors import HarnessError

_PLAIN: Final = frozenset(range(0x20, 0x7F)) - {ord("'")}
_LONG: Final = 2000


class NoScript(HarnessError):
    """This cannot be said in a script; the text says why."""


def shell_file(package: str, name: str) -> str:
    """A file of shell in a package, without its first two lines, for shellcheck and for readers of the file."""
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    return "".join(text.splitlines(keepends=True)[2:])


def quoted(text: str | bytes) -> str:
    """One word of shell for any bytes; raises NoScript for what a shell cannot hold."""
    data = os.fsencode(text)
    if b"\0" in data or data.endswith(b"\n"):
        raise NoScript("a name or text with a NUL or a newline at its end is no word of shell")
    if data and all((byte < 0x7F and chr(byte).isalnum()) or byte in b"-_./:=@%+," for byte in data):
        return data.decode("ascii")
    if set(data) <= _PLAIN:
        return f"'{data.decode('ascii')}'"
    return f"\"$(printf '{escaped(data)}')\""


def escaped(data: bytes) -> str:
    """A format of printf(1) that writes these bytes, to stand between single quotes."""
    special = {ord("\\"): "\\\\", ord("%"): "%%", ord("\n"): "\\n", ord("'"): "\\047"}
    said = "".join(special.get(byte) or (chr(byte) if byte in _PLAIN else f"\\{byte:03o}") for byte in data)
    # A hyphen at the beginning would be an option.
    return f"\\055{said[1:]}" if said.startswith("-") else said


def writes(data: bytes) -> str:
    """A command that writes these bytes to its standard output."""
    if not data:
        return "printf ''"
    if len(data) > 64 and len(set(data)) == 1:
        return f"head -c {len(data)} /dev/zero | tr '\\000' '\\{data[0]:03o}'"
    if len(data) > _LONG or sum(byte not in _PLAIN for byte in data) > 200:
        return f"echo {base64.b64encode(data).decode()} | base64 -d"
    return f"printf '{escaped(data)}'"


def below(root: str, path: str | bytes) -> str:
    """A path below a directory that a word of shell names; ``root`` is such a word, unquoted."""
    data = os.fsencode(path)
    if b"{link:" in data:
        return f'"{root}/{_with_links(root, data)}"'
    word = quoted(data)
    return f'"{root}"/{word}'


def _with_links(home: str, data: bytes) -> str:
    """The text with the short names of layers, by the script's function ``link_of``."""
    head, _, rest = data.decode("ascii").partition("{link:")
    layer, _, tail = rest.partition("}")
    if "{link:" in tail:
        tail = _with_links(home, tail.encode())
    return f'{head}$(link_of "{home}/{layer}"){tail}'


def as_shell(root: str, operation: ops.Operation) -> str:
    """One operation below ``root``, a variable such as ``$tree``; one line. Raises NoScript."""
    path = below(root, operation.path)
    match operation:
        case ops.CreateFile(_, content, mode):
            body = _content(root, content)
            return f"{body} >{path} && chmod {mode:05o} {path}"
        case ops.MakeDirectory(_, mode):
            return f"mkdir {path} && chmod {mode:05o} {path}"
        case ops.MakeSymlink(_, target):
            return f"ln -sT -- {_word(root, target)} {path}"
        case ops.MakeHardLink(_, existing):
            return f"ln -PT {below(root, existing)} {path}"
        case ops.MakeFifo(_, mode):
            return f"mkfifo {path} && chmod {mode:05o} {path}"
        case ops.MakeDevice(_, kind, major, minor, mode):
            return f"mknod {path} {kind} {major} {minor} && chmod {mode:05o} {path}"
        case ops.Rename(_, to):
            return f"mv -fT {path} {below(root, to)}"
        case ops.Unlink(_):
            return f"unlink {path}"
        case ops.RemoveDirectory(_):
            return f"rmdir {path}"
        case ops.RemoveTree(_):
            return f"rm -r {path}"
        case _:
            return _change(path, operation)


def _change(path: str, operation: ops.Changing) -> str:
    match operation:
        case ops.Chmod(_, mode):
            # Of a directory chmod(1) clears setuid and setgid only if the mode has five digits.
            return f"chmod {mode:05o} {path}"
        case ops.Chown(_, uid, gid):
            return f"chown -h {uid}:{gid} {path}"
        case ops.SetTimes(_, mtime_ns):
            return f"touch -h -d {time_word(mtime_ns)} {path}"
        case ops.SetXattr(_, name, value):
            said = f" -v 0x{value.hex()}" if value else ""
            return f"setfattr -h -n {quoted(name)}{said} {path}"
        case ops.Truncate(_, size):
            return f"truncate -c -s {size} {path}"
        case ops.WriteAt(_, offset, data):
            return f"{writes(data)} | dd of={path} oflag=seek_bytes seek={offset} conv=notrunc status=none"
        case _:
            assert_never(operation)


def _content(root: str, content: bytes) -> str:
    if b"{link:" in content:
        return f'printf %s "{_with_links(root, content)}"'
    return writes(content)


def _word(root: str, target: bytes) -> str:
    return f'"{_with_links(root, target)}"' if b"{link:" in target else quoted(target)


def time_word(mtime_ns: int) -> str:
    """A time as touch(1) takes it, exact to the nanosecond, also before 1970."""
    seconds, rest = divmod(abs(mtime_ns), 10**9)
    return f"@{'-' if mtime_ns < 0 else ''}{seconds}.{rest:09d}"


def kind_of(mode: int) -> str:
    """Type and permissions of a file as ``stat -c %A`` prints them."""
    return stat.filemode(mode)
