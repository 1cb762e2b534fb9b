"""The last look at a tree: each difference as lines of POSIX shell that find it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from conformance.history.findings import TreeDiffers
from conformance.operations.comparing import Difference, shown
from conformance.operations.shell import below, kind_of, quoted, writes

TREE: Final = "${tree:?}"  # the tree that was got last; a script without one does nothing
SHOWN: Final = 40  # differences that a script looks at; the rest are of the same kind


def tree_lines(finding: TreeDiffers, moving: Mapping[bytes, int] | None = None) -> Iterator[str]:
    """Lines that look at the tree that was got last, and end the script if it differs as the finding says.

    ``moving`` has the numbers of the variables ``time_N`` that hold the time of a path as it was before.
    """
    yield "wrong=0"
    yield 'differs() { say "differs: $*"; wrong=1; }'
    yield 'same() { [ "$2" = "$3" ] || differs "$1 is $3, expected $2"; }'
    yield 'there() { [ -e "$1" ] || [ -L "$1" ]; }'
    for one in finding.differences[:SHOWN]:
        if one.what == "mtime" and one.path in (moving or {}):
            yield _same_time_as_before(one, (moving or {})[one.path])
        else:
            yield from _difference(one, finding)
    yield "[ $wrong = 0 ] || deviates 'the tree is not what it should be'"


def _same_time_as_before(one: Difference, number: int) -> str:
    _, exact = one.want
    want, cut = (f"$time_{number}", "") if exact else (f"${{time_{number}%.*}}", " | cut -d. -f1")
    found = f"$(stat -c %.9Y {below(TREE, one.path)}{cut})"
    return f'same {quoted(f"the time of {shown(one.path)}")} "{want}" "{found}"'


def _difference(one: Difference, finding: TreeDiffers) -> Iterator[str]:
    if one.what in ("linked", "apart"):
        yield from _inodes(one)
    elif one.what == "xattrs":
        yield from _attributes(one, finding, below(TREE, one.path))
    else:
        yield from _of_one_path(one)


def _of_one_path(one: Difference) -> Iterator[str]:
    path = below(TREE, one.path)
    name = shown(one.path)
    match one.what:
        case "missing":
            yield f"there {path} || differs {quoted(f'{name} is missing')}"
        case "unexpected":
            yield f"! there {path} || differs {quoted(f'{name} is unexpected')}"
        case "ghost":
            said = quoted(f"{name} is listed by readdir, and not found by lstat")
            yield f"if {_listed(one.path)} && ! there {path}; then differs {said}; fi"
        case "unlisted":
            # A cache of the driver is filled by listings, so each directory on the way is listed first.
            above = one.path.split(b"/")[:-1]
            ways = [below(TREE, b"/".join(above[:number])) for number in range(1, len(above) + 1)]
            yield " ".join(["ls -a", f'"{TREE}"', *ways, ">/dev/null"])
            said = quoted(f"{name} is found by lstat, and not listed by readdir")
            yield f"if ! {_listed(one.path)} && there {path}; then differs {said}; fi"
        case "mode":
            yield _same(f"the mode of {name}", kind_of(one.want), f"stat -c %A {path}")
        case "owner":
            yield _same(f"the owner of {name}", "{}:{}".format(*one.want), f"stat -c %u:%g {path}")
        case "target":
            yield _same(f"the target of {name}", one.want, f"readlink -n {path}")
        case "device":
            yield _same(f"the device of {name}", "{:x}:{:x}".format(*one.want), f"stat -c %t:%T {path}")
        case "content":
            yield f"{writes(one.want)} | cmp -s - {path} || differs {quoted(f'the content of {name} is another')}"
        case "mtime":
            time_ns, exact = one.want
            seconds, rest = divmod(time_ns, 10**9)
            if exact and seconds >= 0:
                yield _same(f"the time of {name}", f"{seconds}.{rest:09d}", f"stat -c %.9Y {path}")
            else:
                yield _same(f"the time of {name}", str(seconds), f"stat -c %.9Y {path} | cut -d. -f1")


def _listed(path: bytes) -> str:
    directory, _, last = path.rpartition(b"/")
    where = below(TREE, directory) if directory else f'"{TREE}"'
    return f"ls -a {where} | grep -qxF -e {quoted(last)}"


def _inodes(one: Difference) -> Iterator[str]:
    first, *others = one.want
    inode = [f"$(stat -c %d:%i {below(TREE, path)})" for path in one.want]
    if one.what == "linked":
        for number, other in enumerate(others, 1):
            yield f'same {quoted(f"the inode of {shown(other)}")} "{inode[0]}" "{inode[number]}"'
    else:
        said = quoted(f"{shown(first)} is one inode with {shown(others[0])}")
        yield f'[ "{inode[0]}" != "{inode[1]}" ] || differs {said}'


def _same(what: str, want: str | bytes, command: str) -> str:
    return f'same {quoted(what)} {quoted(want) if want else chr(39) * 2} "$({command})"'


def _attributes(one: Difference, finding: TreeDiffers, path: str) -> Iterator[str]:
    want: dict[str, bytes] = dict(one.want)
    found = (
        dict(finding.actual.nodes[one.path].xattrs) if finding.actual and one.path in finding.actual.nodes else {}
    )
    yield "command -v getfattr >/dev/null || cannot_tell 'there is no command getfattr (package attr)'"
    for name in sorted(want.keys() | found.keys()):
        value = f"0x{want[name].hex()}" if name in want else ""
        get = f"getfattr -h --absolute-names -e hex -n {quoted(name)} {path} 2>/dev/null"
        yield _same(f"{name} of {shown(one.path)}", value, f"{get} | sed -n 's/^[^#=]*=//p'")
