"""The last look of a script: what shows a finding, in POSIX shell.

Each look is at one step of the history (``at``, if that step is done by the look itself instead of before it) and has
lines that end the script with ``deviates`` when the finding is there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from conformance.drivers.source import Dialect
from conformance.evidence.refusals import plain
from conformance.evidence.tree_look import SHOWN, TREE, tree_lines
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
from conformance.history.findings import (
    Accepted,
    BadLayout,
    BytesDiffer,
    DiffDisagrees,
    FilesDiffer,
    Finding,
    InWords,
    MountedTwice,
    NamesOfDiff,
    NotContained,
    NotDone,
    OutsideChanged,
    RefusalLacks,
    RootReplaced,
    SizeOfDiff,
    StillMounted,
    TreeDiffers,
    TreeGone,
    Unreadable,
    WrongAnswer,
    WrongChange,
    WrongOutcome,
)
from conformance.history.steps import Called, Did, Looked, Opened, Step, Tampered
from conformance.history.trace import describe
from conformance.operations.archives import TIME
from conformance.operations.ops import SetTimes
from conformance.operations.shell import NoScript, as_shell, below, quoted, writes


@dataclass(frozen=True, slots=True)
class Look:
    """``at`` is the index of the step that the look does itself, or looks at the outcome of; none after it is done.

    ``lines`` takes the dialect. ``earlier`` are lines to be said after steps before, by their index.
    """

    at: int
    lines: Callable[[Dialect], Iterator[str]]
    instead: bool = False
    earlier: Mapping[int, Sequence[str]] = field(default_factory=dict)


def last_look(finding: Finding, steps: Sequence[Step]) -> Look:
    """The look that shows a finding at the end of these steps; raises NoScript."""
    match finding:
        case TreeDiffers():
            return _tree_look(finding, steps)
        case NotContained():
            return _not_contained(steps)
        case Accepted() | NotDone():
            return _call(finding, steps)
        case RefusalLacks():
            return _refusal(finding, steps)
        case WrongOutcome():
            return _outcome(finding, steps)
        case OutsideChanged():
            return _outside(finding, steps)
        case WrongAnswer() | NamesOfDiff() | SizeOfDiff():
            return _answer(steps)
        case Unreadable():
            return Look(_last_get(steps), lambda _: _unreadable())
        case RootReplaced():
            return Look(_last_get(steps), lambda _: _root(finding))
        case WrongChange():
            return Look(_last(steps, Called), lambda _: _change(finding))
        case InWords() | BadLayout():
            raise NoScript("the deviation is described in words only")
        case _:
            return _look_at_the_end(finding, steps)


def _look_at_the_end(
    finding: FilesDiffer | StillMounted | MountedTwice | TreeGone | BytesDiffer | DiffDisagrees,
    steps: Sequence[Step],
) -> Look:
    """A look after all the steps."""
    end = len(steps) - 1
    match finding:
        case FilesDiffer():
            return Look(end, lambda dialect: _files(finding, dialect, steps))
        case StillMounted():
            return Look(end, lambda _: _mounted(finding))
        case MountedTwice():
            return Look(_last_get(steps), lambda _: _mounted_twice())
        case TreeGone():
            return Look(end, lambda _: _gone(finding))
        case BytesDiffer():
            return Look(end, lambda _: _bytes(steps))
        case DiffDisagrees():
            return Look(end, lambda _: _disagrees(finding, steps))
        case _:
            assert_never(finding)


def _tree_look(finding: TreeDiffers, steps: Sequence[Step]) -> Look:
    """A look at the tree; a time that was "now" is compared with that in the tree that was got before."""
    got = _last_get(steps)
    done = itertools.takewhile(lambda number: isinstance(steps[number], Did), range(got + 1, len(steps)))
    at = max(done, default=got)
    known = {
        step.operation.mtime_ns for step in steps if isinstance(step, Did) and isinstance(step.operation, SetTimes)
    }
    moving = [one for one in finding.differences[:SHOWN] if one.what == "mtime" and not _is_known(one.want, known)]
    if not moving:
        return Look(at, lambda _: tree_lines(finding))
    before = _last_get(steps[:got])
    noted = [
        f"time_{number}=$(stat -c %.9Y {below(TREE, one.path)} 2>/dev/null || true)"
        for number, one in enumerate(moving)
    ]
    numbers = {one.path: number for number, one in enumerate(moving)}
    return Look(at, lambda _: tree_lines(finding, numbers), earlier={before: noted})


def _is_known(want: tuple[int, bool], known: set[int]) -> bool:
    """Whether a time is one that an operation of the script sets, or an archive made by hand has."""
    time_ns, exact = want
    cut = {one // 10**9 for one in known} | {TIME}
    return time_ns in known if exact else time_ns // 10**9 in cut


def _unreadable() -> Iterator[str]:
    yield "ls -laR \"${tree:?}\" >/dev/null || deviates 'the tree cannot be read'"


def _root(finding: RootReplaced) -> Iterator[str]:
    held = below(TREE, finding.name)
    yield f'{{ [ -d "$tree" ] && [ ! -L "$tree" ] && {{ [ -e {held} ] || [ -L {held} ]; }}; }} || deviates "$tree is no directory any more, or another"'


def _outside(finding: OutsideChanged, steps: Sequence[Step]) -> Look:
    """A directory beside the layers, before the first archive and in the end."""
    made = _last(steps, Tampered)
    step = steps[made]
    assert isinstance(step, Tampered)
    where = f'"$work/{step.store}/{finding.name}"'
    noted = [
        "# all that can be seen of a directory that no layer has any business with",
        f"outside() {{ (cd {where} && ls -lanR --time-style=+ . && find . -type f -exec cat {{}} +) 2>&1; }}",
        "before=$(outside || true)",
    ]
    lines = ['[ "$(outside)" = "$before" ] || deviates "what lies outside of all layers was changed: $(outside)"']
    return Look(len(steps) - 1, lambda _: iter(lines), earlier={made: noted})


def _last(steps: Sequence[Step], kind: type | tuple[type, ...], but: type | tuple[type, ...] = ()) -> int:
    """The number of the last step of a kind, leaving out some calls; raises NoScript."""
    for number in reversed(range(len(steps))):
        step = steps[number]
        if isinstance(step, kind) and not (isinstance(step, Called) and isinstance(step.call, but)):
            return number
    raise NoScript("what is wrong is seen in no call that a script could repeat")


def _last_get(steps: Sequence[Step]) -> int:
    for number in reversed(range(len(steps))):
        step = steps[number]
        if isinstance(step, Called) and isinstance(step.call, Get) and step.refused is None:
            return number
    raise NoScript("no tree was got that a script could look at")


def _call(finding: Accepted | NotDone, steps: Sequence[Step]) -> Look:
    number = _refused(finding, steps) if isinstance(finding, NotDone) else _last(steps, (Called, Opened))
    step = steps[number]
    assert isinstance(step, (Called, Opened))

    def lines(dialect: Dialect) -> Iterator[str]:
        text = dialect.called(step) if isinstance(step, Called) else dialect.opened(step)
        *before, last = text.split("\n")
        yield from before
        yield f"say + {quoted(last[:200])}"
        if isinstance(finding, Accepted):
            yield f'if {last} >"$work/.said" 2>&1; then'
            yield "    deviates 'this was done, and should have been refused'"
        else:
            yield f'if ! {last} >"$work/.said" 2>&1; then'
            yield f"    same_refusal {quoted(plain(dialect.refusal(finding.said)))}"
            yield '    deviates "this should be done, and is refused: $(cat "$work/.said")"'
        yield "fi"

    return Look(number, lines, instead=True)


def _refusal(finding: RefusalLacks, steps: Sequence[Step]) -> Look:
    """The last call, which is refused again, without the words."""
    number = _last(steps, (Called, Opened))
    step = steps[number]
    assert isinstance(step, (Called, Opened))

    def lines(dialect: Dialect) -> Iterator[str]:
        text = dialect.called(step) if isinstance(step, Called) else dialect.opened(step)
        *before, last = text.split("\n")
        yield from before
        yield f"say + {quoted(last[:200])}"
        yield f'if {last} >"$work/.said" 2>&1; then cannot_tell "this was refused before, and is done now"; fi'
        words = " ".join(f"-e {quoted(word)}" for word in finding.words)
        said = f"the refusal names none of {', '.join(finding.words)}: "
        yield f'grep -qF {words} "$work/.said" || deviates {quoted(said)}"$(cat "$work/.said")"'

    return Look(number, lines, instead=True)


def _not_contained(steps: Sequence[Step]) -> Look:
    number = _last_get(steps)
    step = steps[number]
    assert isinstance(step, Called)

    def lines(dialect: Dialect) -> Iterator[str]:
        *before, last = dialect.called(step).split("\n")
        yield from before
        yield f"say + {quoted(last[:200])}"
        yield f'tree=$({last} 2>"$work/.said") || cannot_tell "this was done before, and fails now: $(cat "$work/.said")"'
        yield f'contained "$tree" {quoted(stores_of(step, steps))} ||'
        yield "    deviates \"the answer is no path of a directory below that of the store: '$tree'\""

    return Look(number, lines, instead=True)


def stores_of(step: Called, steps: Sequence[Step]) -> str:
    """The stores in which the tree of a get may be: its own, and the image stores that it was opened with."""
    found = [step.store]
    for one in steps:
        if isinstance(one, Opened) and one.store == step.store:
            found += [image.partition("/")[0] for image in one.image_stores if not image.startswith("/")]
    return " ".join(dict.fromkeys(found))


def _refused(finding: NotDone, steps: Sequence[Step]) -> int:
    for number in reversed(range(len(steps))):
        step = steps[number]
        if isinstance(step, (Called, Opened)) and step.refused == finding.said:
            return number
    raise NoScript("the call that was refused was made by one of several callers, or without the driver's home")


def _outcome(finding: WrongOutcome, steps: Sequence[Step]) -> Look:
    number = _last(steps, Did)
    step = steps[number]
    assert isinstance(step, Did)

    def lines(_: Dialect) -> Iterator[str]:
        line = as_shell(TREE, step.operation)
        if finding.done:
            yield f"{{ {line}; }} || deviates 'this operation should be done, and fails'"
        else:
            yield f"! {{ {line}; }} || deviates 'this operation should fail, and is done'"

    return Look(number, lines, instead=True)


def _files(finding: FilesDiffer, dialect: Dialect, steps: Sequence[Step]) -> Iterator[str]:
    store = next((one for one in reversed(steps) if isinstance(one, (Called, Looked))), None)
    name = store.store if store else "store"
    opened = next((one for one in steps if isinstance(one, Opened) and one.store == name), None)
    root = dialect.home(name, opened.below if opened else "") if finding.where == "home" else f"$work/{name}"
    yield 'there() { [ -e "$1" ] || [ -L "$1" ]; }'
    for path in finding.gone[:SHOWN]:
        yield f"there {below(root, path)} || deviates {quoted(f'{path} is gone')}"
    for path in finding.came[:SHOWN]:
        yield f"! there {below(root, path)} || deviates {quoted(f'{path} is unexpected')}"


def _change(finding: WrongChange) -> Iterator[str]:
    path = "/" + finding.path.decode("ascii", "backslashreplace")
    if any(not (0x20 < byte < 0x7F) or byte in b'"\\' for byte in finding.path):
        raise NoScript("each driver writes such a name in its list of changes in another way")
    yield "sed 's/^/  /' \"$work/.answer\""
    if finding.got:
        said = f"the changes say {finding.got} of {path}, expected {finding.want or 'nothing'}"
        yield f'! grep -qxF -e {quoted(f"{finding.got} {path}")} "$work/.answer" || deviates {quoted(said)}'
    else:
        said = f"the changes lack {finding.want} of {path}"
        yield f'grep -qxF -e {quoted(f"{finding.want} {path}")} "$work/.answer" || deviates {quoted(said)}'


def _gone(finding: TreeGone) -> Iterator[str]:
    yield f"[ -e {below(TREE, finding.name)} ] || deviates 'the tree is gone, and is still in use'"


def _diffs(steps: Sequence[Step]) -> list[str]:
    calls = [step.call for step in steps if isinstance(step, Called)]
    return [f'"$work/{call.archive}"' for call in calls if isinstance(call, Diff)]


def _bytes(steps: Sequence[Step]) -> Iterator[str]:
    first, second = _diffs(steps)[-2:]
    yield f"cmp {first} {second} || deviates 'two diffs of one layer have other bytes'"


def _disagrees(finding: DiffDisagrees, steps: Sequence[Step]) -> Iterator[str]:
    if any(not (0x20 < byte < 0x7F) or byte in b'"\\' for byte in finding.path):
        raise NoScript("each driver writes such a name in its list of changes in another way")
    path = finding.path.decode()
    yield f"tar -tf {_diffs(steps)[-1]} | sed -e 's,^\\./,,' -e 's,/$,,' >\"$work/.found\""
    brings = f'grep -qxF -e {quoted(path)} "$work/.found"'
    if finding.added:
        adds = f'grep -qxF -e {quoted(f"add /{path}")} "$work/.answer"'
        yield f"if {adds} && ! {brings}; then deviates {quoted(f'the changes add /{path}, and the diff lacks it')}; fi"
    else:
        listed = f"grep -v '^delete ' \"$work/.answer\" | cut -d' ' -f2- | grep -qxF -e {quoted('/' + path)}"
        yield f"if {brings} && ! {listed}; then deviates {quoted(f'the diff brings {path}, and the changes lack it')}; fi"


def _mounted(finding: StillMounted) -> Iterator[str]:
    if finding.overlays:
        yield "left=$(grep -e ' - overlay ' -e ' - fuse' /proc/self/mountinfo | cut -d' ' -f5 | grep \"^$work/\" || true)"
        yield '[ -z "$left" ] || deviates "still mounted: $left"'
        return
    yield "left=$(cut -d' ' -f5 /proc/self/mountinfo | grep \"^$work/.*/.\" || true)"
    yield '[ -z "$left" ] || deviates "still mounted: $left"'


def _mounted_twice() -> Iterator[str]:
    yield "mounts=$(cut -d' ' -f5 /proc/self/mountinfo | grep -cxF -e \"$tree\")"
    yield '[ "$mounts" -le 1 ] || deviates "$mounts mounts are on $tree"'


def _answer(steps: Sequence[Step]) -> Look:
    """The last answer is wrong: the driver deviates if it says the same again."""
    # A put ends a look, and has no answer.
    number = _last(steps, (Looked, Called), but=Put)
    step = steps[number]
    if isinstance(step, Looked):
        names = sorted(step.names)
        if len(names) > 200 or any(b"\n" in name for name in names):
            raise NoScript("the names of the tree are too many, or too strange, for a script")
        return Look(_last_get(steps), lambda _: _names(names))
    assert isinstance(step, Called)
    match step.call:
        case Diff(archive=archive) if step.answer is not None:
            return Look(number, lambda _: _entries(step, archive))
        case Exists():
            return Look(number, lambda _: iter([_same_answer("yes" if step.answer else "no")]))
        case DiffSize():
            return Look(number, lambda _: iter([_same_answer(str(step.answer))]))
        case Changes():
            return Look(number, lambda _: _listed(step))
        case (
            ApplyDiff() | Close() | Create() | Diff() | Get() | Metadata() | Put() | Remove() | Reopen() | Status()
        ):
            said = describe(step.call)
            raise NoScript(f"no script can compare the answer that is wrong (the last call was {said})")
        case _:
            assert_never(step.call)


def _same_answer(said: str) -> str:
    again = 'deviates "this is the answer again: $(cat "$work/.answer")"'
    return f'[ "$(cat "$work/.answer")" != {quoted(said)} ] || {again}'


def _names(names: Sequence[bytes]) -> Iterator[str]:
    listed = b"".join(b"./" + name + b"\n" for name in names)
    yield "# The tree has exactly these names again, and should not."
    yield f'{writes(listed)} >"$work/.wrong"'
    yield '(cd "${tree:?}" && du -a . | cut -f2- | grep -vx \'\\.\' | sort) >"$work/.found"'
    yield 'sort "$work/.wrong" | cmp -s - "$work/.found" && deviates "the tree shows: $(tr \'\\n\' \' \' <"$work/.found")"'


def _entries(step: Called, archive: str) -> Iterator[str]:
    if any("\n" in name for name in step.answer):
        raise NoScript("a name in the archive has a newline, and tar lists a line for each")
    listed = "".join(f"{name}\n" for name in step.answer).encode("utf-8", "surrogateescape")
    yield "# The archive has exactly these entries again, and should not."
    yield f'{writes(listed)} >"$work/.wrong"'
    # GNU tar writes what is not ASCII, and a backslash, in a way of its own; others ignore its options.
    yield f"TAR_OPTIONS=--quoting-style=literal tar -tf \"$work/{archive}\" | sed -e 's,^\\./,,' -e 's,/$,,' | {{ grep -v '^\\.\\?$' || true; }} >\"$work/.found\""
    yield 'cmp -s "$work/.wrong" "$work/.found" && deviates "the archive holds: $(tr \'\\n\' \' \' <"$work/.found")"'


def _listed(step: Called) -> Iterator[str]:
    lines = [f"{kind} {path.decode('ascii', 'backslashreplace')}" for kind, path in step.answer]
    yield "# The changes are exactly these again, and should not be."
    listed = "".join(f"{line}\n" for line in lines).encode()
    yield f'{writes(listed)} >"$work/.wrong"'
    yield 'cmp -s "$work/.wrong" "$work/.answer" && deviates "the changes are: $(cat "$work/.answer")"'
